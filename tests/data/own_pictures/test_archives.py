"""Archives with several pictures or captions in an example, class numbers, Arrow files, weights."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError
from tests.data.own_pictures.folders import encoded
from tests.data.own_pictures.test_folder_layouts import texts, understood
from tests.data.own_pictures.test_layouts import write_tar

COUNT = 12


def members(i, **files):
    return [(f"{i:03d}.{suffix.replace('_', '.')}", data) for suffix, data in files.items()]


def tar_of(path, example):
    write_tar(path, [member for i in range(COUNT) for member in example(i)])


def parquet_of(path, metadata=None, **columns):
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path)


def arrow_of(path, batch=5, **columns):
    """As `datasets.Dataset.save_to_disk`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)


def images(first=0, count=COUNT):
    return [{"bytes": encoded(i), "path": None} for i in range(first, first + count)]


def captions(first=0, count=COUNT):
    return [f"picture {i}" for i in range(first, first + count)]


OWN = {i: [f"picture {i}"] for i in range(COUNT)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_plain_suffix_is_the_picture_of_an_example(tmp_path, order):
    def example(i):
        files = members(i, cond_png=encoded(20 + i), jpg=encoded(i), txt=f"picture {i}")
        return files[::order]

    tar_of(tmp_path / "0.tar", example)
    usable, rejected = understood(tmp_path)
    assert texts(usable) == OWN
    assert not rejected
    usable, _ = understood(tmp_path, image_column="cond.png")
    assert texts(usable) == {20 + i: words for i, words in OWN.items()}


def test_two_plain_pictures_have_to_be_chosen_from(tmp_path):
    def example(i):
        return members(i, png=encoded(20 + i), jpg=encoded(i), txt=f"picture {i}")

    tar_of(tmp_path / "0.tar", example)
    words = "0.tar: example 000 has 2 pictures: jpg, png; name the one to train on: --data.image"
    with pytest.raises(UserError, match=re.escape(words)):
        list_pictures(tmp_path)
    usable, _ = understood(tmp_path, image_column="jpg")
    assert texts(usable) == OWN


def test_all_text_members_are_read(tmp_path):
    def example(i):
        return members(i, b_txt=f"second {i}", a_txt=f"first {i}", jpg=encoded(i), caption="third")

    tar_of(tmp_path / "0.tar", example)
    usable, _ = understood(tmp_path)
    assert texts(usable) == {i: [f"first {i}", f"second {i}", "third"] for i in range(COUNT)}


def test_fields_of_json_members(tmp_path):
    def example(i):
        fields = {"caption": i if i % 2 else f"picture {i}", "width": 3, "n": i + 1}
        return members(i, jpg=encoded(i), json=json.dumps(fields))

    tar_of(tmp_path / "0.tar", example)
    usable, rejected = understood(tmp_path, weight_column="n")
    assert {i: raw.weight for i, raw in usable.items()} == {i: i + 1 for i in range(0, COUNT, 2)}
    assert set(rejected.values()) == {"no caption"}
    (shard,) = list_pictures(tmp_path).shards
    details = [raw.detail for raw in shard.read()]
    assert details[3] == "column caption holds 3, not text"
    (shard,) = list_pictures(tmp_path, ReadOptions(weight_column="caption")).shards
    wrong = [raw for raw in shard.read() if raw.reason == "no weight"]
    assert wrong[0].detail == "column caption holds 'picture 0', not a number above 0"


@pytest.mark.parametrize("write", [parquet_of, arrow_of], ids=["Parquet", "Arrow"])
class TestRows:
    """Of Parquet and of Arrow files, which are read alike."""

    def path(self, root, write, name="train"):
        return root / f"{name}.{'arrow' if write is arrow_of else 'parquet'}"

    def test_captions_and_splits(self, tmp_path, write):
        write(self.path(tmp_path, write), image=images(), text=captions())
        write(self.path(tmp_path, write, "test-0"), image=images(20), text=captions(20))
        usable, rejected = understood(tmp_path)
        assert texts(usable) == {i: [f"picture {i}"] for i in [*range(12), *range(20, 32)]}
        assert {i: raw.split for i, raw in usable.items()} == {
            i: "train" if i < 20 else "test" for i in usable
        }
        assert not rejected

    def test_a_usual_name_is_the_picture(self, tmp_path, write):
        masks = images(20)
        write(self.path(tmp_path, write), mask=masks, image=images(), text=captions())
        usable, _ = understood(tmp_path)
        assert texts(usable) == OWN

    def test_unusual_names_have_to_be_chosen_from(self, tmp_path, write):
        write(self.path(tmp_path, write), mask=images(20), view=images(), text=captions())
        words = "has 2 columns with picture bytes: mask, view; name the one to train on: --data.im"
        with pytest.raises(UserError, match=words):
            list_pictures(tmp_path)
        usable, _ = understood(tmp_path, image_column="view")
        assert texts(usable) == OWN
        with pytest.raises(UserError, match="has no column photo with picture bytes"):
            list_pictures(tmp_path, ReadOptions(image_column="photo"))

    def test_several_columns_lists_and_objects(self, tmp_path, write):
        sentences = [
            [{"raw": f"picture {i}", "id": 1}, {"raw": "more", "id": 2}] for i in range(12)
        ]
        write(self.path(tmp_path, write), image=images(), sentences=sentences)
        usable, _ = understood(tmp_path)
        assert texts(usable) == {i: [f"picture {i}", "more"] for i in range(COUNT)}

    def test_numbered_columns(self, tmp_path, write):
        columns = {f"caption_{k}": [f"{k} of {i}" for i in range(COUNT)] for k in range(3)}
        write(self.path(tmp_path, write), image=images(), title=["x"] * COUNT, **columns)
        usable, _ = understood(tmp_path)
        assert texts(usable) == {i: [f"{k} of {i}" for k in range(3)] for i in range(COUNT)}
        usable, _ = understood(tmp_path, caption_column="caption_2,title")
        assert list(usable[4].captions) == ["2 of 4", "x"]

    def test_weights(self, tmp_path, write):
        weights = [0.5 * (i + 1) for i in range(COUNT)]
        write(self.path(tmp_path, write), image=images(), text=captions(), w=weights)
        usable, _ = understood(tmp_path, weight_column="w")
        assert {i: raw.weight for i, raw in usable.items()} == dict(enumerate(weights))
        _, rejected = understood(tmp_path, weight_column="text")
        assert set(rejected.values()) == {"no weight"}
        with pytest.raises(UserError, match=r"has no column v \(data.weight_column\)"):
            list_pictures(tmp_path, ReadOptions(weight_column="v"))


def test_class_numbers_get_their_names(tmp_path):
    feature = {"_type": "ClassLabel", "names": ["tabby_cat", "dog"]}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
    labels = [i % 2 for i in range(COUNT - 1)] + [-1]
    parquet_of(tmp_path / "a.parquet", metadata=info, image=images(), label=labels)
    usable, rejected = understood(tmp_path, templates=("a {}", "{}"))
    names = ["tabby cat", "dog"]
    assert texts(usable) == {i: [f"a {names[i % 2]}", names[i % 2]] for i in range(COUNT - 1)}
    assert list(rejected.values()) == ["no caption"]


@pytest.mark.parametrize("batch", [1, 5, 300])
def test_shards_of_arrow_files(tmp_path, batch):
    rows = 600
    arrow_of(
        tmp_path / "a.arrow",
        batch,
        image=[{"bytes": b"%d" % i, "path": None} for i in range(rows)],
        text=[f"row {i}" for i in range(rows)],
    )
    shards = list_pictures(tmp_path).shards
    assert [shard.size for shard in shards] == [256, 256, 88]
    read = [raw for shard in shards for raw in shard.read()]
    assert [raw.data for raw in read] == [b"%d" % i for i in range(rows)]
    assert [raw.captions for raw in read] == [(f"row {i}",) for i in range(rows)]
    assert len({shard.fingerprint for shard in shards}) == 3


def test_damaged_arrow_files_are_named(tmp_path):
    arrow_of(tmp_path / "a.arrow", image=images(), text=captions())
    arrow_of(tmp_path / "b.arrow", image=images(20), text=captions(20))
    data = (tmp_path / "b.arrow").read_bytes()
    (tmp_path / "b.arrow").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.arrow").write_bytes(b"not Arrow")
    usable, rejected = understood(tmp_path)
    assert texts(usable) == OWN | {i: [f"picture {i}"] for i in range(20, 25)}
    assert rejected == {"b.arrow": "damaged archive", "c.arrow": "damaged archive"}
