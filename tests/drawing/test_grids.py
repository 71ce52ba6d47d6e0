"""Picture grids: where pixels and captions land, and files that are never half written."""

import itertools
import os
import time

import numpy as np
import pytest
from PIL import Image

from flaxgan.drawing import grids
from flaxgan.drawing.fonts import SIZE, Pen
from flaxgan.drawing.grids import GAP, flat_grid, grid_png, read_png_text, save_png

ENGLISH = "a tall man with a long grey beard, round glasses and a very wide green hat " * 3
CHINESE = "一位戴着圆眼镜和绿色宽帽子、留着长长灰白胡子的高个子男人。" * 5
MIXED = "帽子 (hat) " + "mmmmmm wwwwww " * 20


def pictures(rows, columns, side, channels=3, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (rows, columns, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "scale"), [(8, 8), (28, 3), (64, 1), (100, 1)])
def test_every_picture_is_at_its_place(side, scale, channels):
    """Enlarged to at least 64 pixels, each pixel a square; white between."""
    images = pictures(2, 3, side, channels)
    sheet = np.asarray(grid_png(images))
    cell = side * scale + GAP
    assert sheet.shape == (2 * cell + GAP, 3 * cell + GAP, 3)
    covered = np.zeros(sheet.shape[:2], bool)
    for row in range(2):
        for column in range(3):
            y, x = GAP + row * cell, GAP + column * cell
            place = np.s_[y : y + side * scale, x : x + side * scale]
            expected = images[row, column].repeat(scale, axis=0).repeat(scale, axis=1)
            shown = sheet[place]
            np.testing.assert_array_equal(shown, np.broadcast_to(expected, shown.shape))
            covered[place] = True
    assert (sheet[~covered] == 255).all()


def test_scale_can_be_chosen():
    assert grid_png(pictures(1, 1, 8), scale=2).size == (16 + 2 * GAP, 16 + 2 * GAP)


def test_captions_are_ink_below_their_rows():
    images = np.full((3, 2, 64, 64, 3), 255, np.uint8)
    plain = np.asarray(grid_png(images))
    assert plain.min() == 255
    sheet = np.asarray(grid_png(images, ["hat", "", "man"]))
    inked = np.flatnonzero(sheet.min(axis=(1, 2)) < 128)
    line = SIZE + 7  # what one line of caption adds to its row
    first, third = 64 + GAP, 3 * 64 + 3 * GAP + line
    assert len(sheet) == len(plain) + 2 * line
    in_first, in_third = inked[inked < first + line + GAP], inked[inked >= third]
    assert len(in_first) + len(in_third) == len(inked)
    assert len(in_first) > 4
    assert len(in_third) > 4
    assert in_first.min() >= first
    assert (sheet != np.asarray(grid_png(images, ["cap", "", "man"]))).any()


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, MIXED, "x" * 300, "ก" * 300])
@pytest.mark.parametrize("width", [64, 300])
def test_long_captions_are_wrapped_within_the_width(text, width):
    pen = Pen(text)
    lines = grids._wrap(text, width, pen)
    assert len(lines) > 1
    assert all(pen.length(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")  # nothing is lost
    # no line could have taken the next character or word as well
    for line, after in itertools.pairwise(lines):
        word = after.split(" ")[0] if text is ENGLISH else after[0]
        assert len(line) < 4 or text is MIXED or pen.length(f"{line} {word}") > width


@pytest.mark.parametrize("text", ["a\nb", "a\r\n\tb", " a  b \n"])
def test_line_breaks_of_captions_are_spaces(text):
    assert grids._wrap(text, 300, Pen(text)) == ["a b"]


def test_captions_without_spaces_take_no_time():
    start = time.perf_counter()
    assert len(grids._wrap("x" * 2000, 100, Pen("x"))) > 100
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_grid(channels):
    images = pictures(1, 5, 4, channels)[0]
    sheet = np.asarray(flat_grid(images, columns=2))
    assert sheet.shape == (12, 8, 3)
    for i, image in enumerate(images):
        place = sheet[i // 2 * 4 :, i % 2 * 4 :][:4, :4]
        np.testing.assert_array_equal(place, np.broadcast_to(image, place.shape))
    assert (sheet[8:, 4:] == 255).all()


def test_file_holds_pixels_and_text(tmp_path):
    path = tmp_path / "a.png"
    text = {"prompt": "一顶红帽子\nein Mädchen 😀", "seed": "7"}
    image = flat_grid(pictures(1, 2, 8)[0], 2)
    save_png(image, path, text)
    assert read_png_text(path) == text
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))
    assert path.stat().st_mode & 0o777 == 0o644
    save_png(image, path, {})
    assert read_png_text(path) == {}
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    image = flat_grid(pictures(1, 1, 8)[0], 1)
    save_png(image, path, {})
    before = path.read_bytes()

    def half(self, file, **kwargs):
        file.write(before[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="No space"):
        save_png(image, path, {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]
