"""Captions in any script: which font has their letters, how long a line is, and its ink.

Pillow's own font has hardly more than ASCII. Other letters are looked for in the system's fonts,
whose files are first listed when a caption needs one, and once in a process.
"""

import contextlib
import functools
import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import ImageDraw, ImageFont, features

SIZE = 13  # pixels of an em
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
# families with many letters, those of European ones first
FAMILIES = (
    *("notosansregular", "segoeui", "dejavusans", "liberationsans", "arial", "tahoma", "helvetica"),
    *("notosanscjk", "pingfang", "hiragino", "msyh", "yugoth", "meiryo", "malgun", "wqy"),
    *("droidsansfallback", "notosans", "nirmala", "geezapro", "kohinoor", "freesans"),
)
# of files that are not the upright text face of their family
OTHER_FACES = (
    *("bold", "black", "heavy", "light", "thin", "italic", "oblique", "condensed", "mono", "serif"),
    *("medium", "display", "lastresort", "unifont"),
)
CHINESE, JAPANESE, KOREAN = "Chinese", "Japanese", "Korean"
# by the first word of a letter's Unicode name; other scripts are called by that word
SCRIPTS = {
    "CJK": CHINESE,
    "IDEOGRAPHIC": CHINESE,
    "FULLWIDTH": CHINESE,
    "HIRAGANA": JAPANESE,
    "KATAKANA": JAPANESE,
    "HALFWIDTH": JAPANESE,
    "HANGUL": KOREAN,
}
COMMON = ("COMBINING", "MODIFIER")  # first words of marks of any script
INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # that Unicode calls letters or symbols
RIGHT_TO_LEFT = ("R", "AL")


class Font(NamedTuple):
    """One font file.

    Attributes:
      shaped: draws: joined letters, and lines from right to left, where Pillow has libraqm.
      plain: one letter after the other; shows which letters there are, as shaping can put a dotted
        circle beside the box of a missing one.
    """

    shaped: ImageFont.FreeTypeFont
    plain: ImageFont.FreeTypeFont


class Pen:
    """Measures and draws the lines of one caption, all in the fonts that its letters need."""

    def __init__(self, caption: str):
        """Chooses the fonts: one that has all letters, else for each letter the first that has it.

        Says once for each script, on standard error, that no font has its letters.
        """
        letters = dict.fromkeys(c for c in caption if _takes_place(c))
        self._fonts = _fonts_for(tuple(letters))
        strong = (unicodedata.bidirectional(c) for c in caption)
        first = next((kind for kind in strong if kind in ("L", *RIGHT_TO_LEFT)), "L")
        self._right_to_left = first in RIGHT_TO_LEFT
        # which letter is at which end of a word of another direction follows the whole line's
        direction = "rtl" if self._right_to_left else "ltr"
        self._options = {"direction": direction} if _shapes() else {}
        if self._fonts == (own_font(),):  # Latin needs none of it, and is spaced better without
            self._fonts, self._options = (own_font()._replace(shaped=own_font().plain),), {}
        joined = self._right_to_left or any(unicodedata.category(c) == "Mc" for c in letters)
        if joined and not _shapes():
            _say_once(
                "Pillow has no libraqm here: Arabic, Hindi … letters are not joined, nor in order"
            )

    def length(self, line: str) -> float:
        """Pixels."""
        return sum(font.shaped.getlength(text, **self._options) for text, font in self.runs(line))

    def draw(
        self, draw: ImageDraw.ImageDraw, place: tuple[float, float], line: str, width: float
    ) -> None:
        """Draws a line in black.

        Args:
          draw: on which picture.
          place: left and top, pixels.
          line: of this caption.
          width: of the place; scripts that are written from right to left begin at its right end.
        """
        left, top = place
        if self._right_to_left:
            left += width - self.length(line)
        baseline = top + own_font().plain.getmetrics()[0]  # of all fonts
        for text, (font, _) in self._in_visual_order(self.runs(line)):
            draw.text((left, baseline), text, fill="black", font=font, anchor="ls", **self._options)
            left += font.getlength(text, **self._options)

    def runs(self, line: str) -> list[tuple[str, Font]]:
        """Parts of a line that one font draws, in the order in which they are read."""
        if len(self._fonts) == 1:
            return [(line, self._fonts[0])]
        runs: list[tuple[str, Font]] = []
        for cluster in clusters(line):
            # spaces and what else the font at hand has goes on in it
            fonts = [runs[-1][1], *self._fonts] if runs else self._fonts
            if any(unicodedata.category(c)[0] == "L" for c in cluster):
                fonts = self._fonts
            font = _first_with(cluster, fonts)
            if runs and runs[-1][1] is font:
                runs[-1] = (runs[-1][0] + cluster, font)
            else:
                runs.append((cluster, font))
        return runs

    def _in_visual_order(self, runs: Sequence[tuple[str, Font]]) -> list[tuple[str, Font]]:
        """From left to right: rule L2 of the Unicode Bidirectional Algorithm (UAX 9), for runs."""

        def reads_backwards(run: tuple[str, Font]) -> bool:
            kinds = {unicodedata.bidirectional(c) for c in run[0]}
            return not kinds.isdisjoint(RIGHT_TO_LEFT) or (self._right_to_left and "L" not in kinds)

        ordered: list[tuple[str, Font]] = []
        for backwards, group in itertools.groupby(runs, reads_backwards):
            # as seen in the direction of the whole line
            members = list(group)
            ordered += members if backwards == self._right_to_left else members[::-1]
        return ordered[::-1] if self._right_to_left else ordered


