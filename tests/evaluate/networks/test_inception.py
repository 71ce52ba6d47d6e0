"""Inception: its tensors and errors, its poolings, and features recorded from torch-fidelity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.networks import inception
from flaxgan.evaluate.networks.inception import (
    BlockE,
    InceptionV3,
    average_pool,
    convert,
    load_inception,
    preprocess,
)

RESIZES = ("tf1", "bilinear", "bicubic_antialias")

# The convolutions of the reference as "name height x width in out", in its order
STEM = """
Conv2d_1a_3x3 3x3 3 32
Conv2d_2a_3x3 3x3 32 32
Conv2d_2b_3x3 3x3 32 64
Conv2d_3b_1x1 1x1 64 80
Conv2d_4a_3x3 3x3 80 192
"""
A = """
branch1x1 1x1 {c} 64
branch5x5_1 1x1 {c} 48
branch5x5_2 5x5 48 64
branch3x3dbl_1 1x1 {c} 64
branch3x3dbl_2 3x3 64 96
branch3x3dbl_3 3x3 96 96
branch_pool 1x1 {c} {n}
"""
B = """
branch3x3 3x3 {c} 384
branch3x3dbl_1 1x1 {c} 64
branch3x3dbl_2 3x3 64 96
branch3x3dbl_3 3x3 96 96
"""
C = """
branch1x1 1x1 {c} 192
branch7x7_1 1x1 {c} {n}
branch7x7_2 1x7 {n} {n}
branch7x7_3 7x1 {n} 192
branch7x7dbl_1 1x1 {c} {n}
branch7x7dbl_2 7x1 {n} {n}
branch7x7dbl_3 1x7 {n} {n}
branch7x7dbl_4 7x1 {n} {n}
branch7x7dbl_5 1x7 {n} 192
branch_pool 1x1 {c} 192
"""
D = """
branch3x3_1 1x1 {c} 192
branch3x3_2 3x3 192 320
branch7x7x3_1 1x1 {c} 192
branch7x7x3_2 1x7 192 192
branch7x7x3_3 7x1 192 192
branch7x7x3_4 3x3 192 192
"""
E = """
branch1x1 1x1 {c} 320
branch3x3_1 1x1 {c} 384
branch3x3_2a 1x3 384 384
branch3x3_2b 3x1 384 384
branch3x3dbl_1 1x1 {c} 448
branch3x3dbl_2 3x3 448 384
branch3x3dbl_3a 1x3 384 384
branch3x3dbl_3b 3x1 384 384
branch_pool 1x1 {c} 192
"""
BLOCKS = {
    "Mixed_5b": (A, 192, 32),
    "Mixed_5c": (A, 256, 64),
    "Mixed_5d": (A, 288, 64),
    "Mixed_6a": (B, 288, 0),
    "Mixed_6b": (C, 768, 128),
    "Mixed_6c": (C, 768, 160),
    "Mixed_6d": (C, 768, 160),
    "Mixed_6e": (C, 768, 192),
    "Mixed_7a": (D, 768, 0),
    "Mixed_7b": (E, 1280, 0),
    "Mixed_7c": (E, 2048, 0),
}


def reference_convs():
    lines = STEM.split("\n")
    for name, (block, c, n) in BLOCKS.items():
        lines += [f"{name}.{line}" for line in block.format(c=c, n=n).split("\n") if line]
    for line in filter(None, lines):
        name, kernel, c_in, c_out = line.split()
        yield name, (int(c_out), int(c_in), *map(int, kernel.split("x")))


@functools.cache
def state_dict():
    """Weights with the reference's names and shapes under which activations stay near 1."""
    draw = np.random.default_rng(0)
    tensors = {}
    for name, shape in reference_convs():
        c = shape[:1]
        fan_in = np.prod(shape[1:])
        tensors |= {
            f"{name}.conv.weight": draw.standard_normal(shape, np.float32) * (2 / fan_in) ** 0.5,
            f"{name}.bn.weight": draw.uniform(0.5, 1.5, c),
            f"{name}.bn.bias": draw.normal(0, 0.3, c),
            f"{name}.bn.running_mean": draw.normal(0, 0.3, c),
            f"{name}.bn.running_var": draw.uniform(0.5, 2, c),
            f"{name}.bn.num_batches_tracked": np.zeros((), np.int64),
        }
    tensors["fc.weight"] = draw.standard_normal((1008, 2048), np.float32) / 2048**0.5
    tensors["fc.bias"] = draw.standard_normal(1008)
    return {
        name: tensor if tensor.dtype == np.int64 else np.asarray(tensor, np.float32)
        for name, tensor in tensors.items()
    }


