"""Sentences for an avatar, in English and Chinese, naming all of its attributes or a few."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxgan.data import avatar_prompts
from flaxgan.data import avatar_vocabulary as vocabulary
from flaxgan.data.avatar_vocabulary import HIDDEN, Item, Words, pick
from flaxgan.data.english import fix_articles, join_words

# attribute -> what its values and, where it has one, its colours are called
TABLES: dict[str, tuple[Mapping[str, Words], Mapping[str, Words] | None]] = {
    "hat": (vocabulary.HAT, vocabulary.CLOTHING_COLOR),
    "hair": (vocabulary.HAIR, vocabulary.HAIR_COLOR),
    "skin": (vocabulary.SKIN, None),
    "facial_hair": (vocabulary.FACIAL_HAIR, vocabulary.HAIR_COLOR),
    "clothing": (vocabulary.CLOTHING, vocabulary.CLOTHING_COLOR),
    "accessory": (vocabulary.ACCESSORY, None),
    "mouth": (vocabulary.MOUTH, None),
    "eyes": (vocabulary.EYES, None),
    "eyebrows": (vocabulary.EYEBROWS, None),
}

NUM_SENTENCES, NUM_PROMPTS = 8, 4
NUM_CAPTIONS = NUM_SENTENCES + NUM_PROMPTS

SUBJECT = {
    "woman": Words(("woman", "lady"), ("女人", "女士")),
    "man": Words(("man", "guy"), ("男人", "男士")),
    "person": Words(("person", "character"), ("人", "人物")),
}

# {s} subject, {has} body features, {wears} clothes and things put on
FULL_EN = (
    "a {s} with {has}, wearing {wears}",
    "portrait of a {s} with {has} who wears {wears}",
    "a {s} in {wears}, with {has}",
    "a cartoon {s} who has {has} and is wearing {wears}",
    "an avatar of a {s}: {has}; {wears}",
    "a {s} has {has} and wears {wears}",
    "a drawing of a {s} in {wears} who has {has}",
)
FULL_ZH = (
    "一个有{has}的{s}，{wears}",
    "一幅{s}的肖像，有着{has}，{wears}",
    "一个{wears}的{s}，有着{has}",
    "一个卡通风格的{s}，有{has}，{wears}",
    "{s}的头像：{has}，{wears}",
    "这个{s}有{has}，并且{wears}",
    "一张画，画中是一个{wears}、有{has}的{s}",
)
FEW_EN = (
    "a {s} with {has}",
    "{has}",
    "someone with {has}",
    "a face with {has}",
    "portrait of a {s} with {has}",
    "a cartoon avatar with {has}",
    "a {s} who has {has}",
)
FEW_ZH = (
    "一个有{has}的{s}",
    "{has}",
    "一个人，有{has}",
    "一张有{has}的脸",
    "有{has}的{s}的肖像",
    "一个有{has}的卡通头像",
    "这个{s}有{has}",
)
WEAR_EN = ("a {s} wearing {wears}", "a {s} in {wears}", "someone who wears {wears}", "{wears}")
WEAR_ZH = ("一个{wears}的{s}", "{wears}的人", "一个{s}{wears}", "头像，{wears}")


def subject(attributes: Mapping[str, str]) -> str:
    """ "man" with facial hair, "woman" with hair that is drawn as a woman's, else "person"."""
    if attributes["facial_hair"] not in ("NONE", HIDDEN):
        return "man"
    top = attributes["hair"] if attributes["hat"] == "NONE" else attributes["hat"]
    return "woman" if top in vocabulary.FEMININE_TOPS else "person"


def captions(
    attributes: Mapping[str, str], rng: np.random.Generator, count: int = NUM_CAPTIONS
) -> list[str]:
    """Twelve captions, English and Chinese in turn.

    The first eight are sentences that name all, a few, all, a few attributes. The last four are
    as people type prompts (`avatar_prompts`).

    Args:
      attributes: enum names of python-avatars; HIDDEN for what cannot be seen.
      rng: chooses patterns, synonyms, and which few.
      count: only the first so many.
    """
    kinds = [(language, full) for full in (True, False, True, False) for language in ("en", "zh")]
    found = [_caption(attributes, rng, language, full) for language, full in kinds[:count]]
    who = subject(attributes)
    for number in range(NUM_SENTENCES, count):
        language = ("en", "zh")[number % 2]
        found.append(avatar_prompts.prompt(attributes, who, rng, language))
    return found


