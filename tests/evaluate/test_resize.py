import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from flaxgan.evaluate.resize import resize, resize_matrix

PIL_FILTERS = {
    "bilinear_antialias": Image.Resampling.BILINEAR,
    "bicubic_antialias": Image.Resampling.BICUBIC,
}
MODES = ("tf1", "bilinear", "bicubic", *PIL_FILTERS)
# up, down, both at once, odd, a ratio above the kernel's width, one pixel
SIZES = [
    ((8, 8), (16, 16)),
    ((32, 32), (299, 299)),
    ((64, 48), (17, 91)),
    ((37, 41), (5, 6)),
    ((299, 7), (64, 7)),
    ((1, 9), (4, 3)),
]


def pictures(h, w):
    return np.random.default_rng(h * 1000 + w).uniform(0, 255, (2, h, w, 3)).astype(np.float32)


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
@pytest.mark.parametrize("mode", PIL_FILTERS)
def test_antialiased_modes_are_those_of_pil(mode, size_in, size_out):
    images = pictures(*size_in)
    wanted = np.empty((2, *size_out, 3), np.float32)
    for i in range(2):
        for c in range(3):
            channel = Image.fromarray(np.ascontiguousarray(images[i, ..., c]))
            assert channel.mode == "F"
            wanted[i, ..., c] = channel.resize(size_out[::-1], PIL_FILTERS[mode])
    np.testing.assert_allclose(resize(images, *size_out, mode), wanted, rtol=0, atol=3e-4)


@pytest.mark.parametrize(("size_in", "size_out"), [(8, 16), (32, 299), (41, 6), (299, 64), (1, 4)])
def test_tf1_is_the_formula_of_tensorflow_1(size_in, size_out):
    row = pictures(1, size_in)[0, 0, :, 0].astype(np.float64)
    wanted = []
    for i in range(size_out):
        at = i * size_in / size_out
        low = int(at)
        high = min(low + 1, size_in - 1)
        wanted.append(row[low] + (at - low) * (row[high] - row[low]))
    np.testing.assert_allclose(resize_matrix(size_in, size_out, "tf1") @ row, wanted, rtol=1e-6)


def test_weights_by_hand():
    np.testing.assert_allclose(resize_matrix(2, 4, "tf1"), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    np.testing.assert_allclose(
        resize_matrix(2, 4, "bilinear"), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )
    # shrinking by 2: the centre lies between two pixels, and all but the antialiased see just them
    np.testing.assert_allclose(resize_matrix(4, 2, "bilinear")[0], [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(
        resize_matrix(4, 2, "bilinear_antialias")[0], np.array([3, 3, 1, 0]) / 7, rtol=1e-6
    )
    # Keys' kernel at 1/2 and 3/2 is 1/2 - a/8 and a/8
    np.testing.assert_allclose(
        resize_matrix(8, 4, "bicubic")[1], [0, -0.09375, 0.59375, 0.59375, -0.09375, 0, 0, 0]
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_constants_and_equal_sizes(mode):
    for size_out in (3, 8, 13):
        np.testing.assert_allclose(resize_matrix(8, size_out, mode).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(resize_matrix(8, 8, mode), np.eye(8), atol=1e-7)
    images = pictures(6, 8)
    assert resize(images, 6, 8, mode) is images


@pytest.mark.parametrize("mode", MODES)
def test_resize_runs_under_jit(mode):
    images = pictures(6, 8)
    compiled = jax.jit(lambda x: resize(x, 9, 5, mode))(images)
    assert compiled.shape == (2, 9, 5, 3)
    assert compiled.dtype == np.float32
    np.testing.assert_allclose(compiled, resize(images, 9, 5, mode), rtol=1e-5, atol=1e-3)


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"one of tf1, bilinear, .* not 'nearest'"):
        resize_matrix(4, 8, "nearest")


@pytest.mark.parity
@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "bilinear_antialias"])
def test_modes_are_those_of_torch(mode, size_in, size_out):
    torch = pytest.importorskip("torch")
    images = pictures(*size_in)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        size=size_out,
        mode=mode.removesuffix("_antialias"),
        align_corners=False,
        antialias=mode.endswith("_antialias"),
    )
    # torch computes coordinates in float32
    np.testing.assert_allclose(
        resize(images, *size_out, mode), wanted.permute(0, 2, 3, 1), rtol=0, atol=1e-2
    )


@pytest.mark.parity
@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_tf1_is_that_of_torch_fidelity(size_in, size_out):
    torch = pytest.importorskip("torch")
    package = importlib.util.find_spec("torch_fidelity")
    if package is None:
        pytest.skip("torch_fidelity is not installed")
    # the file alone: the package imports torchvision, which this function does not need
    file = Path(package.origin).parent / "interpolate_compat_tensorflow.py"
    spec = importlib.util.spec_from_file_location("interpolate_compat_tensorflow", file)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    images = pictures(*size_in)
    wanted = reference.interpolate_bilinear_2d_like_tensorflow1x(
        torch.from_numpy(images).permute(0, 3, 1, 2), size=size_out, align_corners=False
    )
    np.testing.assert_allclose(
        resize(images, *size_out, "tf1"), wanted.permute(0, 2, 3, 1), rtol=0, atol=1e-2
    )
