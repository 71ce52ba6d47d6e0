"""The avatars data set: what is drawn, what is said of it, what is withheld."""

import hashlib
import io
import json
import re
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")

import python_avatars as pa

from flaxgan.data import avatar_captions, avatars
from flaxgan.data import avatar_vocabulary as vocabulary
from flaxgan.data.avatars import ATTRIBUTES, HELDOUT_PAIRS, Avatars
from flaxgan.errors import UserError

SIZES = {"train": 256, "test": 64, "heldout": 64}
ENUMS = {
    "skin": (pa.SkinColor, 7),
    "hair": (pa.HairType, 51),
    "hair_color": (pa.HairColor, 10),
    "hat": (pa.HatType, 10),
    "hat_color": (pa.ClothingColor, 14),
    "eyebrows": (pa.EyebrowType, 14),
    "eyes": (pa.EyeType, 12),
    "mouth": (pa.MouthType, 13),
    "facial_hair": (pa.FacialHairType, 8),
    "facial_hair_color": (pa.HairColor, 10),
    "accessory": (pa.AccessoryType, 10),
    "clothing": (pa.ClothingType, 16),
    "clothing_color": (pa.ClothingColor, 14),
}
PLAIN = {
    "skin": "LIGHT",
    "hair": "SHORT_FLAT",
    "hair_color": "BROWN",
    "hat": "NONE",
    "hat_color": "HIDDEN",
    "eyebrows": "DEFAULT",
    "eyes": "DEFAULT",
    "mouth": "DEFAULT",
    "facial_hair": "NONE",
    "facial_hair_color": "HIDDEN",
    "accessory": "NONE",
    "clothing": "HOODIE",
    "clothing_color": "BLUE_02",
    "graphic": "HIDDEN",
}
CJK = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


@pytest.fixture(scope="module")
def builder():
    """Of the config "tiny", built where other tests of this worker read it too."""
    builder = Avatars(config="tiny")
    builder.download_and_prepare(file_format="array_record")
    return builder


@pytest.fixture(scope="module")
def tiny(builder):
    """Split -> examples of the config "tiny", read back from disk."""
    return {split: list(builder.as_data_source(split)) for split in SIZES}


@pytest.fixture(scope="module")
def samples():
    """Split -> many pairs of attributes and captions, without pictures."""
    sizes = {"train": 2000, "test": 500, "heldout": 500}
    return {s: [avatars.sample_example(s, i) for i in range(n)] for s, n in sizes.items()}


@pytest.fixture(scope="module")
def everyone(samples):
    return [example for split in samples.values() for example in split]


@pytest.fixture(scope="module")
def sentences(everyone):
    """Language -> all its captions."""
    return {
        "en": [caption for _, captions in everyone for caption in captions[:8:2]],
        "zh": [caption for _, captions in everyone for caption in captions[1:8:2]],
    }


def names(builder, example):
    """Attribute -> enum name."""
    return {a: builder.info.features[a].int2str(int(example[a])) for a in ATTRIBUTES}


def pixels(side=64, **changes):
    picture = Image.open(io.BytesIO(avatars.render({**PLAIN, **changes}, side)))
    assert picture.size == (side, side)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def changed(first, second):
    """Mask of the pixels that clearly differ."""
    return np.abs(first - second).max(axis=-1) > 24


def test_tiny_has_its_splits_features_and_shapes(builder, tiny):
    assert {split: len(examples) for split, examples in tiny.items()} == SIZES
    assert {k: v.num_examples for k, v in builder.info.splits.items()} == SIZES
    assert set(builder.info.features) == {"image", "captions", *ATTRIBUTES}
    for split, examples in tiny.items():
        for example in examples:
            assert example["image"].shape == (64, 64, 3)
            assert example["image"].dtype == np.uint8
            assert example["image"].std() > 20
            assert len(example["captions"]) == 12
            assert avatars.is_heldout(names(builder, example)) == (split == "heldout")


def test_corners_at_the_top_are_white(tiny):
    for example in tiny["train"]:
        np.testing.assert_array_equal(example["image"][0, [0, -1]], 255)


def test_pictures_on_disk_are_those_of_their_attributes(builder, tiny):
    for example in tiny["train"][::16] + tiny["heldout"][::16]:
        png = avatars.render(names(builder, example))
        np.testing.assert_array_equal(example["image"], Image.open(io.BytesIO(png)))


def test_examples_on_disk_are_those_that_are_sampled(builder, tiny):
    for split, examples in tiny.items():
        found = [
            (names(builder, example), [caption.decode() for caption in example["captions"]])
            for example in examples
        ]
        drawn = [avatars.sample_example(split, index) for index in range(SIZES[split])]
        assert sorted(map(json.dumps, found)) == sorted(
            json.dumps(({a: attributes[a] for a in ATTRIBUTES}, captions))
            for attributes, captions in drawn
        )


