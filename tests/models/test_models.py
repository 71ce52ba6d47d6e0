"""One table over all model families."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxgan.config import Config, DataConfig, ModelConfig, OptimConfig, TextConfig
from flaxgan.errors import UserError
from flaxgan.losses import gradient_penalty
from flaxgan.models import FAMILIES, build_models
from flaxgan.models.matching import JointEmbedding, TokenMatch
from flaxgan.text.conditioning import Text
from flaxgan.training.optim import build_optimizer, freeze

BATCH = 3


# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def config_of(family, resolution, channels=3, encoder="e5", **model):
    widths = {} if family == "mlp" else {"g_channels": 4, "d_channels": 4}
    return Config(
        data=DataConfig(resolution=resolution, channels=channels),
        text=TextConfig(encoder=encoder, max_tokens=12, dim=16, depth=1),
        model=ModelConfig(**{"family": family, "z_dim": 6} | widths | model),
    )


def r3gan_of(encoder="e5", channels=3, **model):
    return config_of("r3gan", 16, channels, encoder, **{"w_dim": 8} | model)


def gat_of(encoder, **model):
    sizes = {"patch": 4, "g_channels": 8, "d_channels": 8, "w_dim": 8}
    return config_of("gat", 8, 3, encoder, **sizes | model)


def upsampler_of(encoder, **model):
    sizes = {"patch": 4, "w_dim": 8, "output": "linear"}
    return config_of("upsampler", 32, 3, encoder, **sizes | model)


def inpainter_of(encoder, **model):
    return config_of("inpainter", 16, 3, encoder, **{"w_dim": 8} | model)


BRANCHES = {"attention": (), "expansion": 2.0, "group_width": 4, "g_blocks": 2}
TABLE = {
    "dfgan32": config_of("dfgan", 32),
    "dfgan32-linear": config_of("dfgan", 32, output="linear"),
    "dfgan64-grey": config_of("dfgan", 64, channels=1),
    "dfgan32-bytes": config_of("dfgan", 32, encoder="bytes"),
    "dfgan32-words": config_of("dfgan", 32, encoder="words", embed_dim=5, token_match=4),
    "dfgan32-unconditional": config_of("dfgan", 32, encoder="none"),
    "dfgan32-bfloat16": config_of("dfgan", 32, dtype="bfloat16"),
    "mlp28": config_of("mlp", 28, channels=1, encoder="none"),
    "mlp28-text": config_of("mlp", 28, channels=1),
    "mlp28-bytes": config_of("mlp", 28, channels=3, encoder="bytes"),
    "r3gan16": r3gan_of(channels=1, output="linear"),
    "r3gan16-bytes-grey-linear": r3gan_of("bytes", channels=1, output="linear"),
    "r3gan16-words": r3gan_of("words", embed_dim=5, token_match=8, d_attention=(4,)),
    "r3gan16-bytes": r3gan_of("bytes", **BRANCHES),
    "r3gan16-unconditional": r3gan_of("none", embed_dim=5),
    "r3gan16-unconditional-branches": r3gan_of("none", embed_dim=5, **BRANCHES),
    "r3gan16-bfloat16": r3gan_of("words", dtype="bfloat16", embed_dim=5, token_match=4),
    "gat8-words": gat_of("words", embed_dim=5),
    "gat8-unconditional": gat_of("none", output="linear"),
    "upsampler32-words": upsampler_of("words", embed_dim=5),
    "upsampler32-unconditional": upsampler_of("none", g_blocks=2),
    "inpainter16-words": inpainter_of("words", embed_dim=5),
    "inpainter16-unconditional": inpainter_of("none", g_blocks=2),
}


def text_of(config, rows=BATCH, seed=0):
    """Captions, and the pictures that some families are given, the same for every seed then."""
    text = captions_of(config, rows, seed)
    if config.model.family == "inpainter":
        side = config.data.resolution
        rng = np.random.default_rng(seed if text is None else 7)
        picture = rng.uniform(-1, 1, (rows, side, side, 4)).astype(np.float32)
        picture[..., 3] = np.arange(side) % (7 if text is not None else 2 + seed) > 0
        return (text or Text()).replace(picture=picture)
    if config.model.family != "upsampler":
        return text
    side = config.data.resolution // config.model.patch
    rng = np.random.default_rng(seed if text is None else 7)
    picture = rng.uniform(-1, 1, (rows, side, side, config.data.channels)).astype(np.float32)
    return (text or Text()).replace(picture=picture)


def captions_of(config, rows, seed):
    rng = np.random.default_rng(seed)
    if config.text.encoder == "none":
        return None
    if config.text.encoder == "e5":
        return Text(sentence_emb=rng.normal(size=(rows, 10)).astype(np.float32))
    mask = np.arange(12)[None] < rng.integers(3, 12, (rows, 1))
    if config.text.encoder == "words":
        return Text(token_emb=rng.normal(size=(rows, 12, 12)).astype(np.float16), mask=mask)
    return Text(tokens=rng.integers(1, 256, (rows, 12), dtype=np.int32), mask=mask)


def everything(module, images, text):
    """Logits by parts; where there is a space to compare in, also embeddings."""
    picture = () if text is None or text.picture is None else (None, text.picture)
    features, words = module.image_features(images, *picture), module.encode_text(text)
    logits = module.logits(features, words)
    if not getattr(module, "embed_dim", 0) or words is None:
        return (logits,)
    return logits, module.embed_image(features), module.embed_text(words)


def random_params(init, *args, **kwargs):
    """Random everywhere: layers that start at zero would block gradients and hide mistakes."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)


