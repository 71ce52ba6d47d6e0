"""Captions of emoji: their Unicode names in 14 languages, with the art style in words."""

import re

STYLES = ("twemoji", "openmoji")

# language -> (caption, {style: its words}); "{name}" becomes the emoji's name, or what of it comes
# before the first comma, and "{details}" the rest: "astronaut emoji, dark skin tone, flat …"
_STYLED: dict[str, tuple[str, dict[str, str]]] = {
    "en": (
        "{name} emoji{details}, {style}",
        {"twemoji": "flat Twemoji style", "openmoji": "outlined OpenMoji style"},
    ),
    "zh": (
        "{name}表情符号{details}，{style}",
        {"twemoji": "Twemoji扁平风格", "openmoji": "OpenMoji线描风格"},
    ),
    "es": (
        "{name}, emoji de estilo {style}",
        {"twemoji": "plano Twemoji", "openmoji": "con contornos OpenMoji"},
    ),
    "ja": (
        "{name}の絵文字{details}、{style}",
        {"twemoji": "Twemojiのフラットスタイル", "openmoji": "OpenMojiの線画スタイル"},
    ),
    "ko": (
        "{name} 이모지, {style}",
        {"twemoji": "Twemoji 플랫 스타일", "openmoji": "OpenMoji 윤곽선 스타일"},
    ),
    "pt": (
        "{name}, emoji em estilo {style}",
        {"twemoji": "plano Twemoji", "openmoji": "com contornos OpenMoji"},
    ),
    "it": (
        "{name}, emoji in stile {style}",
        {"twemoji": "piatto Twemoji", "openmoji": "con contorni OpenMoji"},
    ),
    "fr": (
        "{name}, émoji de style {style}",
        {"twemoji": "plat Twemoji", "openmoji": "à contours OpenMoji"},
    ),
    "de": (
        "{name}, Emoji im {style}",
        {"twemoji": "flachen Twemoji-Stil", "openmoji": "OpenMoji-Stil mit Umrisslinien"},
    ),
    "fa": (
        "ایموجی {name}، {style}",
        {"twemoji": "سبک تخت Twemoji", "openmoji": "سبک خطی OpenMoji"},
    ),
    "id": (
        "emoji {name}, gaya {style}",
        {"twemoji": "datar Twemoji", "openmoji": "bergaris luar OpenMoji"},
    ),
    "ru": (
        "{name}, эмодзи в {style}",
        {"twemoji": "плоском стиле Twemoji", "openmoji": "контурном стиле OpenMoji"},
    ),
    "tr": (
        "{name} emojisi, {style}",
        {"twemoji": "düz Twemoji stili", "openmoji": "dış çizgili OpenMoji stili"},
    ),
    "ar": (
        "رمز تعبيري {name}، {style}",
        {"twemoji": "بأسلوب Twemoji المسطح", "openmoji": "بأسلوب OpenMoji الخطي"},
    ),
}
_PLAIN = {
    "en": "{name} emoji{details}",
    "zh": "{name}表情符号{details}",
}  # for prompts that leave the style open

LANGUAGES = tuple(_STYLED)
# the language of each caption: English and Chinese first, so that a cut list keeps both
CAPTION_LANGUAGES = ("en", "zh", "en", "zh", *LANGUAGES[2:])
NUM_CAPTIONS = len(CAPTION_LANGUAGES)

_ENGLISH_TONE = re.compile(
    r",? ((?:medium-light|medium-dark|light|medium|dark) skin tone)(?=,| |$)"
)
_ENGLISH_GROUP = re.compile(
    r"^(kiss|couple with heart|family) (?=(?:man|woman|person|adult|child|boy|girl)\b)"
)
_SEPARATORS = {"zh": "，", "ja": "、"}  # what the package writes as "_"; a space elsewhere
_COMMAS = {"en": ", ", **_SEPARATORS}
# black, white, chequered, triangular, crossed; with a joiner also pirate, rainbow, transgender
_FLAG_PICTURES = "\U0001f3f4\U0001f3f3\U0001f3c1\U0001f6a9\U0001f38c"
_FLAG_OF = {"en": "flag of {}", "zh": "{}旗"}  # other languages already say "flag"


def is_region_flag(character: str) -> bool:
    """Whether an emoji is the flag of a country or region."""
    return "\U0001f1e6" <= character[0] <= "\U0001f1ff" or "\U000e007f" in character


def is_flag(character: str) -> bool:
    """Whether an emoji is a flag: of a region, or chequered, white, rainbow …"""
    return is_region_flag(character) or character[0] in _FLAG_PICTURES


def is_keycap(character: str) -> bool:
    """Whether an emoji is a key of a telephone: 0 to 9, # or *."""
    return "\u20e3" in character


def readable_name(raw: str, language: str, character: str) -> str:
    """A name of the `emoji` package as words.

    Args:
      raw: such as ":man_astronaut_medium_skin_tone:".
      language: one of LANGUAGES.
      character: the emoji.

    Returns:
      Such as "man astronaut, medium skin tone"; without underscores and colons.
    """
    spaced = is_region_flag(character) or is_keycap(character)
    name = raw.strip(":").replace("_", " " if spaced else _SEPARATORS.get(language, " "))
    name = name.replace(":", " ").strip()
    if language == "en":
        name = _ENGLISH_GROUP.sub(r"\1, ", name)
        name = re.sub("(skin tone) (?=.)", r"\1, ", _ENGLISH_TONE.sub(r", \1", name))
    elif language == "zh":
        name = re.sub("肤色(?=.)", "肤色，", name)  # two tones, or a tone and hair
    return _FLAG_OF.get(language, "{}").format(name) if is_region_flag(character) else name


def captions(names: dict[str, str], character: str, style: str) -> list[str]:
    """The captions of one picture, in the order of CAPTION_LANGUAGES.

    Args:
      names: language -> name as in the `emoji` package, for each of LANGUAGES.
      character: the emoji.
      style: one of STYLES.
    """
    parts = {}
    for lang in LANGUAGES:
        name = readable_name(names[lang], lang, character)
        head, comma, rest = name.partition(_COMMAS[lang]) if lang in _COMMAS else (name, "", "")
        parts[lang] = {"name": head, "details": comma + rest}
    styled = {
        lang: template.format(style=words[style], **parts[lang])
        for lang, (template, words) in _STYLED.items()
    }
    plain = [template.format(**parts[lang]) for lang, template in _PLAIN.items()]
    return [styled["en"], styled["zh"], *plain, *(styled[lang] for lang in LANGUAGES[2:])]
