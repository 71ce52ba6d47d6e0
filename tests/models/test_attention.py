import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.models.attention import (
    SLOWEST,
    Attention,
    ImageAttention,
    SwiGLU,
    attention_weights,
    grid_positions,
    rotary,
    sinusoids,
)

HEADS, WIDTH = 2, 16

# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_params(module, *args, **kwargs):
    """Random everywhere: also what starts at zero or one is put to the test."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)


def numpy_rotary(x, positions):
    """Pairs as complex numbers, turned by exp(i angle)."""
    rotated = []
    for half, position in zip(np.split(x, 2, axis=-1), positions.T, strict=True):
        first, second = np.split(half, 2, axis=-1)
        speeds = SLOWEST ** (np.arange(first.shape[-1]) / first.shape[-1])
        turned = (first + 1j * second) * np.exp(1j * position[:, None, None] * speeds)
        rotated += [turned.real, turned.imag]
    return np.concatenate(rotated, axis=-1)


def numpy_attention(params, x, context, mask, positions, qk_norm):
    """One example, head and place at a time, in float64."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    source = x if context is None else context

    def split(name, y):
        return (y @ params[name]["kernel"]).reshape(*y.shape[:-1], HEADS, WIDTH // HEADS)

    def norm(name, y):
        return y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + 1e-6) * params[name]["scale"]

    query, key, value = split("query", x), split("key", source), split("value", source)
    if qk_norm:
        query, key = norm("query_norm", query), norm("key_norm", key)
    if positions is not None:
        query, key = numpy_rotary(query, positions), numpy_rotary(key, positions)
    out = np.zeros(query.shape)
    for b, n, h in np.ndindex(*query.shape[:3]):
        keep = np.ones(source.shape[1], bool) if mask is None else mask[b]
        scores = key[b, keep, h] @ query[b, n, h] / np.sqrt(WIDTH // HEADS)
        weights = np.exp(scores - scores.max())
        out[b, n, h] = weights @ value[b, keep, h] / weights.sum()
    return out.reshape(x.shape) @ params["out"]["kernel"]


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("kind", ["self", "self-masked", "cross-masked"])
def test_attention_against_numpy(kind, qk_norm):
    x = draw(2, 6, WIDTH)
    context = draw(2, 5, 7, seed=2) if kind == "cross-masked" else None
    places = x.shape[1] if context is None else context.shape[1]
    mask = np.arange(places) < np.array([[2], [4]]) if "masked" in kind else None
    positions = grid_positions(2, 3) if kind.startswith("self") else None
    module = Attention(HEADS, qk_norm=qk_norm)
    params = random_params(module, x, context)
    out = jit(module.apply)({"params": params}, x, context, mask, positions)
    positions = None if positions is None else np.asarray(positions)
    wanted = numpy_attention(params, x, context, mask, positions, qk_norm)
    np.testing.assert_allclose(out, wanted, rtol=2e-4, atol=2e-5)


def test_masked_tokens_never_matter():
    x, context, mask = draw(2, 6, WIDTH), draw(2, 5, 7), np.arange(5) < np.array([[2], [4]])
    module = Attention(HEADS)
    params = random_params(module, x, context, mask)
    apply = jit(module.apply)
    out = apply({"params": params}, x, context, mask)
    for other in (np.float32(1e4), np.float32(0), draw(2, 5, 7, seed=3)):
        poisoned = np.where(mask[..., None], context, other)
        np.testing.assert_array_equal(apply({"params": params}, x, poisoned, mask), out)
    assert np.abs(apply({"params": params}, x, context, ~mask) - out).max() > 0.1


def test_float_masks_weigh_keys_as_if_they_were_there_so_often():
    query, key = draw(2, 6, 1, 4), draw(2, 3, 1, 4, seed=2)
    weights = attention_weights(query, key, np.array([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]]))
    exponentials = np.exp(np.einsum("bnhd,bmhd->bhnm", query, key) / 2)
    exponentials *= np.array([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]])[:, None, None]
    wanted = exponentials / exponentials.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(weights, wanted, rtol=1e-5, atol=1e-6)
    assert (weights[1, :, :, 0] == 0).all()
    nothing = attention_weights(query, key, np.zeros((2, 3)))
    np.testing.assert_array_equal(nothing, 0)


def test_no_token_at_all_gives_zero_and_finite_gradients():
    x, context, mask = draw(2, 6, WIDTH), draw(2, 5, 7), np.zeros((2, 5), bool)
    mask[0, :3] = True
    module = Attention(HEADS)
    params = random_params(module, x, context, mask)

    def total(params, x, context):
        out = module.apply({"params": params}, x, context, mask)
        return jnp.sum(out**2), out

    (_, out), gradients = jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(
        params, x, context
    )
    assert np.abs(out[0]).max() > 0
    np.testing.assert_array_equal(out[1], 0)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_rotary_turns_and_scores_depend_on_differences_alone():
    query, key = draw(1, 6, HEADS, 8), draw(1, 6, HEADS, 8, seed=2)
    positions = np.asarray(grid_positions(2, 3))
    np.testing.assert_array_equal(positions[4], [1, 1])
    turned = np.asarray(rotary(query, positions))
    np.testing.assert_allclose(turned, numpy_rotary(query, positions), atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(query, axis=-1), rtol=1e-5
    )

    def scores(query_shift, key_shift):
        return np.einsum(
            "bnhd,bmhd->bhnm",
            rotary(query, positions + np.float32(query_shift)),
            rotary(key, positions + np.float32(key_shift)),
        )

    here = scores([0, 0], [0, 0])
    np.testing.assert_allclose(scores([7, 3], [7, 3]), here, atol=1e-4)
    assert np.abs(scores([1, 0], [0, 0]) - here).max() > 0.1
    assert np.abs(scores([0, 1], [0, 0]) - here).max() > 0.1


