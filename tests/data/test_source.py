"""TFDS data sets by name: embedded ones, those of the configs, and what can go wrong."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flaxgan.config import DataConfig, load_config
from flaxgan.data import open_dataset, train_batches
from flaxgan.errors import UserError
from tests.conftest import ROOT

COUNT = 6  # examples of each split of a stand-in


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def picture(index, channels=3, height=40, width=56):
    return np.random.default_rng(index).integers(0, 256, (height, width, channels), dtype=np.uint8)


def prepare(
    folder, name, features, examples, *, config=None, version="1.0.0", kind="array_record", shards=1
):
    """Writes a TFDS folder and drops the class that wrote it, as if copied from elsewhere.

    Args:
      examples: split -> list of examples.
      kind: of its files, as TFDS calls it.
      shards: files of each split.
    """

    with tfds.core.registered.skip_registration():

        class StandIn(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
            pkg_dir_path = Path(__file__).parent

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {split: enumerate(rows) for split, rows in examples.items()}

            def _generate_examples(self):
                raise NotImplementedError

    StandIn.name = name
    builder = StandIn(data_dir=folder)
    options = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(file_format=kind, download_config=options)
    return Path(builder.data_dir)


@contextlib.contextmanager
def user_error():
    """A UserError of one line; yields a function that gives its text."""
    with pytest.raises(UserError) as error:
        yield lambda: str(error.value)
    assert "\n" not in str(error.value)


def message(config, split="train"):
    with user_error() as text:
        open_dataset(config, split)
    return text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def pets(folder):
    """The config of a small data set with text and nested features."""
    rows = [
        {
            "image": png(picture(i)),
            "texts": [f"picture {i}", "a pet"],
            "view": {"side": png(picture(100 + i)), "name": f"side of {i}"},
            "weights": np.zeros((4, 4), np.float32),
        }
        for i in range(COUNT)
    ]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "texts": tfds.features.Sequence(tfds.features.Text()),
            "view": {
                "side": tfds.features.Image(shape=(None, None, 3)),
                "name": tfds.features.Text(),
            },
            "weights": tfds.features.Tensor(shape=(4, 4), dtype=np.float32),
        }
    )
    prepare(folder, "pets", features, {"train": rows, "test": rows[:2]})
    return DataConfig(name="pets", data_dir=str(folder), caption_key="texts", resolution=40)


def central(array):
    return array[:, 8:48]


def rows_by_caption(dataset):
    """TFDS shuffles what it writes."""
    return {dataset.captions(i)[0]: dataset.image(i) for i in range(len(dataset))}


def test_avatars_are_built_on_first_use_and_read_on_the_next(tmp_path):
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    config = DataConfig(name="avatars/tiny", data_dir=str(tmp_path), resolution=32)
    first = open_dataset(config, "test")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.array_record*")}
    again = open_dataset(config, "test")
    assert written
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.array_record*")}
    assert len(first) == 64
    assert first.captions_survive_flip
    assert first.images.shape == (64, 32, 32, 3)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.flat_captions == again.flat_captions
    assert len(first.flat_captions) == 12 * 64


def test_pictures_and_captions_are_those_that_were_written(pets):
    dataset = open_dataset(pets, "train")
    assert not dataset.captions_survive_flip
    found = rows_by_caption(dataset)
    assert set(found) == {f"picture {i}" for i in range(COUNT)}
    for i in range(COUNT):
        np.testing.assert_array_equal(found[f"picture {i}"], central(picture(i)))
    np.testing.assert_array_equal(dataset.caption_count, 2)
    np.testing.assert_array_equal(dataset.caption_start, 2 * np.arange(COUNT))


def test_nested_features_are_read(pets):
    config = dataclasses.replace(pets, image_key="view/side", caption_key="view/name")
    for caption, image in rows_by_caption(open_dataset(config, "train")).items():
        index = int(caption.split()[-1])
        np.testing.assert_array_equal(image, central(picture(100 + index)))


@pytest.mark.parametrize(
    ("split", "count"),
    [("train", 6), ("test", 2), ("train[:2]", 2), ("train[50%:]", 3), ("train+test", 8)],
)
def test_splits_can_be_cut_and_added(pets, split, count):
    assert len(open_dataset(pets, split)) == count


def two_kinds(folder, shards):
    """Configs of one small data set, as array_record and as Parquet."""
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), "text": tfds.features.Text()}
    )
    rows = [{"image": png(picture(i, height=8, width=8)), "text": f"p{i}"} for i in range(30)]
    configs = []
    for kind in ("array_record", "parquet"):
        examples = {"train": rows[:20], "test": rows[20:]}
        prepare(folder / kind, "pets", features, examples, kind=kind, shards=shards)
        place = {"data_dir": str(folder / kind), "caption_key": "text"}
        configs.append(DataConfig(name="pets", resolution=8, **place))
    return configs


@pytest.fixture(scope="module", params=[1, 3], ids=["one file", "three files"])
def kinds(tmp_path_factory, request):
    return two_kinds(tmp_path_factory.mktemp("kinds"), request.param)


@pytest.mark.parametrize(
    "split",
    [
        *("train", "train[:50%]", "train[50%:]", "train[5:]", "train[:-5]", "train[-3:]"),
        *("train[7:8]", "train[6:14]", "train+test", "test[:2]+train[18:]", "train[:2]+train[1:9]"),
        "train[1shard:]",
    ],
)
def test_slices_of_parquet_are_those_of_array_record(kinds, split):
    """TFDS 4.9.10 ignores them: a held-out part would be trained on."""
    if split == "train[1shard:]" and len(list(Path(kinds[1].data_dir).rglob("*-train.parq*"))) < 2:
        pytest.skip("the only file is the first")
    expected, found = (open_dataset(config, split) for config in kinds)
    assert found.flat_captions == expected.flat_captions
    np.testing.assert_array_equal(found.images, expected.images)
    streamed = open_dataset(dataclasses.replace(kinds[1], in_memory_mb=0), split)
    np.testing.assert_array_equal(streamed.image(len(found) - 1), expected.images[-1])


def test_damaged_parquet_is_called_so(tmp_path):
    config = two_kinds(tmp_path, 1)[1]
    [file] = Path(config.data_dir).rglob("*-train.parquet*")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for split in ("train", "train[:50%]"):
        assert "is damaged: 'train' cannot be opened" in message(config, split)
    [other] = Path(config.data_dir).rglob("*-test.parquet*")
    file.write_bytes(other.read_bytes())
    for split in ("train", "train[:50%]"):
        assert "is damaged: 10 of 20 examples in 'train'" in message(config, split)


def test_small_data_sets_are_held_in_memory_and_large_ones_are_streamed(pets):
    fits = 600  # pixels a side: 6 pictures of 1.03 MiB
    at = dataclasses.replace(pets, resolution=fits, in_memory_mb=7)
    below = dataclasses.replace(at, in_memory_mb=6)
    held, streamed = open_dataset(at, "train"), open_dataset(below, "train")
    assert streamed.images is None
    np.testing.assert_array_equal(held.images[3], streamed.image(3))


def test_newest_prepared_version_is_read(folder):
    image, text = tfds.features.Image(), tfds.features.Text()
    features = tfds.features.FeaturesDict({"image": image, "text": text})
    for version in ("9.0.0", "10.0.0", "2.0.0"):
        row = {"image": png(picture(0)), "text": f"version {version}"}
        prepare(folder, "aged", features, {"train": [row]}, version=version)
    config = DataConfig(name="aged", data_dir=str(folder), caption_key="text")
    assert open_dataset(config, "train").flat_captions == ["version 10.0.0"]


# config file -> height, width of the stand-in's pictures
STOCK = {
    "cifar32": (32, 32),
    "flowers64": (70, 90),
    "dfgan_birds256": (300, 260),
    "mlp_mnist": (28, 28),
}


@pytest.mark.parametrize("name", STOCK)
def test_configs_of_labelled_tfds_data_sets(name, tmp_path):
    """Features are those of the stock builder; the examples are ours."""
    config = load_config(ROOT / "configs" / f"{name}.py").data
    features = tfds.builder(config.name, data_dir=tmp_path / "none").info.features
    labels = features["label"].names
    height, width = STOCK[name]
    channels = features["image"].shape[-1]

    def row(i):
        blank = {k: _blank(v) for k, v in features.items()}
        image = png(picture(i, channels, height, width))
        return {**blank, "image": image, "label": i % len(labels)}

    rows = [row(i) for i in range(COUNT)]
    prepare(tmp_path, config.name, features, {config.split: rows, config.test_split: rows[:2]})
    config = dataclasses.replace(config, data_dir=str(tmp_path))
    assert len(open_dataset(config, config.test_split)) == 2
    dataset = open_dataset(config, config.split)
    batch = next(train_batches(dataset, batch_size=4, flip=True))
    assert batch["images"].shape == (4, config.resolution, config.resolution, config.channels)
    if not config.caption_key:
        assert set(batch) == {"images"}
        return
    shown = {label.split(".")[-1].replace("_", " ") for label in labels[:COUNT]}
    assert set(dataset.flat_captions) == {
        template.replace("{}", label) for template in config.caption_templates for label in shown
    }
    assert len(dataset.flat_captions) == COUNT * len(config.caption_templates)


def _blank(feature):
    """A value of a feature that the library does not read."""
    if isinstance(feature, tfds.features.Text):
        return "blank"
    if isinstance(feature, tfds.features.Image):
        return png(np.zeros((4, 4, feature.shape[-1] or 3), np.uint8))
    if isinstance(feature, tfds.features.BBoxFeature):
        return tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    return 0


def test_config_of_coco_captions(tmp_path):
    """Its stock builder needs TensorFlow: a folder that was prepared elsewhere does not."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
        }
    )
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), (200, 30, 90)).save(buffer, "JPEG")

    def row(i):
        texts = [{"id": 10 * i + k, "text": f"photo {i}, told by {k}"} for k in range(5 + i % 2)]
        name = f"{i:012}.jpg"
        return {
            "image": buffer.getvalue(),
            "image/filename": name,
            "image/id": i,
            "captions": texts,
        }

    rows = [row(i) for i in range(COUNT)]
    prepare(tmp_path, "coco_captions", features, {"train": rows, "val": rows[:2]}, config="2014")
    config = load_config(ROOT / "configs" / "dfgan_coco256.py").data
    config = dataclasses.replace(config, data_dir=str(tmp_path))
    dataset = open_dataset(config, config.split)
    assert len(open_dataset(config, config.test_split)) == 2
    assert sorted(dataset.caption_count) == [5, 5, 5, 6, 6, 6]
    for i in range(COUNT):
        number = dataset.captions(i)[0].split(",")[0]
        expected = [f"{number}, told by {k}" for k in range(dataset.caption_count[i])]
        assert dataset.captions(i) == expected
    batch = next(train_batches(dataset, batch_size=4))
    assert batch["images"].shape == (4, 256, 256, 3)
    assert np.abs(batch["images"].astype(int) - (200, 30, 90)).max() <= 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("avatar", "unknown data set 'avatar'; did you mean avatars?"),
        ("cifra10", "unknown data set 'cifra10'; did you mean cifar10?"),
        ("qqqqqqq", "unknown data set 'qqqqqqq'; embedded are: avatars, emoji"),
        (
            "avatars/9k",
            "'avatars/9k'; there are: avatars/full, avatars/100k, avatars/10k, "
            "avatars/10k_128px, avatars/tiny",
        ),
        ("cifar10/large", "data.name 'cifar10/large': .*BuilderConfig large not found"),
        ("a b", "data.name 'a b'"),
    ],
)
def test_unknown_names(tmp_path, name, words):
    pattern = words if "*" in words else re.escape(words)
    assert re.search(pattern, message(DataConfig(name=name, data_dir=str(tmp_path))))


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("validation", "data set pets has no split 'validation'; it has: test, train"),
        ("train+val", "data set pets has no split 'train+val'; it has: test, train"),
        ("train[:0]", "split 'train[:0]' of data set pets is empty"),
        ("train[:1%]", "split 'train[:1%]' of data set pets is empty"),
        ("train[half]", "split 'train[half]' of data set pets: Unrecognized split format"),
        ("train[:900%]", "should be in [-100, 100]"),
    ],
)
def test_unknown_and_empty_splits(pets, split, words):
    assert words in message(pets, split)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"image_key": "photo"},
            "data.image_key: data set pets has no feature 'photo'; it has: im",
        ),
        ({"image_key": "texts"}, "data.image_key: feature 'texts' is Sequence, not 8-bit pictures"),
        ({"image_key": "view"}, "data.image_key: feature 'view' is FeaturesDict, not 8-bit pict"),
        ({"image_key": "weights"}, "data.image_key: feature 'weights' is Tensor, not 8-bit pict"),
        ({"caption_key": "text"}, "data.caption_key: data set pets has no feature 'text'; it has:"),
        ({"caption_key": "view"}, "holds several features: view/name, view/side"),
        ({"caption_key": "image"}, "data.caption_key: feature 'image' is Image, not text"),
        ({"resolution": 3}, "data.resolution must be >= 4, not 3"),
        ({"channels": 4}, "data.channels must be one of 1, 3, not 4"),
    ],
)
def test_wrong_features_and_sizes(pets, changes, words):
    assert words in message(dataclasses.replace(pets, **changes))


