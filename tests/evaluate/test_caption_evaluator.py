"""Pictures against captions: a matcher that reads exactly, and what it says of liars."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.caption_evaluator import CaptionEvaluator
from flaxgan.evaluate.evaluator import CaptionedSet
from flaxgan.evaluate.feature_network import FeatureNetwork

DIM = 16


class Codes:
    """Picture i shows a random code; its caption is the code in figures."""

    name = "codes"
    flat_captions = ("x",)

    def __init__(self, count):
        rng = np.random.default_rng(0)
        self.codes = rng.integers(0, 256, (count, DIM), dtype=np.uint8)

    def image(self, row):
        return np.tile(self.codes[row][:, None, None], (1, 1, 3))  # [16, 1, 3]

    def caption(self, row):
        return " ".join(map(str, self.codes[row]))


def encode_text(captions):
    codes = np.array([[int(word) for word in caption.split()] for caption in captions], np.float32)
    return codes - 127.5


def network():
    def apply(params, images):
        return images[:, :, 0, 0].astype(jnp.float32) - 127.5

    return FeatureNetwork("codes", DIM, {}, apply, "sha", {"layer": "pixels"})


def evaluator(count=150, captions=None, with_score=True):
    data = Codes(count)
    captions = captions or [data.caption(row) for row in range(count)]
    captioned = CaptionedSet("test", data, np.arange(count), captions)
    judge = CaptionEvaluator("clip", network(), encode_text, captioned, with_score=with_score)
    return judge, np.stack([data.image(row) for row in range(count)])


def score(judge, images, batch_size=64):
    accumulator = judge.accumulator()
    for start in range(0, len(images), batch_size):
        accumulator.add("test", images[start : start + batch_size])
    return {s.name: s for s in accumulator.scores()}


def test_real_pictures_are_the_best_and_shuffled_ones_are_chance():
    judge, real = evaluator()
    scores = score(judge, real)
    assert set(scores) == {"clip_score", "clip_r_precision"}
    assert scores["clip_r_precision"].value == scores["clip_r_precision"].real == 1.0
    assert scores["clip_r_precision"].chance < 0.05
    assert scores["clip_score"].value == pytest.approx(100.0, abs=1e-3)
    assert scores["clip_score"].chance < 30
    assert scores["clip_r_precision"].protocol["candidates"] == 100
    shuffled = score(judge, np.roll(real, 7, axis=0))
    assert shuffled["clip_r_precision"].value < 0.05
    assert shuffled["clip_r_precision"].real == 1.0


def test_half_right_pictures_are_half_right():
    judge, real = evaluator()
    mixed = real.copy()
    mixed[75:] = np.roll(real[75:], 5, axis=0)
    scores = score(judge, mixed)
    assert scores["clip_r_precision"].value == pytest.approx(0.5, abs=0.03)
    assert scores["clip_r_precision"].std_error == pytest.approx(0.5 / 150**0.5, rel=0.05)
    assert 50 <= scores["clip_score"].value < 65


def test_batches_do_not_matter():
    judge, real = evaluator()
    noisy = (real.astype(int) + np.random.default_rng(1).integers(-90, 90, real.shape)).clip(0, 255)
    first, second = (score(judge, noisy.astype(np.uint8), size) for size in (7, 150))
    for name, value in first.items():
        assert second[name].value == pytest.approx(value.value, rel=1e-5)


def test_what_cannot_be_scored_is_refused():
    data = Codes(10)
    uncaptioned = CaptionedSet("test", data, np.arange(10), None)
    with pytest.raises(UserError, match="clip compares pictures with captions"):
        CaptionEvaluator("clip", network(), encode_text, uncaptioned, with_score=True)
    with pytest.raises(UserError, match="among 100 captions and there are 2 different ones"):
        evaluator(150, captions=["1", "2"] * 75)


def test_without_score():
    judge, real = evaluator(with_score=False)
    assert set(score(judge, real)) == {"clip_r_precision"}
