"""Holes of pictures of any size: brought to a generator's square, and what it draws pasted back."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from flaxgan.errors import UserError

WHITE = 128  # of 255: what is at least as bright in a mask is redrawn
MOST_SIDE = 4096  # of a picture that is completed, what is added included, pixels
WHOLE = 1.0 - 1e-3  # share of a pixel of the small picture that has to be known


@dataclasses.dataclass(frozen=True)
class Margins:
    """How many pixels are added on each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def check_size(self, picture: np.ndarray) -> None:
        """Raises UserError where the canvas of a picture `[h, w, …]` would be too large."""
        h, w = picture.shape[:2]
        check_size(self.top + h + self.bottom, self.left + w + self.right)

    def widen(self, picture: np.ndarray) -> np.ndarray:
        """`[h, w, …]` on a larger canvas, with zeros around."""
        around = [(self.top, self.bottom), (self.left, self.right)]
        return np.pad(picture, around + [(0, 0)] * (picture.ndim - 2))

    def hole(self, picture: np.ndarray) -> np.ndarray:
        """Which pixels of the canvas of a picture `[h, w, …]` are new: `[h', w']` bool."""
        return ~self.widen(np.ones(picture.shape[:2], bool))


def check_size(height: int, width: int) -> None:
    """Raises UserError for a picture that is too large."""
    if max(height, width) > MOST_SIDE:
        raise UserError(
            f"a picture of {width} x {height} pixels is too large to complete: at most "
            f"{MOST_SIDE} pixels a side"
        )


def as_hole(mask: Any, picture: np.ndarray, what: str = "the mask") -> np.ndarray:
    """Which pixels of a picture are redrawn.

    Args:
      mask: `[h, w]` or `[h, w, 1]`, bool, or uint8 where at least WHITE is redrawn.
      picture: `[h, w, …]`.
      what: names the mask in errors.

    Returns:
      `[h, w]` bool.

    Raises:
      UserError: another kind or size, or nothing is redrawn.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise UserError(
            f"{what} must be bool or uint8 of shape [h, w], not {mask.dtype} of shape "
            f"{list(mask.shape)}"
        )
    if mask.shape != picture.shape[:2]:
        (h, w), (height, width) = mask.shape, picture.shape[:2]
        raise UserError(
            f"{what} has {w} x {h} pixels, and its picture {width} x {height}: make them equal"
        )
    hole = mask if mask.dtype == np.bool_ else mask >= WHITE
    if not hole.any():
        raise UserError(f"{what} covers nothing: make white what is to be redrawn")
    return hole


def shrink(picture: np.ndarray, hole: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its hole as a generator of squares takes them.

    The picture is put in the middle of a square; what is beside it is part of the hole. What lies
    in the hole does not shine through: colours are means of known pixels alone.

    Args:
      picture: `[h, w, c]` uint8.
      hole: `[h, w]` bool.
      side: of the generator's pictures.

    Returns:
      `[side, side, c]` uint8, and `[side, side]` bool, True where a pixel is not wholly known.
    """
    margins = square(hole)
    known = margins.widen((~hole).astype(np.float32))
    if len(known) == side:
        return margins.widen(picture) * (known > 0)[..., None].astype(np.uint8), known == 0
    colors = margins.widen(picture.astype(np.float32)) * known[..., None]
    filter = Image.Resampling.BOX if len(known) % side == 0 else Image.Resampling.BILINEAR
    share = _resize(known, side, filter)
    planes = [_resize(colors[..., i], side, filter) for i in range(colors.shape[-1])]
    small = np.stack(planes, axis=-1) / np.maximum(share, 1e-6)[..., None]
    missing = share < WHOLE
    small = np.where(missing[..., None], 0.0, small)
    return small.round().clip(0, 255).astype(np.uint8), missing


def paste(picture: np.ndarray, hole: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A picture with what was drawn of it in its hole; all around stays as it is, to the bit.

    Args:
      picture: `[h, w, c]` uint8.
      hole: `[h, w]` bool.
      drawn: `[side, side, c]` uint8, of `shrink`.
    """
    margins, (h, w) = square(hole), hole.shape
    if len(drawn) != max(h, w):
        planes = [
            _resize(drawn[..., i].astype(np.float32), max(h, w), Image.Resampling.BICUBIC)
            for i in range(drawn.shape[-1])
        ]
        drawn = np.stack(planes, axis=-1).round().clip(0, 255).astype(np.uint8)
    cut = drawn[margins.top : margins.top + h, margins.left : margins.left + w]
    return np.where(hole[..., None], cut, picture)


def square(hole: np.ndarray) -> Margins:
    """What makes a square of a picture, which is in the middle."""
    h, w = hole.shape
    more_h, more_w = max(w - h, 0), max(h - w, 0)
    return Margins(
        left=more_w // 2,
        top=more_h // 2,
        right=more_w - more_w // 2,
        bottom=more_h - more_h // 2,
    )


def as_list(arrays: Any, count: int, rank: int, what: str) -> Sequence[Any]:
    """One array for each of `count` pictures; an array of `rank` axes is for all.

    Raises:
      UserError: there are more or fewer.
    """
    if isinstance(arrays, np.ndarray) and arrays.ndim == rank:
        return [arrays] * count
    if len(arrays) != count:
        raise UserError(f"{count} pictures need {count} {what}, or one for all, not {len(arrays)}")
    return arrays


def _resize(plane: np.ndarray, side: int, filter: Image.Resampling) -> np.ndarray:
    """`[h, w]` float32 to `[side, side]`."""
    return np.asarray(Image.fromarray(plane).resize((side, side), filter))
