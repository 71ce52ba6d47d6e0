"""One table over all model families."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.errors import UserError
from flaxgan.losses import gradient_penalty
from flaxgan.models import build_models
from flaxgan.text.conditioning import Text

BATCH = 3


def config_of(family, resolution, channels=3, encoder="e5", dtype="float32", output="tanh"):
    return Config(
        data=DataConfig(resolution=resolution, channels=channels),
        text=TextConfig(encoder=encoder, max_tokens=12, dim=16, depth=1),
        model=ModelConfig(
            family=family, z_dim=6, g_channels=4, d_channels=4, dtype=dtype, output=output
        ),
    )


TABLE = {
    "dfgan32": config_of("dfgan", 32),
    "dfgan32-linear": config_of("dfgan", 32, output="linear"),
    "dfgan64-grey": config_of("dfgan", 64, channels=1),
    "dfgan32-bytes": config_of("dfgan", 32, encoder="bytes"),
    "dfgan32-unconditional": config_of("dfgan", 32, encoder="none"),
    "dfgan32-bfloat16": config_of("dfgan", 32, dtype="bfloat16"),
    "mlp28": config_of("mlp", 28, channels=1, encoder="none"),
    "mlp28-text": config_of("mlp", 28, channels=1),
    "mlp28-bytes": config_of("mlp", 28, channels=3, encoder="bytes"),
}


def text_of(config, rows=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    if config.text.encoder == "none":
        return None
    if config.text.encoder == "bytes":
        tokens = rng.integers(1, 256, (rows, 12), dtype=np.int32)
        return Text(tokens=tokens, mask=np.arange(12)[None] < rng.integers(3, 12, (rows, 1)))
    return Text(sentence_emb=rng.normal(size=(rows, 10)).astype(np.float32))


def random_params(init, *args, **kwargs):
    """Random everywhere: layers that start at zero would block gradients and hide mistakes."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)


@pytest.fixture(params=TABLE, scope="module")
def case(request):
    config = TABLE[request.param]
    generator, discriminator = build_models(config, sentence_dim=10)
    side, channels = config.data.resolution, config.data.channels
    rng = np.random.default_rng(2)  # of its own: a test must not depend on those before it
    z = rng.normal(size=(BATCH, 6)).astype(np.float32)
    images = rng.uniform(-1, 1, (BATCH, side, side, channels)).astype(np.float32)
    text = text_of(config)
    g_params = random_params(generator.init, z, text)
    d_params = random_params(discriminator.init, images, text, method="score")
    return config, generator, discriminator, g_params, d_params, z, images, text


def test_table(case):
    config, generator, discriminator, g_params, d_params, z, images, text = case
    draw = jax.jit(lambda p, z, t: generator.apply({"params": p}, z, t))
    score = jax.jit(lambda p, x, t: discriminator.apply({"params": p}, x, t, method="score"))
    fake, logits = draw(g_params, z, text), score(d_params, images, text)

    # shapes, dtypes, ranges
    assert fake.shape == images.shape
    assert fake.dtype == logits.dtype == jnp.float32
    assert logits.shape == (BATCH,)
    assert np.isfinite(logits).all()
    if config.model.output == "tanh":
        assert np.abs(fake).max() <= 1
    assert {x.dtype for x in jax.tree.leaves((g_params, d_params))} == {jnp.dtype("float32")}

    # text changes the output
    if text is not None:
        other = text_of(config, seed=5)
        assert np.abs(draw(g_params, z, other) - fake).max() > 1e-4
        assert np.abs(score(d_params, images, other) - logits).max() > 1e-6

    # example i does not see the others
    turned = jax.tree.map(lambda x: np.concatenate([x[:1], x[:0:-1]]), (z, images, text))
    for before, after in (
        (fake, draw(g_params, turned[0], turned[2])),
        (logits, score(d_params, turned[1], turned[2])),
    ):
        np.testing.assert_allclose(after[:1], before[:1], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after[1:], before[:0:-1], rtol=1e-5, atol=1e-5)

    # every parameter is used
    g_grad = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(7 * draw(p, z, text)))))(g_params)
    d_grad = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(score(p, images, text)))))(d_params)
    for path, gradient in jax.tree_util.tree_leaves_with_path((g_grad, d_grad)):
        # a bias of attention keys moves all scores alike: softmax does not see it
        if "['key']['bias']" in jax.tree_util.keystr(path):
            continue
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


def test_parts_of_the_discriminator_make_the_whole(case):
    config, _, discriminator, _, d_params, _, images, text = case

    def part(method, *args):
        return discriminator.apply({"params": d_params}, *args, method=method)

    logits = part("logits", part("image_features", images), part("encode_text", text))
    loose = {"bfloat16": 0.05, "float32": 1e-4}[config.model.dtype]
    np.testing.assert_allclose(logits, part("score", images, text), rtol=loose, atol=loose)


def test_linear_output_is_the_inverse_of_tanh():
    z = np.random.default_rng(3).normal(size=(BATCH, 6)).astype(np.float32)
    text = text_of(TABLE["dfgan32"])
    tanh, _ = build_models(TABLE["dfgan32"])
    linear, _ = build_models(TABLE["dfgan32-linear"])
    params = random_params(tanh.init, z, text)
    images = jax.jit(linear.apply)({"params": params}, z, text)
    assert np.abs(images).max() > 1
    drawn = jax.jit(tanh.apply)({"params": params}, z, text)
    np.testing.assert_allclose(drawn, np.tanh(images), atol=1e-5)


