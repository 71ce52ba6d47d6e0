"""Captions in any script: whose letters are drawn, in which order, and what is said of the rest."""

import os

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from flaxgan.drawing import fonts
from flaxgan.drawing.fonts import Pen, clusters, has, own_font, script_of
from flaxgan.drawing.grids import _wrap, contact_sheet, grid_png
from tests.drawing.tiny_font import tiny_font

HAT, ALEF, BET = "\u5e3d", "\u05d0", "\u05d1"
KA, SIGN_I = "\u0915", "\u093f"  # Devanagari; the sign stands before its letter
raqm = pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no libraqm")


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A function that makes the machine's fonts: name -> letters; at first there are none."""

    def install(files):
        for name, letters in files.items():
            data = letters if isinstance(letters, bytes) else tiny_font(letters)
            (tmp_path / name).write_bytes(data)
        forget()

    def forget():
        fonts.font_files.cache_clear()
        fonts._fonts_for.cache_clear()
        monkeypatch.setattr(fonts, "_SYSTEM", fonts._System())
        monkeypatch.setattr(fonts, "_SAID", set())

    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    forget()
    yield install
    fonts.font_files.cache_clear()
    fonts._fonts_for.cache_clear()


def drawn(text, width=200):
    """Columns of a line's ink: their heights, pixels; 0: none."""
    sheet = Image.new("L", (width, 40), "white")
    Pen(text).draw(ImageDraw.Draw(sheet), (0, 10), text, width)
    return (np.asarray(sheet) < 128).sum(axis=0)


def bars(text):
    """Heights of the bars of a line, from left to right."""
    columns = drawn(text)
    starts = np.flatnonzero((columns > 0) & (np.roll(columns, 1) == 0))
    return [int(columns[start + 2]) for start in starts]


def names(pen, line):
    """The runs of a line; "own" or the number of the font."""
    found = fonts._SYSTEM._fonts
    whose = {id(font.shaped): str(i) for i, font in enumerate(found)}
    return [(text, whose.get(id(font.shaped), "own")) for text, font in pen.runs(line)]


def test_plain_captions_do_not_look_for_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "font_files", None)
    pen = Pen("A red hat, (no. 7) & more\n")
    [(text, font)] = pen.runs("A red hat")
    assert text == "A red hat"
    assert font.shaped is own_font().plain


def test_letters_come_from_a_font_that_has_them(system, capsys):
    system({"a.ttf": "xyz", "b.ttf": HAT, "c.ttf": ALEF, "broken.ttf": b"no font"})
    assert drawn(HAT).max() == 7  # half of an em, as the only letter
    assert names(Pen(HAT), HAT) == [(HAT, "0")]
    assert capsys.readouterr().err == ""


def test_a_font_of_blanks_has_no_letters(system):
    system({"a.ttf": tiny_font("x", blank=HAT), "b.ttf": tiny_font(HAT, blank=" ")})
    assert drawn(HAT).max() == 7
    assert names(Pen(f"{HAT} {HAT}"), f"{HAT} {HAT}") == [(f"{HAT} {HAT}", "0")]  # a space is one


def test_one_font_is_taken_that_has_all_letters(system):
    system({"hat.ttf": f"{HAT}hat ", "other.ttf": ALEF})
    assert names(Pen(f"hat {HAT}"), f"hat {HAT}") == [(f"hat {HAT}", "0")]
    assert names(Pen(f"hat {HAT}"), "hat") == [("hat", "0")]  # as the line before


def test_each_run_comes_from_a_font_that_has_it(system):
    system({"hat.ttf": HAT + " ", "hebrew.ttf": ALEF + BET})
    caption = f"a {HAT} {HAT}{ALEF}b"
    assert names(Pen(caption), caption) == [
        ("a ", "own"),
        (f"{HAT} {HAT}", "0"),  # its own space
        (ALEF, "1"),
        ("b", "own"),
    ]


