"""The pixel metric: area averages, and the order in which it puts worse and worse pictures."""

import numpy as np
import pytest

from flaxgan.evaluate.pixels import PixelEvaluator, shrink


@pytest.mark.parametrize("shape", [(3, 16, 24, 3), (2, 8, 8, 1), (2, 20, 17, 3)])
def test_shrink_averages_blocks(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    n, h, w, c = shape
    expected = np.zeros((n, 8, 8, c))
    for i in range(n):
        for row in range(8):
            for col in range(8):
                for channel in range(c):
                    block = [
                        int(images[i, y, x, channel])
                        for y in range(row * (h // 8), (row + 1) * (h // 8))
                        for x in range(col * (w // 8), (col + 1) * (w // 8))
                    ]
                    expected[i, row, col, channel] = sum(block) / len(block) / 255
    result = shrink(images)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.reshape(n, -1), atol=1e-6)


def pictures(count, seed):
    """Coloured discs on coloured grounds."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    images = np.empty((count, 32, 32, 3), np.uint8)
    for image in images:
        image[:] = draw.integers(100, 256, 3)
        cy, cx, radius = draw.uniform(10, 22), draw.uniform(10, 22), draw.uniform(4, 10)
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = draw.integers(0, 160, 3)
    return images


def test_worse_pictures_score_higher():
    others = pictures(200, seed=1)

    def less_blue(amount):
        return np.maximum(others.astype(int) - [0, 0, amount], 0).astype(np.uint8)

    variants = {
        "other real pictures": others,
        "a little less blue": less_blue(20),
        "less blue": less_blue(60),
        "noise": np.random.default_rng(2).integers(0, 256, others.shape, dtype=np.uint8),
    }
    evaluator = PixelEvaluator(pictures(200, seed=0), draw=variants.__getitem__)
    scores = {}
    for name in variants:
        ((metric, scores[name]),) = evaluator.run(name)
        assert metric == "fd_pixels8"
    assert list(scores) == sorted(scores, key=scores.__getitem__), scores
    assert scores["noise"] > 10 * scores["other real pictures"]


def test_one_picture_for_all_captions_scores_far_from_real():
    collapsed = np.tile(pictures(1, seed=1), (200, 1, 1, 1))
    evaluator = PixelEvaluator(pictures(200, seed=0), draw=lambda images: images)
    ((_, real),) = evaluator.run(pictures(200, seed=1))
    ((_, score),) = evaluator.run(collapsed)
    assert score > 10 * real


def test_the_same_pictures_score_zero():
    real = pictures(50, seed=0)
    ((_, score),) = PixelEvaluator(real, draw=lambda params: real[::-1]).run(None)
    assert score == pytest.approx(0, abs=1e-6)