@functools.cache
def converted():
    return convert(state_dict())


def pictures(count, side):
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`load_inception` on tensors in memory in place of a file."""
    path = tmp_path / "weights.pth"
    path.touch()
    once = {id(state_dict()): converted()}
    monkeypatch.setattr(inception, "convert", lambda t: once.get(id(t)) or convert(t))

    def load(tensors, sha256="6726825d" + 56 * "0", **options):
        monkeypatch.setattr(inception, "read_state_dict", lambda path: (tensors, sha256))
        return load_inception(path, **options)

    return load


def test_the_reference_state_dict_fills_every_parameter():
    picture = jnp.zeros((1, 299, 299, 3))
    wanted = jax.eval_shape(InceptionV3().init, jax.random.key(0), picture)["params"]
    params = converted()
    assert jax.tree.structure(params) == jax.tree.structure(wanted)
    for leaf, shape in zip(jax.tree.leaves(params), jax.tree.leaves(wanted), strict=True):
        assert leaf.shape == shape.shape
        assert leaf.dtype == np.float32
    kernels = sum(np.prod(shape) for _, shape in reference_convs())
    biases = sum(shape[0] for _, shape in reference_convs())
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == kernels + biases + 2049 * 1008


@pytest.mark.parametrize(
    ("resize", "layer", "dim"),
    [
        ("tf1", "pool3", 2048),
        ("bilinear", "pool3", 2048),
        ("bicubic_antialias", "logits", 1008),
    ],
)
def test_shape_and_protocol(load, resize, layer, dim):
    network = load(state_dict(), resize=resize, layer=layer)
    if layer == "logits":  # the others are computed below
        out = jax.eval_shape(network.apply, network.params, pictures(2, 40))
        assert out.shape == (2, dim)
        assert out.dtype == jnp.float32
    assert network.dim == dim
    assert network.name == ("inception" if layer == "pool3" else "inception_logits")
    assert network.weights_sha256.startswith("6726825d")
    scaling = network.protocol["scaling"]
    assert ("2 x - 1" in scaling) == (resize == "bilinear")
    assert ("clipped" in scaling) == (resize == "bicubic_antialias")
    assert network.protocol | {"scaling": ""} == {
        "weights": "pt_inception-2015-12-05-6726825d.pth",
        "layer": f"{layer} {dim}",
        "input_side": 299,
        "resize": resize,
        "scaling": "",
    }


def test_other_weights_are_marked(load):
    assert load(state_dict(), sha256="0123" * 16).protocol["weights"] == "unverified"


def test_a_missing_file_says_what_to_download(tmp_path):
    with pytest.raises(UserError, match=r"download pt_inception-2015-12-05-6726825d\.pth") as error:
        load_inception(tmp_path / "none.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["Conv2d_1a_3x3.conv.weight", "Mixed_6c.branch_pool.bn.running_var", "fc.bias"]
)
def test_a_tensor_missing_or_misshapen_is_named(load, name):
    tensors = {k: v for k, v in state_dict().items() if k != name}
    with pytest.raises(UserError, match=f"it has no tensor {name}$"):
        load(tensors)
    shape = state_dict()[name].shape
    with pytest.raises(UserError) as error:
        load(tensors | {name: np.zeros((*shape, 1), np.float32)})
    assert str(error.value).endswith(f"{name} has shape {(*shape, 1)}, not {shape}")


@pytest.mark.parametrize("option", ["resize", "layer"])
def test_unknown_options_are_named(tmp_path, option):
    with pytest.raises(ValueError, match=rf"{option} must be one of .*, not 'lanczos'"):
        load_inception(tmp_path, **{option: "lanczos"})


def test_averages_leave_the_border_out():
    pool = jax.jit(average_pool)
    x = np.zeros((1, 5, 4, 1), np.float32)
    np.testing.assert_allclose(pool(x + 1), 1, rtol=1e-6)
    x[0, 0, 0] = 6
    corner = np.asarray(pool(x))[0, ..., 0]
    np.testing.assert_allclose(corner[:3, :3], [[1.5, 1, 0], [1, 2 / 3, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("pool", "pooled"), [("average", 1.0), ("max", 9.0)])
def test_the_two_pools_of_the_last_blocks(pool, pooled):
    x = np.zeros((1, 3, 3, 2), np.float32)
    x[0, 1, 1] = 9
    block = BlockE(pool)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    params["params"]["branch_pool"]["conv"]["kernel"][0, 0, 0, 0] = 1
    out = np.asarray(jax.jit(block.apply)(params, x))
    np.testing.assert_allclose(out[0, 1, 1, -192], pooled, rtol=1e-6)


def test_scaling_belongs_to_the_resize():
    images = np.array([[[[0, 128, 255]]]], np.uint8)
    for resize, wanted in {
        "bilinear": [-1, 128 / 127.5 - 1, 1],
        "tf1": [-1, 0, 127 / 128],
        "bicubic_antialias": [-1, 0, 127 / 128],
    }.items():
        x = preprocess(images, resize)
        assert x.shape == (1, 299, 299, 3)
        np.testing.assert_allclose(x, np.broadcast_to(wanted, x.shape), atol=1e-6)


def test_bicubic_overshoot_is_clipped():
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    x = preprocess(edge, "bicubic_antialias")
    assert x.min() == -1
    assert x.max() == 127 / 128


# A few features of the three pictures below with `state_dict()`, recorded from torch-fidelity 0.4
# (tf1) and pytorch-fid 0.3 (bilinear) by test_inception_parity.py, which also holds them equal
RECORDED_AT = [142, 487, 746, 1154, 1516, 1970]  # one in every branch of the last block
RECORDED = {
    "tf1": [
        [4.24822, 3.11626, 2.47821, 5.18994, 4.78566, 11.58349],
        [4.42202, 3.13362, 2.51193, 5.18348, 4.89888, 11.65561],
        [4.31201, 3.25359, 2.38375, 5.08996, 4.76454, 11.41761],
    ],
    "bilinear": [
        [4.28332, 3.08952, 2.48019, 5.1992, 4.80346, 11.46351],
        [4.41547, 3.18834, 2.48298, 5.22481, 4.91301, 11.65227],
        [4.32185, 3.25765, 2.35032, 5.07334, 4.81735, 11.49841],
    ],
}


@pytest.mark.parametrize(
    ("resize", "count", "batch_size"),
    [("tf1", 3, 2), pytest.param("bilinear", 2, 64, marks=pytest.mark.slow)],
)
def test_features_are_those_of_the_reference_in_any_batch(load, resize, count, batch_size):
    network = load(state_dict(), resize=resize)
    features = network(pictures(3, 32)[:count], batch_size=batch_size)
    assert features.shape == (count, 2048)
    assert features.dtype == np.float32
    wanted = RECORDED[resize][:count]
    np.testing.assert_allclose(features[:, RECORDED_AT], wanted, rtol=0, atol=1e-4)
