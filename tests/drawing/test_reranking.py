"""The best of several is the one that the discriminator says fits best; and what cannot choose."""

import jax
import numpy as np
import pytest

from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.models import build_models
from flaxgan.saving.generator_file import discriminator_file, read_params
from tests.drawing.conftest import write_tiny

PROMPTS = ["a man", "a woman with pink hair"]


def scores_of(path, sampler, images):
    """`[p, n]` cosines of images and captions, from the discriminator's own parameters."""
    _, judge = build_models(sampler.config)
    tree = {}
    for name, leaf in read_params(discriminator_file(path), "discriminator")[1].items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaf

    @jax.jit
    def compare(x, text):
        def both(module):
            features = module.image_features(x)
            return module.embed_image(features), module.embed_text(module.encode_text(text))

        return judge.apply({"params": tree}, method=both)

    found = []
    for prompt, pictures in zip(PROMPTS, images, strict=True):
        x = pictures.astype(np.float32) / 127.5 - 1
        of_images, of_text = compare(x, sampler.encode([prompt]))
        of_images, of_text = np.asarray(of_images), np.asarray(of_text)
        lengths = np.linalg.norm(of_images, axis=-1) * np.linalg.norm(of_text, axis=-1)
        found.append((of_images * of_text).sum(axis=-1) / lengths)
    return np.stack(found)


def test_the_best_is_the_argmax_of_the_match(tiny, tiny_file):
    num, best_of = 3, 4
    candidates = tiny(PROMPTS, num=num * best_of, seed=2)
    scores = scores_of(tiny_file, tiny, candidates)
    best = tiny(PROMPTS, num=num, seed=2, best_of=best_of)
    assert best.shape == (2, num, 16, 16, 3)
    chosen = set()
    for row in range(2):
        for k in range(num):
            numbers = [k + i * num for i in range(best_of)]
            winner = max(numbers, key=lambda number: scores[row, number])
            chosen.add(winner // num)
            np.testing.assert_array_equal(best[row, k], candidates[row, winner])
    assert len(chosen) > 1  # not always the first
    np.testing.assert_array_equal(tiny(PROMPTS, num=num, seed=2, best_of=best_of), best)


def test_best_of_one_asks_nobody(tmp_path):
    path = write_tiny(tmp_path, discriminator=False)
    sampler = load_sampler(path)
    images = sampler("a man", num=2)
    np.testing.assert_array_equal(sampler("a man", num=2, best_of=1), images)
    with pytest.raises(UserError, match=r"no discriminator beside it .* --discriminator"):
        sampler("a man", best_of=2)


def test_no_matching_head(tmp_path):
    with pytest.raises(UserError, match=r"no matching head .* --model.embed-dim"):
        load_sampler(write_tiny(tmp_path, embed_dim=0))("a man", best_of=2)
    with pytest.raises(UserError, match="no matching head"):
        load_sampler(write_tiny(tmp_path, "mlp", family="mlp"))("a man", best_of=2)


def test_a_discriminator_of_another_run_is_refused(tmp_path):
    path = write_tiny(tmp_path)
    other = write_tiny(tmp_path, "other")
    discriminator_file(other).replace(discriminator_file(path))
    with pytest.raises(UserError, match="not of the same checkpoint"):
        load_sampler(path)("a man", best_of=2)


def test_a_run_chooses_by_its_own_discriminator(text_run):
    sampler = load_sampler(text_run)
    assert sampler.config.model.embed_dim
    images = sampler("a man", num=6, seed=1)
    scores = sampler.matcher.scores(images[None], sampler.encode(["a man"]))
    best = sampler("a man", num=1, seed=1, best_of=6)
    np.testing.assert_array_equal(best[0], images[scores[0].argmax()])


def test_truncation_of_a_sampler(tiny):
    plain = tiny(PROMPTS, num=3)
    np.testing.assert_array_equal(tiny(PROMPTS, num=3, truncation=1.0), plain)
    one = tiny(PROMPTS, num=3, truncation=0.0)
    np.testing.assert_array_equal(one[:, 1:], one[:, :-1])
    assert (one[0] != one[1]).any()  # prompts still differ
    spread = [
        x.astype(float).std(axis=1).mean()
        for x in (one, tiny(PROMPTS, num=3, truncation=0.5), plain)
    ]
    assert spread[0] < spread[1] < spread[2]


def test_avoiding(tiny):
    plain = tiny(PROMPTS, num=2, seed=1)
    np.testing.assert_allclose(
        tiny(PROMPTS, num=2, seed=1, avoid="a hat", avoid_strength=0).astype(int), plain, atol=1
    )
    away = tiny(PROMPTS, num=2, seed=1, avoid="a hat")
    assert (away != plain).any()
    each = tiny(PROMPTS, num=2, seed=1, avoid=["a beard", "a hat"])
    np.testing.assert_array_equal(each[1], away[1])
    assert (each[0] != away[0]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best_of": 0}, "best_of must be at least 1, not 0"),
        ({"best_of": "many"}, "best_of must be a whole number"),
        ({"truncation": 1.5}, r"truncation must be in \[0, 1\], not 1.5"),
        ({"truncation": float("nan")}, "truncation must be in"),
        ({"truncation": "less"}, "truncation must be a number"),
        ({"avoid": "a", "avoid_strength": -1}, r"avoid_strength must be in \[0, 8\], not -1"),
        ({"avoid": ["a", "b", "c"]}, "2 prompts need 2 texts to avoid, or one for all, not 3"),
    ],
)
def test_options_out_of_range(tiny, options, message):
    with pytest.raises(UserError, match=message):
        tiny(PROMPTS, **options)
