"""From pictures back to what draws them: noise, offsets of w at each stage, offsets of the text.

Reference: Zhu et al. 2016, "Generative Visual Manipulation on the Natural Image Manifold", section
  3 (optimisation, from several starts); Abdal et al. 2019, "Image2StyleGAN", section 4 (one w for
  each stage; pixels and features of a frozen network). Where no caption is known, the text is
  sought as vectors: Gal et al. 2022, "Textual Inversion", section 3.1. Deviations: noise stays on
  its sphere, starts are the nearest of many noises, and offsets are counted in standard deviations
  of w and drawn to zero, so that captions still act on what is found.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flaxgan.models.frozen import frozen_features
from flaxgan.models.latents import NOISES
from flaxgan.text.conditioning import TextFeatures

SCALES = 3  # of pixels: 1, 1/2 and 1/4 of the size
STEPS_AT_ONCE = 5  # of Adam, in one compiled program
ADAM = optax.scale_by_adam(b1=0.9, b2=0.99)


@dataclasses.dataclass(frozen=True)
class Search:
    """How hard latents are looked for.

    Attributes:
      candidates: noises that are drawn with the text of each picture.
      starts: how many of them, the nearest ones, are optimised, at most `candidates`.
      steps: of Adam.
      lr: learning rate at the start; it falls to 0 by a cosine.
      offset_weight: of the mean square of offsets, against squared differences of pixels.
      feature_weight: of those of the features of a frozen network (`flaxgan.models.frozen`, whose
        package it needs); 0: pixels only.
    """

    candidates: int = 32
    starts: int = 1
    steps: int = 25
    lr: float = 0.15
    offset_weight: float = 0.05
    feature_weight: float = 0.0


def rounds(search: Search) -> int:
    """How often `invert` says of each picture that it went on."""
    return -(-search.steps // STEPS_AT_ONCE)


@flax.struct.dataclass
class Latents:
    """What draws pictures, beside their text.

    Attributes:
      z: `[b, z]` noise, whose length does not count.
      w: `[b, stages, w]` offsets of w; None for a generator without w.
      sentence: `[b, d]` offset of the sentence vector, in its root mean square; None where the
        caption is known, or nothing is read.
      tokens: `[b, t, d]` offsets of token vectors, likewise.
    """

    z: Array
    w: Array | None = None
    sentence: Array | None = None
    tokens: Array | None = None


def start_latents(
    generator: nn.Module, z: Array, w_dim: int, words: TextFeatures | None, *, free_text: bool
) -> Latents:
    """Latents `[b, …]` without any offset: they draw what noise and text draw.

    Args:
      generator: the module.
      z: `[b, z]`.
      w_dim: size of w; not read without w.
      words: text features `[b, …]`.
      free_text: whether the text has offsets too.
    """
    stages = generator.w_stages() if hasattr(generator, "w_stages") else 1
    return Latents(
        z=z,
        w=jnp.zeros((len(z), stages, w_dim)) if hasattr(generator, "to_w") else None,
        sentence=jnp.zeros_like(words.sentence) if free_text and words is not None else None,
        tokens=jnp.zeros_like(words.tokens)
        if free_text and words is not None and words.tokens is not None
        else None,
    )


def spherical(z: Array) -> Array:
    """`[…, z]` at the length of normal noise: mean square 1."""
    return z * jax.lax.rsqrt(jnp.mean(z * z, axis=-1, keepdims=True) + 1e-8)


def shift_text(words: TextFeatures | None, latents: Latents) -> TextFeatures | None:
    """Text features `[b, …]` with the offsets of the latents added."""
    if words is None or latents.sentence is None:
        return words
    rms = jnp.sqrt(jnp.mean(words.sentence**2, axis=-1, keepdims=True) + 1e-8)
    tokens = words.tokens
    if latents.tokens is not None:
        tokens = tokens + rms[:, None] * latents.tokens
    return words.replace(sentence=words.sentence + rms * latents.sentence, tokens=tokens)


@functools.partial(jax.jit, static_argnames=("generator", "z_dim"))
def w_scale(
    params: Any, words: TextFeatures | None, *, generator: nn.Module, z_dim: int
) -> Array | None:
    """Standard deviations of w over NOISES noises, always the same ones, with each text.

    Args:
      params: of the generator.
      words: text features `[b, …]`; None for an unconditional generator.
      generator: the module.
      z_dim: size of noise.

    Returns:
      `[b, w]`, of an unconditional generator `[1, w]`; None without w.
    """
    if not hasattr(generator, "to_w"):
        return None
    rows = 1 if words is None else len(words.sentence)

    def to_w(z: Array) -> Array:
        z = jnp.broadcast_to(z, (rows, z_dim))
        return generator.apply({"params": params}, z, words, method="to_w")

    noises = jax.random.normal(jax.random.key(0), (NOISES, z_dim))
    return jax.vmap(to_w)(noises).std(axis=0) + 1e-6


@functools.partial(jax.jit, static_argnames="generator")
def draw_latents(
    params: Any, latents: Latents, words: TextFeatures | None, *, generator: nn.Module
) -> Array:
    """What latents draw with text features `[b, …]`: `[b, h, w, c]` float.

    Args:
      params: of the generator.
      latents: `[b, …]`.
      words: of `generator_text`, without offsets.
      generator: the module.
    """
    variables, z = {"params": params}, spherical(latents.z)
    words = shift_text(words, latents)
    if latents.w is None:
        return generator.apply(variables, z, words)
    w = generator.apply(variables, z, words, method="to_w")
    if not hasattr(generator, "w_stages"):
        return generator.apply(variables, z, words, w + latents.w[:, 0])
    return generator.apply(variables, z, words, w[:, None] + latents.w)


def scaled(latents: Latents, scale: Array | None) -> Latents:
    """Latents with offsets of w in its standard deviations `[b, w]`, to those that draw."""
    return latents if scale is None else latents.replace(w=scale[:, None] * latents.w)


def distances(drawn: Array, pictures: Array, feature_weight: float = 0.0) -> Array:
    """Mean squared differences of pixels at SCALES sizes, summed, and of features, `[b]`.

    Args:
      drawn, pictures: `[b, h, w, c]` float in [-1, 1].
      feature_weight: see `Search`.
    """
    places = (1, 2, 3)
    difference = drawn - pictures
    total = jnp.mean(difference**2, axis=places)
    for _ in range(1, SCALES):
        b, h, w, c = difference.shape
        if h % 2 or w % 2:
            break
        difference = difference.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        total = total + jnp.mean(difference**2, axis=places)
    if feature_weight:
        for x, y in zip(frozen_features(drawn), frozen_features(pictures), strict=True):
            total = total + feature_weight * jnp.mean((x - y) ** 2, axis=places)
    return total


def root_mean_square(drawn: Array, pictures: Array) -> Array:
    """Differences of pixels as a share of the range from black to white, `[b]` in [0, 1]."""
    return jnp.sqrt(jnp.mean((drawn - pictures) ** 2, axis=(1, 2, 3))) / 2.0


@functools.partial(jax.jit, static_argnames=("generator", "starts"))
def nearest_noises(
    params: Any,
    pictures: Array,
    words: TextFeatures | None,
    noises: Array,
    *,
    generator: nn.Module,
    starts: int,
) -> Array:
    """Of noises `[k, z]`, those that draw each picture best with its text: `[b, starts, z]`."""

    def far(noise: Array) -> Array:
        z = jnp.broadcast_to(spherical(noise), (len(pictures), len(noise)))
        return distances(generator.apply({"params": params}, z, words), pictures)

    order = jnp.argsort(jax.lax.map(far, noises), axis=0)  # [k, b]
    return noises[order[:starts].T]


@functools.partial(jax.jit, static_argnames=("generator", "feature_weight"))
def _improve(
    params: Any,
    scale: Array | None,
    pictures: Array,
    words: TextFeatures | None,
    state: tuple[Latents, optax.OptState],
    lrs: Array,
    offset_weight: Array,
    *,
    generator: nn.Module,
    feature_weight: float,
) -> tuple[Latents, optax.OptState]:
    """Adam on latents `[b, …]`, a step for each learning rate; w is in units of `scale`."""

    def loss(latents: Latents) -> Array:
        drawn = draw_latents(params, scaled(latents, scale), words, generator=generator)
        total = distances(drawn, pictures, feature_weight).sum()
        for x in (latents.w, latents.sentence, latents.tokens):
            if x is not None:  # the mean over the offsets of a picture, the sum over pictures
                total = total + offset_weight * len(x) * jnp.mean(x**2)
        return total

    def step(
        state: tuple[Latents, optax.OptState], lr: Array
    ) -> tuple[tuple[Latents, optax.OptState], None]:
        latents, adam = state
        updates, adam = ADAM.update(jax.grad(loss)(latents), adam)
        updates = jax.tree.map(lambda x: -lr * x, updates)
        return (optax.apply_updates(latents, updates), adam), None

    return jax.lax.scan(step, state, lrs)[0]


def invert(
    params: Any,
    pictures: Array,
    words: TextFeatures | None,
    noises: Array,
    *,
    generator: nn.Module,
    w_dim: int,
    free_text: bool,
    search: Search,
    advance: Any = None,
) -> tuple[Latents, Array]:
    """Looks for latents that draw pictures with their text.

    Args:
      params: of the generator.
      pictures: `[b, h, w, c]` float in [-1, 1].
      words: text features `[b, …]`; None for an unconditional generator.
      noises: `[k, z]`, the candidates.
      generator: the module.
      w_dim: size of w.
      free_text: whether the text is sought too, around that of `words`.
      search: how hard.
      advance: called with the number of pictures `rounds` times; None: nothing is.

    Returns:
      Latents `[b, …]`, and their `root_mean_square` `[b]`.
    """
    b, starts = len(pictures), search.starts
    options = {"generator": generator}
    scale = w_scale(params, words, z_dim=noises.shape[-1], **options)
    z = nearest_noises(params, pictures, words, noises, starts=starts, **options)
    many, many_words, many_scale = jax.tree.map(
        lambda x: x if len(x) < b else jnp.repeat(x, starts, axis=0), (pictures, words, scale)
    )
    z = z.reshape(b * starts, -1)
    latents = start_latents(generator, z, w_dim, many_words, free_text=free_text)
    state = latents, ADAM.init(latents)
    lrs = optax.cosine_decay_schedule(search.lr, search.steps)(np.arange(search.steps))
    # steps that fill up the last round have learning rate 0
    lrs = np.pad(np.asarray(lrs), (0, -search.steps % STEPS_AT_ONCE)).reshape(-1, STEPS_AT_ONCE)
    for part in lrs.astype(np.float32):
        state = _improve(
            *(params, many_scale, many, many_words, state, part, np.float32(search.offset_weight)),
            feature_weight=search.feature_weight,
            **options,
        )
        if advance is not None:
            jax.block_until_ready(state)
            advance(b)
    latents = scaled(state[0], many_scale)
    far = distances(draw_latents(params, latents, many_words, **options), many)
    best = jnp.arange(b) * starts + far.reshape(b, starts).argmin(axis=1)
    latents = jax.tree.map(lambda x: x[best], latents)
    drawn = draw_latents(params, latents, words, **options)
    return latents, root_mean_square(drawn, pictures)
