"""Caption features of every kind to strings."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flaxgan.data.captions import caption_reader, text_ids
from flaxgan.errors import UserError

FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "text": tfds.features.Text(),
        "texts": tfds.features.Sequence(tfds.features.Text()),
        "captions": tfds.features.Sequence({"text": tfds.features.Text(), "id": np.int64}),
        "inner": {"text": tfds.features.Text()},
        "label": tfds.features.ClassLabel(names=["017.Cardinal_bird", "red fox"]),
        "count": np.int64,
    }
)


def reader(key, templates=("{}",), max_captions=0):
    return caption_reader(FEATURES, key, templates, max_captions, "pets")


@pytest.mark.parametrize(
    ("key", "example", "expected"),
    [
        ("text", {"text": b"a cat"}, ["a cat"]),
        ("text", {"text": "一只猫"}, ["一只猫"]),
        ("text", {"text": "一只猫".encode()}, ["一只猫"]),
        ("text", {"text": np.array(b"a cat", object)}, ["a cat"]),
        ("texts", {"texts": [b"a cat", "a tom"]}, ["a cat", "a tom"]),
        ("texts", {"texts": np.array([b"a cat", b"a tom"], object)}, ["a cat", "a tom"]),
        ("captions/text", {"captions": {"text": [b"a", b"b"], "id": [1, 2]}}, ["a", "b"]),
        ("captions/text", {"captions": [{"text": b"a"}, {"text": b"b"}]}, ["a", "b"]),
        ("inner/text", {"inner": {"text": b"a cat"}}, ["a cat"]),
        ("text", {"text": b"caf\xe9"}, ["caf\ufffd"]),  # not UTF-8
    ],
)
def test_text_of_every_kind_is_read(key, example, expected):
    assert reader(key)(example, 0) == expected


def test_class_names_fill_the_templates():
    read = reader("label", ("a photo of a {}", "{}: one {}, {x}"))
    assert read({"label": np.int64(0)}, 5) == [
        "a photo of a Cardinal bird",
        "Cardinal bird: one Cardinal bird, {x}",
    ]
    assert read({"label": 1}, 0)[0] == "a photo of a red fox"


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        ([], [""]),
        ([b"", b" "], [""]),
        ([b"", b"a cat", b"\n", b"a tom"], ["a cat", "a tom"]),
    ],
)
def test_empty_captions_are_dropped_but_one_always_stays(captions, expected):
    assert reader("texts")({"texts": captions}, 1) == expected


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, ["abc", "abc", "abc", "abc"]), (2, ["ab", "bc", "ca", "ab"]), (5, ["abc", "bca"])],
)
def test_max_captions_takes_those_that_are_not_empty_in_turn(most, expected):
    read = reader("texts", max_captions=most)
    for index, letters in enumerate(expected):
        assert read({"texts": [b"a", b"", b"b", b"c"]}, index) == list(letters)


@pytest.mark.parametrize(
    ("key", "templates", "words"),
    [
        ("caption", ("{}",), "data.caption_key: data set pets has no feature 'caption'; it has: c"),
        ("text/en", ("{}",), "no feature 'text/en'"),
        ("captions/texts", ("{}",), "no feature 'captions/texts'"),
        ("captions", ("{}",), "'captions' holds several features: captions/id, captions/text"),
        ("count", ("{}",), "'count' is Tensor, not text"),
        ("image", ("{}",), "'image' is Image, not text"),
    ],
)
def test_what_holds_no_text_is_an_error_of_one_line(key, templates, words):
    with pytest.raises(UserError) as error:
        reader(key, templates)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_equal_captions_have_equal_ids():
    ids = text_ids(["b", "", "a", "b", "a ", ""])
    assert ids.dtype == np.int32
    assert ids[1] == ids[5] == -1
    assert (np.delete(ids, [1, 5]) >= 0).all()
    equal = ids[:, None] == ids
    np.testing.assert_array_equal(np.argwhere(np.triu(equal, 1)), [[0, 3], [1, 5]])
