"""Variations and edits begin at the picture, and go where text and noise lead."""

import numpy as np
import pytest

from flaxgan.drawing.editing import add_residual
from flaxgan.drawing.inversion import Search
from flaxgan.errors import UserError

BEFORE, AFTER = "a man", "a hat"


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def found(tiny, pictures):
    return tiny.invert(pictures, BEFORE, search=Search(candidates=8, starts=2, steps=5))


def test_what_changes_is_drawn_and_the_rest_is_the_picture():
    rng = np.random.default_rng(0)
    picture, plain = rng.uniform(-1, 1, (2, 12, 12, 3))
    drawn = plain.copy()
    drawn[:, :4] += 0.5
    mixed = add_residual(picture, plain, drawn, 1.0)
    np.testing.assert_allclose(mixed[:, :3], drawn[:, :3])
    np.testing.assert_allclose(mixed[:, 8:], picture[:, 8:], atol=1e-12)
    np.testing.assert_array_equal(add_residual(picture, plain, drawn, 0.0), drawn)
    half = add_residual(picture, plain, drawn, 0.5)
    np.testing.assert_allclose(half, (mixed + drawn) / 2)
    small = add_residual(picture, plain, plain + 0.05, 1.0)  # below what counts as a change
    np.testing.assert_allclose(small, picture + 0.05)


def test_an_edit_to_the_same_words_changes_nothing(tiny, pictures, found):
    plain = tiny.edit(found, BEFORE, BEFORE, residual=0.0)
    reconstruction = tiny.edit(found, BEFORE, AFTER, strength=0.0, residual=0.0)
    np.testing.assert_array_equal(plain, reconstruction)
    away = np.sqrt((((plain[:, 0].astype(float) - pictures) / 255) ** 2).mean((1, 2, 3)))
    assert (np.abs(away - found.distance) < 0.05).all()  # clipped to [0, 255]
    np.testing.assert_array_equal(tiny.edit(found, BEFORE, BEFORE)[:, 0], pictures)


def test_an_edit_goes_from_caption_to_caption(tiny, found):
    strip = tiny.edit(found, BEFORE, AFTER, steps=3, residual=0.0)
    assert strip.shape == (2, 3, 16, 16, 3)
    assert strip.dtype == np.uint8
    np.testing.assert_array_equal(strip[:, :1], tiny.edit(found, BEFORE, BEFORE, residual=0.0))
    np.testing.assert_array_equal(strip[:, 2:], tiny.edit(found, BEFORE, AFTER, residual=0.0))
    half = tiny.edit(found, BEFORE, AFTER, strength=0.5, residual=0.0)
    np.testing.assert_array_equal(strip[:, 1:2], half)
    assert (strip[:, 2] != strip[:, 0]).any()
    mixed = tiny.edit(found, BEFORE, [AFTER, BEFORE], residual=0.0)
    np.testing.assert_array_equal(mixed[1], strip[1, :1])


def test_variations_go_from_the_picture_to_other_pictures_of_its_text(tiny, pictures, found):
    none = tiny.vary(found, num=2, strength=0.0, residual=0.0)
    plain = tiny.edit(found, BEFORE, BEFORE, residual=0.0)
    np.testing.assert_allclose(none.astype(int), np.repeat(plain, 2, axis=1), atol=1)
    kept = tiny.vary(found, num=2, strength=0.0)
    np.testing.assert_allclose(kept.astype(int), pictures[:, None].repeat(2, 1), atol=1)
    full = tiny.vary(found, num=2, strength=1.0, seed=9)
    drawn = tiny([BEFORE], num=4, seed=9)
    np.testing.assert_allclose(full.reshape(drawn.shape).astype(int), drawn, atol=2)
    few = tiny.vary(found, num=2, strength=0.3, seed=9)
    near, far = (np.abs(x.astype(float) - kept).mean() for x in (few, full))
    assert 0 < near < far
    np.testing.assert_array_equal(few, tiny.vary(found, num=2, strength=0.3, seed=9))
    assert (few[:, 0] != few[:, 1]).any()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("vary", {"num": 0}, "num must be at least 1"),
        ("vary", {"strength": 1.5}, r"strength must be in \[0, 1\]"),
        ("vary", {"prompts": ["a", "b", "c"]}, "2 pictures need 2 prompts"),
        ("edit", {"before": BEFORE, "after": AFTER, "steps": 0}, "steps must be at least 1"),
        ("edit", {"before": BEFORE, "after": 3}, "prompts must be a string"),
        ("edit", {"before": BEFORE, "after": [AFTER] * 3}, "2 pictures need 2 prompts"),
    ],
)
def test_what_does_not_fit_is_one_line(method, options, message, tiny, pictures):
    with pytest.raises(UserError, match=message):
        getattr(tiny, method)(pictures, **options)
