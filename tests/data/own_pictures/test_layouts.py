"""The layouts that own pictures come in, end to end: pixels, captions and splits."""

import csv
import io
import itertools
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flaxgan.data import open_dataset, train_batches
from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError
from tests.data.own_pictures.corpus import fifo
from tests.data.own_pictures.folders import (
    RESOLUTION,
    captioned_folder,
    config_of,
    encoded,
    expected_pixels,
    read,
    rejected,
    write_files,
)

COUNT = 12


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def check(root, tmp_path, captions, problems=None, splits=None, **fields):
    """Imports, and compares with what is known.

    Args:
      captions: name -> (number of the picture, its captions).
      problems: name -> reason.
      splits: name -> "train" or "test"; None: any.
    """
    config = config_of(root, tmp_path / "tfds", **fields)
    found = read(config)
    assert {name: row[1] for name, row in found.items()} == {
        name: texts for name, (_, texts) in captions.items()
    }
    for name, (index, _) in captions.items():
        np.testing.assert_array_equal(found[name][0], expected_pixels(index), err_msg=name)
    assert rejected(tmp_path / "tfds") == (problems or {})
    if splits is None:
        assert {row[2] for row in found.values()} == {"train", "test"}
    else:
        assert {name: row[2] for name, row in found.items()} == splits
    dataset = open_dataset(config, "train")
    for batch in itertools.islice(train_batches(dataset, batch_size=4), 3):
        assert batch["images"].shape == (4, RESOLUTION, RESOLUTION, 3)
        for image, caption in zip(batch["images"], batch.get("caption_ids", ()), strict=True):
            text = dataset.flat_captions[caption]
            owners = [index for index, texts in captions.values() if text in texts]
            assert any(np.array_equal(image, expected_pixels(index)) for index in owners)


def test_text_files(root, tmp_path):
    suffixes = [("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif")]
    expected = {}
    for i in range(COUNT):
        file_format, suffix = suffixes[i % 4] if i % 4 != 1 else ("PNG", "webp")
        name = f"{'deep/er/' * (i % 3)}{i}"
        text = f"picture {i}\nof number {i}\n" if i % 2 else f"picture {i}"
        write_files(root, {f"{name}.{suffix}": encoded(i, file_format), f"{name}.txt": text})
        expected[f"{name}.{suffix}"] = (i, text.splitlines())
    check(root, tmp_path, expected)


def test_text_files_of_another_suffix_and_one_for_two_pictures(root, tmp_path):
    captioned_folder(root, 8)
    write_files(root, {"a.png": encoded(20), "a.bmp": encoded(21, "BMP"), "a.caption": "twice"})
    expected = {f"{i}.png": (i, [f"picture {i}"]) for i in range(8)}
    check(root, tmp_path, {**expected, "a.png": (20, ["twice"]), "a.bmp": (21, ["twice"])})


