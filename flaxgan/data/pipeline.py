"""Batches with Grain: batch k is a function of (seed, k) alone, so the position is one number.

Example i of the endless global order is drawn, flipped and captioned before the order is cut into
processes: results depend neither on how many there are nor on where a run was interrupted.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from flaxgan.data.captions import text_ids
from flaxgan.data.source import CaptionedImages
from flaxgan.errors import UserError

PREFETCH = 4  # batches


def train_batches(
    dataset: CaptionedImages,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    flip: bool = False,
    num_workers: int = 0,
    num_mismatched: int = 1,
    num_swaps: int = 0,
    caption_dropout: float = 0.0,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches; each epoch holds every picture exactly once.

    Args:
      dataset: pictures and captions.
      batch_size: of all processes together.
      seed: of order, captions and flips.
      start_step: the first batch to give, counted from 0.
      process_index, process_count: which of how many processes this is.
      flip: mirror every other picture at random.
      num_workers: Grain worker processes, for data that is not held in memory.
      num_mismatched: wrong captions for each picture, n.
      num_swaps: how many pairs of uniform random numbers each picture brings, for `Swaps`.
      caption_dropout: probability that a picture's caption is the empty one, whose id is
        `len(dataset.flat_captions)`; everything else is as without.

    Returns:
      An iterator of dicts: `images [b, h, w, c]` uint8, `caption_ids [b]`, `mismatched_ids [b, n]`
      int64 (captions of other pictures, with other words where there are any), and with num_swaps
      `swap_noise [b, num_swaps, 2]`; all but images are absent for a data set without captions.

    Raises:
      UserError: the batch does not divide by the processes, or there are fewer than two pictures.
    """
    import absl.flags
    import grain

    if batch_size < 1:
        raise UserError(f"batch size {batch_size} is less than 1")
    if batch_size % process_count:
        raise UserError(f"batch size {batch_size} does not divide by {process_count} processes")
    if len(dataset) < 2:
        raise UserError(f"data set {dataset.name} has {len(dataset)} picture; training needs two")
    if not absl.flags.FLAGS.is_parsed():
        absl.flags.FLAGS.mark_as_parsed()  # Grain reads flags of its own
    local_batch = batch_size // process_count
    choose = _Choose(dataset, flip, num_mismatched, num_swaps, caption_dropout)
    order = (
        grain.MapDataset.range(len(dataset))
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(choose)[process_index::process_count]
    )
    if dataset.images is not None:
        batches = order.batch(local_batch).map(_gather(dataset.images))
    else:
        batches = order.map(_decode(dataset)).batch(local_batch)
    if start_step:
        batches = batches[start_step:]
    options = grain.ReadOptions(
        num_threads=16 if dataset.images is None else 1, prefetch_buffer_size=PREFETCH
    )
    iterator = batches.to_iter_dataset(options)
    if num_workers and dataset.images is None:
        iterator = iterator.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return iter(iterator)


class _Choose:
    """Picture number to what is drawn for it: caption, wrong captions, flip."""

    def __init__(
        self,
        dataset: CaptionedImages,
        flip: bool,
        num_mismatched: int,
        num_swaps: int,
        caption_dropout: float,
    ):
        self._dataset, self._flip = dataset, flip
        self._num_mismatched, self._num_swaps = num_mismatched, num_swaps
        self._caption_dropout = caption_dropout
        self._words = text_ids(dataset.flat_captions)

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        element = {"index": np.int64(index), "flip": np.bool_(rng.random() < 0.5 and self._flip)}
        if len(self._words):
            caption = self._captions(np.array([index]), rng)[0]
            element["caption_ids"] = caption
            element["mismatched_ids"] = self._others(index, caption, rng)
            if self._num_swaps:
                element["swap_noise"] = rng.random((self._num_swaps, 2))
            # last, so that it changes no other choice
            if self._caption_dropout and rng.random() < self._caption_dropout:
                element["caption_ids"] = np.int64(len(self._words))
        return element

    def _captions(self, pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One caption of each picture."""
        dataset = self._dataset
        which = rng.random(len(pictures)) * dataset.caption_count[pictures]
        return dataset.caption_start[pictures] + which.astype(np.int64)

    def _others(self, index: int, caption: np.int64, rng: np.random.Generator) -> np.ndarray:
        """Captions of other pictures; drawn again, a few times, where the words are the same."""
        size = len(self._dataset)
        others = np.full(self._num_mismatched, caption)
        for _ in range(8):
            same = self._words[others] == self._words[caption]
            if not same.any():
                break
            pictures = (index + rng.integers(1, size, same.sum())) % size
            others[same] = self._captions(pictures, rng)
        return others


def _gather(images: np.ndarray) -> Any:
    def gather(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = dict(batch)
        chosen = images[batch.pop("index")]
        flip = batch.pop("flip")
        chosen[flip] = chosen[flip, :, ::-1]
        return {"images": chosen, **batch}

    return gather


def _decode(dataset: CaptionedImages) -> Any:
    def decode(element: dict[str, Any]) -> dict[str, Any]:
        element = dict(element)
        image = dataset.image(element.pop("index"))
        flip = element.pop("flip")
        return {"images": image[:, ::-1] if flip else image, **element}

    return decode
