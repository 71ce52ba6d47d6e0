import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.clip_metrics import clip_score, cmmd, r_precision


def unit(rng, n, d, around=0.0):
    x = around + rng.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_clip_score_by_hand():
    images = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [1.0, 0.0]])
    texts = np.array([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.1]])
    np.testing.assert_allclose(clip_score(images, texts), [100.0, 0.0, 60.0, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="in pairs"):
        clip_score(images, texts[:3])


def test_r_precision_of_perfect_features():
    rng = np.random.default_rng(0)
    texts = unit(rng, 300, 16)
    images = texts + 1e-3 * rng.normal(size=texts.shape)
    assert r_precision(images, texts) == (1.0, 0.0)
    assert r_precision(-images, texts) == (0.0, 0.0)


@pytest.mark.parametrize("candidates", [2, 10, 100])
def test_r_precision_of_random_features(candidates):
    rng = np.random.default_rng(candidates)
    mean, error = r_precision(unit(rng, 4000, 8), unit(rng, 4000, 8), candidates=candidates, seed=1)
    p = 1.0 / candidates
    assert error == pytest.approx(np.sqrt(p * (1 - p) / 4000), rel=0.2)
    assert abs(mean - p) < 4 * error


def test_r_precision_by_a_loop():
    """With all captions as candidates nothing is drawn."""
    rng = np.random.default_rng(0)
    texts = np.repeat(unit(rng, 12, 6), 3, axis=0)[rng.permutation(36)]  # each caption three times
    images = texts + 0.6 * unit(rng, 36, 6)
    hits = []
    for image, text in zip(images, texts, strict=True):
        others = [t for t in np.unique(texts, axis=0) if not np.array_equal(t, text)]
        assert len(others) == 11
        hits.append(all(float(image @ text) > float(image @ other) for other in others))
    mean, error = r_precision(images, texts, candidates=12)
    assert 0.1 < mean < 0.95
    assert mean == pytest.approx(np.mean(hits))
    assert error == pytest.approx(np.std(hits, ddof=1) / 6)


def test_r_precision_never_takes_the_same_caption_twice():
    """100 pictures of two captions: the own one would tie with itself."""
    texts = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)[np.arange(100) % 2]
    assert r_precision(texts, texts, candidates=2) == (1.0, 0.0)


def test_r_precision_of_ties():
    rng = np.random.default_rng(0)
    texts = np.eye(10, dtype=np.float32)
    assert r_precision(np.ones((10, 10)), texts, candidates=5) == pytest.approx((0.2, 0.0))
    # without ties the order of the draws is the seed's
    noisy = [r_precision(unit(rng, 10, 10), texts, candidates=5, seed=s) for s in (0, 1)]
    assert all(0 <= mean <= 1 for mean, _ in noisy)


def test_r_precision_depends_on_its_seed_alone():
    rng = np.random.default_rng(0)
    images, texts = unit(rng, 300, 4), unit(rng, 300, 4)
    images += 2 * texts
    first = r_precision(images, texts, seed=3)
    assert first == r_precision(images, texts, seed=3)
    assert first != r_precision(images, texts, seed=4)


def test_too_few_distinct_captions():
    texts = np.repeat(np.eye(5), 40, axis=0)
    message = "100 candidates needs at least 100 distinct captions, not 5"
    with pytest.raises(UserError, match=message):
        r_precision(texts, texts)
    with pytest.raises(UserError, match="at least 2 distinct"):
        r_precision(texts, texts, candidates=1)


def cmmd_by_loops(x, y, sigma, scale):
    x, y = x.astype(np.float64), y.astype(np.float64)

    def mean_kernel(a, b):
        return np.mean([[np.exp(-np.sum((p - q) ** 2) / (2 * sigma**2)) for q in b] for p in a])

    return scale * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


@pytest.mark.parametrize("chunk", [1, 7, 256])
@pytest.mark.parametrize("sigma", [10.0, 0.5])
def test_cmmd_by_loops(chunk, sigma):
    rng = np.random.default_rng(0)
    x, y = unit(rng, 23, 12), unit(rng, 31, 12, around=0.5)
    wanted = cmmd_by_loops(x, y, sigma, 1000.0)
    assert cmmd(x, y, sigma=sigma, chunk=chunk) == pytest.approx(wanted, rel=1e-9)
    assert cmmd(x, y, sigma=sigma, scale=1.0) == pytest.approx(wanted / 1000, rel=1e-9)


def test_cmmd_closed_forms():
    rng = np.random.default_rng(0)
    x = unit(rng, 300, 32)
    assert cmmd(x, x) == pytest.approx(0.0, abs=1e-10)
    assert cmmd(x, x[::-1]) == pytest.approx(0.0, abs=1e-10)
    # two points at distance r: 2 - 2 exp(-r^2 / 200)
    a, b = np.eye(2)[:1], np.eye(2)[1:]
    assert cmmd(a, b) == pytest.approx(1000 * 2 * (1 - np.exp(-0.01)), rel=1e-12)
    # a wide kernel sees the squared distance of means over sigma^2
    y = unit(rng, 300, 32, around=0.2)
    gap = np.sum((x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)) ** 2)
    assert cmmd(x, y, sigma=1e3, scale=1e6) == pytest.approx(gap, rel=1e-5)