def test_what_is_made_again_is_equal(tiny):
    """The data set was rendered in other processes, and may be that of another test."""
    built = {tuple(example["captions"]): example["image"] for example in tiny["test"]}
    assert len(built) == SIZES["test"]
    for i in range(SIZES["test"]):
        again = avatars.make_example(("test", i))
        image = built[tuple(text.encode() for text in again["captions"])]
        np.testing.assert_array_equal(Image.open(io.BytesIO(again["image"])), image)


def test_attributes_and_captions_do_not_change_unnoticed():
    """A change here is a new data set: raise its version with this hash."""
    drawn = [avatars.sample_example(split, i) for split in SIZES for i in range(8)]
    text = json.dumps(drawn, sort_keys=True, ensure_ascii=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "a6b82f857066ff23"


@pytest.mark.parametrize("attribute", ENUMS)
def test_every_drawing_of_the_package_has_words(attribute):
    enum, count = ENUMS[attribute]
    known = set(ATTRIBUTES[attribute]) - {"HIDDEN"}
    assert set(enum.__members__) <= known | {"NONE"}, "a member has no words"
    assert known - {"NONE"} <= set(enum.__members__), "words for a member that is gone"
    assert len(enum.__members__) == count


def test_graphics_exist():
    assert set(vocabulary.GRAPHICS) <= set(pa.ClothingGraphic.__members__)


def test_words_of_different_values_differ():
    for table in (
        vocabulary.SKIN,
        vocabulary.HAIR_COLOR,
        vocabulary.CLOTHING_COLOR,
        vocabulary.HAIR,
        vocabulary.HAT,
        vocabulary.FACIAL_HAIR,
        vocabulary.ACCESSORY,
        vocabulary.CLOTHING,
        vocabulary.MOUTH,
        vocabulary.EYES,
        vocabulary.EYEBROWS,
    ):
        for language in ("en", "zh"):
            words = [w for row in table.values() for w in getattr(row, language)]
            assert not [w for w, n in Counter(words).items() if n > 1]
        for row in table.values():
            places = {"{c}" in w for w in row.en + row.zh}
            assert len(places) == 1, row


def test_withheld_pairs_are_in_heldout_only(samples):
    for split, examples in samples.items():
        for attributes, _ in examples:
            pairs = [
                (attributes[a], attributes[b]) in withheld
                for (a, b), withheld in HELDOUT_PAIRS.items()
            ]
            assert any(pairs) == (split == "heldout")


def test_values_of_withheld_pairs_are_in_train_with_other_partners(samples):
    train = [attributes for attributes, _ in samples["train"]]
    for (first, second), withheld in HELDOUT_PAIRS.items():
        assert withheld
        for a, b in withheld:
            assert sum(x[first] == a and x[second] != b for x in train) >= 5, (first, a)
            assert sum(x[second] == b and x[first] != a for x in train) >= 5, (second, b)


def test_every_value_of_every_attribute_is_in_train(samples):
    train = [attributes for attributes, _ in samples["train"]]
    for attribute, values in ATTRIBUTES.items():
        assert {x[attribute] for x in train} == set(values)


def test_splits_hardly_share_an_avatar(samples):
    seen = {s: [tuple(a.items()) for a, _ in examples] for s, examples in samples.items()}
    train = set(seen["train"])
    assert len(train) > 0.995 * len(seen["train"])
    assert sum(avatar in train for avatar in seen["test"]) <= 2
    assert not set(seen["heldout"]) & (train | set(seen["test"]))


def test_captions_alternate_english_and_chinese(everyone):
    for _, captions in everyone:
        assert [bool(CJK.search(caption)) for caption in captions] == [False, True] * 6


def test_english_is_tidy(sentences):
    for caption in sentences["en"]:
        assert re.fullmatch(r"[A-Za-z',:; -]+", caption), caption
        assert not re.search(r"  | [,:;]|[,:;]\S|,,|^\W|\W$", caption), caption
        capitals = re.findall(r"\b\w*[A-Z]\w*", caption)
        assert set(capitals) <= {"T", "V", "Einstein", "Elvis", "Jedi"}, caption
        for article, word in re.findall(r"\b(an?) (\w+)", caption):
            vowel = word[0] in "aeioAEIO" or (word[0] == "u" and word[:3] != "uni")
            assert article == ("an" if vowel and word != "one" else "a"), caption
        assert not re.search(r"\b(an?|with|in|and|has) (and|with|wearing|who|has)\b", caption)


def test_chinese_is_tidy(sentences):
    for caption in sentences["zh"]:
        assert re.fullmatch(r"([\u4e00-\u9fff、，：]|T(?=恤)|V(?=领))+", caption), caption
        assert not re.search(
            r"[、，：]{2}|^[、，：]|[、，：]$|的的|有有|和和|和、|、和", caption
        ), caption


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", ["FULL", "FEW"])
def test_at_least_six_patterns_of_sentences_are_in_use(sentences, language, kind):
    captions = sentences[language]
    counts = {}
    for pattern in getattr(avatar_captions, f"{kind}_{language.upper()}"):
        literals = [re.escape(part) for part in re.split(r"\{\w+\}", pattern)]
        regex = re.compile(".+".join(literals).replace("a\\ ", "an?\\ "))
        counts[pattern] = sum(bool(regex.fullmatch(caption)) for caption in captions)
    assert len(counts) >= 6
    assert min(counts.values()) > 0.03 * len(captions), counts


def mentions(words, colors, caption):
    """Whether the caption holds the phrase of a part with its colour."""
    filled = [w.format(c=c) for w in words for c in colors]
    return any(phrase in caption for phrase in filled)


def test_full_captions_name_hair_and_clothes_with_their_colours(everyone):
    parts = {
        "hair": (vocabulary.HAIR, vocabulary.HAIR_COLOR),
        "hat": (vocabulary.HAT, vocabulary.CLOTHING_COLOR),
        "facial_hair": (vocabulary.FACIAL_HAIR, vocabulary.HAIR_COLOR),
        "clothing": (vocabulary.CLOTHING, vocabulary.CLOTHING_COLOR),
    }
    for attributes, captions in everyone:
        for part, (table, colors) in parts.items():
            words = table.get(attributes[part])
            color = colors.get(attributes[f"{part}_color"])
            if words is None or color is None:
                continue
            for caption in (captions[0], captions[4]):
                assert mentions(words.en, color.en, re.sub(r"\ban ", "a ", caption)), (
                    part,
                    caption,
                )
            for caption in (captions[1], captions[5]):
                assert mentions(words.zh, color.zh, caption), (part, caption)


def test_captions_name_nothing_that_is_not_there(everyone):
    for attributes, captions in everyone:
        joined = " ".join(captions)
        if attributes["facial_hair"] == "NONE":
            assert not re.search("beard|mustache|stubble|胡", joined), joined
        if attributes["accessory"] == "NONE":
            assert not re.search("glasses|wayfarer|eyepatch|镜|眼罩", joined), joined
        else:
            assert "eyebrow" not in joined
            assert "眉" not in joined
        if attributes["hat"] == "NONE" and attributes["hair"] not in ("HAT", "ASTRONAUT"):
            assert not re.search(
                r"\b(hat|beanie|turban|hijab|hood|helmet)\b|帽(?!衫)|头盔|头巾", joined
            )
        if attributes["hat"] == "JEDI":
            assert "eyebrow" not in joined
        if attributes["clothing"] == "NONE":
            assert not re.search("shirt|衫|穿着", joined), joined


@pytest.mark.parametrize(
    ("part", "styles", "color", "rows"),
    [
        ("hair", vocabulary.HAIR, "hair_color", slice(0, 56)),
        ("hat", vocabulary.HAT, "hat_color", slice(0, 64)),
        ("facial_hair", vocabulary.FACIAL_HAIR, "facial_hair_color", slice(24, 56)),
        ("clothing", vocabulary.CLOTHING, "clothing_color", slice(40, 64)),
    ],
)
def test_colour_is_drawn_where_the_words_have_a_colour(part, styles, color, rows):
    """For every style: two colours differ, there and nowhere else, unless it has its own."""
    first, second = ("RED", "BLACK") if "hair" in part else ("RED", "BLUE_03")
    for style, words in styles.items():
        if style in ("HAT", "ASTRONAUT") and part == "hair":
            continue  # a hat or helmet: what is left of the hair is not told
        one, two = (pixels(**{part: style, color: value}) for value in (first, second))
        mask = changed(one, two)
        assert mask.any() == ("{c}" in words.en[0]), style
        if mask.any():
            assert mask.sum() >= 25, style
            assert mask[rows].sum() > 0.8 * mask.sum(), style


def test_colours_are_those_of_their_names():
    red, blue = (pixels(clothing_color=c)[-8:, 24:40].mean(axis=(0, 1)) for c in ("RED", "BLUE_02"))
    assert red.argmax() == 0
    assert blue.argmax() == 2
    hair = {c: pixels(hair="BOB", hair_color=c)[8:14, 26:38].mean() for c in ("BLACK", "PLATINUM")}
    assert hair["PLATINUM"] > hair["BLACK"] + 80


def test_beards_glasses_and_faces_are_drawn_under_every_top():
    tops = [{"hair": h} for h in vocabulary.HAIR] + [{"hat": h} for h in vocabulary.HAT]
    for top in tops:
        (name,) = top.values()
        plain = pixels(**top)
        features = {"mouth": "GRIMACE", "eyes": "SURPRISED"}
        if name not in vocabulary.BEARDLESS_TOPS:
            features["facial_hair"] = "MOUSTACHE_FANCY"
        if name not in vocabulary.NO_GLASSES_TOPS:
            features["accessory"] = "ROUND"
        if name not in vocabulary.NO_EYEBROWS_TOPS:
            features["eyebrows"] = "ANGRY_NATURAL"
        for feature, value in features.items():
            mask = changed(plain, pixels(**top, **{feature: value}))
            assert mask.sum() >= 12, (name, feature)


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"avatars needs resvg_py: pip install .*resvg-py") as error:
        Avatars(config="tiny", data_dir=tmp_path).download_and_prepare(file_format="array_record")
    assert "\n" not in str(error.value)
