"""`stacked_digits`: three handwritten digits as the red, green and blue of a picture, 1,000 modes.

A benchmark of mode coverage: which of the numbers 000 to 999 a generator draws is counted by the
metric `modes`. After StackedMNIST (Srivastava et al. 2017, "VEEGAN"; Lin et al. 2018, "PacGAN",
section 5), with the digits that scikit-learn brings in place of MNIST, so that nothing is
downloaded: 1,797 pictures of 8 x 8 pixels and 17 levels of grey, the test part of "Optical
Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI Machine Learning Repository,
CC BY 4.0; scikit-learn is BSD-3-Clause).
"""

import dataclasses
import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flaxgan.data.hashed import bits
from flaxgan.errors import UserError
from flaxgan.progress import progress_bar

SOURCE_SIDE, SIDE = 8, 32  # pixels, of a source digit and of a picture
SOURCE_LEVELS = 16  # the brightest value of a source digit
CHANNELS = ("red", "green", "blue")
NUM_DIGITS = 10
NUM_MODES = NUM_DIGITS ** len(CHANNELS)
TEST_EVERY = 5  # of the source pictures of each digit, the fifth, tenth … are for the split `test`
SPLIT_SEEDS = {"train": 1, "test": 2}

_CITATION = """\
@misc{digits, author = {Ethem Alpaydin and Cenk Kaynak}, year = {1998},
  title = {Optical Recognition of Handwritten Digits}, doi = {10.24432/C50P49},
  howpublished = {UCI Machine Learning Repository}, note = {CC BY 4.0; from scikit-learn}}"""


@functools.cache
def source_digits(split: str) -> tuple[np.ndarray, ...]:
    """The pictures of each digit that a split is made of; no picture is in both splits.

    Args:
      split: "train" (1,442 pictures) or "test" (355).

    Returns:
      For each digit 0 … 9 an array `[n, 8, 8]` uint8 in [0, 16].

    Raises:
      UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "the data set stacked_digits needs scikit-learn: "
            'pip install "flaxgan[data]" (or: pip install scikit-learn)'
        ) from error
    everything = load_digits()
    images = everything.images.astype(np.uint8)
    groups = [images[everything.target == digit] for digit in range(NUM_DIGITS)]
    wanted = {"train": False, "test": True}[split]
    return tuple(g[(np.arange(len(g)) % TEST_EVERY == TEST_EVERY - 1) == wanted] for g in groups)


def sample_examples(split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What examples show: functions of split and index alone.

    Each channel has a digit, uniform in 0 … 9, and one of the split's pictures of it, uniform too.

    Args:
      split: "train" or "test".
      indices: `[b]` non-negative integers.

    Returns:
      The digits of red, green and blue `[b, 3]` int64, and the number of the picture of each among
      `source_digits(split)[digit]`, `[b, 3]` int64.
    """
    sizes = np.array([len(group) for group in source_digits(split)], np.uint64)
    random = bits(SPLIT_SEEDS[split], "stacked_digits", np.asarray(indices), 2 * len(CHANNELS))
    random >>= np.uint64(11)  # 53 bits: what is left over by the remainders below is negligible
    digits = random[:, : len(CHANNELS)] % np.uint64(NUM_DIGITS)
    chosen = random[:, len(CHANNELS) :] % sizes[digits]
    return digits.astype(np.int64), chosen.astype(np.int64)


@functools.cache
def _interpolation() -> np.ndarray:
    """`[32, 8]`: linear interpolation between pixel centres, constant beyond the outer ones."""
    places = (np.arange(SIDE) + 0.5) * SOURCE_SIDE / SIDE - 0.5
    return np.maximum(0.0, 1.0 - np.abs(places.clip(0, 7)[:, None] - np.arange(SOURCE_SIDE)))


def enlarge(digits: np.ndarray) -> np.ndarray:
    """Source digits to the size of pictures, bilinearly, black to white.

    Args:
      digits: `[n, 8, 8]` in [0, 16].

    Returns:
      `[n, 32, 32]` uint8. Equal on every machine: all but the last rounding is exact.
    """
    weights = _interpolation()
    return np.rint(weights @ digits @ weights.T * 255.0 / SOURCE_LEVELS).astype(np.uint8)


def mode_of(digits: np.ndarray) -> np.ndarray:
    """Digits of red, green and blue `[..., 3]` to the number that they spell, in [0, 1000)."""
    return np.asarray(digits) @ (NUM_DIGITS ** np.arange(len(CHANNELS))[::-1])


def caption_of(digits: np.ndarray) -> str:
    """Such as "digits 3, 1 and 4": those of red, green and blue, `[3]`."""
    red, green, blue = (int(digit) for digit in digits)
    return f"digits {red}, {green} and {blue}"


def render(split: str, digits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """One picture `[32, 32, 3]` uint8; see `sample_examples` for the arguments, each `[3]`."""
    groups = source_digits(split)
    stacked = np.stack([groups[d][k] for d, k in zip(digits, chosen, strict=True)])
    return np.moveaxis(enlarge(stacked), 0, -1)


def make_example(split: str, digits: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """An example as TFDS wants it; see `sample_examples` for the arguments, each `[3]`."""
    with io.BytesIO() as png:  # TFDS encodes arrays by TensorFlow only
        Image.fromarray(render(split, digits, chosen)).save(png, "PNG")
        image = png.getvalue()
    return {
        "image": image,
        "captions": [caption_of(digits)],
        "mode": int(mode_of(digits)),
        **{channel: int(digit) for channel, digit in zip(CHANNELS, digits, strict=True)},
    }


@dataclasses.dataclass
class StackedDigitsConfig(tfds.core.BuilderConfig):
    """How many examples.

    Attributes:
      sizes: split -> number of examples.
    """

    sizes: dict[str, int] = dataclasses.field(default_factory=dict)


def _config(name: str, train: int, test: int) -> StackedDigitsConfig:
    return StackedDigitsConfig(
        name=name,
        description=f"{train:,} training pictures.",
        sizes={"train": train, "test": test},
    )


class StackedDigits(tfds.core.GeneratorBasedBuilder):
    """Three digits in three colours, with their number and a caption."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config("full", 50_000, 26_000),  # papers count the modes of 26,000 pictures
        _config("tiny", 256, 64),
    ]
    captions_survive_flip = False  # a mirrored digit is none

    def _info(self) -> tfds.core.DatasetInfo:
        numbers = [f"{number:03}" for number in range(NUM_MODES)]
        digit = tfds.features.ClassLabel(num_classes=NUM_DIGITS)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(tfds.features.Text(), length=1),
                    "mode": tfds.features.ClassLabel(names=numbers),
                    **dict.fromkeys(CHANNELS, digit),
                }
            ),
            description=__doc__,
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        for split in SPLIT_SEEDS:
            source_digits(split)  # before anything is written
        return {split: self._generate_examples(split) for split in SPLIT_SEEDS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        count = self.builder_config.sizes[split]
        rows = zip(*sample_examples(split, np.arange(count)), strict=True)
        with progress_bar(f"stacked_digits {split}", count) as advance:
            for index, (digits, chosen) in enumerate(rows):
                yield index, make_example(split, digits, chosen)
                advance(1)
