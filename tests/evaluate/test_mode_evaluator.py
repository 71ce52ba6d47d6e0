"""Mode coverage, against closed forms; collapse is seen."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")

from flaxgan.commands.evaluate import main
from flaxgan.config import DataConfig
from flaxgan.data import open_dataset
from flaxgan.data.stacked_digits import NUM_MODES, mode_of, render, sample_examples
from flaxgan.evaluate import METRICS
from flaxgan.evaluate.evaluator import captioned_set, lower_is_better, run_evaluators
from flaxgan.evaluate.mode_evaluator import ModeEvaluator, covered, reverse_kl
from flaxgan.evaluate.networks.digit_net import load_digit_classifier

TINY = DataConfig(name="stacked_digits/tiny", caption_key="", resolution=32)


def counts_of(modes):
    return np.bincount(modes, minlength=NUM_MODES)


def pictures(split, count):
    """Pictures of a split and the numbers that they show."""
    digits, chosen = sample_examples(split, np.arange(count))
    return np.stack([render(split, *row) for row in zip(digits, chosen, strict=True)]), digits


@pytest.mark.parametrize("kept", [1, 2, 10, 500, 1000])
def test_equally_many_of_some_modes(kept):
    """KL = log(1000 / kept): 0 for all, log 1000 for one."""
    counts = counts_of(np.repeat(np.arange(kept) * (NUM_MODES // kept), 7))
    assert covered(counts) == kept
    assert reverse_kl(counts) == pytest.approx(np.log(1000 / kept), abs=1e-12)


def test_uneven_modes():
    """Half of the pictures in one mode, the others in another two."""
    counts = np.array([4, 2, 0, 2])
    expected = 0.5 * np.log(0.5 * 4) + 2 * 0.25 * np.log(0.25 * 4)
    assert covered(counts) == 3
    assert reverse_kl(counts) == pytest.approx(expected, abs=1e-12)


def test_what_a_uniform_sample_is_expected_to_get():
    """(K - 1) / (2 n) in nats, as the docstring says."""
    modes = mode_of(sample_examples("train", np.arange(26_000))[0])
    assert covered(counts_of(modes)) == 1000
    assert reverse_kl(counts_of(modes)) == pytest.approx(999 / (2 * 26_000), rel=0.15)


def evaluate(images):
    """Scores of pictures against as many of the tiny test split, by name."""
    reference = captioned_set(open_dataset(TINY, "test"), "test", len(images))
    evaluator = ModeEvaluator(load_digit_classifier(), reference)

    def draw(captioned, batch_size):
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]

    return {score.name: score for score in run_evaluators([evaluator], draw, batch_size=24)}


def test_real_pictures_score_as_real_and_collapse_is_seen():
    images, digits = pictures("test", 64)
    true = counts_of(mode_of(digits))
    scores = evaluate(images)
    assert scores["modes"].value == scores["modes"].real
    assert scores["modes"].value == pytest.approx(covered(true), abs=1)
    assert scores["reverse_kl"].value == scores["reverse_kl"].real
    assert scores["reverse_kl"].value == pytest.approx(reverse_kl(true), abs=0.05)
    one = evaluate(np.repeat(images[:1], 64, axis=0))
    assert one["modes"].value == 1
    assert one["reverse_kl"].value == pytest.approx(np.log(1000))
    assert one["modes"].real == scores["modes"].real
    four = evaluate(np.repeat(images[:4], 16, axis=0))
    assert four["modes"].value == covered(counts_of(mode_of(digits[:4])))
    assert one["modes"].protocol["pictures"] == 64


def test_which_way_is_better():
    assert lower_is_better("reverse_kl")
    assert not lower_is_better("modes")


def test_a_folder_of_pictures_needs_no_captions(tmp_path):
    images, digits = pictures("train", 12)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    out = tmp_path / "scores.json"
    flags = ["--data", "stacked_digits/tiny", "--metrics", "modes", "--out", str(out)]
    main(["--images", str(tmp_path), *flags])
    scores = {score["name"]: score for score in json.loads(out.read_text())["scores"]}
    assert scores["modes"]["value"] == covered(counts_of(mode_of(digits)))
    assert scores["modes"]["better"] == "higher"
    assert scores["reverse_kl"]["value"] == pytest.approx(np.log(1000 / 12), abs=0.15)


def test_only_modes_of_the_evaluators_need_no_captions():
    evaluators = {name for name, metric in METRICS.items() if metric.evaluator is not None}
    needing = {name for name, metric in METRICS.items() if metric.needs_captions}
    assert evaluators - needing == {"modes"}