@pytest.mark.parametrize("in_memory_mb", [0, 64])
def test_a_corrupt_picture_is_named(folder, in_memory_mb):
    good = png(picture(0))
    rows = [{"image": good}, {"image": good[: len(good) // 2]}]
    features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
    if not (folder / "torn").exists():
        prepare(folder, "torn", features, {"train": rows})
    config = DataConfig(
        name="torn", data_dir=str(folder), caption_key="", in_memory_mb=in_memory_mb
    )
    with user_error() as text:
        batches = train_batches(open_dataset(config, "train"), batch_size=2)
        next(batches)
    assert text().startswith("torn picture ")
    assert "is not a readable picture" in text()


@pytest.mark.parametrize("caption_key", ["texts", ""])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 3000)])
def test_a_data_set_whose_files_are_lost_or_cut_is_an_error(pets, tmp_path, damage, caption_key):
    shutil.copytree(Path(pets.data_dir) / "pets", tmp_path / "pets")
    (record,) = tmp_path.rglob("*train.array_record*")
    damage(record)
    config = dataclasses.replace(pets, data_dir=str(tmp_path), caption_key=caption_key)
    text = message(config)
    assert text.startswith("data set pets is damaged: ")
    assert "delete it in data.data_dir and run again" in text


def test_a_data_set_prepared_for_tensorflow_only_says_how_to_prepare_it(pets, tmp_path):
    shutil.copytree(Path(pets.data_dir) / "pets", tmp_path / "pets")
    (path,) = tmp_path.rglob("dataset_info.json")
    info = json.loads(path.read_text())
    assert info["fileFormat"] == "array_record"
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    path.write_text(json.dumps(info))
    for record in tmp_path.rglob("*.array_record*"):
        record.rename(record.with_name(record.name.replace("array_record", "tfrecord")))
    text = message(dataclasses.replace(pets, data_dir=str(tmp_path)))
    assert "--file_format=array_record" in text


