"""`avatars`: cartoon portraits with sentences and exact attributes, rendered on this machine.

Drawn by python-avatars (MIT) from Avataaars by Pablo Stanley (free for personal and commercial
use); rasterised by resvg. Needs no network and no TensorFlow.
"""

import dataclasses
import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flaxgan.data import avatar_vocabulary as vocabulary
from flaxgan.data.avatar_captions import NUM_CAPTIONS, captions
from flaxgan.data.avatar_vocabulary import HIDDEN
from flaxgan.data.rendering import render_parallel
from flaxgan.errors import UserError

SIDE = 64  # pixels
SPLIT_SEEDS = {"train": 1, "test": 2, "heldout": 3}

_CITATION = """\
@misc{avataaars, author = {Pablo Stanley}, title = {Avataaars}, howpublished = {avataaars.com},
  note = {Free for personal and commercial use; drawn with python-avatars, MIT licence}}"""

_SKINS = tuple(vocabulary.SKIN)
_HAIR_COLORS = tuple(vocabulary.HAIR_COLOR)
_CLOTHING_COLORS = tuple(vocabulary.CLOTHING_COLOR)

# attribute -> its class names, as ClassLabel features
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": _SKINS,
    "hair": (HIDDEN, *vocabulary.HAIR),
    "hair_color": (HIDDEN, *_HAIR_COLORS),
    "hat": ("NONE", *vocabulary.HAT),
    "hat_color": (HIDDEN, *_CLOTHING_COLORS),
    "eyebrows": tuple(vocabulary.EYEBROWS),
    "eyes": tuple(vocabulary.EYES),
    "mouth": tuple(vocabulary.MOUTH),
    "facial_hair": ("NONE", *vocabulary.FACIAL_HAIR),
    "facial_hair_color": (HIDDEN, *_HAIR_COLORS),
    "accessory": ("NONE", *vocabulary.ACCESSORY),
    "clothing": tuple(vocabulary.CLOTHING),
    "clothing_color": (HIDDEN, *_CLOTHING_COLORS),
    "graphic": (HIDDEN, *vocabulary.GRAPHICS),
}

_COLORED_HAIR = tuple(name for name, words in vocabulary.HAIR.items() if "{c}" in words.en[0])

# Pairs that never occur together in `train` and `test`: one colour of every hair style, and two
# clothes colours for every beard colour. Each `heldout` example has at least one of them.
HELDOUT_PAIRS: dict[tuple[str, str], frozenset[tuple[str, str]]] = {
    ("hair", "hair_color"): frozenset(
        (style, _HAIR_COLORS[3 * i % len(_HAIR_COLORS)]) for i, style in enumerate(_COLORED_HAIR)
    ),
    ("facial_hair_color", "clothing_color"): frozenset(
        (color, _CLOTHING_COLORS[(2 * i + shift) % len(_CLOTHING_COLORS)])
        for i, color in enumerate(_HAIR_COLORS)
        for shift in (1, 8)
    ),
}


def is_heldout(attributes: dict[str, str]) -> bool:
    """Whether the attributes hold a withheld pair."""
    return any(
        (attributes[first], attributes[second]) in pairs
        for (first, second), pairs in HELDOUT_PAIRS.items()
    )


