"""One pass over the pictures, shared by the evaluators that want them."""

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import (
    CaptionedSet,
    Score,
    captioned_set,
    lower_is_better,
    run_evaluators,
)


class Counter:
    """Sums the pixels of each of its sets."""

    def __init__(self, name, sets):
        self.name, self.sets = name, sets

    def accumulator(self):
        return CounterAccumulator(self.name)


class CounterAccumulator:
    def __init__(self, name):
        self.name, self.sums = name, {}

    def add(self, set_name, images):
        assert len(images) <= 4
        self.sums[set_name] = self.sums.get(set_name, 0) + int(images.sum())

    def scores(self):
        for set_name, total in self.sums.items():
            yield Score(f"{self.name}_{set_name}", total)


class Dataset:
    """Pictures 0, 1, 2 … with one or two captions."""

    name = "numbers"

    def __init__(self, count):
        self.count = count
        self.flat_captions = ["x"]

    def __len__(self):
        return self.count

    def image(self, row):
        return np.full((1, 1, 1), row, np.uint8)

    def captions(self, row):
        return [f"{row} a", f"{row} b"][: 1 + row % 2]


def test_every_set_is_drawn_once_and_shown_to_those_who_want_it():
    a, b = (CaptionedSet(name, Dataset(9), np.arange(9), None) for name in "ab")
    asked = []

    def draw(captioned, batch_size):
        asked.append(captioned.name)
        yield from captioned.real_images(batch_size)

    done = []
    evaluators = [Counter("one", [a]), Counter("two", [a, b])]
    scores = run_evaluators(evaluators, draw, batch_size=4, advance=done.append)
    assert asked == ["a", "b"]
    assert done == [4, 4, 1] * 2
    assert {s.name: s.value for s in scores} == {"one_a": 36, "two_a": 36, "two_b": 36}


def test_missing_pictures_are_noticed():
    a = CaptionedSet("a", Dataset(9), np.arange(9), None)
    with pytest.raises(ValueError, match="4 pictures of set a, which has 9"):
        run_evaluators([Counter("one", [a])], lambda s, n: [np.zeros((4, 1, 1, 1))], batch_size=4)


def test_captioned_set_takes_one_caption_of_each_picture():
    made = captioned_set(Dataset(9), "test", 3, which=1)
    assert made.captions == ["0 a", "1 b", "2 a"]
    assert len(made) == 3
    assert len(captioned_set(Dataset(9), "test")) == 9
    with pytest.raises(UserError, match="test has 9 pictures, 10 requested"):
        captioned_set(Dataset(9), "test", 10)


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("fd_efflite0", True),
        ("fid", True),
        ("kid_efflite0", True),
        ("cmmd", True),
        ("duplicates", True),
        ("clip_score", False),
        ("attr_mean", False),
        ("binding_heldout", False),
        ("precision", False),
    ],
)
def test_which_way_is_better(name, lower):
    assert lower_is_better(name) == lower
    assert Score(name, 1.0).better == ("lower" if lower else "higher")
