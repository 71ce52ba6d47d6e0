"""Ways between prompts and noises: closed forms, ends, and steps that stay small."""

import numpy as np
import pytest

from flaxgan.drawing.walks import (
    avoid_text,
    emphasise,
    key_frames,
    mix_texts,
    new_tokens,
    slerp,
)
from flaxgan.errors import UserError
from flaxgan.text.conditioning import Text, TextFeatures


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def angle(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


def test_slerp_turns_at_constant_speed_in_the_plane_of_its_ends():
    a, b, t = draw(64), draw(64, seed=1), np.linspace(0, 1, 9)
    found = slerp(a, b, t).astype(np.float64)
    np.testing.assert_allclose(angle(found, a), t * angle(a, b), atol=1e-3)
    np.testing.assert_allclose(angle(found, b), (1 - t) * angle(a, b), atol=1e-3)
    lengths = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), lengths, rtol=1e-6)
    np.testing.assert_allclose(found[[0, -1]], [a, b], rtol=1e-6, atol=1e-6)


def test_slerp_of_a_quarter_turn():
    """From x to y: (cos, sin), between lengths 1 and 3."""
    t = np.array([0, 0.25, 0.5, 1])
    found = slerp(np.array([1.0, 0.0]), np.array([0.0, 3.0]), t)
    circle = np.stack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)], axis=1)
    np.testing.assert_allclose(found, circle * (1 + 2 * t)[:, None], atol=1e-6)


@pytest.mark.parametrize("b", [[2.0, 4.0], [-1.0, -2.0], [1.0, 2.0], [1.0, 2.000001]])
def test_slerp_on_one_line_is_straight(b):
    a, b, t = np.array([1.0, 2.0]), np.array(b), np.array([0.0, 0.3, 1.0])
    expected = (1 - t)[:, None] * a + t[:, None] * b
    np.testing.assert_allclose(slerp(a, b, t), expected, atol=1e-5)


def features(length, seed):
    tokens = draw(1, 6, 4, seed=seed)
    mask = np.arange(6)[None] < length
    tokens[0, length:] = 1e3  # what stands at padding must not matter
    sentence = tokens[:, :length].mean(axis=1)
    return TextFeatures(sentence, tokens, mask)


