"""Batches with Grain: batch k is a function of (seed, k) alone, so the position is one number.

Example i of the endless global order is drawn, flipped and captioned before the order is cut into
processes: results depend neither on how many there are nor on where a run was interrupted.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

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

    Returns:
      An iterator of dicts: `images [b, h, w, c]` uint8, `caption_ids [b]`, `mismatched_ids [b, n]`
      int64 (captions of other pictures, with other words where there are any); ids are absent for
      a data set without captions.

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
    choose = _Choose(dataset, flip, num_mismatched)
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

    def __init__(self, dataset: CaptionedImages, flip: bool, num_mismatched: int):
        self._dataset, self._flip, self._num_mismatched = dataset, flip, num_mismatched
        self._conditional = bool(dataset.flat_captions)

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        element = {"index": np.int64(index), "flip": np.bool_(rng.random() < 0.5 and self._flip)}
        if self._conditional:
            caption = self._caption(index, rng)
            element["caption_ids"] = caption
            others = [self._other(index, caption, rng) for _ in range(self._num_mismatched)]
            element["mismatched_ids"] = np.array(others, np.int64)
        return element

    def _caption(self, index: int, rng: np.random.Generator) -> np.int64:
        dataset = self._dataset
        return np.int64(dataset.caption_start[index] + rng.integers(dataset.caption_count[index]))

    def _other(self, index: int, caption: np.int64, rng: np.random.Generator) -> np.int64:
        """A caption of another picture; drawn again, a few times, where the words are the same."""
        captions = self._dataset.flat_captions
        for _ in range(8):
            shift = 1 + int(rng.integers(len(self._dataset) - 1))
            other = self._caption((index + shift) % len(self._dataset), rng)
            if captions[other] != captions[caption]:
                break
        return other


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
