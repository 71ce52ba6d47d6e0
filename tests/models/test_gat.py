import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.losses import gradient_penalty
from flaxgan.models.gat import Discriminator, Generator, image_heads
from flaxgan.text.conditioning import Text, TextFeatures

BATCH, SIDE, TOKENS = 3, 8, 5

# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class WordEncoder(nn.Module):
    """Vectors of words that do not know their places."""

    @nn.compact
    def features(self, text):
        tokens = nn.Embed(20, 6, name="embed")(text.tokens)
        return TextFeatures(sentence=tokens.mean(axis=1), tokens=tokens, mask=text.mask)


TABLE = {
    "unconditional-grey-linear": {"text": None, "channels": 1, "output": "linear"},
    "sentence": {"text": "sentence", "depth": 2},
    "tokens": {"text": "tokens", "depth": 2},
}


def text_of(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind is None:
        return None
    if kind == "sentence":
        return Text(sentence_emb=rng.normal(size=(BATCH, 10)).astype(np.float32))
    mask = np.arange(TOKENS) < np.array([[2], [4], [5]])
    return Text(tokens=rng.integers(0, 20, (BATCH, TOKENS), dtype=np.int32), mask=mask)


def inputs_of(row):
    rng = np.random.default_rng(2)
    z = rng.normal(size=(BATCH, 6)).astype(np.float32)
    images = rng.uniform(-1, 1, (BATCH, SIDE, SIDE, row.get("channels", 3))).astype(np.float32)
    return z, images, text_of(row["text"])


def build(text, channels=3, output="tanh", depth=1, dtype=jnp.float32):
    common = {
        "resolution": SIDE,
        "channels": channels,
        "width": 16,
        "depth": depth,
        "patch": 4,
        "dtype": dtype,
    }
    encoders = [WordEncoder() if text == "tokens" else None for _ in range(2)]
    return (
        Generator(text_encoder=encoders[0], output=output, **common),
        Discriminator(text_encoder=encoders[1], embed_dim=8, **common),
    )


def random_params(init, *args, **kwargs):
    """Random everywhere: what starts near zero or at one would hide mistakes."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def everything(module, images, text):
    """Logits, and embeddings where there is text."""
    features, text = module.image_features(images), module.encode_text(text)
    logits = module.logits(features, text)
    if text is None:
        return (logits,)
    return logits, module.embed_image(features), module.embed_text(text)


def with_gradient(run):
    """Outputs of `run(params, inputs, text)`, and the gradient of something that feels them all."""

    def fluctuation(*args):
        outputs = run(*args)
        return sum(jnp.sum(jnp.sin(7 * x)) for x in jax.tree.leaves(outputs)), outputs

    def outputs_and_gradient(*args):
        gradient, outputs = jax.grad(fluctuation, has_aux=True)(*args)
        return outputs, gradient

    return jit(outputs_and_gradient)


def turn(tree):
    """Examples in another order."""
    return jax.tree.map(lambda x: np.concatenate([x[:1], x[:0:-1]]), tree)


@pytest.mark.parametrize(
    "row",
    [
        TABLE["unconditional-grey-linear"],
        TABLE["sentence"],
        pytest.param(TABLE["tokens"], marks=pytest.mark.slow),  # one of test_models.py has words
    ],
    ids=TABLE,
)
def test_table(row):
    generator, discriminator = build(**row)
    z, images, text = inputs_of(row)
    g_params = random_params(generator.init, z, text)
    d_params = random_params(discriminator.init, images, text, method="score")
    draw = with_gradient(lambda p, z, t: generator.apply({"params": p}, z, t))
    judge = with_gradient(
        lambda p, x, t: discriminator.apply({"params": p}, x, t, method=everything)
    )
    (fake, g_gradient), (judged, d_gradient) = (
        draw(g_params, z, text),
        judge(d_params, images, text),
    )

    # shapes, dtypes, ranges
    assert fake.shape == images.shape
    shapes = [x.shape for x in judged]
    assert shapes == [(BATCH,)] + ([] if text is None else [(BATCH, 8)] * 2)
    assert {x.dtype for x in jax.tree.leaves((fake, judged, g_params, d_params))} == {
        jnp.dtype("float32")
    }
    assert (np.abs(fake).max() > 1) == (row.get("output") == "linear")

    # the parts of the discriminator make the whole
    score = jit(lambda x, t: discriminator.apply({"params": d_params}, x, t, method="score"))
    np.testing.assert_allclose(judged[0], score(images, text), rtol=1e-4, atol=1e-5)

    # z and text change the output
    assert np.abs(draw(g_params, z[::-1], text)[0] - fake).max() > 1e-2
    if text is not None:
        other = text_of(row["text"], seed=5)
        assert np.abs(draw(g_params, z, other)[0] - fake).max() > 1e-2
        logits, image_emb, text_emb = judge(d_params, images, other)[0]
        assert np.abs(logits - judged[0]).max() > 1e-3
        assert np.abs(text_emb - judged[2]).max() > 1e-3
        np.testing.assert_array_equal(image_emb, judged[1])

    # example i does not see the others
    for before, after in (
        (fake, draw(g_params, turn(z), turn(text))[0]),
        (judged, judge(d_params, turn(images), turn(text))[0]),
    ):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(turn(x), y, rtol=1e-5, atol=1e-5), before, after
        )

    # every parameter is used
    for path, gradient in jax.tree_util.tree_leaves_with_path((g_gradient, d_gradient)):
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


def test_bfloat16_agrees_with_float32():
    row = {"text": "tokens"}
    z, images, text = inputs_of(row)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        generator, discriminator = build(**row, dtype=dtype)
        g_params = random_params(generator.init, z, text)
        d_params = random_params(discriminator.init, images, text, method="score")
        results.append(
            (
                jit(generator.apply)({"params": g_params}, z, text),
                jit(lambda p, m=discriminator: m.apply(p, images, text, method="score"))(
                    {"params": d_params}
                ),
            )
        )
        assert {x.dtype for x in jax.tree.leaves((g_params, d_params, results))} == {
            jnp.dtype("float32")
        }
    for exact, rounded in zip(*results, strict=True):
        error = np.abs(exact - rounded)
        assert 1e-6 < error.mean() < 0.05


@pytest.fixture(scope="module")
def started():
    """A discriminator's first parameters, and what it makes of flat images with them.

    That is its logits and embeddings, and the gradient of the logits with respect to the images.
    """
    _, discriminator = build("tokens")
    images, text = jnp.zeros((BATCH, SIDE, SIDE, 3)), text_of("tokens")

    @jit
    def start(key):
        params = discriminator.init(key, images, text, method="score")["params"]

        def total(x):
            outputs = discriminator.apply({"params": params}, x, text, method=everything)
            return outputs[0].sum(), outputs

        gradient, outputs = jax.grad(total, has_aux=True)(images)
        return params, outputs, gradient

    # threefry takes three times as long to compile, once for every parameter
    return discriminator, start(jax.random.key(0, impl="rbg"))


def test_every_score_makes_all_parameters_that_embeddings_need(started):
    discriminator, (params, (_, image_emb, text_emb), _) = started
    for emb in (image_emb, text_emb):
        np.testing.assert_allclose(np.sum(np.square(emb), axis=1), 10, rtol=1e-3)
    plain = discriminator.clone(embed_dim=0)
    images, text = jnp.zeros((BATCH, SIDE, SIDE, 3)), text_of("tokens")
    fewer = jax.eval_shape(lambda k: plain.init(k, images, text, method="score"), jax.random.key(0))
    assert set(params) - set(fewer["params"]) == {"embedding"}


def test_r1_equals_double_backward_in_float64():
    with jax.enable_x64(True):
        _, discriminator = build("tokens", dtype=jnp.float64)
        rng = np.random.default_rng(0)
        x, text = jnp.asarray(rng.normal(size=(BATCH, SIDE, SIDE, 3))), text_of("tokens")
        params = jax.tree.map(
            lambda p: jnp.asarray(p, jnp.float64),
            random_params(discriminator.init, x, text, method="score"),
        )

        def score(p, x):
            return discriminator.apply({"params": p}, x, text, method="score")

        def ours(p):
            penalty, logits, _ = gradient_penalty(lambda x: (score(p, x), None), x, gamma=0.7)
            return penalty.sum(), (penalty, logits)

        def reference(p):
            g = jax.grad(lambda x: score(p, x).sum())(x)
            return 0.35 * jnp.sum(g**2), 0.35 * jnp.sum(g**2, axis=(1, 2, 3))

        gradient, (penalty, logits) = jit(jax.grad(ours, has_aux=True))(params)
        wanted, value = jit(jax.grad(reference, has_aux=True))(params)
        assert logits.dtype == jnp.float64
        np.testing.assert_allclose(penalty, value, rtol=1e-10)
        assert np.min(value) > 1e-3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10), gradient, wanted
        )


def test_gradient_on_flat_images_stays_small_at_the_start(started):
    """A normalisation of something that vanishes would blow up what the penalty squares."""
    _, (_, _, gradient) = started
    assert np.abs(gradient).max() < 0.5


def test_first_images_depend_on_z_and_are_neither_flat_nor_saturated():
    generator, _ = build(None, depth=2)
    z = np.random.default_rng(0).normal(size=(BATCH, 6)).astype(np.float32)
    images, _ = jit(generator.init_with_output)(jax.random.key(0, impl="rbg"), z, None)
    assert 0.1 < np.std(images) < 0.7
    assert np.std(images, axis=0).mean() > 1e-3


@pytest.fixture(scope="module")
def matching():
    _, discriminator = build("tokens")
    text = text_of("tokens")
    images = np.random.default_rng(3).uniform(-1, 1, (BATCH, SIDE, SIDE, 3)).astype(np.float32)
    params = {"params": random_params(discriminator.init, images, text, method="score")}
    features, encoded = jit(
        lambda x, t: discriminator.apply(
            params, x, t, method=lambda m, x, t: (m.image_features(x), m.encode_text(t))
        )
    )(images, text)
    logits = jit(lambda f, t: discriminator.apply(params, f, t, method="logits"))
    return logits, features, encoded


def test_masked_words_never_matter(matching):
    logits, features, text = matching
    before = logits(features, text)
    keep = text.mask[..., None]
    noise = np.random.default_rng(4).normal(size=text.tokens.shape).astype(np.float32)
    other = text.replace(tokens=jnp.where(keep, text.tokens, noise))
    np.testing.assert_array_equal(logits(features, other), before)
    changed = logits(features, text.replace(tokens=jnp.where(keep, noise, text.tokens)))
    assert (np.abs(changed - before) > 1e-3).all()


def test_no_word_at_all_leaves_the_sentence(matching):
    logits, features, text = matching
    none = logits(features, text.replace(mask=np.zeros_like(text.mask)))
    sentence = logits(features, text.replace(tokens=None, mask=None))
    np.testing.assert_allclose(none, sentence, rtol=1e-5)


def test_words_are_averaged_and_a_missing_mask_keeps_all(matching):
    logits, features, text = matching
    every = text.replace(mask=np.ones_like(text.mask))
    np.testing.assert_allclose(
        logits(features, every.replace(mask=None)), logits(features, every), rtol=1e-5
    )
    base = logits(features, text.replace(tokens=None, mask=None))
    alone = [
        logits(features, every.replace(mask=np.arange(TOKENS) == np.full((BATCH, 1), i))) - base
        for i in range(TOKENS)
    ]
    np.testing.assert_allclose(logits(features, every) - base, np.mean(alone, axis=0), atol=1e-4)


def test_swapped_words_and_swapped_places_change_the_logits(matching):
    """The words' vectors and the sentence are the same set: only who stands where differs."""
    logits, features, text = matching
    before = logits(features, text)
    swapped = text.replace(tokens=text.tokens[:, [1, 0, 2, 3, 4]])
    assert (np.abs(logits(features, swapped) - before) > 1e-4).all()
    np.testing.assert_allclose(  # features carry their places with them
        logits(features[:, ::-1], text), before, rtol=1e-4, atol=1e-5
    )


def test_same_patches_elsewhere_change_the_logit():
    _, discriminator = build(None)
    images = np.random.default_rng(3).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    params = {"params": random_params(discriminator.init, images, None, method="score")}
    moved = np.concatenate([images[:, 4:], images[:, :4]], axis=1)  # two rows of patches swapped
    score = jit(lambda x: discriminator.apply(params, x, None, method="score"))
    here, there = score(images), score(moved)
    assert np.abs(here - there).max() > 1e-4


@pytest.mark.parametrize(
    ("depth", "heads"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (12, [2, 5, 8, 11])]
)
def test_images_are_read_at_up_to_four_depths(depth, heads):
    assert sorted(image_heads(depth)) == heads


def test_every_depth_draws_a_part_of_the_image():
    generator, _ = build(None, depth=2, output="linear")
    z = np.random.default_rng(0).normal(size=(BATCH, 6)).astype(np.float32)
    params = random_params(generator.init, z, None)
    draw = jit(lambda p: generator.apply({"params": p}, z, None))
    whole = draw(params)
    parts = []
    for i in range(2):
        only = {
            name: jax.tree.map(jnp.zeros_like, p)
            if name.startswith("to_image") and name != f"to_image{i}"
            else p
            for name, p in params.items()
        }
        parts.append(draw(only))
        assert np.std(parts[-1]) > 0.1
    np.testing.assert_allclose(whole, sum(parts), atol=1e-4)


def test_sizes_that_do_not_fit_are_named():
    z = jnp.zeros((1, 4))
    with pytest.raises(UserError, match="resolution 8 must be a multiple of the patch 3"):
        jax.eval_shape(Generator(8, width=16, patch=3).init, jax.random.key(0), z, None)
    with pytest.raises(UserError, match="width of gat must be a multiple of 32, not 18"):
        jax.eval_shape(Generator(8, width=18).init, jax.random.key(0), z, None)
