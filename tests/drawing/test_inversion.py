"""Pictures that a generator drew are found again; what is found draws as the generator does."""

import dataclasses

import jax
import numpy as np
import pytest

from flaxgan.drawing.drawer import noise
from flaxgan.drawing.inversion import (
    Latents,
    Search,
    distances,
    draw_latents,
    rounds,
    scaled,
    spherical,
    start_latents,
    w_scale,
)
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.models.latents import NOISES
from tests.drawing.conftest import SIDE, write_tiny

PROMPT = "a man"
SEARCH = Search(candidates=8, starts=2, steps=150, lr=0.1, offset_weight=0.0)
SHORT = dataclasses.replace(SEARCH, steps=20)
START = dataclasses.replace(SEARCH, steps=1, lr=0.0)


@pytest.fixture(scope="module")
def tiny(tiny):
    """Its pictures are within black and white, where nothing is cut off."""
    params = {**tiny.params, "to_image": jax.tree.map(lambda x: 0.3 * x, tiny.params["to_image"])}
    return dataclasses.replace(tiny, params=params)


@pytest.fixture(scope="module")
def words(tiny):
    return tiny.text_features(tiny.encode([PROMPT] * 2))


@pytest.fixture(scope="module")
def drawn(tiny):
    return tiny([PROMPT] * 2, num=2, seed=7)[0]


@pytest.fixture(scope="module")
def found(tiny, drawn):
    return tiny.invert(drawn, PROMPT, search=SEARCH)


def test_distances_are_those_of_numpy():
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 8, 3)).astype(np.float32)
    expected = 0.0
    for size in (1, 2, 4):
        means = [x.reshape(3, 8 // size, size, 8 // size, size, 3).mean((2, 4)) for x in (a, b)]
        expected = expected + ((means[0] - means[1]) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(distances(a, b), expected, rtol=1e-5)


def test_latents_without_offsets_draw_what_noise_does(tiny, words):
    z = np.asarray(noise(np.arange(2), 6))
    latents = start_latents(tiny.generator, z, 8, words, free_text=True)
    assert latents.w.shape == (2, 4, 8)  # the start, two maps, the output
    assert latents.tokens.shape == words.tokens.shape
    images = draw_latents(tiny.params, latents, words, generator=tiny.generator)
    expected = tiny.generator.apply({"params": tiny.params}, z, words)
    np.testing.assert_allclose(images, expected, atol=1e-4)


def test_an_offset_is_added_to_the_w_of_its_stage(tiny, words):
    z = np.asarray(spherical(noise(np.arange(2), 6)))
    w = tiny.generator.apply({"params": tiny.params}, z, words, method="to_w")
    offsets = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    latents = Latents(z, w=offsets)
    images = draw_latents(tiny.params, latents, words, generator=tiny.generator)
    each = np.asarray(w)[:, None] + offsets
    expected = tiny.generator.apply({"params": tiny.params}, z, words, each)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    same = np.repeat(np.asarray(w)[:, None], 4, axis=1)
    one = tiny.generator.apply({"params": tiny.params}, z, words, w)
    np.testing.assert_array_equal(
        one, tiny.generator.apply({"params": tiny.params}, z, words, same)
    )


def test_offsets_are_counted_in_deviations_of_w_with_each_text(tiny):
    words = tiny.text_features(tiny.encode([PROMPT, "a woman with a hat"]))
    scale = w_scale(tiny.params, words, generator=tiny.generator, z_dim=6)
    z = np.asarray(jax.random.normal(jax.random.key(0), (NOISES, 6)))
    for row in range(2):
        one = jax.tree.map(lambda x: np.repeat(x[row : row + 1], NOISES, axis=0), words)  # noqa: B023
        w = tiny.generator.apply({"params": tiny.params}, z, one, method="to_w")
        np.testing.assert_allclose(scale[row], np.std(w, axis=0), rtol=1e-3, atol=1e-5)
    latents = scaled(Latents(z[:2], w=np.ones((2, 4, 8), np.float32)), scale)
    np.testing.assert_allclose(latents.w, np.repeat(scale[:, None], 4, axis=1))


def test_drawn_pictures_are_found_again(tiny, drawn, found):
    nearest = tiny.invert(drawn, PROMPT, search=START)
    assert (found.distance < 0.3 * nearest.distance).all()
    assert found.distance.max() < 0.01
    images = tiny.edit(found, PROMPT, PROMPT, residual=0.0)[:, 0]
    away = np.sqrt((((images.astype(float) - drawn) / 255.0) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(away, found.distance, atol=2e-3)  # rounded to whole levels


def test_the_second_caption_draws_what_the_same_noise_does(tiny, drawn):
    """Offsets that are drawn to zero leave the words their effect."""
    other = tiny(["a hat"] * 2, num=2, seed=7)[0]
    found = tiny.invert(drawn, PROMPT, search=dataclasses.replace(SEARCH, offset_weight=0.01))
    edited = tiny.edit(found, PROMPT, "a hat", residual=0.0, emphasis=1.0)[:, 0]
    far, before = (np.abs(x.astype(float) - other).mean() for x in (edited, drawn))
    assert far < 0.5 * before


def test_pictures_without_a_caption_are_found_by_their_text_too(tiny, drawn):
    held = dataclasses.replace(SHORT, offset_weight=1e4)
    without, found = (tiny.invert(drawn, search=search) for search in (held, SHORT))
    assert (found.distance < without.distance).all()
    assert np.abs(found.latents.sentence).max() > 10 * np.abs(without.latents.sentence).max()


def test_the_same_seed_finds_the_same(tiny, drawn):
    counted = []
    a, b, other = (
        tiny.invert(drawn, PROMPT, search=SHORT, seed=seed, advance=counted.append)
        for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, a.latents, b.latents)
    assert (a.latents.z != other.latents.z).any()
    assert sum(counted) == 3 * len(drawn) * rounds(SHORT)
    assert rounds(START) == 1


def test_pictures_of_any_size(tiny):
    sizes = [np.full(shape, 200, np.uint8) for shape in ((40, 20, 3), (9, 9), (SIDE, SIDE, 1))]
    np.testing.assert_array_equal(tiny.as_pictures(sizes), np.full((3, SIDE, SIDE, 3), 200))
    with pytest.raises(UserError, match="no picture"):
        tiny.as_pictures([])
    with pytest.raises(UserError, match="pictures must be uint8"):
        tiny.as_pictures([np.zeros((4, 4, 3))])


def test_a_family_without_w(tmp_path):
    path = write_tiny(tmp_path, family="dfgan", discriminator=False, side=32, g_channels=1)
    sampler = load_sampler(path)
    drawn = sampler(PROMPT, num=1, seed=3)
    near, found = (sampler.invert(drawn, PROMPT, search=search) for search in (START, SHORT))
    assert found.distance < near.distance
    assert found.latents.w is None


def test_a_generator_with_noise_only(tmp_path):
    path = write_tiny(tmp_path, family="mlp", discriminator=False, encoder="none")
    with pytest.raises(UserError, match="has nothing but noise"):
        load_sampler(path).invert(np.zeros((1, SIDE, SIDE, 3), np.uint8))
