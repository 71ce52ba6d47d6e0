"""Ways between prompts and between noises, and away from a prompt."""

import difflib

import numpy as np

from flaxgan.text.conditioning import Text, TextFeatures


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From a to b at constant angular speed; lengths, which may differ, change linearly.

    Straight lines between high-dimensional normal vectors pass through shorter ones, which a
    generator never saw in training.

    Args:
      a, b: `[…, z]`.
      t: `[…]` in [0, 1], of a shape that broadcasts with theirs.

    Returns:
      `[…, z]`; vectors of one line (angle 0 or pi) are joined by it.

    Reference: Shoemake 1985, "Animating Rotation with Quaternion Curves"; for generators, White
      2016, "Sampling Generative Networks".
    """
    a, b, t = np.asarray(a, np.float64), np.asarray(b, np.float64), np.asarray(t)[..., None]
    lengths = [np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (a, b)]
    unit_a, unit_b = a / lengths[0], b / lengths[1]
    # exact also for small angles, where arccos is not
    angle = 2 * np.arctan2(
        np.linalg.norm(unit_a - unit_b, axis=-1, keepdims=True),
        np.linalg.norm(unit_a + unit_b, axis=-1, keepdims=True),
    )
    sine = np.sin(angle)
    on_a_line = sine < 1e-6
    safe = np.where(on_a_line, 1.0, sine)
    weight_a = np.where(on_a_line, 1 - t, np.sin((1 - t) * angle) / safe)
    weight_b = np.where(on_a_line, t, np.sin(t * angle) / safe)
    length = (1 - t) * lengths[0] + t * lengths[1]
    return (length * (weight_a * unit_a + weight_b * unit_b)).astype(np.float32)


def mix_texts(a: TextFeatures, b: TextFeatures, t: np.ndarray) -> TextFeatures:
    """Features between those of two texts, linearly: (1 - t) a + t b, of sentences and of tokens.

    Where one text is longer, the other's sentence vector, which is the mean of its tokens, stands
    for the token that it lacks, and the token weighs t or 1 - t: nothing jumps, and at 0 and 1 only
    one text is read. A mere union of the tokens jumps there, as attention picks out a new token
    that it looks for, however small its weight.

    Args:
      a, b: of one text each, `[1, …]`.
      t: `[n]` in [0, 1].

    Returns:
      Features `[n, …]`; their mask is float: the weights.
    """
    t = np.asarray(t, np.float32)[:, None]
    sentence = (1 - t) * a.sentence + t * b.sentence
    if a.tokens is None or b.tokens is None:
        return TextFeatures(sentence)
    of_a, of_b = (np.where(x.mask[..., None], x.tokens, x.sentence[:, None]) for x in (a, b))
    tokens = (1 - t[..., None]) * of_a + t[..., None] * of_b
    return TextFeatures(sentence, tokens, (1 - t) * a.mask + t * b.mask)


def avoid_text(text: TextFeatures, beside: TextFeatures, strength: float) -> TextFeatures:
    """Features of texts, moved away from something: g = f + s (f - f_beside), f' = |f| g / |g|.

    f is the sentence of a prompt, f_beside that of the same prompt with the avoided words behind
    it: their difference is what these words say here, and nothing that the prompt says. Every token
    is moved as its sentence is. The length stays what it was: longer vectors draw pictures that no
    prompt would.

    Args:
      text, beside: `[p, …]`.
      strength: s; 0: nothing is changed.

    Reference: extrapolation as in classifier-free guidance (Ho & Salimans 2022, eq. 6) with a
      negative prompt, of the condition instead of the score.
    """
    f = text.sentence
    g = f + strength * (f - beside.sentence)
    lengths = [np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (f, g)]
    g = g * (lengths[0] / lengths[1])
    return text.replace(
        sentence=g, tokens=None if text.tokens is None else text.tokens + (g - f)[:, None]
    )


def new_tokens(before: Text, after: Text) -> np.ndarray:
    """Which tokens of second captions are not those of the first ones, `[b, t]` bool.

    Args:
      before, after: with `tokens` and `mask`, `[b, t]`, as a tokeniser gives them.
    """
    found = np.zeros(np.shape(after.mask), bool)
    rows = zip(before.tokens, before.mask, after.tokens, after.mask, strict=True)
    for row, (a, a_mask, b, b_mask) in enumerate(rows):
        places = np.flatnonzero(b_mask)
        words = [
            list(np.asarray(x)[np.asarray(mask, bool)]) for x, mask in ((a, a_mask), (b, b_mask))
        ]
        match = difflib.SequenceMatcher(None, *words, autojunk=False)
        for kind, _, _, start, end in match.get_opcodes():
            if kind != "equal":
                found[row, places[start:end]] = True
    return found


def emphasise(text: TextFeatures, chosen: np.ndarray, weight: float) -> TextFeatures:
    """Text features in which some tokens weigh more in attention.

    Args:
      text: `[b, …]`; without tokens nothing is changed.
      chosen: `[b, t]` bool.
      weight: 1: nothing is changed.

    Reference: Hertz et al. 2022, "Prompt-to-Prompt", section 3.2, attention re-weighting.
      Deviation: the weight counts before the softmax's sum is made 1.
    """
    if text.tokens is None:
        return text
    t = text.mask.shape[1]
    return text.replace(mask=text.mask * np.where(chosen[:, :t], weight, 1.0).astype(np.float32))


def key_frames(stops: int, frames: int, *, loop: bool) -> np.ndarray:
    """Numbers of the frames that show the stops of a walk.

    Args:
      stops: at least 2.
      frames: of the film, at least as many.
      loop: whether the walk goes back to the first stop, which is not shown again: the film is
        shown again.

    Returns:
      `[stops]` int, with `loop` `[stops + 1]`, ascending, from 0 to the last frame or with `loop`
      one more.
    """
    end, legs = (frames, stops) if loop else (frames - 1, stops - 1)
    return np.round(np.arange(legs + 1) * end / legs).astype(int)