def test_sinusoids_against_numpy():
    positions = np.asarray(grid_positions(3, 2))
    out = np.asarray(sinusoids(positions, 8))
    angles = positions[:, :, None] * SLOWEST ** (np.arange(2) / 2)
    for axis in (0, 1):
        part = out[:, 4 * axis : 4 * axis + 4]
        np.testing.assert_allclose(part[:, :2], np.sin(angles[:, axis]), atol=1e-6)
        np.testing.assert_allclose(part[:, 2:], np.cos(angles[:, axis]), atol=1e-6)
    np.testing.assert_allclose(np.mean(out**2, axis=1), 0.5, rtol=1e-5)


def test_normalised_logits_do_not_grow_with_the_input():
    """Values alone scale: places a hundred times as bright look at the same places."""
    x = draw(2, 6, WIDTH)
    for qk_norm in (True, False):
        module = Attention(HEADS, qk_norm=qk_norm)
        params = random_params(module, x)
        once, scaled = (module.apply({"params": params}, s * x) for s in (1.0, 100.0))
        linear = np.allclose(scaled, 100 * np.asarray(once), rtol=1e-3, atol=1e-3)
        assert linear == qk_norm


def test_swiglu_against_numpy():
    x = draw(2, 5, 12)
    params = random_params(SwiGLU(), x)
    assert params["out"]["kernel"].shape == (32, 12)  # 8 / 3 of 12
    gate, value = np.split(x @ params["gate_value"]["kernel"], 2, axis=-1)
    wanted = (gate / (1 + np.exp(-gate)) * value) @ params["out"]["kernel"]
    np.testing.assert_allclose(SwiGLU().apply({"params": params}, x), wanted, atol=1e-4)


@pytest.mark.parametrize("tokens", [None, draw(2, 5, 7)])
def test_image_attention_starts_as_the_identity_and_can_leave_it(tokens):
    x, mask = draw(2, 2, 3, WIDTH), None if tokens is None else np.ones((2, 5), bool)
    module = ImageAttention(HEADS)
    variables = jit(module.init)(jax.random.key(0), x, tokens, mask)
    np.testing.assert_array_equal(jit(module.apply)(variables, x, tokens, mask), x)
    gradients = jit(jax.grad(lambda v: jnp.sum(jnp.sin(module.apply(v, x, tokens, mask)))))(
        variables
    )
    names = {"places"} if tokens is None else {"places", "words"}
    assert {name for name in gradients["params"] if not name.endswith("_norm")} == names
    for name in names:
        assert np.abs(gradients["params"][name]["out"]["kernel"]).max() > 0


def test_image_attention_sees_all_places_their_order_and_words():
    x, tokens, mask = draw(2, 2, 3, WIDTH), draw(2, 5, 7), np.arange(5) < np.array([[2], [4]])
    module = ImageAttention(HEADS)
    params = random_params(module, x, tokens, mask)
    apply = jit(lambda x, tokens: module.apply({"params": params}, x, tokens, mask))
    out = apply(x, tokens)
    moved = apply(np.flip(x, axis=2), tokens)
    assert np.abs(np.flip(moved, axis=2) - out).max() > 1e-3  # positions are told apart
    changed = x.copy()
    changed[0, 1, 2] += 1
    difference = np.abs(apply(changed, tokens) - out).max(axis=-1)
    assert (difference[0] > 0).all()
    np.testing.assert_allclose(difference[1], 0, atol=1e-6)
    assert np.abs(apply(x, tokens + 1) - out).max() > 1e-2


def test_bfloat16_computes_softmax_in_float32():
    x, tokens, mask = draw(2, 2, 3, WIDTH), draw(2, 5, 7), np.ones((2, 5), bool)
    module = ImageAttention(HEADS, jnp.bfloat16)
    variables = jit(module.init)(jax.random.key(0), x, tokens, mask)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert jax.eval_shape(module.apply, variables, x, tokens, mask).dtype == jnp.bfloat16
    query = jnp.asarray(draw(1, 3, HEADS, 8), jnp.bfloat16)
    weights = attention_weights(query, query)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    assert rotary(query, grid_positions(1, 3)).dtype == jnp.bfloat16


def test_wrong_use_is_refused():
    x, key = draw(1, 2, 16), jax.random.key(0)
    with pytest.raises(UserError, match="multiple of 4 x 3 heads, not 16"):
        jax.eval_shape(Attention(3).init, key, x)
    with pytest.raises(ValueError, match="give no context"):
        jax.eval_shape(Attention(2).init, key, x, draw(1, 3, 4), None, grid_positions(1, 2))