def test_metadata_in_json_lines(root, tmp_path):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    write_files(root, {"10.txt": "from a text file", "11.txt": "not from here"})
    rows = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(6)]
    rows += [{"file_name": "./6.png", "text": ["a cat", "a cat", " a  dog "], "caption": "no"}]
    rows += [{"file_name": "7.png", "text": "a cat"}, {"file_name": "7.png", "text": "a dog"}]
    rows += [{"file_name": "8.png", "text": ""}, {"file_name": "8.png", "text": "once more"}]
    rows += [{"file_name": "9.png", "caption": "another column", "width": 3}]
    rows += [{"file_name": "11.png", "text": "eleven"}, {"file_name": "none.png", "text": "x"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_files(root, {"metadata.jsonl": "\ufeff" + text + "\n\n  \n"})
    expected = {f"{i}.png": (i, [f"picture {i}"]) for i in range(6)}
    expected |= {"6.png": (6, ["a cat", "a dog"]), "7.png": (7, ["a cat", "a dog"])}
    expected |= {"8.png": (8, ["once more"]), "9.png": (9, ["another column"])}
    expected |= {"10.png": (10, ["from a text file"]), "11.png": (11, ["eleven"])}
    check(root, tmp_path, expected, {"none.png": "file is missing"})


def test_metadata_that_is_broken_is_named_line_by_line(root, tmp_path):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    good = [json.dumps({"file_name": f"{i}.png", "text": f"picture {i}"}) for i in range(8)]
    bad = [
        "{not json",
        "[1, 2]",
        json.dumps({"text": "no name"}),
        json.dumps({"file_name": 3, "text": "a number"}),
        json.dumps({"file_name": "../1.png", "text": "outside"}),
        json.dumps({"file_name": str(root / ".." / "x.png"), "text": "outside"}),
        json.dumps({"file_name": "\ud800.png", "text": "no name of a file"}),
        json.dumps({"file_name": "a\0.png", "text": "neither"}),
        "[" * 100_000,
        '{"file_name": "8.png", "text": "lone \\ud800 surrogate"}',
        json.dumps({"file_name": "9.png", "text": 7}),
        json.dumps({"file_name": "10.png"}),
    ]
    lines = "\n".join(good + bad).encode() + b'\n{"file_name": "11.png", "text": "K\xe4fer"}'
    write_files(root, {"metadata.jsonl": lines})
    broken = [9, 10, 11, 12, 13, 14, 16, 17]
    problems = {f"metadata.jsonl line {number}": "broken metadata" for number in broken}
    problems |= {"\\ud800.png": "file is missing"}
    problems |= {"8.png": "caption is not UTF-8", "11.png": "caption is not UTF-8"}
    problems |= {"9.png": "no caption", "10.png": "no caption"}
    expected = {f"{i}.png": (i, [f"picture {i}"]) for i in range(8)}
    check(root, tmp_path, expected, problems)


def test_metadata_as_csv_in_folders(root, tmp_path):
    expected = {}
    for folder, first in (("", 0), ("sub/", 6), ("sub/sub/", 9)):
        table = io.StringIO()
        writer = csv.writer(table, quoting=csv.QUOTE_ALL if first else csv.QUOTE_MINIMAL)
        writer.writerow(["width", "caption", "file_name"])
        for i in range(first, first + 3):
            text = f'picture "{i}", with a comma\nand a line'
            writer.writerow([24, text, f"{i}.png"])
            writer.writerow([24, f"also {i}", f"{i}.png"])
            write_files(root, {f"{folder}{i}.png": encoded(i)})
            expected[f"{folder}{i}.png"] = (i, [text.replace("\n", " "), f"also {i}"])
        write_files(root, {f"{folder}metadata.csv": table.getvalue()})
    write_files(root, {"sub/deep/x.png": encoded(50)})
    check(root, tmp_path, expected, {"sub/deep/x.png": "no caption"})


def test_metadata_may_name_files_that_do_not_look_like_pictures(root, tmp_path):
    names = [f"{i}.png" for i in range(8)] + ["without", ".hidden.png", "frame.0001"]
    write_files(root, {name: encoded(i) for i, name in enumerate(names)})
    rows = [json.dumps({"file_name": name, "text": f"at {name}"}) for name in names]
    write_files(root, {"metadata.jsonl": "\n".join(rows)})
    check(root, tmp_path, {name: (i, [f"at {name}"]) for i, name in enumerate(names)})


def test_a_chosen_column(root, tmp_path):
    write_files(root, {f"{i}.png": encoded(i) for i in range(8)})
    rows = [{"file_name": f"{i}.png", "text": "no", "story": f"story {i}"} for i in range(8)]
    write_files(root, {"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    expected = {f"{i}.png": (i, [f"story {i}"]) for i in range(8)}
    check(root, tmp_path, expected, caption_column="story")
    words = r"metadata.jsonl has no column tale; it has: file_name, story, text; name one with"
    with pytest.raises(UserError, match=words):
        list_pictures(root, ReadOptions(caption_column="tale"))
    assert list_pictures(root, ReadOptions(caption_column="tale", need_captions=False)).size == 8


@pytest.mark.parametrize("text", ["name,caption\n1.png,a cat\n", "file_name/text\n1.png/a cat\n"])
def test_csv_without_a_column_of_names(root, text):
    write_files(root, {"1.png": encoded(1), "metadata.csv": text})
    words = "metadata.csv has no column file_name; it has: "
    with pytest.raises(UserError, match=words):
        list_pictures(root)


def test_names_of_folders(root, tmp_path):
    names = {"St. Bernard": "St. Bernard", "017.Cardinal": "Cardinal", "great_dane": "great dane"}
    names |= {"042.": "042.", "Ka\u0308fer": "Käfer"}
    templates = ("a photo of a {}", "{}")
    expected = {}
    for i in range(15):
        folder, shown = list(names.items())[i % 5]
        write_files(root, {f"{folder}/{i}.png": encoded(i)})
        expected[f"{folder}/{i}.png"] = (i, [f"a photo of a {shown}", shown])
    write_files(root, {"loose.png": encoded(40)})
    check(root, tmp_path, expected, {"loose.png": "no caption"}, caption_templates=templates)


@pytest.mark.parametrize("test", ["test", "validation", "Val"])
@pytest.mark.parametrize("layout", ["classes", "text files", "metadata"])
def test_folders_of_splits_stay_apart(root, tmp_path, test, layout):
    expected, splits = {}, {}
    rows = {"train": [], test: []}
    for i in range(COUNT):
        split = test if i % 4 == 3 else "train"
        name = f"{split}/{'cat' if i % 2 else 'dog'}/{i}.png"
        text = f"picture {i}"
        if layout == "classes":
            text = "cat" if i % 2 else "dog"
        elif layout == "text files":
            write_files(root, {name.replace("png", "txt"): text})
        rows[split].append(json.dumps({"file_name": name.split("/", 1)[1], "text": text}))
        write_files(root, {name: encoded(i)})
        expected[name], splits[name] = (i, [text]), "train" if split == "train" else "test"
    if layout == "metadata":
        write_files(root, {f"{split}/metadata.jsonl": "\n".join(rows[split]) for split in rows})
    check(root, tmp_path, expected, splits=splits)


def test_pictures_without_captions(root, tmp_path):
    write_files(root, {f"{i}.png": encoded(i) for i in range(COUNT)})
    config = config_of(root, tmp_path / "tfds", caption_key="")
    assert {name: row[1] for name, row in read(config).items()} == {
        f"{i}.png": [] for i in range(COUNT)
    }
    assert set(next(train_batches(open_dataset(config, "train"), batch_size=4))) == {"images"}


def write_tar(path, members):
    """(name, bytes) or `TarInfo` objects as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, data = member
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_tar_files(root, tmp_path):
    expected, splits = {}, {}
    for shard, split in (("train-0000", "train"), ("train-0001", "train"), ("val-0000", "test")):
        members = [special("./", tarfile.DIRTYPE)]
        for i in range(len(expected), len(expected) + 6):
            key = f"{'a/b.c/' * (i % 2)}{i}"
            lines = [f"picture {i}", "and more"]
            if i % 3 == 0:
                texts = [(f"{key}.json", json.dumps({"caption": lines, "width": 3}))]
            elif i % 3 == 1:
                texts = [(f"{key}.txt", "\n".join(lines)), (f"{key}.json", '{"text": "no"}')]
            else:
                texts = [(f"{key}.original.caption", "\n".join(lines))]
            pictures = [(f"{key}.PNG", encoded(i)), (f"{key}.cls", "7"), (f"{key}.npy", b"\0")]
            members += texts + pictures if i % 2 else pictures + texts
            expected[f"{shard}.tar/{key}"], splits[f"{shard}.tar/{key}"] = (i, lines), split
        write_tar(root / f"{shard}.tar", members)
    check(root, tmp_path, expected, splits=splits)


def test_one_tar_file_with_odd_members(tmp_path):
    members = [(f"{i}.png", encoded(i)) for i in range(10)]
    members += [(f"{i}.txt", f"picture {i}") for i in range(9)]
    members += [("/etc/x.png", encoded(20)), ("/etc/x.txt", "absolute")]
    members += [("../y.png", encoded(21)), ("../y.txt", "above")]
    members += [("caf\udce9.png", encoded(22)), ("caf\udce9.txt", "no UTF-8")]
    members += [("._0.png", b"fork"), ("link.txt", "a link")]
    members += [special("link.png", tarfile.SYMTYPE, "/etc/passwd")]
    members += [special("hard.png", tarfile.LNKTYPE, "0.png"), ("hard.txt", "a hard link")]
    members += [special("pipe.png", tarfile.FIFOTYPE), special("null.png", tarfile.CHRTYPE)]
    members += [("bad.jpg", b"<html>"), ("bad.txt", "an error page"), ("0.txt", "the later one")]
    members += [("h.heic", b"x"), ("h.txt", "a photo"), ("j.png", encoded(30)), ("j.json", "{")]
    path = tmp_path / "one.tar"
    write_tar(path, members)
    expected = {f"one.tar/{i}": (i, [f"picture {i}"]) for i in range(9)}
    expected["one.tar/0"] = (0, ["the later one"])
    expected |= {"one.tar//etc/x": (20, ["absolute"]), "one.tar/../y": (21, ["above"])}
    expected |= {"one.tar/caf\\xe9": (22, ["no UTF-8"])}
    problems = {"one.tar/9": "no caption", "one.tar/link": "no picture"}
    problems |= {"one.tar/hard": "no picture", "one.tar/bad": "not a picture"}
    problems |= {"one.tar/h": "format is not supported", "one.tar/j": "broken metadata"}
    check(path, tmp_path, expected, problems)


def damaged_tar(data, damage):
    """A tar file of ten pictures with captions, broken after the eighth."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    ninth, tenth = members[16], members[18]
    match damage:
        case "cut in a picture":
            return data[: ninth.offset_data + 100]
        case "cut in a header":
            return data[: ninth.offset + 100]
        case "cut in the middle of what follows":
            return data[: ninth.offset_data + ninth.size + 1]
        case "broken header":
            start = ninth.offset
            return data[:start] + b"\xff" * 512 + data[start + 512 :]
    header = tarfile.TarInfo("big.png")
    header.size = 2**40
    claim = header.tobuf(tarfile.GNU_FORMAT)
    if damage == "negative size":  # base 256, as GNU tar writes it
        claim = bytearray(claim)
        claim[124:136] = b"\xff" * 10 + b"\xf0\x00"
        claim[148:156] = b" " * 8
        claim[148:156] = b"%06o\0 " % sum(claim)
    else:
        assert damage == "size beyond the end"
    return data[: tenth.offset] + bytes(claim) + data[tenth.offset :]


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("cut in a picture", 8),
        ("cut in a header", 8),
        ("cut in the middle of what follows", 8),
        ("broken header", 8),
        ("size beyond the end", 9),
        ("negative size", 9),
    ],
)
def test_damaged_tar_files_keep_what_is_before_and_say_so(root, tmp_path, damage, left):
    files = [[(f"{i}.png", encoded(i)), (f"{i}.txt", f"picture {i}")] for i in range(10)]
    write_tar(root / "a.tar", itertools.chain(*files))
    (root / "a.tar").write_bytes(damaged_tar((root / "a.tar").read_bytes(), damage))
    (root / "b.tar").write_bytes(b"\x1f\x8b not a tar file")
    (root / "c.tar").write_bytes(b"")
    write_tar(root / ".hidden" / "d.tar", files[9])
    fifo(root / "e.tar")
    (root / "f.tar").mkdir()
    expected = {f"a.tar/{i}": (i, [f"picture {i}"]) for i in range(left)}
    problems = dict.fromkeys(["a.tar", "b.tar", "c.tar"], "damaged archive")
    if damage == "cut in the middle of what follows":
        problems["a.tar/8"] = "no caption"
    check(root, tmp_path, expected, problems)


def test_tar_files_without_an_end_mark_are_whole(root, tmp_path):
    files = [[(f"{i}.png", encoded(i)), (f"{i}.txt", f"picture {i}")] for i in range(10)]
    write_tar(root / "a.tar", itertools.chain(*files))
    data = (root / "a.tar").read_bytes()
    (root / "a.tar").write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    check(root, tmp_path, {f"a.tar/{i}": (i, [f"picture {i}"]) for i in range(10)})


def hugging_face(numbers, texts, **more):
    """Rows as `datasets` writes them."""
    images = [{"bytes": encoded(i), "path": f"{i}.png"} for i in numbers]
    return pa.table({"image": images, "text": texts, **more})


def test_parquet_of_hugging_face(root, tmp_path):
    expected, splits = {}, {}
    for file, split, first in (("train-00000", "train", 0), ("test-00000", "test", 20)):
        numbers = range(first, first + 20)
        table = hugging_face(numbers, [f"picture {i}" for i in numbers], label=[1] * 20)
        (root / "data").mkdir(exist_ok=True)
        pq.write_table(table, root / "data" / f"{file}.parquet", row_group_size=7)
        for row, i in enumerate(numbers):
            name = f"data/{file}.parquet/{row}"
            expected[name], splits[name] = (i, [f"picture {i}"]), split
    write_files(root, {"README.md": "# A data set", "preview/logo.png": encoded(99)})
    check(root, tmp_path, expected, splits=splits)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_parquet_of_bytes_and_lists(root, tmp_path, kind):
    captions = [[f"picture {i}", "", f"picture {i}", f"number {i}"] for i in range(COUNT)]
    images = pa.array([encoded(i) for i in range(COUNT)], kind)
    table = pa.table({"id": list(range(COUNT)), "jpg": images, "captions": captions})
    pq.write_table(table, root / "a.PARQUET")
    expected = {f"a.PARQUET/{i}": (i, [f"picture {i}", f"number {i}"]) for i in range(COUNT)}
    check(root, tmp_path, expected)


def test_parquet_cells_that_are_of_no_use(root, tmp_path):
    """Each is named; those beside it in a row group are kept."""
    images = [{"bytes": encoded(i), "path": None} for i in range(16)]
    images[2] = None
    images[3]["bytes"] = None
    images[4]["bytes"] = b""
    images[5]["bytes"] = encoded(5)[:200]
    texts = [f"picture {i}" for i in range(16)]
    texts[6], texts[7] = None, " "
    texts[9] = "K\xe4fer\0"
    raw = [text if text is None else text.encode("latin-1") for text in texts]
    raw[8] = b"K\xe4fer"  # Arrow does not look into its strings
    column = pa.array(raw, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": images, "text": column}), root / "a.parquet")
    problems = {2: "no picture", 3: "no picture", 4: "empty file", 5: "damaged picture"}
    problems |= {6: "no caption", 7: "empty caption", 8: "caption is not UTF-8"}
    problems |= {9: "caption is not UTF-8"}
    expected = {f"a.parquet/{i}": (i, [texts[i]]) for i in range(16) if i not in problems}
    check(root, tmp_path, expected, {f"a.parquet/{i}": why for i, why in problems.items()})


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "as ."])
def test_parquet_paths_stay_in_the_folder(root, tmp_path, monkeypatch, relative):
    write_files(tmp_path, {"secret.png": encoded(70)})
    write_files(root, {f"files/{i}.x": encoded(i) for i in range(10)})
    fifo(root / "pipe.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    names = [f"files/{i}.x" for i in range(10)]
    names += ["../secret.png", str(tmp_path / "secret.png"), "files/../../secret.png", ".", ""]
    names += ["pipe.png", "none.png", "a\0b.png", "n" * 5000, "link.png"]
    images = [{"bytes": None, "path": name} for name in names]
    table = pa.table({"image": images, "text": [f"row {i}" for i in range(len(names))]})
    pq.write_table(table, root / "a.parquet")
    problems = dict.fromkeys(range(10, 15), "no picture")
    problems |= {15: "unreadable file", 16: "unreadable file", 17: "no picture"}
    problems |= {18: "unreadable file"}
    expected = {f"a.parquet/{i}": (i, [f"row {i}"]) for i in range(10)}
    expected["a.parquet/19"] = (70, ["row 19"])  # a link is the user's own
    if relative:
        monkeypatch.chdir(root)
    where = "a.parquet" if relative else root / "a.parquet"
    check(where, tmp_path, expected, {f"a.parquet/{i}": why for i, why in problems.items()})


def test_damaged_parquet_files_are_named(root, tmp_path):
    numbers = range(40)
    table = hugging_face(numbers, [f"picture {i}" for i in numbers])
    pq.write_table(table, root / "a.parquet", row_group_size=10, compression="none")
    data = (root / "a.parquet").read_bytes()
    (root / "b.parquet").write_bytes(data[: len(data) // 2])
    with pq.ParquetFile(root / "a.parquet") as file:
        start = file.metadata.row_group(1).column(0).data_page_offset
    (root / "a.parquet").write_bytes(data[:start] + bytes(64) + data[start + 64 :])
    lost = range(10, 20)
    problems = {f"a.parquet/{i}": "damaged archive" for i in lost}
    expected = {f"a.parquet/{i}": (i, [f"picture {i}"]) for i in numbers if i not in lost}
    check(root, tmp_path, expected, {**problems, "b.parquet": "damaged archive"})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"text": ["a"]}, "a.parquet has no column with picture bytes; it has: text"),
        ({"image": [{"bytes": "a"}]}, "a.parquet has no column with picture bytes; it has: image"),
        (
            {"image": [b"a"], "label": [1]},
            "a.parquet has no column text or caption; it has: image, label; name one with",
        ),
    ],
)
def test_parquet_without_a_column(root, table, words):
    pq.write_table(pa.table(table), root / "a.parquet")
    with pytest.raises(UserError, match=words):
        list_pictures(root)


