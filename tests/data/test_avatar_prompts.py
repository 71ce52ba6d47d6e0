"""Captions as people type them: true of the picture, tidy, and of every kind."""

import hashlib
import re

import numpy as np
import pytest

pytest.importorskip("python_avatars")

from flaxgan.data import avatar_prompts, avatars
from flaxgan.data import avatar_vocabulary as vocabulary
from flaxgan.data.avatar_captions import NUM_CAPTIONS, NUM_SENTENCES

BEARDS = {"BEARD_LIGHT", "BEARD_MAGESTIC", "BEARD_MEDIUM", "WICK_BEARD"}
MUSTACHES = {"MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM", "EINSTEIN_MOUSTACHE"}
SHADES = {"KURT", "SUNGLASSES", "WAYFARERS", "SUNGLASSES_2", "WAYFARERS_2"}
GLASSES = SHADES | {"PRESCRIPTION_1", "PRESCRIPTION_2", "ROUND"}
# what a prompt says -> an attribute and the values of which it is true
MEANS = [
    (r"\bbald\b(?! top)|no hair|光头|秃头|没有头发", "hair", {"NONE"}),
    (r"\bafro\b|爆炸头", "hair", {"FRO", "FRO_BAND"}),
    (r"\bmohawk\b|莫西干", "hair", {"MOHAWK"}),
    (r"\bbeard|大胡子|络腮胡", "facial_hair", BEARDS),
    (r"\bmoustache|\bmustache|八字胡|小胡子", "facial_hair", MUSTACHES),
    (r"胡", "facial_hair", BEARDS | MUSTACHES),
    (r"sunglasses|shades|wayfarers|墨镜|太阳镜", "accessory", SHADES),
    (r"glasses|眼镜", "accessory", GLASSES),
    (r"patch|眼罩", "accessory", {"EYEPATCH"}),
    (r"hijab|head ?scarf|veil", "hat", {"HIJAB"}),
    (r"turban|缠头巾", "hat", {"TURBAN"}),
    (r"ginger", "hair_color|facial_hair_color", {"RED", "AUBURN"}),
    (r"hoodie|hoody|hooded|连帽衫|卫衣", "clothing", {"HOODIE"}),
    (r"overalls|dungarees|背带裤|工装裤", "clothing", {"OVERALL"}),
    (r"\btie\b|领带", "clothing", {"SHIRT_WICK"}),
    (r"dark-skinned|dark skin|黑皮肤", "skin", {"BLACK", "DARK_BROWN"}),
    (r"yellow skin|yellow-skinned|黄皮肤|黄色皮肤", "skin", {"YELLOW"}),
    (r"smil|grin|微笑|大笑", "mouth", {"SMILE", "BIG_SMILE", "TWINKLE"}),
    (r"tongue|舌头", "mouth", {"TONGUE"}),
    (r"crying|weeping|tear|流泪|哭泣|眼泪", "eyes", {"CRY"}),
    (r"wink|眨", "eyes", {"WINK", "WINK_WACKY"}),
]


@pytest.fixture(scope="module")
def samples():
    return [avatars.sample_example("train", i) for i in range(1000)]


@pytest.fixture(scope="module")
def prompts(samples):
    """Pairs of attributes and a prompt."""
    return [(a, text) for a, captions in samples for text in captions[NUM_SENTENCES:]]


def test_sentences_before_them_are_those_of_version_1_0():
    """What `attributes` scores is captions 0 and 2: figures stay comparable."""
    old = [
        text
        for split in ("train", "test", "heldout")
        for i in range(32)
        for text in avatars.sample_example(split, i)[1][:NUM_SENTENCES]
    ]
    digest = hashlib.sha256("\n".join(old).encode()).hexdigest()
    assert digest == "19fb6f588e053b15567326f7b41f077e1dfdae898a04b64b2476409a12ea0423"


