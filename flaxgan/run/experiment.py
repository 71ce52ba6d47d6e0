"""From a config to the parts of an experiment: data, captions, networks, optimisers, step."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from flaxgan.config import Config
from flaxgan.data import CaptionedImages, open_dataset, train_batches
from flaxgan.data.captions import text_ids
from flaxgan.errors import UserError
from flaxgan.models import build_models
from flaxgan.run.batches import BatchBuilder
from flaxgan.text import (
    ENCODERS,
    build_text_encoder,
    compact_captions,
    sentence_stats,
    word_stats,
)
from flaxgan.text.conditioning import TextStats, to_int8
from flaxgan.text.swaps import MadeSwaps, Swaps, make_swaps
from flaxgan.training import parallel
from flaxgan.training.optim import build_optimizer, freeze
from flaxgan.training.state import Batch, TrainState, init_state
from flaxgan.training.step import StepFn, make_train_step


class Networks(NamedTuple):
    """The part of an experiment that does not depend on data; fields as in Experiment."""

    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    step: StepFn


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, ready to be trained or measured.

    Attributes:
      config: what everything else was built from.
      dataset: the training pictures and captions.
      text_encoder: None for unconditional training.
      batch_builder: adds the captions to what the input pipeline gives.
      word_table: `[v, d]` vectors that the captions' token ids are rows of; None where there are
        none.
      text_stats: mean and sd of frozen sentence vectors; None for learned or no text.
      generator, discriminator: modules.
      g_tx, d_tx: optimisers.
      step: the per-device step.
    """

    config: Config
    dataset: CaptionedImages
    text_encoder: Any
    batch_builder: BatchBuilder
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
            yield self.batch_builder.build(arrays)


def build_experiment(config: Config) -> Experiment:
    """Opens the data, encodes its captions (once, cached) and builds networks and step.

    Raises:
      UserError: a wrong value in the config, or data or packages that are missing.
    """
    encoder = build_text_encoder(config.text)
    sentence_dim = None if encoder is None or encoder.learned else encoder.dim
    networks = build_networks(config, sentence_dim=sentence_dim)
    dataset = open_dataset(config.data, config.data.split)
    builder, word_table, stats = BatchBuilder(config.loss), None, None
    if encoder is not None:
        builder, word_table, stats = _encode_captions(config, dataset, encoder)
    return Experiment(
        config=config,
        dataset=dataset,
        text_encoder=encoder,
        batch_builder=builder,
        word_table=word_table,
        text_stats=stats,
        **networks._asdict(),
    )


def _encode_captions(
    config: Config, dataset: CaptionedImages, encoder: Any
) -> tuple[BatchBuilder, np.ndarray | None, TextStats | None]:
    """What an Experiment has of the captions of its data: builder, word table and statistics."""
    compact = compact_captions(encoder, dataset.flat_captions, config.text)
    stats = None if encoder.learned else sentence_stats(compact.sentence_emb)
    if config.data.caption_dropout > 0:
        # by itself: among the others it would move every chunk of the cache
        empty = compact_captions(encoder, [""], config.text)
        compact = jax.tree.map(lambda *xs: np.concatenate(xs), compact, empty)
    captions, word_table = encoder.intern(compact)
    if encoder.learned and encoder.standardised:
        stats = word_stats(captions.tokens, captions.mask, word_table)
        word_table = to_int8(word_table, stats)
    ids = swaps = None
    if max(config.loss.contrastive_d_weight, config.loss.contrastive_g_weight) > 0:
        ids = text_ids([*dataset.flat_captions, ""])
    if config.loss.contrastive_swaps and ENCODERS[config.text.encoder].independent:
        swaps = Swaps(captions.tokens, captions.mask)
    elif config.loss.contrastive_swaps:
        own = jax.tree.map(lambda x: x[: len(dataset.flat_captions)], compact)
        swapped, possible, swapped_ids = make_swaps(own, config.loss.contrastive_swaps, ids)
        # by themselves: among the others they would move every chunk of the cache
        swapped, more = encoder.intern(swapped)
        assert word_table is not None
        swapped = swapped.replace(tokens=swapped.tokens + len(word_table))
        word_table = np.concatenate([word_table, to_int8(more, stats)])
        swaps = MadeSwaps(swapped, possible, swapped_ids)
    return BatchBuilder(config.loss, captions, ids, swaps), word_table, stats


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


def compile_steps(
    experiment: Experiment, devices: Sequence[jax.Device]
) -> Callable[[int], parallel.CompiledStep]:
    """step number -> compiled step: of D or G alone, or with or without the penalty (lazy one)."""
    config = experiment.config
    batches_per_kimg = 1000.0 / config.train.batch_size
    d_alone_steps = config.train.d_alone_kimg * batches_per_kimg
    alone_steps = d_alone_steps + config.train.alone_kimg * batches_per_kimg

    @functools.cache
    def compiled(**variant: bool) -> parallel.CompiledStep:
        return parallel.compile_step(
            experiment.step, config.train.mode, devices, config.train.shard_above, **variant
        )

    def of(step: int) -> parallel.CompiledStep:
        if step < d_alone_steps:
            return compiled(alone="d")
        if step < alone_steps:
            return compiled(alone="g")
        return compiled(with_penalty=step % config.loss.penalty_every_steps == 0)

    return of


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