@functools.cache
def case_of(name):
    config = TABLE[name]
    generator, discriminator = build_models(config, sentence_dim=10)
    side, channels = config.data.resolution, config.data.channels
    rng = np.random.default_rng(2)  # of its own: a test must not depend on those before it
    z = rng.normal(size=(BATCH, 6)).astype(np.float32)
    images = rng.uniform(-1, 1, (BATCH, side, side, channels)).astype(np.float32)
    text = text_of(config)
    g_params = random_params(generator.init, z, text)
    d_params = random_params(discriminator.init, images, text, method="score")
    return config, generator, discriminator, g_params, d_params, z, images, text


# what they add, other rows have too, and those of test_gat.py
SLOW = (
    "dfgan32",
    "dfgan32-linear",
    "dfgan64-grey",
    "dfgan32-bytes",
    "dfgan32-unconditional",
    "dfgan32-bfloat16",
    "mlp28-bytes",
    "r3gan16",
    "r3gan16-bytes-grey-linear",
    "r3gan16-bytes",
    "r3gan16-unconditional",
    "r3gan16-unconditional-branches",
    "r3gan16-bfloat16",
    "gat8-unconditional",
    "upsampler32-unconditional",
)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TABLE]
)
def case(request):
    return case_of(request.param)


def test_every_family_has_a_row():
    assert {config.model.family for config in TABLE.values()} == set(FAMILIES)


def with_gradient(run):
    """Outputs of `run(params, inputs, text)`, and the gradient of something that feels them all."""

    def fluctuation(*args):
        outputs = run(*args)
        return sum(jnp.sum(jnp.sin(7 * x)) for x in jax.tree.leaves(outputs)), outputs

    def outputs_and_gradient(*args):
        gradient, outputs = jax.grad(fluctuation, has_aux=True)(*args)
        return outputs, gradient

    return outputs_and_gradient


