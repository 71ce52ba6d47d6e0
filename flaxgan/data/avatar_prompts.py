"""Captions of an avatar as people type prompts: fragments, lists, loose words, in any order.

The sentences of `avatar_captions` name things by one set of words. People write "ginger guy, black
shades" and "头发是红色的". Nothing is negated.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flaxgan.data import avatar_vocabulary as vocabulary
from flaxgan.data.avatar_vocabulary import HIDDEN, Words, pick, table_of_words
from flaxgan.data.english import fix_articles, join_words

COUNTS = (0.25, 0.3, 0.2, 0.15, 0.1)  # probabilities of naming 1, 2, 3, 4, 5 things
# how much sooner one thing is named than another
SALIENCE = {
    "hair": 3.0,
    "hat": 3.0,
    "facial_hair": 2.5,
    "clothing": 2.5,
    "accessory": 2.5,
    "skin": 1.5,
    "mouth": 1.2,
    "eyes": 1.2,
    "eyebrows": 0.4,
}

SUBJECT = table_of_words(
    {
        "woman": ("woman|lady|girl", "女人|女士|女孩|女生|姑娘"),
        "man": ("man|guy|dude|fellow|gentleman", "男人|男士|男生|小伙子|大叔"),
        "person": ("person|someone|character|face", "人|人物"),
    }
)

# colours as they are called loosely; other values keep the words of avatar_vocabulary
_HAIR_COLOR = table_of_words(
    {
        "AUBURN": ("auburn|reddish brown|ginger|copper", "赤褐色|红棕色"),
        "BLONDE": ("blonde|blond|dark blond", "深金色|金色"),
        "BLONDE_GOLDEN": ("blonde|blond|golden|yellow", "金色|金黄色"),
        "BROWN_DARK": ("dark brown|brown|brunette", "深棕色|棕色"),
        "PLATINUM": ("platinum|platinum blonde|very light blond", "铂金色|白金色"),
        "RED": ("red|ginger|orange red", "红色|火红色"),
        "SILVER_GRAY": ("gray|grey|silver|white", "灰色|银色|灰白色"),
    }
)
_CLOTHING_COLOR = table_of_words(
    {
        "BLUE_01": ("blue|light blue|sky blue", "蓝色|浅蓝色|天蓝色"),
        "BLUE_03": ("dark blue|navy|navy blue|blue", "深蓝色|藏蓝色|蓝色"),
        "GRAY_01": ("light gray|light grey|grey", "浅灰色|灰色"),
        "GRAY_02": ("gray|grey", "灰色"),
        "HEATHER": ("dark gray|dark grey|slate", "深灰色|灰蓝色"),
        "PASTEL_BLUE": ("light blue|pale blue|baby blue", "浅蓝色|淡蓝色"),
        "PASTEL_GREEN": ("green|light green|mint|mint green", "绿色|浅绿色|薄荷绿"),
        "PASTEL_ORANGE": ("peach|light orange|orange", "橙色|浅橙色|杏色"),
        "PASTEL_YELLOW": ("yellow|light yellow|pale yellow", "黄色|浅黄色"),
    }
)
_COLOR = {
    "hair": {**vocabulary.HAIR_COLOR, **_HAIR_COLOR},
    "hat": {**vocabulary.CLOTHING_COLOR, **_CLOTHING_COLOR},
}
_COLOR["facial_hair"], _COLOR["clothing"] = _COLOR["hair"], _COLOR["hat"]
_TABLE: dict[str, dict[str, Words]] = {
    "skin": vocabulary.SKIN,
    "hair": vocabulary.HAIR,
    "hat": vocabulary.HAT,
    "facial_hair": vocabulary.FACIAL_HAIR,
    "clothing": vocabulary.CLOTHING,
    "accessory": vocabulary.ACCESSORY,
    "mouth": vocabulary.MOUTH,
    "eyes": vocabulary.EYES,
    "eyebrows": vocabulary.EYEBROWS,
}

_BEARDS = ("BEARD_LIGHT", "BEARD_MAGESTIC", "BEARD_MEDIUM", "WICK_BEARD")
_MUSTACHES = ("MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM", "EINSTEIN_MOUSTACHE")
_SHIRTS = ("SHIRT_CREW_NECK", "SHIRT_SCOOP_NECK", "SHIRT_V_NECK", "GRAPHIC_SHIRT")
_SHADES = ("KURT", "SUNGLASSES", "WAYFARERS", "SUNGLASSES_2", "WAYFARERS_2")
_CLEAR = ("PRESCRIPTION_1", "PRESCRIPTION_2", "ROUND")
_CAPS = ("HAT", "WINTER_HAT_1", "WINTER_HAT_2", "WINTER_HAT_3", "WINTER_HAT_4")
_DREADS = ("DREADS", "SHORT_DREADS_1", "SHORT_DREADS_2", "DREADLOCKS")
_CURLS = ("CURLY", "SHORT_CURLY", "CURLY_2", "LONG_HAIR_CURLY")
_BOBS = ("BOB", "MIA_WALLACE", "WICK")
_LONG = ("BIG_HAIR", "CURVY", "STRAIGHT_1", "STRAIGHT_STRAND", "LOOSE_HAIR", "LONG_HAIR_CURLY")
_SHORT = ("CAESAR", "CAESAR_SIDE_PART", "SHORT_FLAT", "SHORT_ROUND", "SHORT_WAVED", "PIXIE")

# attribute -> pairs of (values, words that leave open which of the values it is)
_LOOSE: dict[str, tuple[tuple[tuple[str, ...], Words], ...]] = {
    "hair": (
        (
            tuple(n for n, words in vocabulary.HAIR.items() if "{c}" in words.en[0]),
            Words(("{c} hair", "{c} hair"), ("{c}头发", "{c}的头发")),
        ),
        (_DREADS, Words(("{c} dreads", "{c} dreadlocks"), ("{c}脏辫",))),
        (_CURLS, Words(("{c} curls", "curly {c} hair"), ("{c}卷发",))),
        (_BOBS, Words(("a {c} bob", "a short {c} bob"), ("{c}波波头",))),
        (_LONG, Words(("long {c} hair",), ("{c}长发",))),
        (_SHORT, Words(("short {c} hair", "a {c} short cut"), ("{c}短发",))),
        (("FRO", "FRO_BAND"), Words(("a {c} afro", "a big {c} afro"), ("{c}爆炸头",))),
        (("NONE",), Words(("no hair", "a bald head", "a shaved head"), ("光头", "没有头发"))),
        (("EVIL_SPIKE",), Words(("{c} spikes",), ("{c}刺头",))),
        (("ASTRONAUT",), Words(("a space helmet", "a helmet"), ("太空头盔", "头盔"))),
        (("HAT",), Words(("a black hat",), ("黑色帽子",))),
    ),
    "hat": (
        (_CAPS, Words(("a {c} hat", "a {c} cap"), ("{c}帽子", "{c}的帽子"))),
        (_CAPS[1:], Words(("a {c} winter hat", "a {c} woolly hat"), ("{c}毛线帽", "{c}冬帽"))),
        (("HIJAB",), Words(("a {c} head scarf", "a {c} veil"), ("{c}头纱", "{c}围巾"))),
        (("CHEF_CAP",), Words(("a chef's hat", "a cook's hat"), ("厨师帽", "白色高帽"))),
        (("GLADIATOR_HELMET",), Words(("a {c} helmet",), ("{c}头盔",))),
        (("JEDI",), Words(("a {c} Jedi hood",), ("{c}连帽",))),
    ),
    "skin": (
        (("PALE", "LIGHT"), Words(("white skin", "pale skin"), ("白皮肤", "肤色白皙"))),
        (("BLACK", "DARK_BROWN"), Words(("dark skin", "black skin"), ("黑皮肤", "深色的皮肤"))),
        (("BROWN",), Words(("light brown skin", "brownish skin"), ("浅棕色的皮肤",))),
    ),
    "facial_hair": (
        (_BEARDS, Words(("a {c} beard", "a {c} beard"), ("{c}胡子", "{c}的胡须"))),
        (_MUSTACHES, Words(("a {c} mustache", "a {c} moustache"), ("{c}小胡子", "{c}八字胡"))),
        (_BEARDS + _MUSTACHES, Words(("{c} facial hair",), ("{c}胡子",))),
    ),
    "clothing": (
        (_SHIRTS, Words(("a {c} shirt", "a {c} T-shirt", "a {c} tee"), ("{c}T恤", "{c}上衣"))),
        (
            (*_SHIRTS, "HOODIE", "COLLAR_SWEATER", "OVERALL"),
            Words(("{c} clothes", "a {c} top"), ("{c}衣服", "{c}的衣服")),
        ),
        (("HOODIE",), Words(("a {c} hooded sweater", "a {c} hoody"), ("{c}帽衫", "{c}卫衣"))),
        (("COLLAR_SWEATER",), Words(("a {c} jumper", "a {c} pullover"), ("{c}毛衣",))),
        (("OVERALL",), Words(("{c} bib overalls",), ("{c}工装裤",))),
        (("SHIRT_WICK",), Words(("a suit and a {c} tie", "a {c} tie"), ("西装和{c}领带",))),
        (
            ("BLAZER_SHIRT", "BLAZER_SWEATER"),
            Words(("a dark jacket", "a blazer"), ("深色外套", "西装外套")),
        ),
        (("BOND_SUIT",), Words(("a tuxedo", "a dinner jacket"), ("燕尾服", "黑色礼服"))),
        (("ASTRONAUT_SUIT",), Words(("a spacesuit", "a space suit"), ("太空服",))),
        (("CHEF",), Words(("a chef's jacket", "a cook's uniform"), ("厨师制服",))),
        (("GLADIATOR",), Words(("armor", "gladiator armor"), ("盔甲", "铠甲"))),
        (("JEDI_ROBE",), Words(("a black robe", "a Jedi robe"), ("黑色长袍", "绝地长袍"))),
    ),
    "accessory": (
        (_SHADES, Words(("sunglasses", "shades", "dark glasses"), ("墨镜", "太阳镜"))),
        (("SUNGLASSES", "WAYFARERS"), Words(("black shades", "black sunglasses"), ("黑墨镜",))),
        (("SUNGLASSES_2", "WAYFARERS_2"), Words(("purple shades",), ("紫色太阳镜",))),
        (_CLEAR, Words(("glasses", "spectacles"), ("眼镜",))),
        (("EYEPATCH",), Words(("an eye patch", "a pirate's patch"), ("眼罩", "海盗眼罩"))),
    ),
    "mouth": (
        (
            ("SMILE", "BIG_SMILE", "TWINKLE"),
            Words(("a smile", "a happy face"), ("微笑", "笑容", "开心的表情")),
        ),
        (("BIG_SMILE",), Words(("a grin", "a broad smile"), ("露齿的笑容", "大笑"))),
        (("SAD", "CONCERNED"), Words(("a sad face", "an unhappy mouth"), ("不开心的表情",))),
        (("SCREAM_OPEN",), Words(("a wide open mouth",), ("大张的嘴",))),
        (("TONGUE",), Words(("tongue out", "a tongue"), ("舌头",))),
        (("SERIOUS",), Words(("a straight mouth", "a stern look"), ("严肃的脸",))),
    ),
    "eyes": (
        (("CRY",), Words(("tears", "teary eyes"), ("眼泪", "泪水"))),
        (("HEART",), Words(("hearts for eyes", "heart eyes"), ("爱心眼", "心形眼"))),
        (("WINK", "WINK_WACKY"), Words(("a wink",), ("眨眼",))),
        (("X_DIZZY",), Words(("crossed-out eyes", "dizzy eyes"), ("叉叉眼",))),
        (("CLOSED",), Words(("shut eyes",), ("紧闭的双眼",))),
        (("SURPRISED",), Words(("big eyes", "surprised eyes"), ("惊讶的眼睛",))),
    ),
    "eyebrows": (),
}

# attribute -> pairs of (values, adjectives that stand before the person)
_ADJECTIVES: dict[str, tuple[tuple[tuple[str, ...], Words], ...]] = {
    "hair": (
        (("NONE",), Words(("bald",), ("光头", "秃头的"))),
        (_LOOSE["hair"][0][0], Words(("{c}-haired",), ("{c}头发的",))),
    ),
    "skin": (
        (("PALE", "LIGHT"), Words(("pale", "light-skinned"), ("白皮肤的",))),
        (("BLACK", "DARK_BROWN"), Words(("dark-skinned", "black"), ("黑皮肤的",))),
        (("YELLOW",), Words(("yellow-skinned",), ("黄皮肤的",))),
        (("TANNED",), Words(("tanned",), ("晒黑的",))),
    ),
    "facial_hair": (
        (_BEARDS, Words(("{c}-bearded", "bearded"), ("留着{c}胡子的", "大胡子"))),
        (_MUSTACHES, Words(("mustached",), ("留着小胡子的",))),
    ),
    "mouth": (
        (("SMILE", "BIG_SMILE"), Words(("smiling", "happy"), ("微笑的", "开心的"))),
        (("SAD",), Words(("sad",), ("难过的", "悲伤的"))),
        (("SCREAM_OPEN",), Words(("screaming",), ("尖叫的",))),
        (("SERIOUS",), Words(("serious",), ("严肃的",))),
        (("CONCERNED",), Words(("worried",), ("担心的",))),
        (("VOMIT",), Words(("vomiting",), ("呕吐的",))),
    ),
    "eyes": (
        (("CRY",), Words(("crying", "weeping"), ("哭泣的", "流泪的"))),
        (("WINK", "WINK_WACKY"), Words(("winking",), ("眨眼的",))),
        (("HEART",), Words(("love-struck",), ("爱心眼的",))),
        (("SURPRISED",), Words(("surprised",), ("惊讶的",))),
        (("X_DIZZY",), Words(("dizzy",), ("头晕的",))),
    ),
    "eyebrows": ((("ANGRY", "ANGRY_NATURAL"), Words(("angry",), ("生气的",))),),
}

# who is dressed so
_ROLES: dict[tuple[str, str], Words] = {
    ("clothing", "ASTRONAUT_SUIT"): Words(("astronaut",), ("宇航员",)),
    ("clothing", "CHEF"): Words(("chef", "cook"), ("厨师",)),
    ("hat", "CHEF_CAP"): Words(("chef",), ("厨师",)),
    ("clothing", "GLADIATOR"): Words(("gladiator",), ("角斗士",)),
    ("hat", "GLADIATOR_HELMET"): Words(("gladiator",), ("角斗士",)),
    ("clothing", "JEDI_ROBE"): Words(("Jedi",), ("绝地武士",)),
}

_NOUNS = {
    "hair": Words(("hair",), ("头发",)),
    "facial_hair": Words(("beard",), ("胡子",)),
    "clothing": Words(("shirt", "clothes"), ("衣服", "上衣")),
    "hat": Words(("hat",), ("帽子",)),
}
_HAS_NOUN = {
    "hair": _LOOSE["hair"][0][0],
    "facial_hair": _BEARDS,
    "clothing": (*_SHIRTS, "COLLAR_SWEATER", "HOODIE"),
    "hat": _CAPS,
}


class Thing(NamedTuple):
    """One thing that a prompt names.

    Attributes:
      part: the attribute.
      words: with its article in English.
      adjective: it stands before the person.
    """

    part: str
    words: str
    adjective: bool = False


def prompt(attributes: Mapping[str, str], kind: str, rng: np.random.Generator, lang: str) -> str:
    """One caption, naming one to five things.

    Args:
      attributes: enum names of python-avatars; HIDDEN for what cannot be seen.
      kind: of SUBJECT.
      rng: chooses things, words and form.
      lang: "en" or "zh".
    """
    # weighted sampling without replacement (Efraimidis and Spirakis 2006)
    parts = sorted(
        _visible(attributes), key=lambda part: rng.random() ** (1 / SALIENCE[part]), reverse=True
    )
    chosen = parts[: 1 + _weighted(COUNTS, rng)]
    form = rng.random()
    if form < 0.15:
        stated = [part for part in chosen if attributes[part] in _HAS_NOUN.get(part, ())]
        if stated:
            return _finish(_statement(attributes, stated, rng, lang), rng, lang)
    who = pick(getattr(SUBJECT[kind], lang), rng)
    roles = [part for part in chosen if (part, attributes[part]) in _ROLES]
    if roles and rng.random() < 0.5:
        who = pick(getattr(_ROLES[roles[0], attributes[roles[0]]], lang), rng)
        chosen.remove(roles[0])
        if not chosen:
            return _finish(who if form < 0.5 or lang == "zh" else f"a {who}", rng, lang)
    listed = form < 0.55
    things = [_thing(attributes, part, rng, lang) for part in chosen]
    if lang == "en":
        text = _english_list(things, who, rng) if listed else _english(things, who, rng)
    else:
        text = _chinese_list(things, who, rng) if listed else _chinese(things, who, rng)
    return _finish(text, rng, lang)


def _visible(attributes: Mapping[str, str]) -> list[str]:
    """Attributes of which something can be said."""
    parts = [part for part, table in _TABLE.items() if attributes[part] in table]
    unseen = {"clothing"} if attributes["clothing"] == "NONE" else set()
    if attributes["accessory"] not in ("NONE", HIDDEN):
        unseen |= {"eyes", "eyebrows"}
    if attributes["hat"] in vocabulary.NO_EYEBROWS_TOPS:
        unseen.add("eyebrows")
    if attributes["eyes"] == "DEFAULT":
        unseen.add("eyes")  # nobody asks for open eyes
    return [part for part in parts if part not in unseen]


def _color(
    attributes: Mapping[str, str], part: str, rng: np.random.Generator, lang: str
) -> str | None:
    words = _COLOR.get(part, {}).get(attributes.get(f"{part}_color", HIDDEN))
    return words and pick(getattr(words, lang), rng)


def _thing(attributes: Mapping[str, str], part: str, rng: np.random.Generator, lang: str) -> Thing:
    """An attribute in exact words, in loose ones, or as an adjective."""
    value = attributes[part]
    options = {
        "exact": [_TABLE[part][value]],
        "loose": [words for values, words in _LOOSE[part] if value in values],
        "adjective": [words for values, words in _ADJECTIVES.get(part, ()) if value in values],
    }
    weights = [w * bool(found) for w, found in zip((0.4, 0.4, 0.2), options.values(), strict=True)]
    how = list(options)[_weighted(weights, rng)]
    words = pick(getattr(pick(options[how], rng), lang), rng)
    color = _color(attributes, part, rng, lang)
    if color is not None:
        words = words.replace("{c}", color.replace(" ", "-") if "{c}-" in words else color)
    return Thing(part, words, how == "adjective")


def _statement(
    attributes: Mapping[str, str], parts: Sequence[str], rng: np.random.Generator, lang: str
) -> str:
    """ "the hair is red and the shirt is white"."""
    said = []
    be = " is " if rng.random() < 0.7 else ": "
    for part in parts:
        noun, color = pick(getattr(_NOUNS[part], lang), rng), _color(attributes, part, rng, lang)
        if lang == "zh":
            said.append(f"{noun}是{color}的" if be == " is " else f"{noun}{color}")
        elif be == ": ":
            said.append(f"{noun}: {color}")
        else:
            said.append(f"the {noun} {'are' if noun == 'clothes' else 'is'} {color}")
    if lang == "zh":
        return "，".join(said)
    return ", ".join(said) if be == ": " or len(said) > 2 else " and ".join(said)


def _english_list(things: Sequence[Thing], who: str, rng: np.random.Generator) -> str:
    """ "guy, red beard, round glasses"."""
    bare = rng.random() < 0.6
    words = []
    for thing in things:
        text = thing.words
        if bare:
            text = text.removeprefix("a ").removeprefix("an ")
        words.append(f"{text} {who}" if thing.adjective and rng.random() < 0.6 else text)
    if not any(thing.adjective for thing in things) and rng.random() < 0.4:
        words.insert(0 if rng.random() < 0.7 else len(words), who)
    separator = pick((", ", ", ", ", ", " and ", " "), rng)
    if separator == " and " and len(words) > 2:
        separator = ", "
    return separator.join(words)


def _english(things: Sequence[Thing], who: str, rng: np.random.Generator) -> str:
    """ "a bald guy in a white shirt with a red beard"."""
    adjectives = [thing.words for thing in things if thing.adjective]
    worn = [t.words for t in things if not t.adjective and t.part in ("clothing", "hat")]
    had = [t.words for t in things if not t.adjective and t.part not in ("clothing", "hat")]
    if who == "someone":
        who = "person" if adjectives else who
    article = "" if who == "someone" else pick(("a ", "a ", "the ", ""), rng)
    tails = []
    if worn:
        tails.append(pick((" in ", " wearing ", " in ", " who wears "), rng) + join_words(worn))
    if had:
        tails.append(pick((" with ", " with ", " who has ", " having "), rng) + join_words(had))
    if rng.random() < 0.5:
        tails.reverse()
    return article + " ".join([*adjectives, who]) + "".join(tails)


def _chinese_list(things: Sequence[Thing], who: str, rng: np.random.Generator) -> str:
    words = []
    for thing in things:
        joined = thing.adjective and thing.words.endswith("的")
        words.append(thing.words + who if joined else thing.words)
    if not any(thing.adjective for thing in things) and rng.random() < 0.4:
        words.insert(0 if rng.random() < 0.7 else len(words), who)
    return pick(("，", "，", "、", " "), rng).join(words)


_VERB = {"clothing": "穿着", "hat": "戴着", "accessory": "戴着"}
_WORN_HAIR = ("头盔", "宽檐帽", "帽子")


def _chinese(things: Sequence[Thing], who: str, rng: np.random.Generator) -> str:
    adjectives = "".join(thing.words for thing in things if thing.adjective)
    said = []
    for thing in things:
        if not thing.adjective:
            worn = thing.part == "hair" and thing.words.endswith(_WORN_HAIR)
            said.append(("戴着" if worn else _VERB.get(thing.part, "有")) + thing.words)
    one = pick(("一个", "一位", "", "这个"), rng)
    if not said:
        return one + adjectives + who
    if rng.random() < 0.5:
        return one + adjectives + who + pick(("，", ""), rng) + "，".join(said)
    return one + "、".join(said) + "的" + adjectives + who


def _finish(text: str, rng: np.random.Generator, lang: str) -> str:
    """Articles put right; now and then a capital and a full stop, as of a sentence."""
    sentence = rng.random() < 0.1
    if lang == "zh":
        return text + "。" if sentence else text
    text = fix_articles(text)
    return text[0].upper() + text[1:] + "." if sentence else text


def _weighted(weights: Sequence[float], rng: np.random.Generator) -> int:
    """A number, with probability in proportion to its weight."""
    return int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))
