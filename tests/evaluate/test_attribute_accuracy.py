"""The arithmetic of the attribute scores, against counting by hand."""

import numpy as np
import pytest

pytest.importorskip("python_avatars")

from flaxgan.data import avatars
from flaxgan.data.avatar_captions import NUM_SENTENCES, named_attributes
from flaxgan.data.avatars import ATTRIBUTES, HELDOUT_PAIRS
from flaxgan.evaluate import attribute_accuracy
from flaxgan.evaluate.attribute_accuracy import Asked, asked

FULL, OPEN = 0, 2


def examples(split, count, which):
    """Attributes and one caption of each example."""
    rows = [avatars.sample_example(split, i) for i in range(count)]
    return [attributes for attributes, _ in rows], [captions[which] for _, captions in rows]


def test_every_caption_names_what_it_was_made_of():
    """Full captions in both languages name all that can be seen; short ones name a few."""
    must = ("skin", "hair", "hat", "facial_hair", "accessory", "clothing")
    counts = []
    for index in range(300):
        attributes, captions = avatars.sample_example("test", index)
        seen = {part for part in must if attributes[part] not in ("NONE", "HIDDEN")}
        seen |= {"hair"} if attributes["hair"] == "NONE" else set()  # "a bald head"
        seen |= {
            f"{part}_color"
            for part in seen
            if attributes.get(f"{part}_color", "HIDDEN") != "HIDDEN"
        }
        for number, caption in enumerate(captions[:NUM_SENTENCES]):
            named = named_attributes(attributes, caption)
            if number in (0, 1, 4, 5):
                assert seen <= named, caption
                assert named - seen <= {"mouth", "eyes", "eyebrows"}, caption
                assert len(named - seen) <= 1
            else:
                assert named, caption
                assert named <= seen | {"mouth", "eyes", "eyebrows"}
                counts.append(len(named) / len(seen))
    assert np.mean(counts) < 0.7


def test_a_caption_names_only_what_it_says():
    attributes, _ = avatars.sample_example("test", 0)
    attributes = {
        **attributes,
        "hat": "NONE",
        "hair": "BOB",
        "hair_color": "AUBURN",
        "clothing": "HOODIE",
        "clothing_color": "RED",
    }
    assert named_attributes(attributes, "a woman with an auburn bob") == {"hair", "hair_color"}
    assert named_attributes(attributes, "一个人，有赤褐色波波头") == {"hair", "hair_color"}
    assert named_attributes(attributes, "a red hoodie") == {"clothing", "clothing_color"}
    assert named_attributes(attributes, "a blue hoodie") == frozenset()


@pytest.fixture(scope="module")
def full():
    return asked(ATTRIBUTES, *examples("test", 400, FULL))


def test_real_attributes_are_all_right(full):
    scores = attribute_accuracy.accuracies(full, full.truth)
    assert {name: value for name, (value, _) in scores.items() if value != 1.0} == {}
    assert {"attr_mean", "attr_unasked", "binding", "attr/hair", "attr/skin"} <= set(scores)
    assert scores["attr/skin"][1] == 400
    assert "attr/graphic" not in scores  # no caption names it


def test_accuracy_counts_what_is_named(full):
    """One attribute wrong in the first 100 pictures, by hand."""
    predicted = full.truth.copy()
    k = full.column("clothing_color")
    predicted[:100, k] = (predicted[:100, k] + 1) % len(ATTRIBUTES["clothing_color"])
    scores = attribute_accuracy.accuracies(full, predicted)
    named = full.named[:, k]
    assert scores["attr/clothing_color"][0] == pytest.approx(1 - named[:100].sum() / named.sum())
    assert scores["attr/hair_color"][0] == 1.0
    both = named & full.named[:, full.column("hair_color")]
    assert scores["bind/hair_clothes"][0] == pytest.approx(1 - both[:100].sum() / both.sum())
    assert scores["bind/hair_clothes"][1] == both.sum()
    assert scores["bind/hair_beard"][0] == 1.0
    assert scores["binding"][0] == pytest.approx((scores["bind/hair_clothes"][0] + 1) / 2)
    shares = [value for name, (value, _) in scores.items() if name.startswith("attr/")]
    assert scores["attr_mean"][0] == pytest.approx(np.mean(shares))


def test_beards_are_bound_only_where_their_colour_differs(full):
    i, j = full.column("hair_color"), full.column("facial_hair_color")
    where = full.named[:, i] & full.named[:, j]
    differ = where & (full.truth[:, i] != full.truth[:, j])
    assert 0 < differ.sum() < where.sum()
    same = full.truth.copy()
    same[:, j] = same[:, i]  # the beard always takes the hair's colour
    scores = attribute_accuracy.accuracies(full, same)
    assert scores["bind/hair_beard"] == (0.0, differ.sum())


