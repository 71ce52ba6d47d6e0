"""The three models of docs/scaling.md, and the train step of a config without its data."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from flaxgan.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    load_config,
)
from flaxgan.models.variants import WORD_DIM
from flaxgan.run.batches import needs_mismatched
from flaxgan.run.experiment import Networks, build_networks
from flaxgan.text.conditioning import Text, TextStats
from flaxgan.training import parallel
from flaxgan.training.state import Batch, TrainState, init_state
from tools.scaling import counting

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def configs() -> dict[str, Config]:
    """DF-GAN-256 as published, and two sizes of `gat` that nobody has trained here.

    The widths and depths of the latter are those of ViT-B and ViT-L, in each network; its patches
    of 8 pixels make 1024 tokens of an image. The recipe is that of GAT (Hyun et al. 2026), with
    words for classes and without DiffAugment.

    Raises:
      UserError: the folder configs is not beside the package.
    """
    return {
        "DF-GAN-256": load_config(CONFIGS / "dfgan_coco256.py"),
        "GAT-B-256": _flagship("gat_b_256", width=768, blocks=12),
        "GAT-L-256": _flagship("gat_l_256", width=1024, blocks=24),
    }


def _flagship(name: str, *, width: int, blocks: int) -> Config:
    adam = OptimConfig(lr=2e-4 * 768 / width, b1=0.0, b2=0.99)
    return Config(
        name=name,
        data=DataConfig(
            name="coco_captions/2014",
            test_split="val",
            caption_key="captions/text",
            resolution=256,
        ),
        text=TextConfig(encoder="words", max_tokens=48),
        model=ModelConfig(
            family="gat",
            z_dim=64,
            g_channels=width,
            d_channels=width,
            g_blocks=blocks,
            d_blocks=blocks,
            patch=8,
            w_dim=512,
            output="linear",
            dtype="bfloat16",
        ),
        loss=LossConfig(adversarial="rpgan", mismatch_weight=0.0, penalty="r1_r2", gamma=0.1),
        g_opt=adam,
        d_opt=adam,
        train=TrainConfig(batch_size=512, ema_halflife_kimg=355.0),  # 0.999 a step
    )


def with_blocks(config: Config, blocks: int) -> Config:
    """The same config with another number of blocks in each network."""
    model = dataclasses.replace(config.model, g_blocks=blocks, d_blocks=blocks)
    return dataclasses.replace(config, model=model)


class AbstractRun(NamedTuple):
    """A config without data or values.

    Attributes:
      networks: modules, optimisers and step.
      state: shapes of the train state.
      batch: shapes of one global batch.
    """

    networks: Networks
    state: TrainState
    batch: Batch


def abstract_run(config: Config, batch_size: int) -> AbstractRun:
    """Shapes of all that a step reads; frozen text, and words, are vectors of WORD_DIM.

    Raises:
      UserError: a wrong value in the config.
    """
    frozen = config.text.encoder in ("e5", "minilm")
    networks = build_networks(config, sentence_dim=WORD_DIM if frozen else None)
    batch = _abstract_batch(config, batch_size)
    stats = TextStats(np.zeros(WORD_DIM, np.float32), np.ones(WORD_DIM, np.float32))
    state = jax.eval_shape(
        lambda: init_state(
            networks.generator,
            networks.discriminator,
            batch,
            z_dim=config.model.z_dim,
            g_tx=networks.g_tx,
            d_tx=networks.d_tx,
            text_stats=stats if frozen else None,
            ema_slow=config.train.ema_slow_halflife_kimg > 0,
            augment_p=config.augment.p if config.augment.ada_target > 0 else None,
        )
    )
    return AbstractRun(networks, state, batch)


def _abstract_batch(config: Config, batch_size: int) -> Batch:
    data, loss = config.data, config.loss
    images = _shape(np.uint8, batch_size, data.resolution, data.resolution, data.channels)
    if config.text.encoder == "none":
        return Batch(images=images)
    count = batch_size * (loss.contrastive_negatives + loss.contrastive_swaps)
    contrast = max(loss.contrastive_d_weight, loss.contrastive_g_weight) > 0
    return Batch(
        images=images,
        text=_abstract_text(config, batch_size),
        mismatched=_abstract_text(config, batch_size) if needs_mismatched(loss) else None,
        negatives=_abstract_text(config, count) if count else None,
        text_ids=_shape(np.int32, batch_size) if contrast else None,
        negative_ids=_shape(np.int32, count) if count else None,
    )


def _abstract_text(config: Config, count: int) -> Text:
    tokens = config.text.max_tokens
    if config.text.encoder == "bytes":
        return Text(tokens=_shape(np.int32, count, tokens), mask=_shape(np.bool_, count, tokens))
    if config.text.encoder == "words":
        vectors = _shape(np.float32, count, tokens, WORD_DIM)
        return Text(token_emb=vectors, mask=_shape(np.bool_, count, tokens))
    return Text(sentence_emb=_shape(np.float32, count, WORD_DIM))


def _shape(dtype: type, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


class Size(NamedTuple):
    """Bytes and parameters of a config.

    Attributes:
      g_params, d_params: trained parameters, text encoders included.
      state_bytes: of the train state.
    """

    g_params: int
    d_params: int
    state_bytes: int

    @property
    def gradient_bytes(self) -> tuple[int, int]:
        """Of the generator's and of the discriminator's gradients, float32."""
        return 4 * self.g_params, 4 * self.d_params


def size(config: Config) -> Size:
    """Counts without computing."""
    state = abstract_run(config, 1).state
    g_params, d_params = (
        sum(leaf.size for leaf in jax.tree.leaves(params))
        for params in (state.g_params, state.d_params)
    )
    leaves = jax.tree.leaves(state)
    return Size(g_params, d_params, sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))


def state_bytes(config: Config, count: int) -> int:
    """Of the train state on each of `count` devices in mode "jit", by the rule for each array."""
    state = abstract_run(config, 1).state
    return sum(
        math.prod(parallel.spread_shape(leaf, count, config.train.shard_above))
        * leaf.dtype.itemsize
        for name in parallel.SPREAD
        for leaf in jax.tree.leaves(getattr(state, name))
    )


def step_work(config: Config, num_devices: int = 8) -> counting.Work:
    """Work of one device that sees one image in a step; with lazy penalties, on average."""
    networks, state, batch = abstract_run(config, 1)
    every = config.loss.penalty_every_steps

    def work(with_penalty: bool) -> counting.Work:
        step = functools.partial(networks.step, axis_name=parallel.AXIS, with_penalty=with_penalty)
        return counting.count(step, state, batch, axis=(parallel.AXIS, num_devices))

    with_penalty = work(True)
    if every == 1:
        return with_penalty
    without = work(False)
    flops = (with_penalty.flops + (every - 1) * without.flops) / every
    return counting.Work(flops, with_penalty.averaged_bytes)
