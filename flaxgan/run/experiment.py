"""From a config to the parts of an experiment: data, captions, networks, optimisers, step."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from flaxgan.config import Config, LossConfig
from flaxgan.data import CaptionedImages, open_dataset, train_batches
from flaxgan.data.captions import text_ids
from flaxgan.errors import UserError
from flaxgan.models import build_models
from flaxgan.text import build_text_encoder, compact_captions, sentence_stats
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.text.swaps import Swaps
from flaxgan.training import parallel
from flaxgan.training.optim import build_optimizer, freeze
from flaxgan.training.state import Batch, TrainState, init_state
from flaxgan.training.step import StepFn, make_train_step


class Networks(NamedTuple):
    """The part of an experiment that knows no data; fields as in Experiment."""

    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    step: StepFn


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, ready to be trained or measured.

    Attributes:
      config: where it comes from.
      dataset: the training pictures and captions.
      text_encoder: None for unconditional training.
      captions: the training captions by caption id, and after them the empty one where captions
        are dropped; None for unconditional training.
      text_ids: `[n + 1]` int32 of all captions and the empty one: see `Batch`; None where no loss
        needs them.
      swaps: makes negatives of captions; None where the loss wants none.
      word_table: `[v, d]` vectors that their token ids are rows of; None where there are none.
      text_stats: mean and sd of frozen sentence vectors; None for learned or no text.
      generator, discriminator: modules.
      g_tx, d_tx: optimisers.
      step: the per-device step.
    """

    config: Config
    dataset: CaptionedImages
    text_encoder: Any
    captions: Text | None
    text_ids: np.ndarray | None
    swaps: Swaps | None
    word_table: np.ndarray | None
    text_stats: TextStats | None
    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    step: StepFn

    @property
    def flip(self) -> bool:
        """Whether pictures are mirrored at random."""
        choice = self.config.data.horizontal_flip
        return choice == "on" or (choice == "auto" and self.dataset.captions_survive_flip)

    def batches(self, start_step: int = 0) -> Iterator[Batch]:
        """Host batches from the given step on; batch k is a function of (seed, k) alone."""
        for arrays in train_batches(
            self.dataset,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            flip=self.flip,
            num_workers=self.config.data.num_workers,
            num_mismatched=max(1, self.config.loss.contrastive_negatives),
            num_swaps=self.config.loss.contrastive_swaps,
            caption_dropout=self.config.data.caption_dropout,
        ):
            yield self.batch(arrays)

    def batch(self, arrays: dict[str, np.ndarray]) -> Batch:
        """Adds the text to what `train_batches` gave."""
        if self.captions is None:
            return Batch(images=arrays["images"])
        own, wrong = arrays["caption_ids"], arrays["mismatched_ids"]
        negatives, negative_ids = self._negatives(arrays)
        return Batch(
            images=arrays["images"],
            text=self.text(own),
            mismatched=self.text(wrong[:, 0]) if needs_mismatched(self.config.loss) else None,
            negatives=negatives,
            text_ids=None if self.text_ids is None else self.text_ids[own],
            negative_ids=negative_ids,
        )

    def _negatives(self, arrays: dict[str, np.ndarray]) -> tuple[Text | None, np.ndarray | None]:
        """First all of the first picture: captions of others, then its own with a word swapped.

        Text and, where they are known, text ids; a swapped caption that no picture has gets an id
        that no caption has.
        """
        count = self.config.loss.contrastive_negatives
        wrong = arrays["mismatched_ids"]
        parts = []
        if count:
            parts.append(self._with_ids(wrong[:, -count:].reshape(-1)))
        if self.swaps is not None:
            noise = arrays["swap_noise"]
            own = np.repeat(arrays["caption_ids"], noise.shape[1])
            tokens, possible = self.swaps(own, noise.reshape(-1, 2))
            swapped = self.text(own)
            other, ids = self._with_ids(np.repeat(wrong[:, 0], noise.shape[1]))
            if ids is not None:
                found, new = self.swaps.find(tokens), np.int32(len(self.text_ids))
                ids = np.where(possible, np.where(found < 0, new, self.text_ids[found]), ids)
            tokens = np.where(possible[:, None], tokens, other.tokens)
            mask = np.where(possible[:, None], swapped.mask, other.mask)
            parts.append((swapped.replace(tokens=tokens, mask=mask), ids))
        if not parts:
            return None, None
        rows = len(wrong)
        return jax.tree.map(
            lambda *xs: np.concatenate(
                [x.reshape(rows, -1, *x.shape[1:]) for x in xs], axis=1
            ).reshape(-1, *xs[0].shape[1:]),
            *parts,
        )

    def _with_ids(self, caption_ids: np.ndarray) -> tuple[Text, np.ndarray | None]:
        ids = None if self.text_ids is None else self.text_ids[caption_ids]
        return self.text(caption_ids), ids

    def text(self, caption_ids: np.ndarray) -> Text:
        """`[b]` caption ids of the training set to text, for `TrainState.prepare`."""
        assert self.captions is not None
        return jax.tree.map(lambda x: x[caption_ids], self.captions)


