"""Text features in place of text, w in place of z, and truncation, in every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.models.latents import NOISES, draw_truncated, generator_text
from tests.models.test_models import case_of, jit

WITH_W = ("r3gan16-words", "gat8-words")
FAMILIES = (*WITH_W, "dfgan32-words", "mlp28-text", "mlp28-bytes")


@pytest.mark.parametrize("name", FAMILIES)
def test_features_draw_what_their_text_draws(name):
    _, generator, _, params, _, z, _, text = case_of(name)
    plain = jit(lambda p: generator.apply({"params": p}, z, text))(params)
    features = jit(lambda p: generator_text(generator, p, text))(params)
    drawn = jit(lambda p, f: generator.apply({"params": p}, z, f))(params, features)
    np.testing.assert_allclose(drawn, plain, rtol=1e-5, atol=1e-5)
    if features.mask is not None:  # weights of 0 and 1 are a mask
        weighted = features.replace(mask=features.mask.astype(jnp.float32))
        drawn = jit(lambda p, f: generator.apply({"params": p}, z, f))(params, weighted)
        np.testing.assert_allclose(drawn, plain, rtol=1e-5, atol=1e-5)


def mean_w(name, params, z, sentence):
    """Of each row's sentence, in NumPy."""
    noises = np.asarray(jax.random.normal(jax.random.key(0), (NOISES, z.shape[-1])))

    def layer(x, part):
        return x @ part["kernel"] + part["bias"]

    def unit(x):
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True))

    def to_w(noise, sentence):
        m = params["mapping"]
        if name.startswith("r3gan"):
            x = np.concatenate([unit(noise), sentence])
            for part in (m["dense0"], m["dense1"]):
                x = layer(x, part)
                x = np.where(x > 0, x, 0.2 * x)
            return x
        x = np.concatenate([unit(noise), unit(sentence)])
        for part in (m["hidden"], m["w"]):
            x = layer(x, part)
            x = x / (1 + np.exp(-x))
        return x

    rows = [np.mean([to_w(noise, s) for noise in noises], axis=0) for s in np.asarray(sentence)]
    own = [to_w(*pair) for pair in zip(z, np.asarray(sentence), strict=True)]
    return np.stack(rows), np.stack(own)


@pytest.mark.parametrize("name", WITH_W)
def test_w_is_drawn_to_its_mean_over_noises_of_this_text(name):
    _, generator, _, params, _, z, _, text = case_of(name)
    features = jit(lambda p: generator_text(generator, p, text))(params)
    mean, own = mean_w(name, params, z, features.sentence)
    apply = jit(lambda p, w: generator.apply({"params": p}, z, text, w))
    draw = jit(lambda p, psi: draw_truncated(generator, p, z, text, psi))
    np.testing.assert_allclose(
        jit(lambda p: generator.apply({"params": p}, z, text, method="to_w"))(params),
        own,
        rtol=1e-4,
        atol=1e-4,
    )
    for psi in (0.0, 0.3, 1.0):
        wanted = apply(params, (mean + psi * (own - mean)).astype(np.float32))
        np.testing.assert_allclose(draw(params, psi), wanted, rtol=1e-3, atol=1e-3)
    assert np.abs(draw(params, 0.3) - draw(params, 1.0)).max() > 1e-2


@pytest.mark.parametrize("name", FAMILIES)
def test_one_changes_nothing_and_at_zero_all_noises_draw_one_picture(name):
    _, generator, _, params, _, z, _, text = case_of(name)
    same = jax.tree.map(lambda x: np.repeat(x[:1], len(z), axis=0), text)
    draw = jit(lambda p, text, psi: draw_truncated(generator, p, z, text, psi))
    plain = jit(lambda p: generator.apply({"params": p}, z, same))(params)
    assert np.abs(plain[1:] - plain[0]).max() > 1e-3  # noise matters
    np.testing.assert_allclose(draw(params, same, 1.0), plain, rtol=1e-4, atol=1e-4)
    one = draw(params, same, 0.0)
    np.testing.assert_allclose(one[1:], one[:-1], rtol=1e-6, atol=1e-6)


def test_without_w_the_noise_is_scaled():
    _, generator, _, params, _, z, _, text = case_of("mlp28-text")
    found = draw_truncated(generator, params, z, text, 0.5)
    np.testing.assert_allclose(found, generator.apply({"params": params}, z / 2, text), atol=1e-6)


def test_without_text():
    _, generator, _, params, _, z, _, text = case_of("gat8-unconditional")
    assert text is None
    draw = jit(lambda p, psi: draw_truncated(generator, p, z, None, psi))
    plain = jit(lambda p: generator.apply({"params": p}, z, None))(params)
    np.testing.assert_allclose(draw(params, 1.0), plain, rtol=1e-4, atol=1e-4)
    one = draw(params, 0.0)
    np.testing.assert_allclose(one[1:], one[:-1], atol=1e-6)


@pytest.mark.parametrize("name", WITH_W)
def test_each_stage_may_have_its_own_w(name):
    _, generator, _, params, _, z, _, text = case_of(name)
    draw = jit(lambda p, w: generator.apply({"params": p}, z, text, w))
    w = generator.apply({"params": params}, z, text, method="to_w")
    stages = generator.w_stages()
    same = jnp.repeat(w[:, None], stages, axis=1)
    plain = draw(params, w)
    np.testing.assert_allclose(draw(params, same), plain, rtol=1e-5, atol=1e-5)
    for stage in range(stages):
        assert (draw(params, same.at[:, stage].add(1.0)) != plain).any(), stage
