import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from flaxgan import rng
from flaxgan.errors import UserError
from flaxgan.losses import gradient_penalty
from flaxgan.training import augment as aug
from flaxgan.training.augment import update_p

ALL = tuple(aug.POLICIES)
DIFF_AUGMENT = ("color", "translation", "cutout")
ALMOST_ONE = np.nextafter(np.float32(1), np.float32(0))


augment = jax.jit(aug.augment, static_argnames="policies")


def example_keys(indices, step=0):
    return rng.example_keys(jax.random.key(0), "augment", jnp.int32(step), jnp.asarray(indices))


@functools.partial(jax.jit, static_argnames="name")
def uniforms(keys, name):
    return jax.vmap(lambda key: aug.uniforms(key, name))(keys)


@functools.cache
def drawer(name, size):
    return jax.jit(functools.partial(aug.POLICIES[name].draw, size=size))


def pictures(b=16, h=9, w=16, c=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(b, h, w, c))


def numpy_flip(x, mirrored):
    return x[:, ::-1] if mirrored else x


def numpy_color(x, brightness, saturation, contrast):
    x = x + brightness
    grey = x.mean(axis=2, keepdims=True)
    x = (x - grey) * saturation + grey
    return (x - x.mean()) * contrast + x.mean()


def numpy_translation(x, down, right):
    out = np.zeros_like(x)
    for i, j in np.ndindex(x.shape[:2]):
        if 0 <= i - down < x.shape[0] and 0 <= j - right < x.shape[1]:
            out[i, j] = x[i - down, j - right]
    return out


def numpy_cutout(x, top, left):
    h, w, _ = x.shape
    out = x.copy()
    for i, j in np.ndindex(h, w):
        if top <= i < top + (h + 1) // 2 and left <= j < left + (w + 1) // 2:
            out[i, j] = 0
    return out


NUMPY = {
    "flip": numpy_flip,
    "color": numpy_color,
    "translation": numpy_translation,
    "cutout": numpy_cutout,
}


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_against_numpy(p):
    b, h, w = 16, 9, 16  # an odd and an even hole
    with jax.enable_x64(True):
        x = pictures(b, h, w)
        keys = example_keys(range(b))
        ours = augment(jnp.asarray(x), keys, ALL, p)
        all_u = {name: uniforms(keys, name) for name in ALL}
        draws = {name: drawer(name, (h, w)) for name in ALL}
        for i in range(b):
            wanted = x[i]
            for name in ALL:
                u = np.asarray(all_u[name][i])
                if u[3] < p:
                    parameters = map(np.asarray, draws[name](u[:3]))
                    wanted = NUMPY[name](wanted, *parameters)
            np.testing.assert_allclose(ours[i], wanted, atol=1e-12)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 2), (-1, -2), (1, -2), (-3, 4)])
def test_translation_and_cutout_by_pixels(down, right):
    x = pictures(1)[0].astype(np.float32)
    shift = np.int32(down), np.int32(right)
    moved, cut = jax.jit(aug.translation)(x, *shift), jax.jit(aug.cutout)(x, *shift)
    np.testing.assert_array_equal(moved, numpy_translation(x, down, right))
    np.testing.assert_array_equal(cut, numpy_cutout(x, down, right))


def test_closed_forms_of_color():
    color = jax.jit(aug.color)
    red = np.broadcast_to(np.float32([0.6, 0.0, 0.0]), (4, 4, 3))
    np.testing.assert_allclose(color(red, 0.0, 0.0, 1.0), np.full((4, 4, 3), 0.2), rtol=1e-6)
    np.testing.assert_allclose(color(red, 0.1, 1.0, 1.0), red + 0.1, rtol=1e-6)
    halves = np.concatenate([np.zeros((2, 4, 1)), np.ones((2, 4, 1))]).astype(np.float32)
    np.testing.assert_allclose(color(halves, 0.0, 1.0, 0.5), 0.25 + 0.5 * halves, rtol=1e-6)