def test_things_nobody_asked_for_cost(full):
    predicted = full.truth.copy()
    k = full.column("accessory")
    none = full.number("accessory", "NONE")
    bare = predicted[:, k] == none
    predicted[bare, k] = full.number("accessory", "ROUND")
    scores = attribute_accuracy.accuracies(full, predicted)
    assert scores["attr/accessory"][0] == 1.0  # where glasses are named they are right
    assert scores["attr_unasked"][0] == pytest.approx(2 / 3)


def test_withheld_pairs():
    heldout = asked(ATTRIBUTES, *examples("heldout", 200, FULL))
    right, count = attribute_accuracy.withheld_accuracy(heldout, heldout.truth)["binding_heldout"]
    assert right == 1.0
    rows, captions = examples("heldout", 200, FULL)
    expected = sum(
        (row[first], row[second]) in pairs and {first, second} <= named_attributes(row, caption)
        for row, caption in zip(rows, captions, strict=True)
        for (first, second), pairs in HELDOUT_PAIRS.items()
    )
    assert count == expected
    assert count >= 200
    wrong = heldout.truth.copy()
    wrong[:, heldout.column("hair_color")] = 0
    wrong[:, heldout.column("facial_hair_color")] = 0
    assert attribute_accuracy.withheld_accuracy(heldout, wrong)["binding_heldout"][0] == 0.0


def two_attributes(truth, named):
    return Asked({"a": ("x", "y"), "b": ("p", "q", "r")}, np.array(truth), np.array(named, bool))


def test_open_distances_by_hand():
    prior = two_attributes([[0, 0], [1, 1], [0, 2], [1, 0]], [[0, 0], [0, 0], [1, 0], [0, 1]])
    what = two_attributes([[0, 0], [1, 1]], [[0, 1], [0, 0]])
    distances = attribute_accuracy.open_distances(prior, what, np.array([[1, 1], [1, 2]]))
    # a: shown y, y; expected x once, y twice; b: shown r; expected p, q, r once each
    assert distances == pytest.approx({"a": 1 / 3, "b": 2 / 3})


def test_repeats_by_hand():
    what = two_attributes([[0, 0]] * 3, [[0, 1], [0, 1], [1, 1]])
    first, second = np.array([[0, 0], [1, 1], [0, 2]]), np.array([[0, 1], [0, 2], [1, 2]])
    assert attribute_accuracy.repeats(what, first, second) == {"a": 0.5}  # b is always named
    prior = two_attributes([[0, 0], [1, 1], [1, 0], [1, 2]], np.zeros((4, 2)))
    chance = attribute_accuracy.chance_repeats(prior)
    assert chance == pytest.approx({"a": (1 + 9) / 16, "b": (4 + 1 + 1) / 16})


def test_variety_by_hand():
    """Three of four combinations differ; entropies 1 bit (half, half) and 0.81 (3 of 4)."""
    distinct, entropy = attribute_accuracy.variety(np.array([[0, 5], [0, 5], [1, 5], [1, 7]]))
    assert distinct == 0.75
    assert entropy == pytest.approx((1.0 + 0.75 * np.log2(4 / 3) + 0.25 * 2) / 2)
    assert attribute_accuracy.variety(np.zeros((4, 2), int)) == (0.25, 0.0)


def test_real_pictures_are_near_the_training_distribution_and_one_face_is_far():
    prior = asked(ATTRIBUTES, *examples("train", 2000, OPEN))
    test = asked(ATTRIBUTES, *examples("test", 600, OPEN))
    real = attribute_accuracy.open_distances(prior, test, test.truth)
    one = attribute_accuracy.open_distances(prior, test, np.tile(test.truth[:1], (600, 1)))
    assert set(real) >= {"hair", "hair_color", "skin", "accessory", "clothing_color"}
    assert np.mean(list(real.values())) < 0.12
    assert all(one[name] > 3 * real[name] for name in ("hair", "hair_color", "skin"))


def test_values_that_look_alike_count_as_one():
    rows, captions = examples("test", 400, FULL)
    alike = {"hair": {"CAESAR_SIDE_PART": "CAESAR"}}
    merged = asked(ATTRIBUTES, rows, captions, alike)
    k = merged.column("hair")
    plain = asked(ATTRIBUTES, rows, captions)
    side, caesar = (plain.number("hair", n) for n in ("CAESAR_SIDE_PART", "CAESAR"))
    assert (plain.truth[:, k] == side).any()
    assert not (merged.truth[:, k] == side).any()
    np.testing.assert_array_equal(
        merged.truth[:, k], np.where(plain.truth[:, k] == side, caesar, plain.truth[:, k])
    )
    np.testing.assert_array_equal(np.delete(merged.truth, k, 1), np.delete(plain.truth, k, 1))
    for pair, where in merged.withheld.items():  # of the values themselves
        np.testing.assert_array_equal(where, plain.withheld[pair])
