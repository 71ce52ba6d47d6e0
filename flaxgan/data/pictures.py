"""Encoded pictures of any kind to uint8 arrays of one size."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from flaxgan.errors import UserError

MAX_PIXELS = 64_000_000  # larger ones are refused before they are decoded


def decode(data: Any, resolution: int, channels: int, *, what: str) -> np.ndarray:
    """Decodes, cuts to the centre square, and resizes with antialiasing.

    Photos that a camera stored lying are turned upright. Transparent pixels become white. JPEG
    files are decoded at a fraction of their size where that is enough.

    Args:
      data: bytes of an image file, or an array `[h, w]`, `[h, w, 1]`, `[h, w, 3]` uint8.
      resolution: height and width of the result, pixels.
      channels: 3: RGB, 1: grey.
      what: names the picture in errors.

    Returns:
      `[resolution, resolution, channels]` uint8.

    Raises:
      UserError: not a picture, broken, or larger than 64 megapixels.
    """
    try:
        image = _open(data)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.draft("RGB" if channels == 3 else "L", (resolution, resolution))
        ImageOps.exif_transpose(image, in_place=True)
        image = _on_white(image).convert("RGB" if channels == 3 else "L")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        if image.size != (resolution, resolution):
            whole = side % resolution == 0  # BOX dislocates edges when it shrinks by a fraction
            filtering = Image.Resampling.BOX if whole else Image.Resampling.BICUBIC
            image = image.resize((resolution, resolution), filtering, box=box)
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise UserError(f"{what} is not a readable picture: {error}") from error
    return np.asarray(image, np.uint8).reshape(resolution, resolution, channels)


def _open(data: Any) -> Image.Image:
    if isinstance(data, bytes):
        return Image.open(io.BytesIO(data))
    array = np.asarray(data)
    if array.dtype != np.uint8:
        raise ValueError(f"pixels are {array.dtype}, not uint8")
    if array.ndim not in (2, 3) or array.size == 0 or array.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"its shape is {array.shape}, not [h, w], [h, w, 1] or [h, w, 3]")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def _on_white(image: Image.Image) -> Image.Image:
    """Composites transparency on white; scales 16-bit grey to 8."""
    if image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        return Image.fromarray((values / 257.0).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
