"""The upsampler: small pictures made from real ones, and the networks that enlarge them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.models import build_models, low_pictures
from flaxgan.models.given_pictures import with_picture, with_real_pictures
from flaxgan.models.low_pictures import area_reduce, degrade
from flaxgan.models.upsampler import UNIT, enlarge
from flaxgan.text.conditioning import Text

CONFIG = Config(
    data=DataConfig(resolution=32),
    text=TextConfig(encoder="bytes", max_tokens=8, dim=16, depth=1),
    model=ModelConfig(
        family="upsampler", z_dim=3, g_channels=4, d_channels=4, w_dim=8, output="linear"
    ),
)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def patch_of(config, **model):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model))


@pytest.fixture(scope="module")
def networks():
    """Modules that enlarge four times, and random parameters (layers that start at 0 hide much)."""
    generator, discriminator = build_models(patch_of(CONFIG, patch=4))
    text = words(2).replace(picture=pictures(2, 8, 8, 3))
    rng = np.random.default_rng(1)

    def random(init, *args, **options):
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **options))["params"]
        return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)

    z, images = np.zeros((2, 3), np.float32), pictures(2, 32, 32, 3)
    return (
        generator,
        random(generator.init, z, text),
        discriminator,
        random(discriminator.init, images, text, method="score"),
    )


def words(rows):
    tokens = np.arange(1, 8 * rows + 1, dtype=np.int32).reshape(rows, 8)
    return Text(tokens=tokens, mask=np.ones((rows, 8), bool))


@pytest.mark.parametrize("times", [2, 4])
def test_small_pictures_are_means_of_blocks(times):
    images = pictures(2, 4 * times, 8 * times, 3)
    wanted = np.zeros((2, 4, 8, 3))
    for i in range(4):
        for j in range(8):
            block = images[:, times * i : times * (i + 1), times * j : times * (j + 1)]
            wanted[:, i, j] = block.astype(np.float64).mean(axis=(1, 2))
    found = area_reduce(jnp.asarray(images), times)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    for image, small in zip(images, np.asarray(found), strict=True):
        for c in range(3):
            channel = Image.fromarray(image[..., c], "F").resize((8, 4), Image.Resampling.BOX)
            np.testing.assert_allclose(small[..., c], np.asarray(channel), atol=1e-6)


def test_enlarging_is_linear_between_the_centres_of_pixels():
    small = pictures(1, 5, 7, 1)
    found = np.asarray(enlarge(jnp.asarray(small), 4))[0, :, :, 0]

    def at(n, size):
        place = np.clip((n + 0.5) / 4 - 0.5, 0, size - 1)
        low = min(int(place), size - 2)
        return low, place - low

    for y in range(20):
        for x in range(28):
            (i, a), (j, b) = at(y, 5), at(x, 7)
            p = small[0, :, :, 0]
            wanted = (1 - a) * ((1 - b) * p[i, j] + b * p[i, j + 1])
            wanted += a * ((1 - b) * p[i + 1, j] + b * p[i + 1, j + 1])
            assert found[y, x] == pytest.approx(wanted, abs=1e-5)


def test_it_starts_from_linear_interpolation():
    generator, _ = build_models(patch_of(CONFIG, patch=4))
    text = words(1).replace(picture=pictures(1, 8, 8, 3))
    z = np.ones((1, 3), np.float32)
    images, _ = jax.jit(generator.init_with_output)(jax.random.key(0), z, text)
    np.testing.assert_allclose(images, enlarge(text.picture, 4), atol=1e-6)


def test_faults_depend_on_the_key_alone_and_a_share_has_none():
    small = np.tile(0.5 * pictures(1, 8, 8, 3), (400, 1, 1, 1))
    keys = jax.random.split(jax.random.key(0), 400)
    made = np.asarray(jax.jit(degrade)(small, keys))
    assert made.shape == small.shape
    assert np.abs(made).max() <= 1.0
    some = np.asarray(degrade(jnp.asarray(small[:3]), keys[np.array([7, 2, 9])]))
    np.testing.assert_allclose(some, made[[7, 2, 9]], atol=1e-6)
    clean = (made == small).all(axis=(1, 2, 3))
    assert clean.mean() == pytest.approx(low_pictures.CLEAN, abs=0.1)
    assert np.abs(made - small)[~clean].max() > 0.2
    # on the whole a picture stays what it is
    assert np.abs(made.mean(axis=0) - small[0]).mean() < 0.1


def test_a_flat_picture_has_no_edges_that_could_be_blurred_or_frayed(monkeypatch):
    for name in ("NOISE", "BLOTCHES", "GRAIN", "COLOR", "CLEAN"):
        monkeypatch.setattr(low_pictures, name, 0.0)
    small = np.full((5, 8, 8, 3), 0.3, np.float32)
    keys = jax.random.split(jax.random.key(0), 5)
    np.testing.assert_allclose(degrade(jnp.asarray(small), keys), small, atol=1e-6)


def test_only_a_generator_that_enlarges_gets_a_picture(networks):
    images = pictures(2, 32, 32, 3)
    other, _ = build_models(
        Config(
            data=DataConfig(resolution=32),
            text=TextConfig(encoder="none"),
            model=ModelConfig(family="mlp", z_dim=3),
        )
    )
    assert with_picture(other, None, images) is None
    assert with_real_pictures(other, None, [images]) is None
    text = words(2)
    assert with_picture(other, text, images) is text
    found = with_picture(networks[0], text, jnp.asarray(images))
    np.testing.assert_allclose(found.picture, area_reduce(jnp.asarray(images), 4), atol=1e-6)
    assert found.tokens is text.tokens
    as_bytes = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
    found = with_real_pictures(networks[0], None, [as_bytes[:1], as_bytes[1:]])
    means = as_bytes.reshape(2, 8, 4, 8, 4, 3).mean(axis=(2, 4)) / 127.5 - 1
    np.testing.assert_allclose(found.picture, means, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1), (12, 4)])
def test_pictures_of_any_size(networks, size):
    generator, params, *_ = networks
    h, w = size
    small = pictures(1, h, w, 3)
    text = words(1).replace(picture=small)
    z = np.zeros((1, 3), np.float32)
    draw = functools.partial(generator.apply, {"params": params})
    images = draw(z, text)
    assert images.shape == (1, 4 * h, 4 * w, 3)
    # as the upper left part of a picture whose last rows and columns are repeated
    full = np.pad(small, [(0, 0), (0, -h % UNIT), (0, -w % UNIT), (0, 0)], mode="edge")
    whole = draw(z, text.replace(picture=full))
    np.testing.assert_allclose(images, whole[:, : 4 * h, : 4 * w], atol=1e-6)


def test_both_networks_see_the_small_picture(networks):
    generator, g_params, discriminator, d_params = networks
    z, images = np.zeros((2, 3), np.float32), pictures(2, 32, 32, 3)
    text = words(2).replace(picture=pictures(2, 8, 8, 3))
    other = text.replace(picture=pictures(2, 8, 8, 3, seed=3))

    def judge(text):
        return discriminator.apply({"params": d_params}, images, text, method="score")

    assert np.abs(judge(text) - judge(other)).min() > 1e-4
    drawn = [generator.apply({"params": g_params}, z, t) for t in (text, other)]
    rest = [x - enlarge(t.picture, 4) for x, t in zip(drawn, (text, other), strict=True)]
    assert np.abs(rest[0] - rest[1]).max() > 1e-3
