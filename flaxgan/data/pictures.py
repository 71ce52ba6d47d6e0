"""Encoded pictures of any kind to uint8 arrays of one size."""

import functools
import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from flaxgan.errors import UserError, first_line

MAX_PIXELS = 64_000_000  # larger ones are refused before they are decoded
# whatever a file is called: others of Pillow's start programs (EPS), or are no photos
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM"),
    "TGA",  # has no signature, so that it comes last
)
ORIENTATION = 0x0112  # EXIF tag
# EXIF 2.3, 4.6.4 A: how to turn what is stored
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = ("crop", "pad")


class Unreadable(Exception):
    """A picture that cannot be used.

    Attributes:
      reason: one of a few short ones, to be counted by.
      detail: what the codec said.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


def decode(
    data: Any, resolution: int, channels: int, *, what: str, fit: Fit = "crop"
) -> np.ndarray:
    """As `load`, for pictures that ought to be intact.

    Args:
      data, resolution, channels, fit: see `load`.
      what: names the picture in errors.

    Raises:
      UserError: not a picture, broken, or larger than 64 megapixels.
    """
    try:
        return load(data, resolution, channels, fit=fit)
    except Unreadable as error:
        raise UserError(f"{what} is not a readable picture: {error}") from error


def load(data: Any, resolution: int, channels: int, *, fit: Fit = "crop") -> np.ndarray:
    """Decodes and brings to one size, with antialiasing.

    Photos that a camera stored lying are turned upright. Transparent pixels become white. Colours
    of other profiles (phones: Display P3; print: CMYK) become sRGB. Of an animation the first
    frame is taken. JPEG files are decoded at a fraction of their size where that is enough.

    Args:
      data: bytes of an image file, or an array `[h, w]`, `[h, w, 1]`, `[h, w, 3]` uint8.
      resolution: height and width of the result, pixels.
      channels: 3: RGB, 1: grey.
      fit: "crop": the centre square; "pad": all of it, on white.

    Returns:
      `[resolution, resolution, channels]` uint8.

    Raises:
      Unreadable: not a picture, broken, or larger than 64 megapixels.
    """
    image = open_image(data)
    image.draft("RGB" if channels == 3 else "L", (resolution, resolution))
    return _finish(image, channels, lambda plain: _resize(plain, resolution, fit))


def load_whole(data: Any, channels: int, *, most_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `load`, in the size that the picture has.

    Args:
      data, channels: see `load`.
      most_pixels: larger pictures are refused before they are decoded.

    Returns:
      `[h, w, channels]` uint8.

    Raises:
      Unreadable: not a picture, broken, or too large.
    """
    image = open_image(data)
    if image.width * image.height > most_pixels:
        raise Unreadable("too many pixels", f"{image.width} x {image.height}")
    return _finish(image, channels, lambda plain: plain)


def load_transparent(data: Any) -> np.ndarray | None:
    """A picture with its transparency, upright, in the size that it has.

    Args:
      data: see `load`.

    Returns:
      `[h, w, 4]` uint8, colours as they are stored; None where nothing can be transparent.

    Raises:
      Unreadable: see `load`.
    """
    image = open_image(data)
    if not _has_alpha(image):
        return None
    try:
        image.load()
        turn = UPRIGHT.get(orientation(image))
        image = image if turn is None else image.transpose(turn)
        return np.asarray(image.convert("RGBA"), np.uint8)
    except Exception as error:  # see _finish
        raise Unreadable("damaged picture", first_line(error)) from error


def _finish(
    image: Image.Image, channels: int, resize: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    """Decodes, turns upright, resizes, brings to sRGB: `[h, w, channels]` uint8."""
    try:
        image.load()
        profile = image.info.get("icc_profile")
        turn = UPRIGHT.get(orientation(image))
        image = image if turn is None else image.transpose(turn)
        image = resize(_plain(image))
        if profile:
            image = _to_srgb(image, profile)
        image = image.convert("RGB" if channels == 3 else "L")
    except Unreadable:
        raise
    except Exception as error:  # codecs raise many kinds: OSError, SyntaxError, struct.error …
        raise Unreadable("damaged picture", first_line(error)) from error
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def open_image(data: Any) -> Image.Image:
    """Reads the header only, so that the size is known before anything is decoded.

    Raises:
      Unreadable: empty, no picture, or larger than 64 megapixels.
    """
    if isinstance(data, bytes) and not data:
        raise Unreadable("empty file")
    try:
        image = _open(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("too many pixels", first_line(error)) from error
    except UnidentifiedImageError as error:
        raise Unreadable("not a picture") from error
    except Exception as error:  # of a damaged header
        raise Unreadable("damaged picture", first_line(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable("too many pixels", f"{image.width} x {image.height}")
    return image


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where EXIF is absent or broken.

    Of a TIFF file it is that of the header, which Pillow itself follows when it decodes.
    """
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF raises many kinds, and says nothing about the pixels
        return 1


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF since Pillow 11.3


def _open(data: Any) -> Image.Image:
    if isinstance(data, bytes):
        return Image.open(io.BytesIO(data), formats=_formats())
    array = np.asarray(data)
    if array.dtype != np.uint8:
        raise ValueError(f"pixels are {array.dtype}, not uint8")
    if array.ndim not in (2, 3) or array.size == 0 or array.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"its shape is {array.shape}, not [h, w], [h, w, 1] or [h, w, 3]")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _plain(image: Image.Image) -> Image.Image:
    """RGB, L or CMYK: transparency composited on white, 16-bit grey scaled to 8."""
    if image.mode == "F":
        raise Unreadable("unsupported pixels", "floating-point values have no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        return Image.fromarray((values / 257.0).round().clip(0, 255).astype(np.uint8))
    if _has_alpha(image):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")


def _resize(image: Image.Image, resolution: int, fit: Fit) -> Image.Image:
    if fit == "pad":
        side = max(image.size)
        scale = resolution / side
        size = tuple(max(1, round(length * scale)) for length in image.size)
        if image.size != size:
            image = image.resize(size, _filter(side, resolution))
        if size == (resolution, resolution):
            return image
        white = {"L": 255, "RGB": (255, 255, 255), "CMYK": (0, 0, 0, 0)}[image.mode]
        canvas = Image.new(image.mode, (resolution, resolution), white)
        canvas.paste(image, ((resolution - size[0]) // 2, (resolution - size[1]) // 2))
        return canvas
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size == (resolution, resolution):
        return image
    box = (left, top, left + side, top + side)
    return image.resize((resolution, resolution), _filter(side, resolution), box=box)


def _filter(side: int, resolution: int) -> Image.Resampling:
    whole = side % resolution == 0  # BOX dislocates edges when it shrinks by a fraction
    return Image.Resampling.BOX if whole else Image.Resampling.BICUBIC


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours of an embedded profile as sRGB; as they are where the profile is of no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # broken, or of another kind of pixels
        return image
    return image if converted is None else converted