def named_attributes(attributes: Mapping[str, str], caption: str) -> frozenset[str]:
    """The attributes that a sentence of `captions` states; what it leaves open is not among them.

    Of the prompts among the captions, those that the words of sentences name; loose words do not.

    Args:
      attributes: of the picture, as for `captions`.
      caption: one of its sentences, in either language.
    """
    named = set()
    for part, (table, colors) in TABLES.items():
        words = table.get(attributes[part])
        if words is None:
            continue
        color = None if colors is None else colors.get(attributes[f"{part}_color"])
        phrases = {
            fix_articles(phrase.format(c=shade))
            for language in ("en", "zh")
            for phrase in getattr(words, language)
            for shade in (getattr(color, language) if color else ("",))
            if phrase
        }
        if any(phrase in caption for phrase in phrases):
            named |= {part} if color is None else {part, f"{part}_color"}
    return frozenset(named)


def _caption(
    attributes: Mapping[str, str], rng: np.random.Generator, language: str, full: bool
) -> str:
    english = language == "en"
    has, wears = _features(attributes, rng, language)
    values: dict[str, Any] = {"s": pick(getattr(SUBJECT[subject(attributes)], language), rng)}
    if full:
        if rng.random() < 0.5:
            has.append(_minor(attributes, rng, language))
        patterns = FULL_EN if english else FULL_ZH
        if not wears:  # bare shoulders and nothing on the head
            patterns = FEW_EN[:1] if english else FEW_ZH[:1]
    else:
        wearing = bool(wears) and rng.random() < 0.3
        has = _subset([*has, _minor(attributes, rng, language)], rng)
        wears = _subset(wears, rng)
        if wearing:
            patterns = WEAR_EN if english else WEAR_ZH
        else:
            patterns = FEW_EN if english else FEW_ZH
    values["has"] = _join(has, language)
    values["wears"] = _join_worn(wears, language)
    sentence = pick(patterns, rng).format(**values)
    return fix_articles(sentence) if english else sentence


def _features(
    attributes: Mapping[str, str], rng: np.random.Generator, language: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """What the person has (hair, skin, beard); what is worn, each with its Chinese verb."""

    def phrase(table: Mapping[str, Words], part: str, colors: Mapping[str, Words]) -> str:
        words = pick(getattr(table[attributes[part]], language), rng)
        if "{c}" in words:
            color = colors[attributes[f"{part}_color"]]
            words = words.format(c=pick(getattr(color, language), rng))
        return words

    has, wears = [], []
    if attributes["hat"] != "NONE":
        wears.append(("戴着", phrase(vocabulary.HAT, "hat", vocabulary.CLOTHING_COLOR)))
    elif attributes["hair"] in ("HAT", "ASTRONAUT"):  # hair styles that are a thing put on
        wears.append(("戴着", phrase(vocabulary.HAIR, "hair", vocabulary.HAIR_COLOR)))
    else:
        has.append(phrase(vocabulary.HAIR, "hair", vocabulary.HAIR_COLOR))
    has.append(pick(getattr(vocabulary.SKIN[attributes["skin"]], language), rng))
    if attributes["facial_hair"] not in ("NONE", HIDDEN):
        has.append(phrase(vocabulary.FACIAL_HAIR, "facial_hair", vocabulary.HAIR_COLOR))
    if attributes["clothing"] != "NONE":
        clothes = phrase(vocabulary.CLOTHING, "clothing", vocabulary.CLOTHING_COLOR)
        wears.insert(0, ("穿着", clothes))
    if attributes["accessory"] not in ("NONE", HIDDEN):
        words = pick(getattr(vocabulary.ACCESSORY[attributes["accessory"]], language), rng)
        wears.append(("戴着", words))
    return has, wears


def _minor(attributes: Mapping[str, str], rng: np.random.Generator, language: str) -> str:
    """One of mouth, eyes and eyebrows; only what glasses, patches and hoods leave to be seen."""
    tables = [("mouth", vocabulary.MOUTH)]
    if attributes["accessory"] in ("NONE", HIDDEN):
        tables.append(("eyes", vocabulary.EYES))
        if attributes["hat"] not in vocabulary.NO_EYEBROWS_TOPS:
            tables.append(("eyebrows", vocabulary.EYEBROWS))
    part, table = tables[int(rng.integers(len(tables)))]
    return pick(getattr(table[attributes[part]], language), rng)


def _subset(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """One to three of the items, in their order."""
    if not items:
        return []
    count = min(len(items), int(rng.integers(1, 4)))
    chosen = sorted(rng.choice(len(items), size=count, replace=False))
    return [items[i] for i in chosen]


def _join(items: Sequence[str], language: str) -> str:
    if language == "zh":
        return "和".join(["、".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
    return join_words(items)


def _join_worn(wears: Sequence[tuple[str, str]], language: str) -> str:
    """In Chinese each verb once: 穿着A、戴着B和C."""
    if language == "en":
        return _join([words for _, words in wears], language)
    groups = itertools.groupby(wears, key=lambda pair: pair[0])
    return "、".join(verb + _join([w for _, w in pairs], language) for verb, pairs in groups)