def test_texts_are_mixed_linearly():
    a, b = features(2, 1), features(4, 2)
    mixed = mix_texts(a, b, np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(mixed.sentence[1], 0.75 * a.sentence[0] + 0.25 * b.sentence[0])
    both = 0.75 * a.tokens[0, :2] + 0.25 * b.tokens[0, :2]
    np.testing.assert_allclose(mixed.tokens[1, :2], both, rtol=1e-6)
    lacking = 0.75 * a.sentence[0] + 0.25 * b.tokens[0, 2:4]
    np.testing.assert_allclose(mixed.tokens[1, 2:4], lacking, rtol=1e-6)
    np.testing.assert_allclose(
        mixed.mask, [[1, 1, 0, 0, 0, 0], [1, 1, 0.25, 0.25, 0, 0], [1, 1, 1, 1, 0, 0]]
    )
    for end, text, length in ((0, a, 2), (2, b, 4)):
        np.testing.assert_array_equal(mixed.tokens[end, :length], text.tokens[0, :length])
        np.testing.assert_array_equal(mixed.sentence[end], text.sentence[0])


def test_sentences_without_tokens_are_mixed_too():
    a, b = TextFeatures(draw(1, 3)), TextFeatures(draw(1, 3, seed=1))
    mixed = mix_texts(a, b, np.array([0.5]))
    np.testing.assert_allclose(mixed.sentence, 0.5 * (a.sentence + b.sentence), rtol=1e-6)
    assert mixed.tokens is None
    assert mixed.mask is None


def test_a_text_is_moved_away_at_its_own_length():
    text, beside = features(3, 1), features(4, 2)
    moved = avoid_text(text, beside, 2.0)
    ray = 3 * text.sentence - 2 * beside.sentence
    length = np.linalg.norm(text.sentence)
    np.testing.assert_allclose(moved.sentence, ray * length / np.linalg.norm(ray), rtol=1e-5)
    shift = moved.sentence - text.sentence
    np.testing.assert_allclose(moved.tokens[:, :3], text.tokens[:, :3] + shift, rtol=1e-5)
    np.testing.assert_allclose(moved.tokens[:, :3].mean(axis=1), moved.sentence, atol=1e-5)
    assert moved.sentence @ beside.sentence.T < text.sentence @ beside.sentence.T
    still = avoid_text(text, beside, 0.0)
    np.testing.assert_allclose(still.sentence, text.sentence, rtol=1e-6)


@pytest.mark.parametrize(
    ("stops", "frames", "loop", "expected"),
    [
        (2, 60, False, [0, 59]),
        (3, 61, False, [0, 30, 60]),
        (2, 60, True, [0, 30, 60]),
        (2, 2, False, [0, 1]),
        (3, 3, True, [0, 1, 2, 3]),
        (4, 5, False, [0, 1, 3, 4]),
    ],
)
def test_frames_of_the_prompts(stops, frames, loop, expected):
    assert key_frames(stops, frames, loop=loop).tolist() == expected


PROMPTS = ["a man", "a woman with pink hair", "a hat"]


@pytest.mark.parametrize("fixed_noise", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_frames_at_the_prompts_are_what_is_drawn_for_them(tiny, loop, fixed_noise):
    options = {"frames": 9, "num": 2, "seed": 3, "loop": loop, "fixed_noise": fixed_noise}
    film = tiny.interpolate(PROMPTS, **options)
    assert film.shape == (9, 2, 16, 16, 3)
    assert film.dtype == np.uint8
    drawn = tiny(PROMPTS, num=6, seed=3)
    for j, frame in enumerate((0, 3, 6) if loop else (0, 4, 8)):
        first = 0 if fixed_noise else 2 * j
        np.testing.assert_array_equal(film[frame], drawn[j, first : first + 2])
    np.testing.assert_array_equal(tiny.interpolate(PROMPTS, **options), film)


@pytest.mark.parametrize("fixed_noise", [False, True])
def test_neighbouring_frames_differ_little(tiny, fixed_noise):
    """Captions differ in length: nothing jumps where tokens come and go, nor at the prompts."""
    film = tiny.interpolate(PROMPTS[:2], frames=33, seed=1, fixed_noise=fixed_noise).astype(float)
    steps = np.abs(np.diff(film, axis=0)).mean(axis=(1, 2, 3, 4))
    whole = np.abs(film[-1] - film[0]).mean()
    assert whole > 4  # the prompts look different
    assert steps.max() < whole / 6
    assert steps[[0, -1]].max() < 2 * np.median(steps) + 0.5


def test_a_film_does_not_depend_on_its_parts(tiny, monkeypatch):
    from flaxgan.drawing import sampler as module

    whole = tiny.interpolate(PROMPTS[:2], frames=12, num=2)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 8)
    parts = tiny.interpolate(PROMPTS[:2], frames=12, num=2)
    assert np.abs(whole.astype(int) - parts).max() <= 1  # another batch size may round differently


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ["a man"]}, "at least two prompts"),
        ({"prompts": "a man"}, "at least two prompts"),
        ({"frames": 1}, r"frames must be at least 2, not 1"),
        ({"frames": 2}, "frames must be at least as many as prompts, 3, not 2"),
        ({"frames": 2.5}, "frames must be a whole number"),
        ({"num": 0}, "num must be at least 1"),
        ({"seed": -1}, "seed must be in"),
    ],
)
def test_walks_that_cannot_be(tiny, change, message):
    with pytest.raises(UserError, match=message):
        tiny.interpolate(**{"prompts": PROMPTS, "frames": 9, **change})


def test_new_tokens_are_those_that_a_caption_before_has_not():
    def text(*rows):
        tokens = np.array([row + [0] * (5 - len(row)) for row in rows])
        return Text(tokens=tokens, mask=tokens > 0)

    before, after = text([1, 2, 3], [1, 2, 3, 4]), text([1, 9, 8, 3], [1, 4])
    expected = [[False, True, True, False, False], [False] * 5]
    np.testing.assert_array_equal(new_tokens(before, after), expected)
    assert not new_tokens(after, after).any()


def test_emphasised_tokens_weigh_more():
    mask = np.array([[True, True, False]])
    text = TextFeatures(np.zeros((1, 2)), np.zeros((1, 3, 2)), mask)
    chosen = np.array([[False, True, True]])
    np.testing.assert_array_equal(emphasise(text, chosen, 4.0).mask, [[1.0, 4.0, 0.0]])
    np.testing.assert_array_equal(emphasise(text, chosen, 1.0).mask, mask)
    sentences = TextFeatures(np.zeros((1, 2)))
    assert emphasise(sentences, chosen, 4.0) is sentences