def clusters(text: str) -> list[str]:
    """What must not be torn apart: letters with the marks that belong to them."""
    found: list[str] = []
    for c in text:
        joined = found and (found[-1][-1] == "\u200d" or c in "\u200c\u200d")
        if joined or (found and unicodedata.category(c)[0] == "M"):
            found[-1] += c
        else:
            found.append(c)
    return found


@functools.cache
def own_font() -> Font:
    """Pillow's own."""
    plain = ImageFont.load_default(SIZE)
    return Font(plain.font_variant(layout_engine=_layout()), plain)


def read_font(path: str) -> Font:
    """A font file; the upright regular face where it has several.

    Raises:
      OSError: damaged, or of pictures in other sizes.
    """
    shaped = ImageFont.truetype(path, SIZE, layout_engine=_layout())
    with contextlib.suppress(OSError, ValueError, NotImplementedError):  # it does not vary
        shaped.set_variation_by_name("Regular")  # the default can be as thin as a hair
    return Font(shaped, _read_plain(path))


def _read_plain(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, SIZE, layout_engine=ImageFont.Layout.BASIC)


def _layout() -> ImageFont.Layout:
    return ImageFont.Layout.RAQM if _shapes() else ImageFont.Layout.BASIC


def script_of(letter: str) -> str:
    """Chinese, Arabic, Devanagari …; "symbols" for what belongs to none."""
    word, kind = _first_word(letter), unicodedata.category(letter)
    if word not in SCRIPTS and ((kind[0] in "SPN" and kind != "Nd") or word in COMMON):
        return "symbols"
    return SCRIPTS.get(word, word.capitalize())


def _first_word(letter: str) -> str:
    """Of its Unicode name: ARABIC, HANGUL …"""
    return re.split(r"[ -]", unicodedata.name(letter, "UNKNOWN"))[0]


def font_home() -> Path:
    """Where fonts of the user are looked for, on every system."""
    shared = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(shared) / "fonts"


def font_folders() -> list[Path]:
    """Where Linux, macOS, Windows and Android keep fonts; those that are there."""
    home = Path(os.path.expanduser("~"))
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [
        font_home(),
        home / ".fonts",
        *(Path(folder) / "fonts" for folder in shared.split(":") if folder),
        home / "Library/Fonts",
        Path("/Library/Fonts"),
        Path("/System/Library/Fonts"),
        Path("/system/fonts"),
    ]
    if "LOCALAPPDATA" in os.environ:
        folders.append(Path(os.environ["LOCALAPPDATA"]) / "Microsoft/Windows/Fonts")
    if "WINDIR" in os.environ:
        folders.append(Path(os.environ["WINDIR"]) / "Fonts")
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


@functools.cache
def font_files() -> tuple[str, ...]:
    """Font files of the system, the most useful ones first."""
    paths = [
        os.path.join(folder, name)
        for root in font_folders()
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]

    def rank(path: str) -> tuple[int, int, str]:
        name = _plain(path)
        faces = sum(face in name for face in OTHER_FACES)
        place = next((i for i, family in enumerate(FAMILIES) if family in name), len(FAMILIES))
        return faces, place, path

    return tuple(sorted(paths, key=rank))


def _plain(path: str) -> str:
    return "".join(c for c in os.path.basename(path).lower() if c.isalnum())