def test_constant_colours():
    """A picture of one colour stays one; of a grey one only the brightness changes."""
    b = 8
    keys = example_keys(range(b))
    colours = np.broadcast_to(pictures(b, 1, 1), (b, 6, 6, 3))
    out = np.asarray(augment(jnp.asarray(colours), keys, ("color",), 1.0))
    np.testing.assert_allclose(out, np.broadcast_to(out[:, :1, :1], out.shape), atol=1e-6)
    assert np.all(np.abs(out - colours).max(axis=(1, 2, 3)) > 1e-3)
    greys = np.full((b, 6, 6, 3), 0.25, np.float32)
    brightness = np.asarray(uniforms(keys, "color"))[:, 0].reshape(b, 1, 1, 1) - 0.5
    np.testing.assert_allclose(augment(greys, keys, ("color",), 1.0), greys + brightness, atol=1e-6)


def test_ranges_of_the_parameters():
    def extremes(name, size):
        low, high = jnp.zeros(3), jnp.full(3, ALMOST_ONE)
        draw = aug.POLICIES[name].draw
        return [tuple(float(x) for x in draw(u, size)) for u in (low, high)]

    assert extremes("flip", (9, 16)) == [(1,), (0,)]
    low, high = extremes("color", (9, 16))
    assert low == (-0.5, 0.0, 0.5)
    assert high == pytest.approx((0.5, 2.0, 1.5))
    # 9 / 8 rounds to 1, 12 / 8 to 2
    assert extremes("translation", (9, 12)) == [(-1, -2), (1, 2)]
    assert extremes("translation", (32, 64)) == [(-4, -8), (4, 8)]
    # the side is 5 around a pixel of 0 … 8, and 8 around an edge of 0 … 16
    assert extremes("cutout", (9, 16)) == [(-2, -4), (6, 12)]


@pytest.mark.parametrize(("name", "values"), [("translation", 9), ("cutout", 33)])
def test_whole_numbers_are_equally_likely(name, values):
    n = 20_000
    u = uniforms(example_keys(range(n)), name)
    drawn = jax.vmap(lambda u: jnp.stack(aug.POLICIES[name].draw(u, (32, 32))))(u)
    for axis in np.asarray(drawn).T:
        counts = np.unique(axis, return_counts=True)[1]
        assert len(counts) == values
        assert np.all(np.abs(counts - n / values) < 5 * np.sqrt(n / values))
    assert abs(np.corrcoef(np.asarray(drawn).T)[0, 1]) < 5 / np.sqrt(n)


