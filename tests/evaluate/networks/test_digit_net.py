"""The digit classifier: what is bundled, and the command that remakes it."""

import functools

import numpy as np
import pytest

pytest.importorskip("sklearn")

from flaxgan.data.stacked_digits import mode_of, render, sample_examples
from flaxgan.evaluate.networks.digit_net import bundled_weights, load_digit_classifier
from tools import train_digit_net

bundled = functools.cache(load_digit_classifier)  # with its compiled program


def test_the_bundled_classifier_reads_digits_that_it_was_not_trained_on():
    """Each of the 355 source digits of the split `test`, as the file says of itself."""
    images, labels = train_digit_net.labelled("test")
    accuracy = train_digit_net.test(bundled().network.params, images, labels)
    assert len(labels) == 355
    assert accuracy >= 0.98
    assert accuracy == pytest.approx(bundled().accuracy, abs=0.003)  # one digit: other rounding
    assert bundled_weights().stat().st_size < 200_000


def test_colours_are_read_each_for_itself_and_in_order():
    digits, chosen = sample_examples("test", np.arange(400))
    rows = zip(digits, chosen, strict=True)
    images = np.stack([render("test", *row) for row in rows])
    read = bundled().digits(images)
    assert ((read == digits).mean(axis=0) >= 0.97).all()
    turned = bundled().digits(images[..., [2, 0, 1]])
    np.testing.assert_array_equal(turned, read[:, [2, 0, 1]])
    np.testing.assert_array_equal(bundled().modes(images), mode_of(read))


def test_noise_of_a_young_generator_is_seen_through():
    images, labels = train_digit_net.labelled("test")
    noise = np.random.default_rng(0).normal(0, 12, images.shape)
    noisy = (images + noise).round().clip(0, 255).astype(np.uint8)
    assert train_digit_net.test(bundled().network.params, noisy, labels) >= 0.97


@pytest.mark.slow
def test_the_command_remakes_the_file(tmp_path, capsys, monkeypatch):
    """With few steps: it learns something, and its file says how much."""
    monkeypatch.setattr(train_digit_net, "BATCH", 32)
    out = tmp_path / "digits.safetensors"
    train_digit_net.main(["--steps", "60", "--out", str(out)])
    accuracy = load_digit_classifier(out).accuracy
    assert 0.4 < accuracy < bundled().accuracy
    printed = capsys.readouterr().out
    assert f"not trained on: {100 * accuracy:.2f} %" in printed
    assert f"wrote {out}" in printed
