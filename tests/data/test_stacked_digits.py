"""The data set stacked_digits: which digits are in which split, and what is said of them."""

import hashlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits

from flaxgan.config import DataConfig
from flaxgan.data import open_dataset, stacked_digits
from flaxgan.data.stacked_digits import (
    CHANNELS,
    StackedDigits,
    enlarge,
    make_example,
    mode_of,
    render,
    sample_examples,
    source_digits,
)
from flaxgan.errors import UserError

SIZES = {"train": 256, "test": 64}


@pytest.fixture(scope="module")
def builder():
    """Of the config "tiny", built where other tests of this worker read it too."""
    builder = StackedDigits(config="tiny")
    builder.download_and_prepare(file_format="array_record")
    return builder


@pytest.fixture(scope="module")
def tiny(builder):
    """Split -> examples of the config "tiny", read back from disk."""
    return {split: list(builder.as_data_source(split)) for split in SIZES}


def test_tiny_has_its_splits_features_and_shapes(builder, tiny):
    assert {split: len(examples) for split, examples in tiny.items()} == SIZES
    assert set(builder.info.features) == {"image", "captions", "mode", *CHANNELS}
    for example in tiny["train"] + tiny["test"]:
        assert example["image"].shape == (32, 32, 3)
        assert example["image"].dtype == np.uint8
        assert (example["image"].max(axis=(0, 1)) > 200).all()  # a digit in every colour


def test_labels_agree_with_captions_and_modes(builder, tiny):
    for example in tiny["train"] + tiny["test"]:
        red, green, blue = (int(example[channel]) for channel in CHANNELS)
        (caption,) = example["captions"]
        assert caption.decode() == f"digits {red}, {green} and {blue}"
        assert builder.info.features["mode"].int2str(int(example["mode"])) == f"{red}{green}{blue}"


def test_every_colour_shows_a_source_digit_of_its_label(tiny):
    """Of scikit-learn's own labels, found by comparing pictures."""
    everything = load_digits()
    shown = {
        picture.tobytes(): int(label)
        for picture, label in zip(enlarge(everything.images), everything.target, strict=True)
    }
    for example in tiny["train"] + tiny["test"]:
        for k, channel in enumerate(CHANNELS):
            assert shown[example["image"][:, :, k].tobytes()] == example[channel]


def test_splits_share_no_source_digit():
    everything = load_digits()
    original = sorted(image.astype(np.uint8).tobytes() for image in everything.images)
    parts = {s: [x.tobytes() for g in source_digits(s) for x in g] for s in SIZES}
    assert not set(parts["train"]) & set(parts["test"])
    assert sorted(parts["train"] + parts["test"]) == original
    assert {split: len(part) for split, part in parts.items()} == {"train": 1442, "test": 355}
    assert min(len(group) for group in source_digits("test")) >= 34


def test_digits_of_the_colours_are_uniform_and_independent():
    digits, chosen = sample_examples("train", np.arange(100_000))
    for column in digits.T:  # 10,000 of each expected, standard deviation 95
        assert np.abs(np.bincount(column, minlength=10) - 10_000).max() < 450
    counts = np.bincount(mode_of(digits), minlength=1000)
    chi_squared = ((counts - 100.0) ** 2 / 100.0).sum()
    assert 800 < chi_squared < 1200  # 999 expected, standard deviation 45
    for digit, group in enumerate(source_digits("train")):
        seen = chosen[digits == digit]
        assert set(seen) == set(range(len(group)))


def test_an_example_is_a_function_of_split_and_index():
    """However many are drawn with it; and other splits have other ones."""
    digits, chosen = sample_examples("test", np.arange(500))
    some = np.array([499, 3, 77])
    again = sample_examples("test", some)
    np.testing.assert_array_equal(again[0], digits[some])
    np.testing.assert_array_equal(again[1], chosen[some])
    other, _ = sample_examples("train", np.arange(500))
    assert 0.05 < (other == digits).mean() < 0.15


def test_examples_on_disk_are_those_that_are_sampled(tiny):
    for split, examples in tiny.items():
        rows = zip(*sample_examples(split, np.arange(SIZES[split])), strict=True)
        expected = sorted(render(split, *row).tobytes() for row in rows)
        assert sorted(example["image"].tobytes() for example in examples) == expected


def test_pictures_do_not_change_unnoticed():
    """A change here is a new data set: raise its version with this hash."""
    digest = hashlib.sha256()
    for split in SIZES:
        for row in zip(*sample_examples(split, np.arange(16)), strict=True):
            example = make_example(split, *row)
            digest.update(np.asarray(Image.open(io.BytesIO(example.pop("image")))).tobytes())
            digest.update(repr(example).encode())
    assert digest.hexdigest()[:16] == "837ae4185379d410"


def test_enlarging_is_bilinear():
    """Against Pillow's, which rounds after each direction."""
    (digits, *_) = source_digits("test")
    for digit, large in zip(digits[:8], enlarge(digits[:8]), strict=True):
        levels = Image.fromarray(digit.astype(np.float32) * (255 / 16))
        theirs = np.asarray(levels.resize((32, 32), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(large, theirs, atol=0.51)


def test_mode_is_the_number_that_the_digits_spell():
    np.testing.assert_array_equal(mode_of([[3, 1, 4], [0, 0, 7], [9, 9, 9]]), [314, 7, 999])


def test_it_is_opened_by_its_name_with_captions_and_never_mirrored(builder):
    config = DataConfig(name="stacked_digits/tiny", resolution=32)
    dataset = open_dataset(config, "test")
    assert len(dataset) == 64
    assert not dataset.captions_survive_flip
    labels = dataset.labels()
    assert dataset.captions(5) == [
        "digits {}, {} and {}".format(*(labels[channel][5] for channel in CHANNELS))
    ]


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setattr(stacked_digits, "source_digits", source_digits.__wrapped__)
    with pytest.raises(UserError, match=r"needs scikit-learn: pip install .*scikit-learn") as error:
        StackedDigits(config="tiny", data_dir=tmp_path).download_and_prepare(
            file_format="array_record"
        )
    assert "\n" not in str(error.value)
