"""What is R3GAN's own; what every family keeps to is in test_models.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.losses import finite_difference_penalty, gradient_penalty
from flaxgan.models import build_models
from flaxgan.models.layers import depth_to_space
from flaxgan.models.matching import JointEmbedding, TokenMatch
from flaxgan.models.r3gan import (
    Discriminator,
    Generator,
    Mapping,
    Modulation,
    ResidualBlock,
    enlarge_patches,
    stage_sides,
    widths,
)
from flaxgan.text.conditioning import Text, TextFeatures

BATCH, SIDE, TOKENS = 3, 16, 5
WIDTHS = (4, 8)  # of the maps of 8 x 8 and 4 x 4

# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class GivenWords(nn.Module):
    """Sentences and words as they come: each can be changed without the other."""

    def features(self, text):
        return TextFeatures(sentence=text.sentence_emb, tokens=text.token_emb, mask=text.mask)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def text_of(kind):
    if kind is None:
        return None
    sentence = draw(BATCH, 10, seed=3)
    if kind == "sentence":
        return Text(sentence_emb=sentence)
    mask = np.arange(TOKENS) < np.array([[2], [4], [5]])
    return Text(sentence_emb=sentence, token_emb=draw(BATCH, TOKENS, 6, seed=4), mask=mask)


def generator_of(text, **fields):
    encoder = GivenWords() if text is not None and text.token_emb is not None else None
    fields = {"widths": WIDTHS, "w_dim": 6, "pixel_channels": 3, **fields}
    return Generator(SIDE, text_encoder=encoder, **fields)


def discriminator_of(text, **fields):
    encoder = GivenWords() if text is not None and text.token_emb is not None else None
    return Discriminator(SIDE, text_encoder=encoder, **{"widths": WIDTHS, **fields})


def random_params(module, *args, dtype=np.float32, **kwargs):
    """Random everywhere: what starts at zero would hide mistakes."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(dtype), shapes)


def start_params(module, *args, **kwargs):
    # rbg: threefry takes three times as long to compile, once for every parameter
    key = jax.random.key(0, impl="rbg")
    return jit(functools.partial(module.init, **kwargs))(key, *args)["params"]


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def numpy_conv(x, kernel, groups=1):
    """3x3, zero-padded: pixel by pixel of the kernel, group by group."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[1:3]
    out = 0.0
    for i, j in np.ndindex(3, 3):
        seen = np.split(padded[:, i : i + h, j : j + w], groups, axis=-1)
        kernels = np.split(kernel[i, j], groups, axis=-1)
        out = out + np.concatenate([s @ k for s, k in zip(seen, kernels, strict=True)], axis=-1)
    return out


@pytest.mark.parametrize(
    ("resolution", "patch", "sides"),
    [(64, 2, [32, 16, 8, 4]), (64, 4, [16, 8, 4]), (32, 1, [32, 16, 8, 4]), (8, 2, [4])],
)
def test_sides_go_down_to_four(resolution, patch, sides):
    assert stage_sides(resolution, patch) == sides


def test_widths_double_up_to_eight_times():
    assert widths(3, 6) == (3, 6, 12, 24, 24, 24)
    assert widths(5, 1) == (5,)


@pytest.mark.parametrize("with_w", [False, True])
@pytest.mark.parametrize(("expansion", "group_width"), [(0.5, 0), (2.0, 4)])
def test_residual_block_against_numpy(with_w, expansion, group_width):
    x, w = draw(BATCH, 4, 4, 4), draw(BATCH, 6, seed=2) if with_w else None
    module = ResidualBlock(num_blocks=3, expansion=expansion, group_width=group_width)
    params = random_params(module, x, w)
    out = jit(module.apply)({"params": params}, x, w)

    def modulate(name, h):
        if w is None:
            return h
        scale, shift = np.split(dense(params[name]["of_w"], w)[:, None, None], 2, axis=-1)
        return (1 + scale) * h + shift

    p = params
    hidden = int(4 * expansion)
    groups = hidden // group_width if group_width else 1
    assert p["spread"]["kernel"].shape == (3, 3, hidden // groups, hidden)
    h = leaky(modulate("modulate0", x)) @ p["reduce"]["kernel"][0, 0] + p["reduce"]["bias"]
    h = numpy_conv(leaky(modulate("modulate1", h)), p["spread"]["kernel"], groups)
    h = leaky(h + p["spread"]["bias"]) @ p["expand"]["kernel"][0, 0] + p["expand"]["bias"]
    np.testing.assert_allclose(out, x + h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_w", [False, True])
def test_blocks_start_as_the_identity(with_w):
    x, w = draw(BATCH, 4, 4, 4), draw(BATCH, 6, seed=2) if with_w else None
    block = ResidualBlock(num_blocks=1)
    out = jit(block.apply)({"params": start_params(block, x, w)}, x, w)
    np.testing.assert_array_equal(out, x)
    if with_w:
        modulation = Modulation()
        params = start_params(modulation, x, w)
        np.testing.assert_array_equal(modulation.apply({"params": params}, x, w), x)


def test_networks_start_as_stated():
    """The last layer of a branch is zero, those before it are He's / L^(1/4), L of all blocks."""
    images, text = jnp.zeros((1, SIDE, SIDE, 3)), text_of("tokens")
    one = jax.tree.map(lambda x: x[:1], text)
    fields = {"widths": (32, 64), "blocks": 2, "attention": (8,)}
    networks = (
        start_params(generator_of(text, **fields), jnp.zeros((1, 6)), one),
        start_params(discriminator_of(text, **fields), images, one, method="score"),
    )
    for params in networks:
        branches = zeros = 0
        for path, kernel in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            if name.endswith(("reduce/kernel", "spread/kernel")):
                he = (2 / 1.04 / np.prod(kernel.shape[:3])) ** 0.5
                assert np.std(kernel) == pytest.approx(he * 4**-0.25, rel=0.1), name
                branches += 1
            if name.endswith(("expand/kernel", "places/out/kernel", "words/out/kernel", "bias")):
                np.testing.assert_array_equal(kernel, 0, name)
                zeros += name.endswith("expand/kernel")
        assert (branches, zeros) == (8, 4)