def test_a_font_named_after_the_script_is_opened_first(system, monkeypatch):
    system({f"{i}.ttf": "x" for i in range(20)} | {"NotoSansDevanagari-Bold.ttf": KA})
    opened, read = [], fonts._read_plain
    monkeypatch.setattr(fonts, "_read_plain", lambda path: opened.append(path) or read(path))
    Pen(KA)
    assert {os.path.basename(path) for path in opened} == {"NotoSansDevanagari-Bold.ttf"}


def test_what_no_font_has_is_said_once_for_each_script(system, capsys, monkeypatch):
    system({"a.ttf": "x"})
    searches, search = [], fonts._files_with
    monkeypatch.setattr(fonts, "_files_with", lambda c: searches.append(c) or search(c))
    images = np.zeros((3, 1, 8, 8, 3), np.uint8)
    grid_png(images, [f"{HAT}{HAT} hat", "\u4e00\u4e8c", "\uff0c"])
    contact_sheet(images[:, 0], [HAT, "\u4e09", "a"])
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("warning: no font here has all Chinese letters of the captions")
    assert "fonts-noto-cjk" in line
    assert searches == [HAT]
    grid_png(images, [f"{KA} \uac00", HAT, KA])
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "Devanagari, Korean letters" in line
    assert "Debian: fonts-noto-core fonts-noto-cjk" in line
    assert searches == [HAT, KA, "\uac00"]
    assert bars(HAT)  # a box, rather than nothing
    assert capsys.readouterr().err == ""


@raqm
def test_the_first_letter_gives_the_direction_of_a_line(system):
    system({"a.ttf": tiny_font(ALEF + BET + "xyz", blank=" ")})
    assert bars(f"{ALEF} xy {BET}") == [4, 7, 9, 2]
    assert bars(f"x {ALEF}{BET} y") == [7, 4, 2, 9]


@raqm
def test_right_to_left(system):
    """Hebrew begins at the right end of its place, and words of other scripts keep their order."""
    system({"hebrew.ttf": ALEF + BET})  # bars of 4 and 9 pixels
    low, high = 4, 9
    assert np.flatnonzero(drawn(ALEF)).min() == 200 - 13
    heights = [column for column in drawn(ALEF + BET) if column]
    assert heights == sorted(heights, reverse=True)  # the first letter, a low one, is right
    assert {low, high} <= set(heights)
    caption = f"{ALEF} ab {BET}"
    shown = drawn(caption)
    assert shown[-13 + 2] == low
    first = np.flatnonzero(shown)[2]
    assert shown[first] == high
    # the letters between them stand as they do alone
    width = int(own_font().shaped.getlength("ab"))
    middle = np.flatnonzero((shown > 0) & (np.arange(200) > first + 13) & (np.arange(200) < 187))
    assert abs(np.ptp(middle) + 1 - width) <= 2
    # in a line of Latin, Hebrew words of two fonts change places
    left = drawn(f"a {ALEF}{BET} b")
    assert np.flatnonzero(left).min() < 3
    columns = [column for column in left if column in (low, high)]
    assert columns.index(high) < len(columns) - 1 - columns[::-1].index(low)


def test_runs_of_several_fonts_change_places_where_they_are_read_backwards(system):
    system({"a.ttf": ALEF, "b.ttf": BET})
    for caption, expected in (
        (f"x{ALEF}{BET}y", ["x", BET, ALEF, "y"]),
        (f"{ALEF}{BET}x", ["x", BET, ALEF]),
        (f"{ALEF}x{BET}", [BET, "x", ALEF]),
        (f"x{ALEF}", ["x", ALEF]),
    ):
        pen = Pen(caption)
        assert [text for text, _ in pen._in_visual_order(pen.runs(caption))] == expected


