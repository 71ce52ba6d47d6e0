"""PSNR against closed forms, and its baseline against Pillow."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flaxgan.evaluate.evaluator import CaptionedSet, lower_is_better, run_evaluators
from flaxgan.evaluate.psnr_evaluator import PsnrEvaluator, bicubic, psnr


def pictures(count=3, side=16):
    rng = np.random.default_rng(0)
    return rng.integers(40, 200, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("step", [1, 5, 51])
def test_an_equal_error_in_every_pixel(step):
    """20 log10(255 / step)."""
    real = pictures()
    found = psnr(real + np.uint8(step), real)
    np.testing.assert_allclose(found, 20 * np.log10(255 / step), rtol=1e-12)


def test_an_error_in_one_value_of_a_picture():
    real = pictures(2)
    drawn = real.copy()
    drawn[1, 3, 4, 2] += 10
    size = 16 * 16 * 3
    assert psnr(drawn, real) == pytest.approx([100.0, 10 * np.log10(255**2 * size / 100)])


@pytest.mark.parametrize("times", [2, 4])
def test_bicubic_is_that_of_pillow(times):
    real = pictures(1)
    found = bicubic(real, times)
    small = real.reshape(16 // times, times, 16 // times, times, 3).mean(axis=(1, 3))
    for c in range(3):
        channel = Image.fromarray(small[..., c].astype(np.float32), "F")
        wanted = np.asarray(channel.resize((16, 16), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[0, ..., c], wanted.clip(0, 255), atol=0.51)


def test_scores_are_means_over_pictures_in_their_order():
    real = pictures(5)
    dataset = SimpleNamespace(image=lambda row: real[row])
    reference = CaptionedSet("test", dataset, np.array([4, 2, 0, 1, 3]), None)
    errors = np.array([1, 2, 4, 8, 16])

    def draw(captioned, batch_size):
        for start in range(0, 5, batch_size):
            rows = captioned.rows[start : start + batch_size]
            yield real[rows] + errors[start : start + batch_size, None, None, None].astype(np.uint8)

    scores = run_evaluators([PsnrEvaluator(reference, 4)], draw, batch_size=2)
    values = {score.name: score for score in scores}
    wanted = (20 * np.log10(255 / errors)).mean()
    baseline = psnr(bicubic(real, 4), real).mean()
    assert values["psnr"].value == pytest.approx(wanted)
    assert values["psnr_gain"].value == pytest.approx(wanted - baseline)
    assert values["psnr"].protocol["bicubic"] == pytest.approx(baseline)
    assert not lower_is_better("psnr")