@functools.cache
def _shapes() -> bool:
    """Whether Pillow joins Arabic letters, orders Indic ones and runs from right to left."""
    return features.check("raqm")


def _takes_place(c: str) -> bool:
    """Whether a font has to have it: no control characters, joiners, variation selectors."""
    return unicodedata.category(c)[0] != "C" and c not in INVISIBLE and not _selects(c)


def _is_space(c: str) -> bool:
    return unicodedata.category(c)[0] == "Z"


def _selects(c: str) -> bool:
    """Variation selectors: which shape the letter before has."""
    return "\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"


def has(font: Font, letter: str) -> bool:
    """Whether a font has a letter."""
    return (font is own_font() and letter.isascii()) or _has(font.plain, letter)


@functools.cache
def _has(plain: ImageFont.FreeTypeFont, letter: str) -> bool:
    return _draws(plain, letter)


def _draws(plain: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether something else than the box is drawn: Pillow gives no other sign of a letter."""
    ink, box = (plain.getmask(c) for c in (letter, "\U0010ffff"))  # the latter is never a letter
    blank = ink.getbbox() is None  # some fonts have a blank for what they do not have
    is_box = (ink.size, bytes(ink)) == (box.size, bytes(box))
    return not is_box and (not blank or _is_space(letter))


def _has_all(font: Font, letters: Collection[str]) -> bool:
    return all(has(font, c) for c in letters)


def _first_with(cluster: str, fonts: Sequence[Font]) -> Font:
    """The first font that has all of it, else its first letter, else the first of the fonts."""
    letters = [c for c in cluster if _takes_place(c)]
    for wanted in (letters, letters[:1]):
        for font in fonts:
            if _has_all(font, wanted):
                return font
    return fonts[0]


@functools.lru_cache(maxsize=4096)
def _fonts_for(letters: tuple[str, ...]) -> tuple[Font, ...]:
    """One font that has all letters, or those that they are looked for in, in this order."""
    own = own_font()
    missing = [c for c in letters if not has(own, c) and not _is_space(c)]
    if not missing:
        return (own,)
    found = _SYSTEM.find(missing)
    for font in found:
        if _has_all(font, letters):
            return (font,)
    return (own, *found)


class _System:
    """The system's fonts that were needed so far."""

    def __init__(self) -> None:
        self._fonts: list[Font] = []
        self._searched: set[str] = set()  # scripts that all files were searched for in vain

    def find(self, letters: Collection[str]) -> list[Font]:
        """Fonts that together have the letters, as far as there are any."""
        found: list[Font] = []
        boxes: list[str] = []
        for c in letters:
            if any(has(font, c) for font in found):
                continue
            font = next((font for font in self._fonts if has(font, c)), None)
            if font is None and (font := self._search(c)) is not None:
                self._fonts.append(font)
            if font is not None:
                found.append(font)
            else:
                boxes.append(c)
        _say(boxes)
        return found

    def _search(self, letter: str) -> Font | None:
        script = script_of(letter)
        if script in self._searched:
            return None
        path = next(_files_with(letter), None)
        if path is None:
            self._searched.add(script)
            return None
        return read_font(path)


def _files_with(letter: str) -> Iterator[str]:
    """Files of the system that have a letter, those named after its script first."""
    word, files = _first_word(letter).lower(), font_files()
    for path in sorted(files, key=lambda path: word not in _plain(path)):  # keeps their order
        with contextlib.suppress(OSError):  # damaged, or of pictures in other sizes
            if _draws(_read_plain(path), letter):
                yield path


_SYSTEM = _System()
_SAID: set[str] = set()  # scripts, and lines


def _say(boxes: Sequence[str]) -> None:
    """Names the scripts that no font has, once each, and what to install."""
    scripts = [s for s in dict.fromkeys(map(script_of, boxes)) if s not in _SAID]
    if not scripts:
        return
    _SAID.update(scripts)
    wanted = {
        "symbols": "fonts-symbola",
        **dict.fromkeys((CHINESE, JAPANESE, KOREAN), "fonts-noto-cjk"),
    }
    packages = dict.fromkeys(wanted.get(script, "fonts-noto-core") for script in scripts)
    _say_once(
        f"no font here has all {', '.join(scripts)} letters of the captions, which show as boxes: "
        f"install one that has (Debian: {' '.join(packages)}), or put it into {font_home()}"
    )


def _say_once(line: str) -> None:
    if line not in _SAID:
        _SAID.add(line)
        print(f"warning: {line}", file=sys.stderr)