def test_table(case):
    config, generator, discriminator, g_params, d_params, z, images, text = case
    draw = jit(with_gradient(lambda p, z, t: generator.apply({"params": p}, z, t)))

    @jit
    def judge_and_score(p, x, t):
        by_parts = functools.partial(discriminator.apply, method=everything)
        judged = with_gradient(lambda p, x, t: by_parts({"params": p}, x, t))(p, x, t)
        return judged, discriminator.apply({"params": p}, x, t, method="score")

    def judge(*args):
        return judge_and_score(*args)[0]

    fake, g_gradient = draw(g_params, z, text)
    (judged, d_gradient), score = judge_and_score(d_params, images, text)

    # shapes, dtypes, ranges
    assert fake.shape == images.shape
    embedded = config.model.embed_dim > 0 and text is not None
    shapes = [(BATCH,)] + [(BATCH, config.model.embed_dim)] * 2 * embedded
    assert [x.shape for x in judged] == shapes
    assert {x.dtype for x in jax.tree.leaves((fake, judged, g_params, d_params))} == {
        jnp.dtype("float32")
    }
    assert all(np.isfinite(x).all() for x in (fake, *judged))
    if config.model.output == "tanh":
        assert np.abs(fake).max() <= 1

    # the parts of the discriminator make the whole
    loose = {"bfloat16": 0.05, "float32": 1e-4}[config.model.dtype]
    np.testing.assert_allclose(judged[0], score, rtol=loose, atol=loose)

    # z and text change the output
    assert np.abs(draw(g_params, z[::-1], text)[0] - fake).max() > 1e-4
    if text is not None:
        other = text_of(config, seed=5)
        assert np.abs(draw(g_params, z, other)[0] - fake).max() > 1e-4
        rejudged, _ = judge(d_params, images, other)
        assert np.abs(rejudged[0] - judged[0]).max() > 1e-6
        if embedded:
            np.testing.assert_array_equal(rejudged[1], judged[1])
            assert np.abs(rejudged[2] - judged[2]).max() > 1e-4

    # example i does not see the others
    turned = jax.tree.map(lambda x: np.concatenate([x[:1], x[:0:-1]]), (z, images, text))
    for before, after in (
        ((fake,), (draw(g_params, turned[0], turned[2])[0],)),
        (judged, judge(d_params, turned[1], turned[2])[0]),
    ):
        for x, y in zip(before, after, strict=True):
            np.testing.assert_allclose(y[:1], x[:1], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(y[1:], x[:0:-1], rtol=1e-5, atol=1e-5)

    # every parameter is used
    for path, gradient in jax.tree_util.tree_leaves_with_path((g_gradient, d_gradient)):
        # a bias of attention keys moves all scores alike: softmax does not see it
        if "['key']['bias']" in jax.tree_util.keystr(path):
            continue
        assert np.abs(gradient).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "name", ["dfgan32-bfloat16", pytest.param("r3gan16-bfloat16", marks=pytest.mark.slow)]
)
def test_outputs_and_gradients_are_float32(name):
    _, generator, discriminator, g_params, d_params, z, images, text = case_of(name)

    def draw(p, z, t):
        return generator.apply({"params": p}, z, t)

    def judge(p, x, t):
        return discriminator.apply({"params": p}, x, t, method=everything)

    made = (
        jax.eval_shape(with_gradient(draw), g_params, z, text),
        jax.eval_shape(with_gradient(judge), d_params, images, text),
    )
    assert {x.dtype for x in jax.tree.leaves(made)} == {jnp.dtype("float32")}


STAGES = {  # row of TABLE -> parts of each stage, from the image on
    "mlp28-text": [["hidden_0"], ["hidden_1"], ["hidden_2"]],
    "dfgan32-words": [
        ["trunk/from_image", "trunk/block0"],
        ["trunk/block1"],
        ["trunk/block2"],
    ],
    "r3gan16-words": [["from_image", "trunk_0_0"], ["narrow_0", "trunk_1_0", "attend_4"]],
    "gat8-words": [["trunk/from_image", "trunk/block0", "trunk/norm_out"]],
    "upsampler32-words": [["from_image", "trunk_0_0"], ["narrow_0", "trunk_1_0"]],
    "inpainter16-words": [["from_image", "trunk_0_0"], ["narrow_0", "trunk_1_0"]],
}


