"""The inpainter: holes, composed pictures, and what it takes over from a trained R3GAN."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.models import build_models, holes
from flaxgan.models.given_pictures import inpaints, with_picture, with_real_pictures
from flaxgan.models.inpainter import FAMILY
from flaxgan.saving.generator_file import named_leaves
from flaxgan.text.conditioning import Text
from tests.models.test_models import random_params

SIDE = 16
CONFIG = Config(
    data=DataConfig(resolution=SIDE),
    text=TextConfig(encoder="bytes", max_tokens=8, dim=16, depth=1),
    model=ModelConfig(
        family="inpainter", z_dim=3, g_channels=4, d_channels=4, w_dim=8, embed_dim=5
    ),
)
R3GAN = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, family="r3gan"))
Z = np.random.default_rng(3).normal(size=(2, 3)).astype(np.float32)
TEXT = Text(tokens=np.arange(1, 17, dtype=np.int32).reshape(2, 8), mask=np.ones((2, 8), bool))
HOLE = np.zeros((2, SIDE, SIDE, 1), np.float32)
HOLE[0, 3:9, 2:12] = HOLE[1, :, 7:] = 1.0


def pictures(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)


def given(hole=HOLE, seed=0):
    """Text with pictures that have holes, written out."""
    rows = np.where(hole > 0, np.float32(0), pictures(seed))
    return TEXT.replace(picture=np.concatenate([rows, hole], axis=-1))


@pytest.fixture(scope="module")
def networks():
    """Modules, and random parameters (layers that start at 0 hide much)."""
    generator, discriminator = build_models(CONFIG)
    return (
        generator,
        random_params(generator.init, Z, given()),
        discriminator,
        random_params(discriminator.init, pictures(), given(), method="score"),
    )


@pytest.fixture(scope="module")
def kinds():
    """Kind of hole -> 64 of them, `[64, 32, 32]` bool."""
    keys = jax.random.split(jax.random.key(0), 64)
    return {
        make.__name__: np.asarray(jax.jit(jax.vmap(lambda key, make=make: make(key, 32)))(keys))
        for make in holes.KINDS
    }


def is_box(hole):
    return (hole == hole.any(axis=1)[:, None] & hole.any(axis=0)).all() and all(
        (np.diff(np.flatnonzero(hole.any(axis=axis))) == 1).all() for axis in (0, 1)
    )


def test_strokes_are_all_within_reach_of_a_segment():
    """The distance to a segment is the least of those to many points on it."""
    start, end = np.array([[0.2, 0.3], [0.9, 0.1]]), np.array([[0.7, 0.4], [0.9, 0.1]])
    found = holes.distance_to_segments(jnp.asarray(start), jnp.asarray(end), 8)
    t = np.linspace(0, 1, 2001)[:, None, None]
    points = start + t * (end - start)  # [2001, 2, 2]
    place = (np.arange(8) + 0.5) / 8
    for s in range(2):
        for i in range(8):
            for j in range(8):
                wanted = np.hypot(*(points[:, s] - [place[i], place[j]]).T).min()
                assert float(found[s, i, j]) == pytest.approx(wanted, abs=1e-3)


def test_every_kind_of_hole_has_its_form(kinds):
    assert all(rows.any(axis=(1, 2)).all() for rows in kinds.values())
    one_box = [is_box(hole) for hole in kinds["boxes"]]
    assert 0.3 < np.mean(one_box) < 0.9  # the others are two
    assert all(is_box(~hole) for hole in kinds["surroundings"])
    for hole in kinds["halves"]:
        assert is_box(hole)
        assert is_box(~hole)
        assert hole.any(axis=0).all() | hole.any(axis=1).all()
    corners = {tuple(hole[[0, 0, -1, -1], [0, -1, 0, -1]]) for hole in kinds["halves"]}
    assert len(corners) == 4  # above, below, left, right
    sizes = kinds["strokes"].mean(axis=(1, 2))
    assert 0.01 < sizes.min() < sizes.mean() < sizes.max() < 0.8
    assert not any(is_box(hole) for hole in kinds["strokes"])


def test_holes_are_mixed_by_their_shares_and_each_by_its_own_key():
    keys = jax.random.split(jax.random.key(1), 256)
    make = jax.jit(holes.random_holes, static_argnums=1)
    found = np.asarray(make(keys, 32))
    assert (found.shape, found.dtype) == ((256, 32, 32, 1), np.float32)
    assert set(np.unique(found)) == {0.0, 1.0}
    np.testing.assert_array_equal(found[5:9], make(keys[5:9], 32))
    around = np.mean([is_box(hole[..., 0] == 0) and hole[0].any() for hole in found])
    assert around == pytest.approx(0.15 + 0.15 * 3 / 4, abs=0.1)  # surroundings, most halves
    assert sum(holes.SHARES) == pytest.approx(1.0)


def test_pictures_lose_what_is_in_their_holes(networks):
    images, keys = jnp.asarray(pictures()), jax.random.split(jax.random.key(0), 2)
    assert inpaints(networks[0])
    for some in (keys, None):
        found = with_picture(networks[0], TEXT, images, some)
        hole = np.asarray(holes.random_holes(keys, SIDE))  # without keys those of seed 0
        wanted = np.where(hole > 0, np.float32(0), images)
        np.testing.assert_array_equal(found.picture, np.concatenate([wanted, hole], axis=-1))
        assert found.tokens is TEXT.tokens
    as_bytes = np.arange(2 * SIDE * SIDE * 3, dtype=np.uint8).reshape(2, SIDE, SIDE, 3)
    found = with_real_pictures(networks[0], None, [as_bytes]).picture
    np.testing.assert_allclose(found[..., :3], (1 - hole) * (as_bytes / 127.5 - 1), atol=1e-6)


def test_outside_the_hole_the_picture_is_the_same_to_the_bit(networks):
    generator, params, *_ = networks
    drawn = np.asarray(generator.apply({"params": params}, Z, given()))
    outside = np.broadcast_to(HOLE == 0, drawn.shape)
    np.testing.assert_array_equal(drawn[outside], pictures()[outside])
    assert np.abs(drawn - pictures())[~outside].min() > 0
    # what was in the hole is not known to it; what is around it, noise and text matter
    for text, z in ((given(seed=1), Z), (given(), Z[::-1])):
        other = np.asarray(generator.apply({"params": params}, z, text))
        assert np.abs(other - drawn)[~outside].max() > 1e-3
    other = TEXT.replace(tokens=TEXT.tokens + 1, picture=given().picture)
    other = np.asarray(generator.apply({"params": params}, Z, other))
    assert np.abs(other - drawn)[~outside].max() > 1e-3


def test_d_sees_where_the_hole_was(networks):
    _, _, discriminator, params = networks

    def judge(text):
        return discriminator.apply({"params": params}, pictures(), text, method="score")

    assert np.abs(judge(given()) - judge(given(HOLE[::-1]))).min() > 1e-4
    # and nothing else of what G was given
    np.testing.assert_array_equal(judge(given()), judge(given(seed=4)))


def test_it_starts_as_the_r3gan_that_it_is_made_from(networks):
    generator, new_g, discriminator, new_d = networks
    new_g = generator.init(jax.random.key(0), Z, given())["params"]  # zeros where it begins so
    old_generator, old_judge = build_models(R3GAN)
    g_params = random_params(old_generator.init, Z, TEXT)
    d_params = random_params(old_judge.init, pictures(), TEXT, method="score")
    adopted = []
    for new, old in ((new_g, g_params), (new_d, d_params)):
        tensors = FAMILY.adopt["r3gan"](named_leaves(old), R3GAN, CONFIG)
        leaves = named_leaves(new)
        assert all(leaves[name].shape == tensor.shape for name, tensor in tensors.items())
        values = [tensors.get(name, leaf) for name, leaf in leaves.items()]
        adopted.append(jax.tree.unflatten(jax.tree.structure(new), values))
    drawn = generator.apply({"params": adopted[0]}, Z, given())
    wanted = old_generator.apply({"params": g_params}, Z, TEXT)
    wanted = np.where(HOLE > 0, wanted, pictures())
    np.testing.assert_allclose(drawn, wanted, rtol=1e-4, atol=1e-5)
    logits = discriminator.apply({"params": adopted[1]}, pictures(), given(), method="score")
    wanted = old_judge.apply({"params": d_params}, pictures(), TEXT, method="score")
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
