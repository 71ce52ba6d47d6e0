"""Distances as evaluators give them: names, references, caches, and independence of batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate import real_features
from flaxgan.evaluate.evaluator import CaptionedSet
from flaxgan.evaluate.feature_evaluator import FeatureEvaluator
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.frechet import frechet_distance
from flaxgan.evaluate.networks.pixels import load_pixels8, shrink


class Pictures:
    """Coloured discs on coloured grounds; counts how often a picture is read."""

    name = "discs"
    flat_captions = ()

    def __init__(self, count, seed):
        draw = np.random.default_rng(seed)
        y, x = np.mgrid[:16, :16]
        self.images = np.empty((count, 16, 16, 3), np.uint8)
        for image in self.images:
            image[:] = draw.integers(100, 256, 3)
            cy, cx, radius = draw.uniform(5, 11), draw.uniform(5, 11), draw.uniform(2, 5)
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = draw.integers(0, 160, 3)

    def __len__(self):
        return len(self.images)

    def image(self, row):
        return self.images[row]


def whole(dataset, name="test"):
    return CaptionedSet(name, dataset, np.arange(len(dataset)), None)


def random_network(dim=6, seed=0, name="random"):
    """A fixed random projection of the pixels, with a ReLU."""
    weights = np.random.default_rng(seed).normal(size=(768, dim)).astype(np.float32)

    def apply(params, images):
        flat = images.reshape(len(images), -1).astype(jnp.float32) / 255.0
        return jnp.maximum(jnp.matmul(flat, params, precision="highest"), 0.0)

    return FeatureNetwork(name, dim, weights, apply, f"sha{seed}", {"layer": "relu"})


def score(evaluator, images, batch_size=32):
    accumulator = evaluator.accumulator()
    for start in range(0, len(images), batch_size):
        accumulator.add("test", images[start : start + batch_size])
    return {s.name: s for s in accumulator.scores()}


def evaluator(tmp_path, distances=("fd",), network=None, real=None, other=None):
    return FeatureEvaluator(
        network or random_network(), distances, whole(real or Pictures(200, 0)), other,
        cache_dir=tmp_path,
    )  # fmt: skip


def test_names_values_and_what_they_are_read_against(tmp_path):
    real, other, fake = (Pictures(200, seed) for seed in (0, 1, 2))
    network = random_network()
    judge = evaluator(tmp_path, ("fd", "kid", "prdc", "cmmd"), network, real, whole(other))
    scores = score(judge, fake.images)
    assert set(scores) == {
        *("fd_random", "kid_random", "cmmd"),
        *(f"{name}_random" for name in ("precision", "recall", "density", "coverage")),
    }
    features = [network(pictures.images) for pictures in (real, other, fake)]
    fd = scores["fd_random"]
    assert fd.value == pytest.approx(frechet_distance(features[0], features[2]), rel=1e-5)
    assert fd.real == pytest.approx(frechet_distance(features[0], features[1]), rel=1e-5)
    assert fd.protocol["real_pictures"] == fd.protocol["pictures"] == 200
    assert fd.protocol["weights_sha256"] == "sha0"
    assert scores["kid_random"].protocol["subset_size"] == 100
    assert scores["kid_random"].std_error > 0
    assert scores["precision_random"].protocol["k"] == 5


@pytest.mark.parametrize(("name", "expected"), [("inception", "fid"), ("x", "fd_x")])
def test_only_inception_is_called_fid(tmp_path, name, expected):
    judge = evaluator(tmp_path, network=random_network(name=name))
    assert set(score(judge, Pictures(50, 1).images)) == {expected}


def test_the_same_pictures_score_zero(tmp_path):
    real = Pictures(100, 0)
    judge = evaluator(tmp_path, ("fd", "cmmd"), real=real)
    for value in score(judge, real.images[::-1]).values():
        assert value.value == pytest.approx(0, abs=1e-6)


def test_batches_and_devices_do_not_matter(tmp_path, monkeypatch):
    fake = Pictures(90, 1).images
    values = [
        score(evaluator(tmp_path, ("fd", "kid", "prdc")), fake, batch_size)
        for batch_size in (7, 64, 90)
    ]
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    values.append(score(evaluator(tmp_path / "one", ("fd", "kid", "prdc")), fake))
    for name, first in values[0].items():
        for other in values[1:]:
            assert other[name].value == pytest.approx(first.value, rel=1e-5, abs=1e-9), name


def test_worse_pictures_score_higher(tmp_path):
    """The metric that picks the best checkpoint."""
    others = Pictures(200, 1).images
    noise = np.random.default_rng(2).integers(0, 256, others.shape, dtype=np.uint8)

    def less_blue(amount):
        return np.maximum(others.astype(int) - [0, 0, amount], 0).astype(np.uint8)

    variants = [others, less_blue(20), less_blue(60), np.tile(others[:1], (200, 1, 1, 1)), noise]
    judge = evaluator(tmp_path, network=load_pixels8())
    values = [score(judge, images)["fd_pixels8"].value for images in variants]
    assert values == sorted(values), values
    assert values[3] > 10 * values[0]


@pytest.mark.parametrize("distance", ["fd", "kid", "cmmd"])
def test_blur_and_noise_of_growing_strength_score_higher(tmp_path, distance):
    real = Pictures(120, 0)
    others = Pictures(120, 1).images.astype(np.float32)
    judge = evaluator(tmp_path, (distance,), random_network(dim=32), real)
    noise = np.random.default_rng(3).normal(size=others.shape)

    def value(images):
        images = images.round().clip(0, 255).astype(np.uint8)
        return next(iter(score(judge, images).values())).value

    def blurred(times):
        images = others
        for _ in range(times):
            images = (np.roll(images, 1, 1) + images + np.roll(images, 1, 2)) / 3
        return images

    by_noise = [value(others + sigma * noise) for sigma in (0, 30, 90)]
    by_blur = [value(blurred(times)) for times in (0, 4, 16)]
    by_shift = [value(others * (1 - amount)) for amount in (0, 0.15, 0.4)]
    for values in (by_noise, by_blur, by_shift):
        assert values == sorted(values), (by_noise, by_blur, by_shift)
        assert values[2] > values[0]


def test_real_features_are_computed_once_for_the_same_pixels_weights_and_protocol(tmp_path):
    calls = []
    network = random_network()

    def counting(params, images):
        jax.debug.callback(lambda: calls.append(1))
        return network.apply(params, images)

    def features(net, pictures):
        before = len(calls)
        counted = dataclasses.replace(net, apply=counting)
        result = real_features.real_features(counted, whole(pictures), cache_dir=tmp_path)
        jax.effects_barrier()
        np.testing.assert_allclose(result, net(pictures.images), rtol=1e-5)
        return len(calls) > before

    pictures = Pictures(70, 0)
    assert features(network, pictures)
    assert not features(network, Pictures(70, 0))  # equal pixels
    assert not features(network, pictures)
    changed = Pictures(70, 0)
    changed.images[69, 15, 15, 2] ^= 1
    assert features(network, changed)
    assert features(random_network(seed=1), pictures) is True
    assert features(dataclasses.replace(network, protocol={"layer": "other"}), pictures)
    for stored in tmp_path.glob("*.npy"):
        stored.write_bytes(stored.read_bytes()[:50])  # broken: computed again
    assert features(network, pictures)


def test_an_unwritable_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write features to .*file.*cache-dir"):
        score(evaluator(tmp_path / "file" / "x"), Pictures(20, 1).images)


@pytest.mark.parametrize("k", [0, 20])
def test_too_many_neighbours(tmp_path, k):
    few = whole(Pictures(20, 0))
    with pytest.raises(UserError, match=f"prdc_k must be from 1 to 19, not {k}"):
        FeatureEvaluator(random_network(), ("prdc",), few, None, cache_dir=tmp_path, k=k)


def test_frechet_alone_keeps_no_features(tmp_path):
    accumulator = evaluator(tmp_path).accumulator()
    accumulator.add("test", Pictures(64, 1).images)
    arrays = [v for v in vars(accumulator).values() if isinstance(v, (list, np.ndarray))]
    assert arrays == [[]]


@pytest.mark.parametrize("shape", [(3, 16, 24, 3), (2, 8, 8, 1), (2, 20, 17, 3)])
def test_shrink_averages_blocks(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    n, h, w, c = shape
    expected = np.zeros((n, 8, 8, c))
    for i, row, col in np.ndindex(n, 8, 8):
        block = images[i, row * (h // 8) :, col * (w // 8) :][: h // 8, : w // 8]
        expected[i, row, col] = block.astype(float).mean(axis=(0, 1)) / 255
    result = shrink(images)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.reshape(n, -1), atol=1e-6)