def test_mirrors_half_of_the_examples():
    """Also at p = 1, or G would learn mirrored pictures."""
    n = 2000
    x = jnp.broadcast_to(jnp.array([[[0.0], [1.0]]]), (n, 1, 2, 1))
    mirrored = np.asarray(augment(x, example_keys(range(n)), ("flip",), 1.0))[:, 0, 0, 0]
    assert abs(mirrored.sum() - n / 2) < 5 * np.sqrt(n / 4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_probability_zero_is_the_identity(dtype):
    x = pictures()
    x[:, 0] = -0.0
    x = jnp.asarray(x, dtype)
    y = augment(x, example_keys(range(16)), ALL, 0.0)
    assert y.dtype == dtype
    assert np.asarray(y).tobytes() == np.asarray(x).tobytes()


def test_policies_are_applied_independently_with_probability_p():
    n, p = 4000, 0.5
    y = np.asarray(augment(jnp.ones((n, 4, 4, 3)), example_keys(range(n)), ("color", "cutout"), p))
    flat = y.reshape(n, -1)
    cut = np.any(flat == 0, axis=1)
    coloured = flat.max(axis=1) != 1
    for count, probability in ((cut, p), (coloured, p), (cut & coloured, p * p)):
        bound = 5 * np.sqrt(n * probability * (1 - probability))
        assert abs(count.sum() - n * probability) < bound


def test_an_example_depends_on_its_own_key_only():
    x = jnp.asarray(pictures(), jnp.float32)
    keys = example_keys(range(16))
    whole = augment(x, keys, ALL, 0.8)
    alone = [augment(x[i : i + 1], keys[i : i + 1], ALL, 0.8) for i in range(16)]
    np.testing.assert_allclose(whole, np.concatenate(alone), atol=1e-6)
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_allclose(augment(x[order], keys[order], ALL, 0.8), whole[order], atol=1e-6)
    assert not np.allclose(augment(x, example_keys(range(16), step=1), ALL, 0.8), whole, atol=0.1)


def test_a_policy_draws_the_same_with_and_without_others():
    x = jnp.asarray(pictures(), jnp.float32)
    keys = example_keys(range(16))
    first, second = ("flip", "color"), ("translation", "cutout")
    np.testing.assert_allclose(
        augment(augment(x, keys, first, 0.8), keys, second, 0.8),
        augment(x, keys, ALL, 0.8),
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        augment(x, keys, ALL[::-1], 0.8), augment(x, keys, ALL, 0.8), err_msg="the order is fixed"
    )


def test_one_and_eight_devices_agree():
    x = jnp.asarray(pictures(), jnp.float32)
    keys = example_keys(range(16))
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spec = PartitionSpec("batch")
    mapped = jax.shard_map(
        lambda x, keys: augment(x, keys, ALL, 0.8), mesh=mesh, in_specs=spec, out_specs=spec
    )
    on_eight = jax.jit(mapped)(x, keys)
    assert len(on_eight.sharding.device_set) == 8
    np.testing.assert_allclose(on_eight, augment(x, keys, ALL, 0.8), atol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_the_same_keys_transform_another_image_alike(p):
    """The transformation of given keys is affine: T(x) + T(y) = T(x + y) + T(0)."""
    with jax.enable_x64(True):
        x, y = (jnp.asarray(pictures(seed=seed)) for seed in (0, 1))
        keys = example_keys(range(16))
        tx, ty, t0, txy = (augment(z, keys, ALL, p) for z in (x, y, 0 * x, x + y))
    np.testing.assert_allclose(tx + ty, txy + t0, atol=1e-12)


def test_dtypes_draw_alike():
    keys = example_keys(range(16))
    x = jnp.asarray(pictures(), jnp.bfloat16)
    outs = [augment(x.astype(dtype), keys, ALL, 0.8) for dtype in ("bfloat16", "float32")]
    with jax.enable_x64(True):
        outs.append(augment(x.astype("float64"), keys, ALL, 0.8))
    assert [out.dtype.name for out in outs] == ["bfloat16", "float32", "float64"]
    half, single, exact = (np.asarray(out, np.float64) for out in outs)
    np.testing.assert_allclose(single, exact, atol=1e-6)
    np.testing.assert_allclose(half, exact, atol=0.01)


def test_a_new_p_does_not_recompile():
    traces = []

    @jax.jit
    def run(x, keys, p):
        traces.append(p)
        return aug.augment(x, keys, ALL, p)

    x, keys = jnp.asarray(pictures(), jnp.float32), example_keys(range(16))
    outs = [run(x, keys, jnp.float32(p)) for p in (0.0, 0.4, 1.0)]
    assert len(traces) == 1
    assert not np.allclose(outs[1], outs[2], atol=0.1)


def test_gradient_against_finite_differences():
    with jax.enable_x64(True):
        x, direction = (jnp.asarray(pictures(6, seed=seed)) for seed in (0, 1))
        keys = example_keys(range(6))

        @jax.jit
        def f(x):
            return jnp.sum(jnp.sin(3.0 * augment(x, keys, ALL, 0.8)), axis=(1, 2, 3))

        eps = 1e-5
        slopes = (f(x + eps * direction) - f(x - eps * direction)) / (2 * eps)
        gradient = jax.jit(jax.grad(lambda x: f(x).sum()))(x)
        np.testing.assert_allclose(
            jnp.sum(gradient * direction, axis=(1, 2, 3)), slopes, rtol=1e-6, atol=1e-7
        )


def test_r1_through_the_augmentation_equals_double_backward():
    """With respect to the images before it."""
    with jax.enable_x64(True):
        b = 5
        x = jnp.asarray(pictures(b))
        keys = example_keys(range(b))
        draws = np.random.default_rng(2)
        w1 = jnp.asarray(draws.normal(size=(x[0].size, 7)) * 0.1)
        w2 = jnp.asarray(draws.normal(size=7))

        def logits(w, x):
            seen = aug.augment(x, keys, DIFF_AUGMENT, 0.8)
            return jnp.tanh(seen.reshape(b, -1) @ w[0]) @ w[1]

        def ours(w):
            return gradient_penalty(lambda x: (logits(w, x), None), x, gamma=0.7)[0].sum()

        def reference(w):
            return 0.35 * jnp.sum(jax.grad(lambda x: logits(w, x).sum())(x) ** 2)

        value, gradient = jax.jit(jax.value_and_grad(ours))((w1, w2))
        wanted, wanted_gradient = jax.jit(jax.value_and_grad(reference))((w1, w2))
        assert float(value) == pytest.approx(float(wanted), rel=1e-10)
        for a, e in zip(gradient, wanted_gradient, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("policies", [("color", "blur"), "color"])
def test_unknown_policies_are_refused(policies):
    with pytest.raises(
        UserError, match=r"augment\.policies must be one of flip, color, translation"
    ):
        augment(jnp.zeros((1, 4, 4, 3)), example_keys([0]), policies, 1.0)


def test_as_many_keys_as_images():
    with pytest.raises(ValueError, match="inconsistent sizes"):
        augment(jnp.zeros((2, 4, 4, 3)), example_keys([0]), ALL, 1.0)


@pytest.mark.parametrize(
    ("p", "sign", "options", "wanted"),
    [
        (0.5, 0.7, {}, 0.5 + 64 / 500_000),
        (0.5, 0.5, {}, 0.5 - 64 / 500_000),
        (0.5, 0.6, {"target": 0.5, "kimg_per_unit": 100.0}, 0.5 + 64 / 100_000),
        (0.5, 0.25, {"target": 0.25}, 0.5),
        (0.0, -1.0, {}, 0.0),
        (0.99999, 1.0, {}, 1.0),
        (0.3, 1.0, {"p_max": 0.3}, 0.3),
        (0.3, 0.0, {"p_max": 0.3}, 0.3 - 64 / 500_000),
    ],
)
def test_update_p(p, sign, options, wanted):
    new = jax.jit(lambda p, sign: update_p(p, sign, batch_size=64, **options))(
        jnp.float32(p), jnp.float32(sign)
    )
    assert new.dtype == jnp.float32
    assert float(new) == pytest.approx(wanted, abs=1e-7)


def test_p_rises_from_zero_to_one_in_the_given_number_of_images():
    steps = 1000
    p = jax.lax.fori_loop(
        0, steps, lambda _, p: update_p(p, 1.0, batch_size=16, kimg_per_unit=32.0), jnp.zeros(())
    )
    assert float(p) == pytest.approx(steps * 16 / 32_000, rel=1e-4)


@pytest.mark.parity
def test_against_torch():
    """Values and gradients of DiffAugment's formulas, channels first."""
    torch = pytest.importorskip("torch")
    b, h, w = 12, 16, 24
    with jax.enable_x64(True):
        x, weight = pictures(b, h, w), pictures(b, h, w, seed=1)
        keys = example_keys(range(b))
        draws = {}
        for name in DIFF_AUGMENT:
            draw = aug.POLICIES[name].draw
            drawn = jax.vmap(lambda u, draw=draw: draw(u, (h, w)))(uniforms(keys, name))
            draws[name] = [np.array(values) for values in drawn]

        def weighted(x):
            y = aug.augment(x, keys, DIFF_AUGMENT, 1.0)
            return jnp.sum(weight * y**2), y

        gradient, ours = jax.jit(jax.grad(weighted, has_aux=True))(jnp.asarray(x))

    images = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    brightness, saturation, contrast = (
        torch.tensor(values, dtype=torch.float64).reshape(b, 1, 1, 1) for values in draws["color"]
    )
    y = images + brightness
    y = torch.lerp(y.mean(dim=1, keepdim=True), y, saturation)
    y = torch.lerp(y.mean(dim=(1, 2, 3), keepdim=True), y, contrast)
    moved = []
    for picture, down, right in zip(y, *draws["translation"], strict=True):
        # negative padding crops
        sides = (int(right), -int(right), int(down), -int(down))
        moved.append(torch.nn.functional.pad(picture, sides))
    mask = torch.ones(b, 1, h, w, dtype=torch.float64)
    for hole, top, left in zip(mask, *draws["cutout"], strict=True):
        hole[:, max(top, 0) : top + h // 2, max(left, 0) : left + w // 2] = 0
    y = torch.stack(moved) * mask
    (torch.tensor(weight.transpose(0, 3, 1, 2)) * y.square()).sum().backward()

    np.testing.assert_allclose(ours, y.detach().numpy().transpose(0, 2, 3, 1), atol=1e-12)
    np.testing.assert_allclose(gradient, images.grad.numpy().transpose(0, 2, 3, 1), atol=1e-12)
