"""The attribute classifiers: what is bundled, and the command that remakes it."""

import functools

import numpy as np
import pytest

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")

from flaxgan.data import avatars
from flaxgan.data.avatars import ATTRIBUTES
from flaxgan.errors import UserError
from flaxgan.evaluate.networks.attribute_net import (
    SIDES,
    bundled_weights,
    load_attribute_classifier,
    merge,
)
from tools import train_attribute_net
from tools.train_attribute_net import RELIABLE, render_example, visible

NAMES = list(ATTRIBUTES)
FRESH = range(20_000_000, 20_000_150)  # renders that nothing was trained or tested on


bundled = functools.cache(load_attribute_classifier)  # with its compiled program


@functools.cache
def renders(side, indices):
    images, labels = zip(*(render_example((side, i)) for i in indices), strict=True)
    return np.stack(images), np.stack(labels)


@pytest.mark.parametrize("side", SIDES)
def test_the_bundled_classifier_reads_fresh_renders(side):
    classifier = bundled(side)
    assert bundled_weights(side).stat().st_size <= 3_000_000
    assert {"hair", "hair_color", "skin", "clothing_color", "accessory"} <= set(classifier.classes)
    assert set(classifier.accuracy) == set(ATTRIBUTES)
    for name, accuracy in classifier.accuracy.items():
        assert (accuracy >= RELIABLE) == (name in classifier.classes)
    images, labels = renders(side, FRESH)
    kept = [NAMES.index(name) for name in classifier.classes]
    right = classifier.predict(images) == merge(labels, classifier.alike)[:, kept]
    shown = visible(labels)[:, kept]
    assert right[shown].mean() > 0.99
    colors = [list(classifier.classes).index(name) for name in ("hair_color", "clothing_color")]
    assert right[:, colors].all(axis=1).mean() > 0.97  # what binding is read from


@pytest.mark.parametrize("side", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_noise_and_blur_of_a_young_generator_are_seen_through(side):
    classifier = bundled(side)
    images, labels = renders(side, FRESH)
    noise = np.random.default_rng(0).normal(0, 6, images.shape)
    noisy = (images + noise).round().clip(0, 255).astype(np.uint8)
    kept = [NAMES.index(name) for name in classifier.classes]
    right = classifier.predict(noisy) == merge(labels, classifier.alike)[:, kept]
    assert right[visible(labels)[:, kept]].mean() > 0.97


def test_other_sizes_have_none():
    with pytest.raises(UserError, match="attributes are scored at 32 and 64 pixels, not at 48"):
        load_attribute_classifier(48)


def test_visible_is_what_captions_may_name():
    labels = np.zeros((3, len(NAMES)), int)
    accessory, hat = NAMES.index("accessory"), NAMES.index("hat")
    labels[1, accessory] = ATTRIBUTES["accessory"].index("SUNGLASSES")
    labels[2, hat] = ATTRIBUTES["hat"].index("JEDI")
    shown = visible(labels)
    hidden = {(row, NAMES[column]) for row, column in np.argwhere(~shown)}
    assert hidden == {(1, "eyes"), (1, "eyebrows"), (2, "eyebrows")}


def test_what_a_picture_cannot_show_is_not_visible():
    """Hair under a hat is not; clothes are; a head without hair or hat cannot be drawn."""
    attributes, _ = avatars.sample_example("test", 0)
    attributes |= {"hat": "WINTER_HAT_3", "hat_color": "RED", "hair": "BOB", "clothing": "HOODIE"}
    labels = np.array([values.index(attributes[name]) for name, values in ATTRIBUTES.items()])

    def same(name, value):
        other = ATTRIBUTES[name].index(value)
        return train_attribute_net._same_picture(labels, NAMES.index(name), other, 32)

    assert same("hair", "CURLY")
    assert not same("clothing", "OVERALL")
    assert not same("hair", "HIDDEN")
    labels[NAMES.index("hair")] = ATTRIBUTES["hair"].index("HIDDEN")
    assert not same("hat", "NONE")


def test_merge_replaces_one_value():
    labels = np.zeros((2, len(NAMES)), int)
    hair = NAMES.index("hair")
    side, caesar = (ATTRIBUTES["hair"].index(n) for n in ("CAESAR_SIDE_PART", "CAESAR"))
    labels[:, hair] = side, 1
    merged = merge(labels, {"hair": {"CAESAR_SIDE_PART": "CAESAR"}})
    assert list(merged[:, hair]) == [caesar, 1]
    assert list(labels[:, hair]) == [side, 1]


@pytest.mark.slow
def test_the_command_remakes_the_file(tmp_path, capsys, monkeypatch):
    """With few renders and steps: it runs, its file loads, and it says what it left out."""
    monkeypatch.setattr(train_attribute_net, "BATCH", 16)
    out = tmp_path / "a.safetensors"
    small = ["--renders", "40", "--test-renders", "10", "--steps", "3"]
    train_attribute_net.main([*small, "--out", str(out)])
    printed = capsys.readouterr().out
    assert "left out" in printed
    assert f"wrote {out}" in printed
    classifier = load_attribute_classifier(32, out)
    assert set(classifier.accuracy) == set(ATTRIBUTES)
    assert len(classifier.classes) < len(ATTRIBUTES)
    # further training is what the test below does
    monkeypatch.setattr(train_attribute_net, "train", lambda *data, init, **options: init)
    other = tmp_path / "b.safetensors"
    train_attribute_net.main([*small, "--init", str(bundled_weights(32)), "--out", str(other)])
    assert len(load_attribute_classifier(32, other).classes) > 10


def test_the_larger_network_begins_as_the_smaller_one_sees(monkeypatch):
    """Weights for 32 pixels, started from at 64, see the mean of every 2 x 2 pixels."""
    monkeypatch.setattr(train_attribute_net, "BATCH", 4)
    init = bundled(32).network.params
    images, labels = (x[:40] for x in renders(64, FRESH))
    params = train_attribute_net.train(images, labels, steps=1, lr=0.0, init=init)
    accuracy = train_attribute_net.test(params, images, labels)
    assert np.mean([accuracy[name] for name in ("hair_color", "skin", "clothing_color")]) > 0.95


@pytest.mark.slow
def test_training_learns(tmp_path):
    """A few steps on a few renders reduce the loss: the bundled file is not luck."""
    images, labels = renders(32, range(64))
    before = train_attribute_net.test(
        train_attribute_net.train(images, labels, steps=1), images, labels
    )
    after = train_attribute_net.test(
        train_attribute_net.train(images, labels, steps=60), images, labels
    )
    assert np.mean(list(after.values())) > np.mean(list(before.values())) + 0.2