def test_english_and_chinese_in_turn(samples):
    for _, captions in samples:
        assert len(captions) == NUM_CAPTIONS
        chinese = [bool(re.search("[\u4e00-\u9fff]", text)) for text in captions]
        assert chinese == [False, True] * (NUM_CAPTIONS // 2)


@pytest.mark.parametrize(("says", "attribute", "values"), MEANS)
def test_what_is_said_is_true(prompts, says, attribute, values):
    found = [(a, text) for a, text in prompts if re.search(says, text.lower())]
    assert len(found) >= 8
    for attributes, text in found:
        assert any(attributes[name] in values for name in attribute.split("|")), text


@pytest.mark.parametrize(
    ("noun", "chinese", "part", "table"),
    [
        ("hair", "头发", "hair", vocabulary.HAIR_COLOR),
        ("beard", "胡子", "facial_hair", vocabulary.HAIR_COLOR),
        ("shirt", "上衣", "clothing", vocabulary.CLOTHING_COLOR),
        ("hat", "帽子", "hat", vocabulary.CLOTHING_COLOR),
    ],
)
@pytest.mark.parametrize("color", ["pink", "black", "red", "white"])
def test_a_colour_is_that_of_what_it_stands_before(prompts, noun, chinese, part, table, color):
    values = {name for name, words in table.items() if color in words.en}
    word = {"pink": "粉(红)?", "black": "黑", "red": "红", "white": "(?<!灰)白"}[color]
    says = re.compile(
        rf"(?<![\w-] )\b{color} {noun}\b|\b{noun}(:| is) {color}\b|"
        rf"(^|[，、有着 ]){word}色的?{chinese}|{chinese}(是)?{word}色"
    )
    for attributes, text in prompts:
        if says.search(text):
            assert attributes[f"{part}_color"] in values | (
                {"SILVER_GRAY"} if color == "white" and part in ("hair", "facial_hair") else set()
            ) or (noun == "hat" and attributes["hair"] == "HAT"), text


def test_no_more_than_five_things_are_named_and_often_one(prompts):
    english = [text for _, text in prompts if text.isascii()]
    lists = [text.count(",") + 1 for text in english if ", " in text and " and " not in text]
    assert max(lists) <= 6  # with the person
    assert sum(len(text.split()) <= 2 for text in english) > 0.05 * len(english)
    assert sum(len(text.split()) >= 12 for text in english) > 0.05 * len(english)


def test_every_form_is_in_use(prompts):
    forms = {
        "list": r"^[^,.]+, [^,]+, ",
        "who in what": r"^(a|the) [\w -]+ (in|wearing) ",
        "who with what": r"^(a|the) [\w -]+ (with|having) ",
        "adjective": r"-haired|bald|-skinned|smiling",
        "statement": r"the hair is ",
        "label": r"hair: ",
        "sentence": r"^[A-Z].*\.$",
        "role": r"astronaut$|chef|gladiator$",
    }
    for name, form in forms.items():
        count = sum(bool(re.search(form, text)) for _, text in prompts)
        assert count > 0.003 * len(prompts), name


def test_nothing_is_left_unfilled_or_doubled(prompts):
    for _, text in prompts:
        assert not re.search(r"[{}]|HIDDEN|NONE|None|_|  |,,|，，|的的|有有|^\W", text), text
        assert not re.search(
            r"\b(an?|the) (an?|the|with|in|and|who)\b|\b(with|in) (with|in|and|who)\b", text
        ), text
        assert text == text.strip()
        if text.isascii():
            for article, word in re.findall(r"\b([Aa]n?) (\w+)", text):
                vowel = word[0] in "aeiouAEIO" and word[:3] != "uni"
                assert article.lower() == ("an" if vowel and word != "one" else "a"), text


def test_what_cannot_be_seen_is_not_named(samples):
    rng = np.random.default_rng(0)
    for attributes, _ in samples[:300]:
        if attributes["accessory"] == "NONE":
            continue
        for _ in range(4):
            text = avatar_prompts.prompt(attributes, "person", rng, "en")
            assert "eyebrow" not in text, text
            assert not re.search(r"\beyes\b", text), text


def test_salient_things_are_named_sooner():
    attributes = dict(avatars.sample_example("train", 0)[0])
    attributes |= {"accessory": "NONE", "hat": "NONE", "eyebrows": "UNIBROW_NATURAL"}
    attributes |= {"hair": "MOHAWK", "hair_color": "RED"}
    rng = np.random.default_rng(1)
    texts = [avatar_prompts.prompt(attributes, "man", rng, "en") for _ in range(600)]
    hair = sum(bool(re.search("hair|mohawk", text)) for text in texts)
    brows = sum("unibrow" in text for text in texts)
    assert hair > 2 * brows > 0
