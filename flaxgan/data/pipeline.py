"""Batches with Grain: batch k is a function of (seed, k) alone, so the position is one number.

Example i of the endless global order is drawn, flipped and captioned before the order is cut into
processes: results depend neither on how many there are nor on where a run was interrupted.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from flaxgan.data import hashed
from flaxgan.data.captions import text_ids
from flaxgan.data.source import CaptionedImages
from flaxgan.data.workers import end_with_parent
from flaxgan.errors import UserError
from flaxgan.machine import core_count

PREFETCH = 4  # batches
ATTEMPTS = 8  # to find other words
ENDLESS = 2**62
MAX_THREADS, MAX_WORKERS = 16, 8


def train_batches(
    dataset: CaptionedImages,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    flip: bool = False,
    num_workers: int | None = 0,
    num_mismatched: int = 1,
    num_swaps: int = 0,
    caption_dropout: float = 0.0,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches; each epoch holds every picture exactly once, or as often as its weight says.

    Weights that are not whole round up or down from epoch to epoch, so that the mean is kept
    (systematic sampling).

    Args:
      dataset: pictures and captions.
      batch_size: of all processes together.
      seed: of order, captions and flips.
      start_step: the first batch to give, counted from 0.
      process_index, process_count: which of how many processes this is.
      flip: mirror every other picture at random.
      num_workers: Grain worker processes, for data that is not held in memory; 0: threads of this
        process; None: see `workers_for`.
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
    batch = _BatchMaker(
        dataset,
        _Choices(dataset, seed, num_mismatched, num_swaps, caption_dropout),
        flip=flip,
        size=batch_size // process_count,
        process_index=process_index,
        process_count=process_count,
    )
    streamed, cores = dataset.images is None, core_count()
    threads = min(MAX_THREADS, 2 * cores) if streamed else 1
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(PREFETCH, threads if streamed else 0)
    )
    iterator = grain.MapDataset.range(start_step, ENDLESS).map(batch).to_iter_dataset(options)
    if num_workers is None:
        num_workers = workers_for(cores)
    if num_workers and streamed:
        workers = grain.MultiprocessingOptions(num_workers=num_workers)
        iterator = iterator.mp_prefetch(workers, end_with_parent)
    return iter(iterator)


def workers_for(cores: int) -> int:
    """Worker processes: a quarter of eight or more cores, as codecs leave Python's lock to threads.

    On fewer cores threads feed as fast, and start at once (docs/data.md).
    """
    return min(MAX_WORKERS, cores // 4) if cores >= 8 else 0


class _Choices:
    """Place in the endless order to what is shown there: picture, flip, caption, wrong captions.

    All places of a batch at once: one by one, a fast accelerator would wait for Python.
    """

    def __init__(
        self,
        dataset: CaptionedImages,
        seed: int,
        num_mismatched: int,
        num_swaps: int,
        caption_dropout: float,
    ):
        self._size, self._expected = len(dataset), None
        self._epoch_size = self._size
        if dataset.weights is not None:
            weights = dataset.weights.astype(np.float64)
            self._epoch_size = max(1, round(float(weights.sum())))
            self._expected = weights * (self._epoch_size / weights.sum())
        self._start, self._count = dataset.caption_start, dataset.caption_count
        self._seed, self._num_mismatched, self._num_swaps = seed, num_mismatched, num_swaps
        self._caption_dropout = caption_dropout
        self._words = text_ids(dataset.flat_captions)

    def pictures(self, places: np.ndarray) -> np.ndarray:
        """Numbers of the pictures at `places [b]`; see `train_batches` for epochs."""
        epochs, offsets = np.divmod(places, self._epoch_size)
        chosen = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = self._order(int(epoch))[offsets[here]]
        return chosen

    def _order(self, epoch: int) -> np.ndarray:
        """The pictures of one epoch, shuffled."""
        order = _order(self._seed, self._epoch_size, epoch)
        if self._expected is None:
            return order
        return _repeated(self._seed, self._expected.tobytes(), epoch)[order]

    def flips(self, places: np.ndarray) -> np.ndarray:
        """Whether each is mirrored, where the data set allows it."""
        return self._uniforms("flip", places, 1)[:, 0] < 0.5

    def captions(self, places: np.ndarray, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """What `train_batches` gives of captions; nothing for a data set without."""
        if not len(self._words):
            return {}
        captions = self._captions(pictures, self._uniforms("caption", places, 1)[:, 0])
        others = self._others(places, pictures, captions)
        if self._caption_dropout:
            dropped = self._uniforms("dropout", places, 1)[:, 0] < self._caption_dropout
            captions = np.where(dropped, len(self._words), captions)
        chosen = {"caption_ids": captions, "mismatched_ids": others}
        if self._num_swaps:
            noise = self._uniforms("swap", places, 2 * self._num_swaps)
            chosen["swap_noise"] = noise.reshape(len(places), self._num_swaps, 2)
        return chosen

    def _uniforms(self, name: str, places: np.ndarray, count: int) -> np.ndarray:
        return hashed.uniforms(self._seed, name, places, count)

    def _captions(self, pictures: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One caption of each picture, by numbers in [0, 1)."""
        return self._start[pictures] + (u * self._count[pictures]).astype(np.int64)

    def _others(self, places: np.ndarray, pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Captions of other pictures; drawn again, a few times, where the words are the same."""
        shape = (len(places), self._num_mismatched)
        others = np.broadcast_to(captions[:, None], shape).copy()
        for attempt in range(ATTEMPTS):
            same = self._words[others] == self._words[captions][:, None]
            if not same.any():
                break
            u = self._uniforms(f"other {attempt}", places, 2 * self._num_mismatched)
            step = 1 + (u[:, ::2] * (self._size - 1)).astype(np.int64)
            drawn = self._captions((pictures[:, None] + step) % self._size, u[:, 1::2])
            others = np.where(same, drawn, others)
        return others


# threads prepare batches of two epochs at once, of tiny sets of more
@functools.lru_cache(maxsize=4)
def _order(seed: int, size: int, epoch: int) -> np.ndarray:
    """The pictures of one epoch, `[size]`, shuffled."""
    keys = hashed.bits(seed, "order", np.arange(size), 1, start=epoch)[:, 0]
    return np.argsort(keys, kind="stable")


@functools.lru_cache(maxsize=4)
def _repeated(seed: int, expected: bytes, epoch: int) -> np.ndarray:
    """Each picture as often as it comes in an epoch, in order.

    Args:
      seed: of the data.
      expected: `[n]` float64, of all pictures; their sum is whole.
      epoch: its number.
    """
    ends = np.cumsum(np.frombuffer(expected, np.float64))
    ends[-1] = round(ends[-1])
    start = hashed.uniforms(seed, "weights", np.array([epoch]), 1)[0, 0]
    counts = np.diff(np.floor(ends + start), prepend=np.floor(start)).astype(np.int64)
    return np.repeat(np.arange(len(counts)), counts)


@dataclasses.dataclass(frozen=True)
class _BatchMaker:
    """Number of a step to the part of its batch that is this process's."""

    dataset: CaptionedImages
    choices: _Choices
    flip: bool
    size: int
    process_index: int
    process_count: int

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        first = (step * self.process_count + self.process_index) * self.size
        places = first + np.arange(self.size)
        pictures = self.choices.pictures(places)
        if self.dataset.images is not None:
            images = self.dataset.images[pictures]
        else:
            images = np.stack([self.dataset.image(picture) for picture in pictures])
        if self.flip:
            flips = self.choices.flips(places)
            images[flips] = images[flips, :, ::-1]
        return {"images": images, **self.choices.captions(places, pictures)}
