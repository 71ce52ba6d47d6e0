"""PNG pictures for people: enlarged grids with captions, and metadata that says what they are."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from flaxgan.atomic_write import open_atomic

MIN_CELL = 64  # pixels a picture is enlarged to, at least
NO_PROMPT = "(no prompt)"  # what stands under pictures that were drawn from an empty prompt
GAP = 4  # pixels between pictures
FONT_SIZE = 13
# fonts that hold Chinese, Japanese and Korean, where systems keep them
WIDE_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)


def grid_png(
    images: np.ndarray, captions: Sequence[str] | None = None, *, scale: int | None = None
) -> Image.Image:
    """One row of pictures for each caption, the caption drawn under its row.

    Args:
      images: `[rows, columns, h, w, c]` uint8.
      captions: one for each row; None or empty ones are left out. Scripts that Pillow's own font
        lacks need one of WIDE_FONTS; without, they show as boxes.
      scale: enlargement, nearest neighbour; None: to at least 64 pixels.
    """
    rows, columns, h, w, _ = images.shape
    scale = scale or max(1, -(-MIN_CELL // max(h, w)))
    cell_h, cell_w = h * scale + GAP, w * scale + GAP
    width = columns * cell_w + GAP
    captions = captions or [""] * rows
    lines = [_wrap(text, width - 2 * GAP) for text in captions]
    heights = [cell_h + (len(text) * (FONT_SIZE + 3) + 4 if text else 0) for text in lines]
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row in range(rows):
        for column in range(columns):
            picture = _to_image(images[row, column]).resize((w * scale, h * scale), 0)
            sheet.paste(picture, (GAP + column * cell_w, top))
        for i, line in enumerate(lines[row]):
            y = top + cell_h - 2 + i * (FONT_SIZE + 3)
            draw.text((GAP, y), line, fill="black", font=_font(captions[row]))
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
    line = FONT_SIZE + 3
    cell_w, cell_h = w * scale + GAP, h * scale + 3 * line + 2 * GAP
    sheet = Image.new("RGB", (columns * cell_w + GAP, -(-n // columns) * cell_h + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        left, top = GAP + i % columns * cell_w, GAP + i // columns * cell_h
        sheet.paste(_to_image(image).resize((w * scale, h * scale), 0), (left, top))
        for k, text in enumerate(_wrap(captions[i], w * scale)[:3]):
            place = (left, top + h * scale + 2 + k * line)
            draw.text(place, text, fill="black", font=_font(captions[i]))
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


def _wrap(text: str, width: int) -> list[str]:
    """Lines no wider than `width` pixels, broken at spaces, or anywhere where there are none."""
    font = _font(text)
    text = " ".join(text.split())
    # a place where a line may end comes after a space or a wide character
    pieces = re.findall(r"[\u2e80-\uffff]|[^\s\u2e80-\uffff]+\s*|\s+", text)
    lines: list[str] = []
    for piece in pieces:
        if lines and font.getlength((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
            continue
        while len(piece) > 1 and font.getlength(piece.rstrip()) > width:
            sizes = range(2, len(piece))
            fits = next((n - 1 for n in sizes if font.getlength(piece[:n]) > width), len(piece) - 1)
            lines.append(piece[:fits])
            piece = piece[fits:]
        lines.append(piece)
    return [line.rstrip() for line in lines]


@functools.cache
def _load(name: str | None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return (
        ImageFont.load_default(FONT_SIZE) if name is None else ImageFont.truetype(name, FONT_SIZE)
    )


def _font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    wide = any(ord(c) > 0x2E80 for c in text)
    return _load(next((name for name in WIDE_FONTS if Path(name).exists()), None) if wide else None)