def test_every_family_has_stages():
    assert {TABLE[name].model.family for name in STAGES} == {
        config.model.family for config in TABLE.values()
    }


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_frozen_stages_stay_and_all_others_move(name, optimiser):
    _, _, discriminator, _, d_params, *_ = case_of(name)
    stages = discriminator.image_stages()
    assert stages == STAGES[name]
    count = 1 if optimiser == "adam" else len(stages)
    frozen = {part for stage in stages[:count] for part in stage}
    config = OptimConfig(name=optimiser, lr=0.1, b1=0.5)
    tx = freeze(build_optimizer(config, batch_size=8), frozen)
    # names matter, sizes do not: of one size, they take one program, not one for each parameter
    d_params = jax.tree.map(lambda x: jnp.asarray(np.resize(x, 2)), d_params)
    params, state = d_params, tx.init(d_params)
    for _ in range(2):
        gradient = jax.tree.map(lambda x: 2.0 + jnp.sin(x), params)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    seen = set()
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(d_params), jax.tree.leaves(params), strict=True
    ):
        part = part_of(path)
        if part in frozen:
            seen.add(part)
            np.testing.assert_array_equal(after, before)
        else:
            assert (np.asarray(after) != np.asarray(before)).all(), part
    assert seen == frozen


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"mlp28-text"}))  # whose head reads the image
def test_stages_are_all_that_the_image_goes_through(name):
    _, _, discriminator, _, _, _, images, _ = case_of(name)
    init = functools.partial(discriminator.init, method="image_features")
    used = jax.tree_util.tree_leaves_with_path(jax.eval_shape(init, jax.random.key(0), images))
    assert {part_of(path[1:]) for path, _ in used} == {p for stage in STAGES[name] for p in stage}


def part_of(path):
    words = [key.key for key in path]
    return "/".join(words[:2]) if words[0] == "trunk" else words[0]


def test_linear_output_is_the_inverse_of_tanh():
    z = np.random.default_rng(3).normal(size=(BATCH, 6)).astype(np.float32)
    text = text_of(TABLE["dfgan32"])
    tanh, _ = build_models(TABLE["dfgan32"])
    linear, _ = build_models(TABLE["dfgan32-linear"])
    params = random_params(tanh.init, z, text)
    images, drawn = jit(lambda p: [g.apply({"params": p}, z, text) for g in (linear, tanh)])(params)
    assert np.abs(images).max() > 1
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


@pytest.mark.parametrize(
    "resolution", [*(pytest.param(side, marks=pytest.mark.slow) for side in (32, 64, 128)), 256]
)
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

    def params_of(init, *args, **kwargs):
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **kwargs))["params"]
        return jax.tree.map(
            lambda x: rng.normal(0, x.shape[0] ** -0.5, x.shape).astype(np.float32), shapes
        )

    g = params_of(generator.init, z, text)
    d = params_of(discriminator.init, images, text, method="score")

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def dense(p, x):
        return x @ np.asarray(p["kernel"], np.float64) + np.asarray(p["bias"], np.float64)

    x = np.concatenate([z, text.sentence_emb], axis=1)
    for i, width in enumerate((256, 512, 1024)):
        x = leaky(dense(g[f"dense{i}"], x))
        assert x.shape[1] == width
    x = np.tanh(dense(g["to_image"], x)).reshape(2, 28, 28, 1)
    np.testing.assert_allclose(jit(generator.apply)({"params": g}, z, text), x, atol=1e-5)

    x = np.concatenate([images.reshape(2, -1), text.sentence_emb], axis=1)
    for i, width in enumerate((1024, 512, 256)):
        x = leaky(dense(d[f"hidden_{i}"], x))
        assert x.shape[1] == width
    score = jit(functools.partial(discriminator.apply, method="score"))
    logits = score({"params": d}, images, text)
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
    assert not [line for line in convolutions if "rhs_reversal" in line]


