"""Frames to files that move: GIF, APNG, WebP, and MP4 where imageio-ffmpeg is installed."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from flaxgan.atomic_write import open_atomic
from flaxgan.drawing.grids import MIN_CELL
from flaxgan.errors import UserError

MOST_FPS = 50  # what viewers show of a GIF
SIDE = 2 * MIN_CELL  # pixels a picture is enlarged to, at least


def tile(films: np.ndarray) -> np.ndarray:
    """Films side by side, nearly square, their pictures enlarged to at least SIDE pixels.

    Args:
      films: `[frames, num, h, w, c]` uint8.

    Returns:
      `[frames, rows h', columns w', 3]` uint8; what is left over is white.
    """
    frames, num, h, w, c = films.shape
    scale = max(1, -(-SIDE // max(h, w)))
    columns = math.ceil(math.sqrt(num))
    rows = -(-num // columns)
    sheet = np.full((frames, rows * columns, h, w, 3), 255, np.uint8)
    sheet[:, :num] = films if c == 3 else np.repeat(films, 3, axis=-1)
    sheet = sheet.reshape(frames, rows, columns, h, w, 3).swapaxes(2, 3)
    sheet = sheet.reshape(frames, rows * h, columns * w, 3)
    return sheet.repeat(scale, axis=1).repeat(scale, axis=2)


def durations(count: int, fps: float, unit: int = 1) -> list[int]:
    """Milliseconds of each frame, multiples of `unit`, that add up to count / fps seconds."""
    ends = np.round(np.arange(count + 1) * 1000 / fps / unit) * unit
    return [int(x) for x in np.diff(ends)]


def save_film(frames: np.ndarray, path: Path, fps: float, text: Mapping[str, str]) -> None:
    """Writes a film in one go (never half a file), of the kind that the suffix names.

    It is shown again and again. Equal frames that follow each other may become one that is shown
    for as long.

    Args:
      frames: `[n, h, w, 3]` uint8.
      path: ends in one of SUFFIXES.
      fps: frames a second, at most MOST_FPS.
      text: what it says about itself: text chunks of an APNG, the comment of a GIF.

    Raises:
      UserError: see `check_suffix`.
      OSError: it cannot be written.
    """
    check_suffix(path)
    with open_atomic(path) as file:
        _WRITERS[path.suffix.lower()](file, frames, fps, text)


def check_suffix(path: Path) -> None:
    """Raises UserError for a kind of file that cannot be written here."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"--out must end in {', '.join(SUFFIXES)}, not {path.name}")
    if suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise UserError(
                "MP4 needs a package: pip install imageio-ffmpeg; or write .gif, .png or .webp"
            ) from error


def _write_gif(file: BinaryIO, frames: np.ndarray, fps: float, text: Mapping[str, str]) -> None:
    comment = "\n".join(f"{name}: {value}" for name, value in text.items())
    pictures = [
        Image.fromarray(x).quantize(256, dither=Image.Dither.NONE) for x in frames
    ]  # a palette for each: with one for all, colours come and go
    _save(file, "GIF", pictures, durations(len(frames), fps, unit=10), comment=comment.encode())


def _write_apng(file: BinaryIO, frames: np.ndarray, fps: float, text: Mapping[str, str]) -> None:
    info = PngImagePlugin.PngInfo()
    for name, value in text.items():
        info.add_itxt(name, value)
    pictures = [Image.fromarray(x) for x in frames]
    _save(file, "PNG", pictures, durations(len(frames), fps), pnginfo=info)


def _write_webp(file: BinaryIO, frames: np.ndarray, fps: float, text: Mapping[str, str]) -> None:
    pictures = [Image.fromarray(x) for x in frames]
    _save(file, "WEBP", pictures, durations(len(frames), fps), quality=90, method=4)


def _save(
    file: BinaryIO, kind: str, pictures: list[Image.Image], duration: list[int], **options: Any
) -> None:
    first, *rest = pictures
    options |= {"save_all": True, "append_images": rest, "duration": duration, "loop": 0}
    first.save(file, format=kind, **options)


def _write_mp4(file: BinaryIO, frames: np.ndarray, fps: float, text: Mapping[str, str]) -> None:
    import imageio_ffmpeg

    _, h, w, _ = frames.shape
    # H.264 halves the resolution of colours
    frames = np.pad(frames, [(0, 0), (0, h % 2), (0, w % 2), (0, 0)], mode="edge")
    writer = imageio_ffmpeg.write_frames(
        file.name,
        (w + w % 2, h + h % 2),
        fps=fps,
        quality=8,
        macro_block_size=2,
        output_params=["-f", "mp4"],
    )
    with warnings.catch_warnings():
        # of jax, about threads after a fork: here ffmpeg takes the place of the child at once
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()


_WRITERS: dict[str, Callable[[BinaryIO, np.ndarray, float, Mapping[str, str]], None]] = {
    ".gif": _write_gif,
    ".png": _write_apng,
    ".apng": _write_apng,
    ".webp": _write_webp,
    ".mp4": _write_mp4,
}
SUFFIXES = tuple(_WRITERS)