def test_without_libraqm_it_is_said_and_drawn(system, capsys, monkeypatch):
    system({"a.ttf": ALEF + BET})
    fonts._shapes.cache_clear()
    fonts.own_font.cache_clear()
    monkeypatch.setattr(features, "check", lambda name: False)
    try:
        assert drawn(ALEF + BET).any()
        Pen(BET)
    finally:
        monkeypatch.undo()
        fonts._shapes.cache_clear()
        fonts.own_font.cache_clear()
    error = capsys.readouterr().err
    assert "Pillow has no libraqm" in error
    assert error.count("\n") == 1


def test_fonts_stand_on_one_line(system):
    system({"hat.ttf": HAT})
    sheet = Image.new("L", (60, 40), "white")
    Pen(f"H{HAT}").draw(ImageDraw.Draw(sheet), (0, 5), f"H{HAT}", 60)
    ink = np.asarray(sheet) < 128
    ends = {int(np.flatnonzero(column).max()) for column in ink.T if column.sum() > 5}
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("letter", "script"),
    [
        *((HAT, "Chinese"), ("\u3001", "Chinese"), ("\uff0c", "Chinese"), ("\u3042", "Japanese")),
        *(("\u30fc", "Japanese"), ("\uac00", "Korean"), ("\u0628", "Arabic"), (KA, "Devanagari")),
        *(
            (SIGN_I, "Devanagari"),
            ("\u0664", "Arabic"),
            ("\u00e9", "Latin"),
            ("\u044f", "Cyrillic"),
        ),
        *(
            ("\u2603", "symbols"),
            ("\U0001f600", "symbols"),
            ("\u0301", "symbols"),
            ("«", "symbols"),
        ),
    ],
)
def test_scripts_of_letters(letter, script):
    assert script_of(letter) == script


def test_marks_stay_with_their_letters(system):
    assert clusters(f"{KA}{SIGN_I}a\u0301b") == [KA + SIGN_I, "a\u0301", "b"]
    assert clusters("\U0001f469\u200d\U0001f680!") == ["\U0001f469\u200d\U0001f680", "!"]
    assert clusters("") == []
    text = (KA + SIGN_I) * 40
    for width in range(50, 80):
        assert all(len(line) % 2 == 0 for line in _wrap(text, width, Pen(text)))
    system({"a.ttf": KA, "b.ttf": SIGN_I, "c.ttf": KA + SIGN_I + " "})
    caption = f"{KA} {KA}{SIGN_I}"
    assert names(Pen(caption), caption)[-1][0].endswith(KA + SIGN_I)


def test_pillows_own_font_is_known_by_its_boxes():
    assert all(has(own_font(), c) for c in "aZ~0\u2019")
    assert not any(has(own_font(), c) for c in (HAT, KA, ALEF, "\u044f"))


def test_where_fonts_are(monkeypatch, tmp_path):
    for place in ("data", "one/fonts", "two/fonts", "home/.fonts", "home/Library/Fonts"):
        (tmp_path / place / "deep").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    windows = tmp_path / "local/Microsoft/Windows/Fonts"
    windows.mkdir(parents=True)
    mine = [folder for folder in fonts.font_folders() if tmp_path in folder.parents]
    places = ["home/.fonts", "one/fonts", "two/fonts", "home/Library/Fonts"]
    assert mine == [*(tmp_path / place for place in places), windows]
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path / "one/fonts"])
    for name in ("deep/Zebra.ttf", "NotoSans-Bold.ttf", "NotoSans-Regular.ttf", "read.me"):
        (tmp_path / "one/fonts" / name).write_bytes(b"")
    fonts.font_files.cache_clear()
    found = [os.path.basename(path) for path in fonts.font_files()]
    fonts.font_files.cache_clear()
    assert found == ["NotoSans-Regular.ttf", "Zebra.ttf", "NotoSans-Bold.ttf"]


@raqm
def test_arabic_letters_are_joined():
    """By a real font, where the machine has one."""
    beh = "\u0628"
    pen = Pen(beh * 3)
    if not has(pen._fonts[0], beh):
        pytest.skip("no font with Arabic letters")
    assert pen.length(beh * 3) < 2.9 * pen.length(beh)