def test_row_groups_of_any_size_make_shards(root):
    table = hugging_face(range(30), [f"picture {i}" for i in range(30)])
    pq.write_table(table, root / "a.parquet", row_group_size=1)
    (shard,) = list_pictures(root).shards
    assert shard.size == 30
    assert [raw.captions for raw in shard.read()] == [(f"picture {i}",) for i in range(30)]


def test_pictures_that_lie_beside_a_folder_that_cannot_be_read(root, tmp_path, monkeypatch):
    captioned_folder(root, 8)
    captioned_folder(root / "closed", 2, first=8)
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    expected = {f"{i}.png": (i, [f"picture {i}"]) for i in range(8)}
    check(root, tmp_path, expected, {"closed": "unreadable folder"})


@pytest.mark.parametrize("where", [".", "../pictures", "../pictures/../pictures/"])
def test_relative_paths(root, tmp_path, monkeypatch, where):
    write_files(root, {f"sub/{i}.png": encoded(i) for i in range(8)})
    write_files(tmp_path, {"above.png": encoded(20)})
    rows = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(8)]
    rows += [{"file_name": "../../above.png", "text": "above"}]
    write_files(root, {"sub/metadata.jsonl": "\n".join(map(json.dumps, rows))})
    monkeypatch.chdir(root)
    expected = {f"sub/{i}.png": (i, [f"picture {i}"]) for i in range(8)}
    check(where, tmp_path, expected, {"sub/metadata.jsonl line 9": "broken metadata"})