def build_experiment(config: Config) -> Experiment:
    """Opens the data, encodes its captions (once, cached) and builds networks and step.

    Raises:
      UserError: a wrong value in the config, or data or packages that are missing.
    """
    encoder = build_text_encoder(config.text)
    sentence_dim = None if encoder is None or encoder.learned else encoder.dim
    networks = build_networks(config, sentence_dim=sentence_dim)
    dataset = open_dataset(config.data, config.data.split)
    captions = ids = swaps = word_table = stats = None
    if encoder is not None:
        compact = compact_captions(encoder, dataset.flat_captions, config.text)
        if not encoder.learned:
            stats = sentence_stats(compact.sentence_emb)
        if config.data.caption_dropout > 0:
            # by itself: among the others it would move every chunk of the cache
            empty = compact_captions(encoder, [""], config.text)
            compact = jax.tree.map(lambda *xs: np.concatenate(xs), compact, empty)
        captions, word_table = encoder.intern(compact)
        if max(config.loss.contrastive_d_weight, config.loss.contrastive_g_weight) > 0:
            ids = text_ids([*dataset.flat_captions, ""])
        if config.loss.contrastive_swaps:
            swaps = Swaps(captions.tokens, captions.mask)
    return Experiment(
        config=config,
        dataset=dataset,
        text_encoder=encoder,
        captions=captions,
        text_ids=ids,
        swaps=swaps,
        word_table=word_table,
        text_stats=stats,
        **networks._asdict(),
    )


def build_networks(config: Config, *, sentence_dim: int | None = None) -> Networks:
    """Builds networks, optimisers and step.

    Args:
      config: the experiment.
      sentence_dim: width of frozen sentence vectors; None for learned or no text.

    Raises:
      UserError: a wrong value in the config's data, model, loss, augment or optimiser sections.
    """
    generator, discriminator = build_models(config, sentence_dim=sentence_dim)
    txs = [
        build_optimizer(opt, batch_size=config.train.batch_size)
        for opt in (config.g_opt, config.d_opt)
    ]
    txs[1] = _freeze_stages(txs[1], discriminator, config)
    step = make_train_step(
        generator,
        discriminator,
        z_dim=config.model.z_dim,
        g_tx=txs[0],
        d_tx=txs[1],
        loss=config.loss,
        augment=config.augment,
        ema_halflife_kimg=config.train.ema_halflife_kimg,
        ema_slow_halflife_kimg=config.train.ema_slow_halflife_kimg,
        ema_rampup=config.train.ema_rampup,
        accumulate_steps=config.train.accumulate_steps,
    )
    return Networks(generator, discriminator, txs[0], txs[1], step)


def new_state(experiment: Experiment, devices: Sequence[jax.Device]) -> TrainState:
    """The state at step 0; where each device has a copy, after a proof that they stay equal."""
    config = experiment.config
    batch = next(experiment.batches())
    state = init_state(
        experiment.generator,
        experiment.discriminator,
        batch,
        z_dim=config.model.z_dim,
        g_tx=experiment.g_tx,
        d_tx=experiment.d_tx,
        seed=config.train.seed,
        text_stats=experiment.text_stats,
        word_table=experiment.word_table,
        ema_slow=config.train.ema_slow_halflife_kimg > 0,
        augment_p=config.augment.p if config.augment.ada_target > 0 else None,
        sharding=lambda state: parallel.state_sharding(
            state, config.train.mode, devices, config.train.shard_above
        ),
    )
    replicated = len(devices) > 1 and config.train.mode != "jit"  # else there is one of each array
    if replicated and len(batch.images) % (2 * config.train.accumulate_steps) == 0:
        parallel.check_replicated(experiment.step, state, batch)
    return state


def _freeze_stages(
    tx: optax.GradientTransformation, discriminator: Any, config: Config
) -> optax.GradientTransformation:
    stages, count = discriminator.image_stages(), config.train.freeze_d_blocks
    if not 0 <= count <= len(stages):
        raise UserError(
            f"train.freeze_d_blocks must be in [0, {len(stages)}], the stages of this "
            f"{config.model.family} discriminator, not {count}"
        )
    return freeze(tx, list(itertools.chain(*stages[:count]))) if count else tx


def needs_mismatched(loss: LossConfig) -> bool:
    """Whether a term compares images with wrong captions."""
    return max(loss.mismatch_weight, loss.mismatch_fake_weight, loss.g_mismatch_weight) > 0