@pytest.mark.parametrize(("resolution", "g_count", "trunk_count"), [(64, 4_868_867, 3_210_820)])
def test_dfgan_has_the_published_number_of_parameters(resolution, g_count, trunk_count):
    config = Config(
        data=DataConfig(resolution=resolution),
        model=ModelConfig(z_dim=100, g_channels=32, d_channels=32),
    )
    generator, discriminator = build_models(config, sentence_dim=256)
    z, text = jnp.zeros((1, 100)), Text(sentence_emb=jnp.zeros((1, 256)))
    images = jnp.zeros((1, resolution, resolution, 3))

    def count(tree):
        return sum(np.prod(x.shape) for x in jax.tree.leaves(tree))

    g_params = jax.eval_shape(generator.init, jax.random.key(0), z, text)["params"]
    d_params = jax.eval_shape(
        lambda k: discriminator.init(k, images, text, method="score"), jax.random.key(0)
    )["params"]
    assert count(g_params) == g_count
    assert count(d_params["trunk"]) == trunk_count
    assert count(d_params) - count(d_params["trunk"]) == 295_936


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_dfgan_builds_at_every_resolution(resolution):
    generator, discriminator = build_models(config_of("dfgan", resolution), sentence_dim=10)
    z, text = jnp.zeros((1, 6)), Text(sentence_emb=jnp.zeros((1, 10)))
    images, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z, text)
    assert images.shape == (1, resolution, resolution, 3)
    logits, _ = jax.eval_shape(
        lambda k: discriminator.init_with_output(k, jnp.zeros(images.shape), text, method="score"),
        jax.random.key(0),
    )
    assert logits.shape == (1,)


def test_mlp_against_numpy():
    config = TABLE["mlp28-text"]
    generator, discriminator = build_models(config, sentence_dim=10)
    rng = np.random.default_rng(4)
    z, text = rng.normal(size=(2, 6)).astype(np.float32), text_of(config, rows=2)
    images = rng.uniform(-1, 1, (2, 28, 28, 1)).astype(np.float32)
    g = jax.jit(generator.init)(jax.random.key(0), z, text)["params"]
    init = functools.partial(discriminator.init, method="score")
    d = jax.jit(init)(jax.random.key(0), images, text)["params"]

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def dense(p, x):
        return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)

    x = np.concatenate([z, text.sentence_emb], axis=1)
    for i, width in enumerate((256, 512, 1024)):
        x = leaky(dense(g[f"dense{i}"], x))
        assert x.shape[1] == width
    x = np.tanh(dense(g["to_image"], x)).reshape(2, 28, 28, 1)
    np.testing.assert_allclose(generator.apply({"params": g}, z, text), x, atol=1e-5)

    x = np.concatenate([images.reshape(2, -1), text.sentence_emb], axis=1)
    for i, width in enumerate((1024, 512, 256)):
        x = leaky(dense(d[f"hidden_{i}"], x))
        assert x.shape[1] == width
    logits = discriminator.apply({"params": d}, images, text, method="score")
    np.testing.assert_allclose(logits, dense(d["output"], x)[:, 0], atol=1e-5)


def test_dropout_keeps_the_mean_and_follows_the_keys():
    from flaxgan.models.mlp import dropout

    x, keys = jnp.ones((2, 20_000)), jax.random.split(jax.random.key(0), 2)
    out = np.asarray(dropout(x, keys, 0))
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.7], rtol=1e-6)
    assert np.mean(out == 0) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(dropout(x[1:], keys[1:], 0), out[1:])
    assert (np.asarray(dropout(x, keys, 1)) != out).any()
    np.testing.assert_array_equal(dropout(x, None, 0), x)


def test_penalty_compiles_without_reversed_convolutions():
    """XLA on CPU runs the double backward of a strided convolution 40 times slower."""
    config = TABLE["dfgan32"]
    _, discriminator = build_models(config, sentence_dim=10)
    images, text = jnp.zeros((2, 32, 32, 3)), text_of(config, rows=2)
    params = random_params(discriminator.init, images, text, method="score")

    def loss(p):
        def d_fn(x):
            return discriminator.apply({"params": p}, x, text, method="score"), None

        return gradient_penalty(d_fn, images, gamma=1.0)[0].mean()

    hlo = jax.jit(jax.grad(loss)).lower(params).compile().as_text()
    convolutions = [line for line in hlo.splitlines() if " convolution(" in line]
    assert convolutions
    assert not [line for line in convolutions if "rhs_dilate" in line and "rhs_reversal" in line]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": DataConfig(resolution=48)}, "32, 64, 128, 256"),
        ({"data": DataConfig(channels=2)}, "data.channels"),
        ({"model": ModelConfig(z_dim=0)}, "model.z_dim"),
        ({"model": ModelConfig(output="relu")}, "model.output"),
        ({"model": ModelConfig(g_channels=-1)}, "model.g_channels"),
    ],
)
def test_unsupported_values_name_the_field(changes, words):
    with pytest.raises(UserError, match=words):
        build_models(dataclasses.replace(config_of("dfgan", 32), **changes), sentence_dim=10)