def test_mapping_against_numpy():
    z, sentence = draw(BATCH, 7), draw(BATCH, 10, seed=2)
    module = Mapping(6)
    for text in (None, sentence):
        params = random_params(module, z, text)
        apply = jit(module.apply)
        x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True))
        if text is not None:
            x = np.concatenate([x, text], axis=1)
        for name in ("dense0", "dense1"):
            x = leaky(dense(params[name], x))
        np.testing.assert_allclose(apply({"params": params}, z, text), x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(apply({"params": params}, 9 * z, text), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("resolution", "patch"), [(8, 1), (8, 2), (32, 4), (64, 2)])
@pytest.mark.parametrize("kind", [None, "sentence", "tokens"])
def test_shapes(resolution, patch, kind):
    text, count = text_of(kind), len(stage_sides(resolution, patch))
    common = {"resolution": resolution, "patch": patch, "widths": widths(4, count), "blocks": 2}
    generator = generator_of(text).clone(channels=1, attention=(4,), **common)
    images, _ = jax.eval_shape(
        generator.init_with_output, jax.random.key(0), jnp.zeros((BATCH, 6)), text
    )
    assert (images.shape, images.dtype) == ((BATCH, resolution, resolution, 1), jnp.float32)
    discriminator = discriminator_of(text).clone(channels=1, embed_dim=5, token_match=4, **common)
    logits, variables = jax.eval_shape(
        functools.partial(discriminator.init_with_output, method="score"),
        jax.random.key(0),
        jnp.zeros(images.shape),
        text,
    )
    assert (logits.shape, logits.dtype) == ((BATCH,), jnp.float32)
    assert ("embedding" in variables["params"]) == (kind is not None)
    assert ("match" in variables["params"]) == (kind == "tokens")


def test_places_and_words_are_attended_to_only_where_asked():
    z, text = draw(BATCH, 6), text_of("tokens")

    def attentions(kind, attention):
        text = text_of(kind)
        params = random_params(generator_of(text, attention=attention), z, text)
        return {name: set(p) for name, p in params.items() if name.startswith("attend")}

    places, words = {"places_norm", "places"}, {"words_norm", "words"}
    assert attentions("tokens", ()) == {}
    assert attentions("tokens", (8,)) == {"attend8": places | words}
    assert attentions("sentence", (4, 8)) == {"attend4": places, "attend8": places}
    assert attentions(None, (4,)) == {"attend4": places}

    # the sentence does not change here: words reach the image through attention alone
    keep = text.mask[..., None]
    noise = draw(*text.token_emb.shape, seed=5)
    padding = text.replace(token_emb=np.where(keep, text.token_emb, noise))
    other = text.replace(token_emb=np.where(keep, noise, text.token_emb))
    for attention in ((), (4,), (8,)):
        generator = generator_of(text, attention=attention)
        params = random_params(generator, z, text)
        apply = jit(functools.partial(generator.apply, {"params": params}, z))
        before = apply(text)
        np.testing.assert_array_equal(apply(padding), before)
        changed = np.abs(apply(other) - before).max(axis=(1, 2, 3))
        assert (changed > 1e-3).all() if attention else (changed == 0).all()

    def attend_of_discriminator(attention):
        module = discriminator_of(None, attention=attention)
        params = random_params(module, jnp.zeros((1, SIDE, SIDE, 3)), None, method="score")
        return {name: set(p) for name, p in params.items() if name.startswith("attend")}

    assert attend_of_discriminator(()) == {}
    assert attend_of_discriminator((4,)) == {"attend_4": places}


def test_z_and_the_sentence_change_the_image():
    z, text = draw(BATCH, 6), text_of("sentence")
    generator = generator_of(text, attention=())
    apply = jit(functools.partial(generator.apply, {"params": random_params(generator, z, text)}))
    before = apply(z, text)
    assert (np.abs(apply(z[::-1], text) - before).max(axis=(1, 2, 3))[[0, 2]] > 1e-2).all()
    other = text.replace(sentence_emb=text.sentence_emb[::-1])
    assert (np.abs(apply(z, other) - before).max(axis=(1, 2, 3))[[0, 2]] > 1e-2).all()


@pytest.mark.parametrize("output", ["linear", "tanh"])
def test_last_layer_sees_pixels_across_the_borders_of_patches(output):
    z = draw(BATCH, 6)
    generator = generator_of(None, attention=(), output=output)
    params = random_params(generator, z, None)

    def run(z):
        return generator.apply(
            {"params": params},
            z,
            None,
            capture_intermediates=lambda module, _: module.name in ("to_pixels", "to_image"),
            mutable="intermediates",
        )

    images, captured = jit(run)(z)
    patches = np.asarray(captured["intermediates"]["to_pixels"]["__call__"][0])
    assert patches.shape == (BATCH, 8, 8, 2 * 2 * 3)
    pixels = np.zeros((BATCH, SIDE, SIDE, 3))
    for i, j, row, column in np.ndindex(8, 8, 2, 2):
        start = 3 * (2 * row + column)
        pixels[:, 2 * i + row, 2 * j + column] = patches[:, i, j, start : start + 3]
    last = params["to_image"]
    wanted = numpy_conv(leaky(pixels), last["kernel"]) + last["bias"]
    np.testing.assert_allclose(
        images, np.tanh(wanted) if output == "tanh" else wanted, rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def judge():
    """A discriminator with everything, its parameters, and what it makes of images and text."""
    text = text_of("tokens")
    images = draw(BATCH, SIDE, SIDE, 3, seed=6)
    module = discriminator_of(
        text, attention=(4,), expansion=1.0, group_width=2, embed_dim=5, token_match=8
    )
    params = random_params(module, images, text, method="score")

    def part(method):
        return jit(lambda *args: module.apply({"params": params}, *args, method=method))

    seen = jax.tree.map(np.asarray, part("image_features")(images))
    return params, part, seen, part("encode_text")(text), images, text


def test_words_are_looked_for_in_the_map_that_is_named(judge):
    params, part, (vector, seen), words, images, text = judge
    assert vector.shape == (BATCH, 4 * 4 * 8)
    assert seen.shape == (BATCH, 8, 8, 4)
    logits = part("logits")((vector, seen), words)
    sentence_only = part("logits")((vector, seen), words.replace(tokens=None, mask=None))
    match = jit(TokenMatch().apply)({"params": params["match"]}, seen, words)
    np.testing.assert_allclose(logits, sentence_only + match, rtol=1e-4, atol=1e-5)
    assert np.abs(match).min() > 1e-3

    # what is judged next to the sentence, by NumPy
    x = np.concatenate([leaky(dense(params["pool"], vector)), np.asarray(words.sentence)], axis=1)
    plain = leaky(dense(params["joint"], x)) @ params["output"]["kernel"]
    np.testing.assert_allclose(sentence_only, plain[:, 0], rtol=1e-4, atol=1e-5)

    # the smallest map is the one that the vector is made of
    smallest = discriminator_of(text, attention=(4,), expansion=1.0, group_width=2, token_match=4)
    both = jit(
        lambda x: smallest.apply(
            {"params": {k: v for k, v in params.items() if k not in ("match", "embedding")}},
            x,
            method="image_features",
        )
    )(images)
    np.testing.assert_allclose(both[0], vector, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(both[1].reshape(BATCH, -1), both[0])


def test_embeddings_are_those_of_the_vector_and_the_sentence(judge):
    params, part, features, words, _, _ = judge
    space = JointEmbedding(5).bind({"params": params["embedding"]})
    for embedding, wanted in (
        (part("embed_image")(features), space.of_image(features[0])),
        (part("embed_text")(words), space.of_text(words)),
    ):
        np.testing.assert_allclose(embedding, wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture
def judge_in_float64(judge):
    """Its score as a function of parameters, images and text; parameters, images and text."""
    params, *_, text = judge
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
        module = discriminator_of(
            text,
            attention=(4,),
            expansion=1.0,
            group_width=2,
            embed_dim=5,
            token_match=8,
            dtype=jnp.float64,
        )
        x = np.random.default_rng(7).normal(size=(BATCH, SIDE, SIDE, 3))

        def score(p, x, text):
            return module.apply({"params": p}, x, text, method="score")

        yield score, params, x, text


def r1(score, params, x, text):
    """Sum and values of the penalty, by double backward."""
    g = jax.grad(lambda x: score(params, x, text).sum())(x)
    return 0.35 * jnp.sum(g**2), 0.35 * jnp.sum(g**2, axis=(1, 2, 3))


@pytest.mark.slow  # by default the whole step is compared with formulas, of a small network
def test_r1_equals_double_backward_in_float64(judge_in_float64):
    score, params, x, text = judge_in_float64

    def ours(p):
        penalty, logits, _ = gradient_penalty(lambda x: (score(p, x, text), None), x, gamma=0.7)
        return penalty.sum(), (penalty, logits)

    gradient, (penalty, logits) = jit(jax.grad(ours, has_aux=True))(params)
    wanted, value = jit(jax.grad(lambda p: r1(score, p, x, text), has_aux=True))(params)
    assert logits.dtype == jnp.float64
    np.testing.assert_allclose(penalty, value, rtol=1e-10)
    assert np.min(value) > 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), gradient, wanted
    )


@pytest.mark.slow
def test_differences_along_noise_estimate_r1(judge_in_float64):
    score, params, x, text = judge_in_float64
    _, value = jit(functools.partial(r1, score))(params, x, text)
    noise = np.random.default_rng(8).normal(size=(2000, SIDE, SIDE, 3))
    same = jax.tree.map(lambda a: np.repeat(a[:1], len(noise), axis=0), (x, text))
    estimates, _, _ = jit(
        lambda x, text, noise: finite_difference_penalty(
            lambda x: (score(params, x, text), None), x, noise, gamma=0.35, eps=1e-3
        )
    )(*same, noise)
    assert float(estimates.mean()) == pytest.approx(float(value[0]), rel=0.1)


def patches_of(resolution, patch):
    return Config(
        data=DataConfig(resolution=resolution),
        model=ModelConfig(
            family="r3gan", z_dim=4, g_channels=8, d_channels=8, patch=patch, attention=()
        ),
        text=TextConfig(encoder="none"),
    )


def as_tree(tensors):
    return traverse_util.unflatten_dict({tuple(k.split("/")): v for k, v in tensors.items()})


def as_tensors(params):
    return {"/".join(k): np.asarray(v) for k, v in traverse_util.flatten_dict(params).items()}


def test_d_gives_an_enlarged_picture_the_score_of_the_small_one():
    there, here = patches_of(16, 2), patches_of(32, 4)
    small, large = (build_models(config)[1] for config in (there, here))
    images = draw(2, 16, 16, 3)
    init = jit(lambda key: small.init(key, images, None, method="score"))
    params = init(jax.random.key(0, impl="rbg"))["params"]
    grown = as_tree(enlarge_patches(as_tensors(params), there, here))

    def score(network):
        return jit(lambda p, x: network.apply({"params": p}, x, None, method="score"))

    want = score(small)(params, images)
    assert np.std(want) > 1e-3
    twice = images.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(score(large)(grown, twice), want, rtol=1e-4, atol=1e-5)
    # it reads the mean of what was one pixel
    noisy = twice + np.tile([[0.3, -0.3], [-0.3, 0.3]], (16, 16))[None, :, :, None]
    np.testing.assert_allclose(score(large)(grown, noisy), want, rtol=1e-4, atol=1e-5)


def test_g_repeats_its_last_map_in_larger_patches():
    there, here = patches_of(16, 2), patches_of(32, 4)
    small, large = (build_models(config)[0] for config in (there, here))
    z = draw(2, 4)
    params = start_params(small, z, None)
    grown = as_tree(enlarge_patches(as_tensors(params), there, here))

    def last_map(network, params):
        run = jit(
            lambda p: network.apply(
                {"params": p}, z, None, capture_intermediates=lambda m, _: m.name == "to_pixels"
            )[1]
        )
        (x,) = run(params)["intermediates"]["to_pixels"]["__call__"]
        return depth_to_space(x, here.model.patch if network is large else 2)

    want = last_map(small, params).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(last_map(large, grown), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("resolution", "patch"), [(16, 2), (32, 2), (16, 4), (48, 6)])
def test_patches_grow_only_as_much_as_pictures_do(resolution, patch):
    tensors = {"to_pixels/kernel": draw(3, 3, 8, 64), "from_image/kernel": draw(3, 3, 12, 8)}
    there, here = patches_of(16, 2), patches_of(resolution, patch)
    grown = enlarge_patches(tensors, there, here)
    changed = (resolution, patch) == (48, 6)
    assert (grown["to_pixels/kernel"].shape[-1] == 9 * 64) == changed
    assert (grown["from_image/kernel"].shape[2] == 9 * 12) == changed