def test_dfgan_looks_for_words_in_its_map_and_embeds_it():
    """The head of words is a part of the logit, and reads what the sentence's head reads."""
    _, _, discriminator, _, d_params, _, images, text = case_of("dfgan32-words")

    def parts(module, images, text):
        features, words = module.image_features(images), module.encode_text(text)
        bare = words.replace(tokens=None, mask=None)
        logits = module.logits(features, words), module.logits(features, bare)
        embeddings = module.embed_image(features), module.embed_text(words)
        return features, words, logits, embeddings

    features, words, (logits, bare), embeddings = jit(
        lambda p: discriminator.apply({"params": p}, images, text, method=parts)
    )(d_params)
    features = jnp.where(features > 0, features, 0.2 * features)
    match = TokenMatch().apply({"params": d_params["match"]}, features, words)
    np.testing.assert_allclose(logits, bare + match, rtol=1e-4, atol=1e-4)
    assert np.abs(match).min() > 1e-3
    space = JointEmbedding(5).bind({"params": d_params["embedding"]})
    wanted = space.of_image(features.reshape(BATCH, -1)), space.of_text(words)
    for a, b in zip(embeddings, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            config_of("dfgan", 48),
            r"data.resolution must be one of 32, .* 256 for dfgan, not 48",
        ),
        (config_of("dfgan", 32, channels=2), "data.channels"),
        (config_of("dfgan", 32, z_dim=0), "model.z_dim"),
        (config_of("dfgan", 32, output="relu"), "model.output"),
        (config_of("dfgan", 32, dtype="float16"), "model.dtype"),
        (config_of("dfgan", 32, g_channels=-1), "model.g_channels"),
        (
            config_of("dfgan", 32, encoder="words", token_match=8),
            "token_match must be one of 0, 4 for dfgan",
        ),
        (
            config_of("biggan", 32),
            "model.family must be one of dfgan, r3gan, gat, mlp, upsampler, inpainter, not",
        ),
        (config_of("mlp", 4), "data.resolution must be >= 8 for mlp"),
        (
            config_of("mlp", 28, embed_dim=5),
            r"model.embed_dim is not read by the mlp .* \(dfgan, .* inpainter read it\)",
        ),
        (
            config_of("dfgan", 32, patch=4),
            r"model.patch is not .*\(r3gan, gat, upsampler, inpainter read it\)",
        ),
        (config_of("dfgan", 32, options=("depth=3",)), "model.options: the dfgan family has none"),
        (r3gan_of(embed_dim=-1), "model.embed_dim"),
        (r3gan_of(patch=0), "model.patch"),
        # no power of two: at the largest map, in the middle, of places that do not fill it
        (config_of("r3gan", 48), "data.resolution must be 4 x model.patch x a power of two"),
        (config_of("r3gan", 36), "for r3gan, not 36 with model.patch 2"),
        (config_of("r3gan", 33), "data.resolution"),
        # less than four patches, or than one
        (r3gan_of(patch=8), "data.resolution"),
        (r3gan_of(patch=32), "data.resolution"),
        (r3gan_of(attention=(16,)), "model.attention must be one of 8, 4, not 16"),
        (r3gan_of(d_attention=(8, 2)), "model.d_attention must be one of 8, 4, not 2"),
        (
            gat_of("words", token_match=4),
            r"model.token_match is not read by the gat family \(dfgan, r3gan, inpainter read it\)",
        ),
        (
            r3gan_of("e5", token_match=4),
            "model.token_match looks for words",
        ),
        (r3gan_of(expansion=0.0), "model.expansion must be > 0, not 0.0"),
        (
            r3gan_of(g_channels=3, attention=(4,)),
            r"model.attention 4: that map has 6 channels, .*multiple of 4 x 1 heads.*g_channels",
        ),
        (r3gan_of("words", token_match=16), "model.token_match for r3gan must be one of 0, 8, 4"),
        (r3gan_of(group_width=3), r"model.group_width must divide.* = 2 \(model.g_channels"),
        (r3gan_of(d_channels=6, group_width=2), r"= 3 \(model.d_channels"),
        # 2 channels divide by 2, but the next map has 5
        (r3gan_of(g_channels=5, group_width=2), r"10 channels = 5 \(model.g_channels"),
        (upsampler_of("none", attention=(4,)), "model.attention is not read by the upsampler"),
        (upsampler_of("none", output="tanh"), "model.output must be linear for upsampler"),
        (upsampler_of("none", patch=1), "model.patch must be >= 2 for upsampler"),
        (upsampler_of("none", patch=3), "for upsampler, not 32 with model.patch 3"),
        (inpainter_of("none", patch=3), "for inpainter, not 16 with model.patch 3"),
        (config_of("gat", 10, patch=4, g_channels=8, d_channels=8), "multiple of model.patch 4"),
        (gat_of("none", g_channels=6), "model.g_channels must be a multiple of 4 x 1"),
        (gat_of("none", d_channels=68), "model.d_channels must be a multiple of 4 x 2"),
    ],
)
def test_unsupported_values_name_the_field(config, words):
    with pytest.raises(UserError, match=words):
        build_models(config, sentence_dim=10)


