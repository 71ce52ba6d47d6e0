"""From the arrays of the input pipeline to batches: captions, wrong captions, negatives."""

import dataclasses

import jax
import numpy as np

from flaxgan.config import LossConfig
from flaxgan.text.conditioning import Text
from flaxgan.text.swaps import MadeSwaps, Swaps
from flaxgan.training.state import Batch


def needs_mismatched(loss: LossConfig) -> bool:
    """Whether a term compares images with wrong captions."""
    return max(loss.mismatch_weight, loss.mismatch_fake_weight, loss.g_mismatch_weight) > 0


@dataclasses.dataclass(frozen=True)
class BatchBuilder:
    """Adds text to the pictures and caption ids of the input pipeline.

    Attributes:
      loss: decides which captions a batch needs.
      captions: the training captions by caption id, and after them the empty one where captions
        are dropped; None for unconditional training.
      text_ids: `[n + 1]` int32 of all captions and the empty one: see `Batch`; None where no loss
        needs them.
      swaps: makes negatives by swapping words of captions, or has made them; None where the loss
        wants none.
    """

    loss: LossConfig
    captions: Text | None = None
    text_ids: np.ndarray | None = None
    swaps: Swaps | MadeSwaps | None = None

    def build(self, arrays: dict[str, np.ndarray]) -> Batch:
        """The batch of what `train_batches` gave."""
        if self.captions is None:
            return Batch(images=arrays["images"])
        own, wrong = arrays["caption_ids"], arrays["mismatched_ids"]
        negatives, negative_ids = self._negatives(arrays)
        return Batch(
            images=arrays["images"],
            text=self.text(own),
            mismatched=self.text(wrong[:, 0]) if needs_mismatched(self.loss) else None,
            negatives=negatives,
            text_ids=None if self.text_ids is None else self.text_ids[own],
            negative_ids=negative_ids,
        )

    def text(self, caption_ids: np.ndarray) -> Text:
        """`[b]` caption ids of the training set to text, for `TrainState.prepare`."""
        assert self.captions is not None
        return jax.tree.map(lambda x: x[caption_ids], self.captions)

    def _negatives(self, arrays: dict[str, np.ndarray]) -> tuple[Text | None, np.ndarray | None]:
        """Text and, where they are known, text ids of all negatives.

        They are sorted by picture: first captions of others, then its own with a word swapped.
        """
        wrong = arrays["mismatched_ids"]
        rows, count = len(wrong), self.loss.contrastive_negatives
        parts = []
        if count:
            parts.append(self._with_ids(wrong[:, -count:].reshape(-1)))
        if self.swaps is not None:
            made = isinstance(self.swaps, MadeSwaps)
            parts.append((self._made if made else self._swapped)(self.swaps, arrays))
        if not parts:
            return None, None
        return jax.tree.map(
            lambda *xs: np.concatenate(
                [x.reshape(rows, -1, *x.shape[1:]) for x in xs], axis=1
            ).reshape(-1, *xs[0].shape[1:]),
            *parts,
        )

    def _swapped(
        self, swaps: Swaps, arrays: dict[str, np.ndarray]
    ) -> tuple[Text, np.ndarray | None]:
        """The pictures' own captions with a word swapped; another caption where none can be.

        A swapped caption that no picture has gets an id that no caption has.
        """
        noise, wrong = arrays["swap_noise"], arrays["mismatched_ids"]
        own = np.repeat(arrays["caption_ids"], noise.shape[1])
        tokens, possible = swaps(own, noise.reshape(-1, 2))
        swapped = self.text(own)
        other, ids = self._with_ids(np.repeat(wrong[:, 0], noise.shape[1]))
        if ids is not None:
            found, new = swaps.find(tokens), np.int32(len(self.text_ids))
            ids = np.where(possible, np.where(found < 0, new, self.text_ids[found]), ids)
        tokens = np.where(possible[:, None], tokens, other.tokens)
        mask = np.where(possible[:, None], swapped.mask, other.mask)
        return swapped.replace(tokens=tokens, mask=mask), ids

    def _made(
        self, swaps: MadeSwaps, arrays: dict[str, np.ndarray]
    ) -> tuple[Text, np.ndarray | None]:
        """The same of swapped captions that were made in advance."""
        own, wrong = arrays["caption_ids"], arrays["mismatched_ids"]
        count = self.loss.contrastive_swaps
        rows = (own[:, None] * count + np.arange(count)).reshape(-1)
        # the empty caption, which comes after the others, has none
        possible = rows < len(swaps.possible)
        rows = np.where(possible, rows, 0)
        possible &= swaps.possible[rows]
        other, ids = self._with_ids(np.repeat(wrong[:, 0], count))
        text = jax.tree.map(
            lambda x, y: np.where(possible.reshape(-1, *[1] * (y.ndim - 1)), x[rows], y),
            swaps.text,
            other,
        )
        return text, None if ids is None else np.where(possible, swaps.ids[rows], ids)

    def _with_ids(self, caption_ids: np.ndarray) -> tuple[Text, np.ndarray | None]:
        ids = None if self.text_ids is None else self.text_ids[caption_ids]
        return self.text(caption_ids), ids
