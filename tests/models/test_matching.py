import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.models.matching import JointEmbedding, TokenMatch
from flaxgan.text.conditioning import TextFeatures

BATCH, TOKENS = 3, 5

# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_params(module, *args, **method):
    """Random everywhere: also what starts at zero is put to the test."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **method))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)


def embed(module, image, text):
    return module.of_image(image), module.of_text(text)


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + params["bias"]


@pytest.mark.parametrize(
    ("log_scale", "scale"), [(np.log(7.0), 7.0), (np.log(99.0), 99.0), (9.0, 100.0)]
)
def test_products_are_scaled_cosines(log_scale, scale):
    image, text = draw(BATCH, 6), TextFeatures(sentence=draw(BATCH, 4, seed=2))
    module = JointEmbedding(3)
    params = random_params(module, image, text, method=embed)
    params |= {"log_scale": np.float32(log_scale)}
    apply = jit(functools.partial(module.apply, method=embed))
    image_emb, text_emb = apply({"params": params}, image, text)
    v, t = dense(params["image"], image), dense(params["text"], text.sentence)
    cosines = (v / np.linalg.norm(v, axis=1, keepdims=True)) @ (
        t / np.linalg.norm(t, axis=1, keepdims=True)
    ).T
    np.testing.assert_allclose(image_emb @ text_emb.T, scale * cosines, rtol=1e-4, atol=1e-4)
    for emb in (image_emb, text_emb):  # the root of the scale is in each
        np.testing.assert_allclose(np.linalg.norm(emb, axis=1), scale**0.5, rtol=1e-4)


def test_scale_starts_at_ten_and_learns_until_its_bound():
    image, text = draw(BATCH, 6), TextFeatures(sentence=draw(BATCH, 4, seed=2))
    module = JointEmbedding(3)
    params = module.init(jax.random.key(0), image, text, method=embed)["params"]
    assert float(params["log_scale"]) == pytest.approx(np.log(10.0))

    def total(log_scale):
        image_emb, text_emb = module.apply(
            {"params": params | {"log_scale": log_scale}}, image, text, method=embed
        )
        return jnp.sum(image_emb * text_emb)

    gradient = jit(jax.grad(total))
    assert np.abs(gradient(jnp.float32(2.0))) > 1e-3
    assert gradient(jnp.float32(5.0)) == 0


def test_embeddings_are_float32_and_zero_vectors_stay_finite():
    module = JointEmbedding(3, dtype=jnp.bfloat16)
    image, text = np.zeros((BATCH, 6), np.float32), TextFeatures(sentence=draw(BATCH, 4))
    params = module.init(jax.random.key(0), image, text, method=embed)

    def total(image):
        image_emb, text_emb = module.apply(params, image, text, method=embed)
        assert image_emb.dtype == text_emb.dtype == jnp.float32
        return jnp.sum(image_emb * text_emb)

    assert np.isfinite(jit(jax.grad(total))(image)).all()


@pytest.fixture(scope="module")
def problem():
    places = draw(BATCH, 2, 3, 4)
    mask = np.arange(TOKENS) < np.array([[2], [4], [5]])
    text = TextFeatures(sentence=draw(BATCH, 7), tokens=draw(BATCH, TOKENS, 6, seed=2), mask=mask)
    module = TokenMatch(dim=8)
    params = random_params(module, places, text)
    return params, jit(functools.partial(module.apply, {"params": params})), places, text


def numpy_match(params, places, text):
    """One caption and word at a time, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    out = np.zeros(len(places))
    for b, x in enumerate(places.reshape(len(places), -1, places.shape[-1])):
        keys, values = dense(p["key"], x + p["position"]), dense(p["value"], x)
        words = []
        for token in text.tokens[b, text.mask[b]]:
            scores = keys @ dense(p["query"], token) / np.sqrt(8)
            weights = np.exp(scores - scores.max())
            found = weights @ values / weights.sum()
            words.append(found @ dense(p["wanted"], token) / np.sqrt(8))
        out[b] = np.mean(words)
    return out


def test_match_against_numpy(problem):
    params, match, places, text = problem
    wanted = numpy_match(params, places, text)
    out = match(places, text)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
    assert np.ptp(wanted) > 0.1


def test_padding_never_matters(problem):
    _, match, places, text = problem
    before = match(places, text)
    keep = text.mask[..., None]
    noise = draw(*text.tokens.shape, seed=3)
    for other in (np.float32(0), np.float32(1e4), noise):
        poisoned = text.replace(tokens=np.where(keep, text.tokens, other))
        np.testing.assert_array_equal(match(places, poisoned), before)
    changed = match(places, text.replace(tokens=np.where(keep, noise, text.tokens)))
    assert (np.abs(changed - before) > 1e-2).all()


def test_no_token_at_all_gives_zero_and_finite_gradients(problem):
    params, _, places, text = problem
    text = text.replace(mask=np.zeros_like(text.mask))

    def total(params, tokens):
        out = TokenMatch(dim=8).apply({"params": params}, places, text.replace(tokens=tokens))
        return out.sum(), out

    gradients, out = jit(jax.grad(total, (0, 1), has_aux=True))(params, text.tokens)
    np.testing.assert_array_equal(out, 0)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_what_goes_with_what_matters(problem):
    """Words are a set: their order says nothing, but what stands in one word together does."""
    _, match, places, text = problem
    before = match(places, text)
    turned = text.replace(tokens=text.tokens[:, ::-1], mask=text.mask[:, ::-1])
    np.testing.assert_allclose(match(places, turned), before, rtol=1e-4, atol=1e-5)

    # two words swap a half of their vectors: the same numbers, tied in another way
    tokens = text.tokens.copy()
    tokens[:, 0, :3], tokens[:, 1, :3] = text.tokens[:, 1, :3], text.tokens[:, 0, :3]
    assert (np.abs(match(places, text.replace(tokens=tokens)) - before) > 1e-3).all()

    # captions of other images, and the same pieces of an image at other places
    others = jax.tree.map(lambda x: np.roll(x, 1, axis=0), text)
    assert (np.abs(match(places, others) - before) > 1e-3).all()
    assert (np.abs(match(places[:, ::-1], text) - before) > 1e-3).all()