@pytest.mark.parametrize("name", ["coco_captions/2014", "imagenet2012"])
def test_what_cannot_be_prepared_here_says_how_and_where(name, tmp_path):
    """Without TensorFlow; without files that must be fetched by hand."""
    if name.startswith("coco"):
        try:
            import tensorflow  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("TensorFlow is installed")
    text = message(DataConfig(name=name, data_dir=str(tmp_path)))
    assert f"data set {name} cannot be prepared here (" in text
    assert f"tfds build {name} --file_format=array_record" in text
    assert "data.data_dir" in text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("python_avatars")
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    text = message(DataConfig(name="avatars/tiny", data_dir=str(in_the_way)))
    assert text.startswith("cannot write data set avatars/tiny to ")
    assert str(in_the_way) in text


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "python_avatars", None)
    text = message(DataConfig(name="avatars/tiny", data_dir=str(tmp_path)))
    assert "avatars needs python_avatars: pip install" in text


def test_labels_are_class_names():
    """Of features that are one class, in the order of the pictures."""
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    from flaxgan.data import avatar_captions, avatars

    test = open_dataset(DataConfig(name="avatars/tiny", resolution=32), "test")
    labels = test.labels()
    assert set(labels) == set(avatars.ATTRIBUTES)
    for name, values in labels.items():
        assert len(values) == len(test)
        assert set(values) <= set(avatars.ATTRIBUTES[name])
    # the captions of each picture are those of its own attributes
    for row in range(len(test)):
        attributes = {name: values[row] for name, values in labels.items()}
        named = avatar_captions.named_attributes(attributes, test.captions(row)[0])
        assert "skin" in named