@pytest.mark.parametrize(
    "name",
    [
        "r3gan16-unconditional",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dfgan32", "r3gan16-words", "gat8-words")
        ),
    ],
)
def test_recomputed_blocks_change_neither_parameters_nor_gradients(name):
    """Also under the penalty, which differentiates the gradient."""
    config, generator, discriminator, g_params, d_params, z, images, text = case_of(name)
    again = dataclasses.replace(config, model=dataclasses.replace(config.model, remat=True))
    both = [(generator, discriminator), build_models(again, sentence_dim=10)]

    def g_loss(params, modules):
        fake = modules[0].apply({"params": params}, z, text)
        return jnp.mean(jnp.sin(7 * fake))

    def d_loss(params, modules):
        def d(images):
            return modules[1].apply({"params": params}, images, text, method="score"), None

        penalty, logits, _ = gradient_penalty(d, images, gamma=1.0)
        return jnp.mean(penalty + logits)

    for loss, params in ((g_loss, g_params), (d_loss, d_params)):
        traced = [
            jit(jax.grad(functools.partial(loss, modules=modules))).trace(params)
            for modules in both
        ]
        kept, recomputed = (program.lower().compile()(params) for program in traced)
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(recomputed), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max() + 1e-8)
        assert ["remat" in str(program.jaxpr) for program in traced] == [False, True]


@pytest.mark.parametrize("name", ["dfgan32-words", "gat8-words"])
def test_discriminators_recompute_too(name):
    config, _, _, _, d_params, _, images, text = case_of(name)
    for remat in (False, True):
        model = dataclasses.replace(config.model, remat=remat)
        _, discriminator = build_models(dataclasses.replace(config, model=model), sentence_dim=10)
        score = functools.partial(discriminator.apply, method="score")
        assert ("remat" in str(jax.make_jaxpr(score)({"params": d_params}, images, text))) == remat


@pytest.mark.parametrize(
    ("family", "side", "g_blocks"),
    [
        pytest.param("dfgan", 32, 0, marks=pytest.mark.slow),
        pytest.param("r3gan", 64, 4, marks=pytest.mark.slow),
        ("gat", 32, 2),
    ],
)
def test_recomputing_keeps_less_for_the_backward_pass(family, side, g_blocks):
    """What jax keeps; XLA on CPU undoes it, and plans the same memory with and without."""
    kept = []
    params = None
    for remat in (False, True):
        depth = {"g_blocks": g_blocks} if g_blocks else {}
        config = config_of(family, side, g_channels=32, d_channels=32, remat=remat, **depth)
        generator, _ = build_models(config, sentence_dim=10)
        z, text = jnp.zeros((8, 6)), Text(sentence_emb=jnp.zeros((8, 10)))
        params = params or jax.eval_shape(generator.init, jax.random.key(0), z, text)
        backward = jax.eval_shape(
            lambda p: jax.vjp(lambda p: generator.apply(p, z, text), p)[1],  # noqa: B023
            params,
        )
        kept.append(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward)))
    assert kept[1] < 0.6 * kept[0]
