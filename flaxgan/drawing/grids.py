"""PNG pictures for people: enlarged grids with captions, and metadata that says what they are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from flaxgan.atomic_write import open_atomic
from flaxgan.drawing.fonts import SIZE, Pen, clusters

MIN_CELL = 64  # pixels a picture is enlarged to, at least
NO_PROMPT = "(no prompt)"  # what stands under pictures that were drawn from an empty prompt
GAP = 4  # pixels between pictures
LINE = SIZE + 3  # pixels between lines of a caption
# a place where a line may end comes after a space or a wide character
WIDE = "\u2e80-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
PIECES = re.compile(rf"[{WIDE}]|[^\s{WIDE}]+\s*|\s+")


def grid_png(
    images: np.ndarray, captions: Sequence[str] | None = None, *, scale: int | None = None
) -> Image.Image:
    """One row of pictures for each caption, the caption drawn under its row.

    Args:
      images: `[rows, columns, h, w, c]` uint8.
      captions: one for each row; None or empty ones are left out. Letters that Pillow's own font
        lacks are drawn with the system's fonts; see `fonts`.
      scale: enlargement, nearest neighbour; None: to at least 64 pixels.
    """
    rows, columns, h, w, _ = images.shape
    scale = scale or max(1, -(-MIN_CELL // max(h, w)))
    cell_h, cell_w = h * scale + GAP, w * scale + GAP
    width = columns * cell_w + GAP
    captions = captions or [""] * rows
    pens = [Pen(text) for text in captions]
    lines = [_wrap(text, width - 2 * GAP, pen) for text, pen in zip(captions, pens, strict=True)]
    heights = [cell_h + (len(text) * LINE + 4 if text else 0) for text in lines]
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row in range(rows):
        for column in range(columns):
            picture = _to_image(images[row, column]).resize((w * scale, h * scale), 0)
            sheet.paste(picture, (GAP + column * cell_w, top))
        for i, line in enumerate(lines[row]):
            place = (GAP, top + cell_h - 2 + i * LINE)
            pens[row].draw(draw, place, line, width - 2 * GAP)
        top += heights[row]
    return sheet


def flat_grid(images: np.ndarray, columns: int) -> Image.Image:
    """`[n, h, w, c]` uint8 side by side, `columns` in a row, as they are, without gaps."""
    n, h, w, _ = images.shape
    sheet = Image.new("RGB", (columns * w, -(-n // columns) * h), "white")
    for i, image in enumerate(images):
        sheet.paste(_to_image(image), (i % columns * w, i // columns * h))
    return sheet


def contact_sheet(images: np.ndarray, captions: Sequence[str], columns: int = 8) -> Image.Image:
    """Pictures in rows, each with its own caption below, of three lines at the most.

    Args:
      images: `[n, h, w, c]` uint8.
      captions: `n` of them.
      columns: pictures in a row.
    """
    n, h, w, _ = images.shape
    scale = max(1, -(-2 * MIN_CELL // max(h, w)))
    cell_w, cell_h = w * scale + GAP, h * scale + 3 * LINE + 2 * GAP
    sheet = Image.new("RGB", (columns * cell_w + GAP, -(-n // columns) * cell_h + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        left, top = GAP + i % columns * cell_w, GAP + i // columns * cell_h
        sheet.paste(_to_image(image).resize((w * scale, h * scale), 0), (left, top))
        pen = Pen(captions[i])
        for k, text in enumerate(_wrap(captions[i], w * scale, pen)[:3]):
            pen.draw(draw, (left, top + h * scale + 2 + k * LINE), text, w * scale)
    return sheet


def save_png(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Writes a PNG in one go (never half a file), with Unicode text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    with open_atomic(path) as file:
        image.save(file, format="PNG", pnginfo=info)


def read_png_text(path: Path) -> dict[str, str]:
    """The text chunks of a PNG."""
    with Image.open(path) as image:
        image.load()
        return {key: str(value) for key, value in image.text.items()}


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")


def _wrap(text: str, width: int, pen: Pen) -> list[str]:
    """Lines no wider than `width` pixels, broken at spaces, or anywhere where there are none."""
    text = " ".join(text.split())
    lines: list[str] = []
    for piece in PIECES.findall(text):
        if lines and pen.length((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
            continue
        parts = clusters(piece)
        while len(parts) > 1 and pen.length("".join(parts).rstrip()) > width:
            sizes = range(2, len(parts))
            too_long = (n - 1 for n in sizes if pen.length("".join(parts[:n])) > width)
            fits = next(too_long, len(parts) - 1)
            lines.append("".join(parts[:fits]))
            parts = parts[fits:]
        lines.append("".join(parts))
    return [line.rstrip() for line in lines]