def sample_attributes(rng: np.random.Generator) -> dict[str, str]:
    """Draws one avatar; what the picture cannot show is HIDDEN."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    attributes = {"skin": pick(_SKINS), "hair": HIDDEN, "hat": "NONE"}
    if rng.random() < 0.15:
        attributes["hat"] = top = pick(tuple(vocabulary.HAT))
    else:
        attributes["hair"] = top = pick(tuple(vocabulary.HAIR))
    attributes["hair_color"] = pick(_HAIR_COLORS)
    attributes["hat_color"] = pick(_CLOTHING_COLORS)
    bearded = top not in vocabulary.BEARDLESS_TOPS and rng.random() < 0.5
    attributes["facial_hair"] = pick(tuple(vocabulary.FACIAL_HAIR)) if bearded else "NONE"
    same = rng.random() < 0.5
    attributes["facial_hair_color"] = attributes["hair_color"] if same else pick(_HAIR_COLORS)
    glasses = top not in vocabulary.NO_GLASSES_TOPS and rng.random() < 0.4
    attributes["accessory"] = pick(tuple(vocabulary.ACCESSORY)) if glasses else "NONE"
    attributes["clothing"] = pick(tuple(vocabulary.CLOTHING))
    attributes["clothing_color"] = pick(_CLOTHING_COLORS)
    attributes["graphic"] = pick(vocabulary.GRAPHICS)
    attributes["eyes"] = "DEFAULT" if rng.random() < 0.4 else pick(tuple(vocabulary.EYES))
    attributes["eyebrows"] = pick(tuple(vocabulary.EYEBROWS))
    attributes["mouth"] = "SMILE" if rng.random() < 0.3 else pick(tuple(vocabulary.MOUTH))
    return _hide(attributes)


def _hide(attributes: dict[str, str]) -> dict[str, str]:
    """Marks the colours of what is not there, or is drawn in a colour of its own."""
    tables = {
        "hair": vocabulary.HAIR,
        "hat": vocabulary.HAT,
        "facial_hair": vocabulary.FACIAL_HAIR,
        "clothing": vocabulary.CLOTHING,
    }
    for part, table in tables.items():
        words = table.get(attributes[part])
        if words is None or "{c}" not in words.en[0]:
            attributes[f"{part}_color"] = HIDDEN
    if attributes["clothing"] != "GRAPHIC_SHIRT":
        attributes["graphic"] = HIDDEN
    return attributes


def sample_example(
    split: str, index: int, count: int = NUM_CAPTIONS
) -> tuple[dict[str, str], list[str]]:
    """Attributes and the first captions of one example: a function of split and index alone."""
    rng = np.random.default_rng([2022, SPLIT_SEEDS[split], index])
    while True:
        attributes = sample_attributes(rng)
        if is_heldout(attributes) == (split == "heldout"):
            return attributes, captions(attributes, rng, count)


def render(attributes: dict[str, str], side: int = SIDE) -> bytes:
    """PNG bytes of one avatar on white, `side` x `side` pixels RGB."""
    import python_avatars as pa
    import resvg_py

    def color(enum: Any, name: str, default: str) -> Any:
        return enum[default if name == HIDDEN else name]

    hat = attributes["hat"]
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=pa.HairType[attributes["hair"]] if hat == "NONE" else pa.HatType[hat],
        skin_color=pa.SkinColor[attributes["skin"]],
        hair_color=color(pa.HairColor, attributes["hair_color"], "BROWN"),
        hat_color=color(pa.ClothingColor, attributes["hat_color"], "WHITE"),
        eyebrows=pa.EyebrowType[attributes["eyebrows"]],
        eyes=pa.EyeType[attributes["eyes"]],
        nose=pa.NoseType.DEFAULT,
        mouth=pa.MouthType[attributes["mouth"]],
        facial_hair=pa.FacialHairType[attributes["facial_hair"]],
        facial_hair_color=color(pa.HairColor, attributes["facial_hair_color"], "BROWN"),
        accessory=pa.AccessoryType[attributes["accessory"]],
        clothing=pa.ClothingType[attributes["clothing"]],
        clothing_color=color(pa.ClothingColor, attributes["clothing_color"], "WHITE"),
        shirt_graphic=color(pa.ClothingGraphic, attributes["graphic"], "SKULL"),
    )
    svg = avatar.render().replace(
        'width="264px" height="280px" viewBox="0 0 264 280"',
        'width="280px" height="280px" viewBox="-8 0 280 280"',
    )
    png = resvg_py.svg_to_bytes(
        svg_string=svg, background="#ffffff", width=side, skip_system_fonts=True
    )
    with io.BytesIO() as rgb:  # resvg writes RGBA
        Image.open(io.BytesIO(bytes(png))).convert("RGB").save(rgb, "PNG")
        return rgb.getvalue()


def make_example(job: tuple[str, int], side: int = SIDE) -> dict[str, Any]:
    """The example of (split, index), as TFDS wants it, with a picture of `side` pixels."""
    attributes, sentences = sample_example(*job)
    return {"image": render(attributes, side), "captions": sentences, **attributes}


@dataclasses.dataclass
class AvatarsConfig(tfds.core.BuilderConfig):
    """How many examples, and how large.

    Attributes:
      sizes: split -> number of examples.
      side: of the pictures, pixels.
    """

    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    side: int = SIDE


def _config(name: str, train: int, test: int, heldout: int, side: int = SIDE) -> AvatarsConfig:
    return AvatarsConfig(
        name=name,
        description=f"{train:,} training pictures of {side} px.",
        sizes={"train": train, "test": test, "heldout": heldout},
        side=side,
    )


class Avatars(tfds.core.GeneratorBasedBuilder):
    """Cartoon portraits with captions in English and Chinese and exact attributes."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.0.0": "First release.",
        "1.1.0": "Four more captions, as people type prompts.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config("full", 20_000, 2_000, 1_000),
        _config("100k", 100_000, 2_000, 1_000),
        _config("10k", 10_000, 1_000, 500),
        _config("10k_128px", 10_000, 1_000, 500, side=128),
        _config("tiny", 256, 64, 64),
    ]
    captions_survive_flip = True  # no caption names a side

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.side
        labels = {
            name: tfds.features.ClassLabel(names=list(values))
            for name, values in ATTRIBUTES.items()
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(tfds.features.Text(), length=NUM_CAPTIONS),
                    **labels,
                }
            ),
            description=__doc__,
            homepage="https://avataaars.com",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        for package in ("python_avatars", "resvg_py"):
            try:
                __import__(package)
            except ImportError as error:
                raise UserError(
                    f"the data set avatars needs {package}: "
                    'pip install "flaxgan[data]" (or: pip install python-avatars resvg-py)'
                ) from error
        return {split: self._generate_examples(split) for split in SPLIT_SEEDS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        jobs = [(split, index) for index in range(self.builder_config.sizes[split])]
        make = functools.partial(make_example, side=self.builder_config.side)
        yield from enumerate(render_parallel(make, jobs, description=f"avatars {split}"))
