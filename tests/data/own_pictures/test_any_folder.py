"""Any mixture of pictures, damaged bytes and metadata: what is good is imported, the rest named."""

import csv
import io
import json
import re
import tempfile
import unicodedata
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flaxgan.config import DataConfig
from flaxgan.data import open_dataset
from tests.data.own_pictures.corpus import PNG, encode

GOOD = 8  # pictures beside: an import needs so many
FORMATS = {
    "PNG": ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"],
    "JPEG": ["RGB", "L", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["L", "P", "RGB"],
    "BMP": ["RGB", "L", "P", "1"],
    "TIFF": ["RGB", "L", "RGBA", "CMYK", "LA", "P", "1", "I;16"],
    "PPM": ["RGB", "L", "1"],
}
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)


@st.composite
def encoded(draw):
    """Bytes of a picture, as they should be, or cut, overwritten or with others in between."""
    file_format = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[file_format]))
    width, height = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(1, 8))
    with_exif = file_format in ("PNG", "JPEG", "WEBP") and draw(st.booleans())
    data = bytearray(encode(image, file_format, **({"exif": exif} if with_exif else {})))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 5]))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "write", "insert", "drop"])):
            case "cut":
                del data[place:]
            case "write":
                data[place : place + 4] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "drop":
                del data[place : place + draw(st.integers(1, 9))]
    return bytes(data)


TEXTS = st.one_of(
    st.text(max_size=30),
    st.text("ab \n\r\t\0\x1c\u2028\"',;\\猫🐈", max_size=12),
    st.sampled_from(["a cat", "two\nlines", ' "quoted", with commas', "Ka\u0308fer"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CAPTION_VALUES = TEXTS | st.lists(TEXTS, max_size=3) | JSON
TEXT_FILES = st.one_of(
    st.none(),
    st.binary(max_size=12),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    TEXTS.map(lambda text: text.encode("utf-16", "surrogatepass")),
)
LINES = st.one_of(  # of metadata that name no picture
    JSON.map(json.dumps),
    st.builds(lambda name: json.dumps({"file_name": name, "text": "a cat"}), JSON),
    st.sampled_from(['{"file_name": "../p0.png", "text": "a"}', '{"file_name": "/p0.png"}', "{"]),
    st.binary(max_size=12).map(lambda data: data.decode("latin-1").replace("\n", " ")),
)


def decodable(data):
    """Whether Pillow reads it, all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except Exception:
            return False
    return True


def cleaned(texts):
    """Captions of strings, as the README says: NFC, one line each, no two the same."""
    lines = []
    for text in texts:
        if "\0" in text or re.search("[\ud800-\udfff]", text):
            return []
        text = unicodedata.normalize("NFC", text)
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
        lines.append(" ".join(text.split()))
    return [line for line in dict.fromkeys(lines) if line]


def of_value(value):
    values = value if isinstance(value, list) else [value]
    return cleaned([text for text in values if isinstance(text, str)])


def of_text_file(data):
    if data is None:
        return []
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return []
    return cleaned(re.split("\r\n|\r|\n", text))


@st.composite
def folders(draw):
    """Files of a folder; and the pictures that are to be imported, with their captions."""
    kind = draw(st.sampled_from(["txt", "jsonl", "csv"]))
    pictures = {f"p{i}.png": data for i, data in enumerate(draw(st.lists(encoded(), max_size=6)))}
    good = {f"good{i}.png": PNG + bytes(i) for i in range(GOOD)}
    files = {**pictures, **good}
    captions = {name: [f"caption of {name}"] for name in good}
    if kind == "txt":
        for name in good:
            files[name.replace("png", "txt")] = f"caption of {name}".encode()
        for name in pictures:
            data = draw(TEXT_FILES)
            captions[name] = of_text_file(data)
            if data is not None:
                files[name.replace("png", "txt")] = data
    elif kind == "jsonl":
        values = {name: draw(CAPTION_VALUES) for name in pictures}
        captions |= {name: of_value(value) for name, value in values.items()}
        values |= {name: f"caption of {name}" for name in good}
        lines = [json.dumps({"file_name": name, "text": value}) for name, value in values.items()]
        lines += draw(st.lists(LINES, max_size=4))
        lines = draw(st.permutations(lines))
        files["metadata.jsonl"] = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        texts = {name: draw(TEXTS) for name in pictures}
        captions |= {name: cleaned([text]) for name, text in texts.items()}
        texts |= {name: f"caption of {name}" for name in good}
        table = io.StringIO()
        writer = csv.writer(
            table, quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        )
        writer.writerow(["other", "caption", "file_name"])
        for name, text in texts.items():
            writer.writerow([draw(TEXTS), text, name])
        files["metadata.csv"] = table.getvalue().encode("utf-8", "surrogatepass")
    expected = {
        name: captions[name]
        for name in (*pictures, *good)
        if captions[name] and decodable(files[name])
    }
    return files, expected


@settings(settings.get_profile("repeatable"), max_examples=15, suppress_health_check=[*HealthCheck])
@given(folders())
def test_what_is_good_is_imported_and_the_rest_is_named(folder):
    files, expected = folder
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "pictures")
        root.mkdir()
        for file, data in files.items():
            (root / file).write_bytes(data)
        config = DataConfig(path=str(root), data_dir=str(Path(name, "tfds")), resolution=8)
        found = {}
        for split in ("train", "test"):
            dataset = open_dataset(config, split)
            for i in range(len(dataset)):
                file = dataset._source[i]["file"].decode()
                assert file not in found  # the splits have no picture in common
                found[file] = dataset.captions(i)
        (report,) = Path(name).rglob("rejected.jsonl")
        rejected = [json.loads(line) for line in report.read_text("utf-8").split("\n") if line]
    assert found == expected
    pictures = {file for file in files if file.endswith(".png")}
    named = {row["name"] for row in rejected}
    assert named >= pictures - set(expected)
    assert not named & set(expected)
    assert all(row["reason"] for row in rejected)
