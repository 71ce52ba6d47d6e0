"""The report on a folder: figures, copies, rejections, the contact sheet, and bad arguments."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from flaxgan.commands import cli, inspect
from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.data.own_pictures.survey import Facts, copies, sample_headers, survey
from tests.conftest import ROOT
from tests.data.own_pictures.corpus import encode, fifo, with_orientation
from tests.data.own_pictures.folders import encoded, write_files


@functools.cache
def photo(seed, size=256):
    """As photos are: amplitudes fall with the frequency."""
    draw = np.random.default_rng(seed)
    frequencies = np.fft.fftfreq(size)
    radius = np.hypot(*np.meshgrid(frequencies, frequencies))
    radius[0, 0] = 1
    noise = draw.normal(size=(4, size, size)) + 1j * draw.normal(size=(4, size, size))
    planes = np.fft.ifft2(noise / radius).real
    pixels = 0.7 * planes[:1] + 0.3 * planes[1:]
    low, high = pixels.min(), pixels.max()
    pixels = 255 * (pixels - low) / (high - low)
    return Image.fromarray(pixels.astype(np.uint8).transpose(1, 2, 0))


def half(image):
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


@pytest.fixture
def folder(tmp_path):
    """Nine good pictures, of which two look like earlier ones; three bad ones."""
    photos = [photo(i) for i in range(4)]
    files = {f"{i}.png": encode(image) for i, image in enumerate(photos)}
    files |= {
        "4.jpg": encode(photos[1], "JPEG", quality=75),
        "5.webp": encode(half(photos[1]), "WEBP", quality=80),
        "6.png": encode(photos[2]),
        "7.png": encode(photo(7).crop((0, 0, 200, 50))),
        "8.png": encode(photo(8).crop((0, 0, 20, 60)).convert("L")),
        "bad.png": b"no picture",
        "empty.png": encode(photos[0]),
        "mute.png": encode(photos[0]),
    }
    files |= {f"{i}.txt": f"photo number {i}\na photo" for i in range(9)}
    files |= {"bad.txt": "a photo", "empty.txt": "  "}
    write_files(tmp_path / "photos", files)
    return tmp_path / "photos"


def test_figures(folder):
    report = inspect.report(survey(list_pictures(folder)))
    assert report["path"] == str(folder)
    assert report["layout"] == "pictures with text files"
    assert (report["found"], report["usable"]) == (12, 9)
    assert report["shorter_side"] == {"min": 20.0, "median": 256.0, "max": 256.0}
    assert report["smaller_than"] == {"32": 1, "64": 2, "128": 2, "256": 3}
    assert report["aspect_ratio"] == {"min": 20 / 60, "median": 1.0, "max": 4.0}
    assert report["formats"] == {"PNG": 7, "JPEG": 1, "WEBP": 1}
    assert report["modes"] == {"RGB": 8, "L": 1}
    assert (report["captions"], report["distinct_captions"]) == (18, 10)
    assert report["caption_words"] == {"min": 2.0, "median": 2.5, "max": 3.0}
    assert report["copies"] == [["1.png", "4.jpg", "5.webp"], ["2.png", "6.png"]]
    assert report["reasons"] == {"not a picture": 1, "empty caption": 1, "no caption": 1}
    assert [row["name"] for row in report["rejected"]] == ["bad.png", "empty.png", "mute.png"]


def test_text_and_files(folder, tmp_path, capsys):
    sheet, written = tmp_path / "sheet.png", tmp_path / "report.json"
    inspect.main([str(folder), "--sheet", str(sheet), "--json", str(written), "--pictures", "5"])
    shown = capsys.readouterr().out
    for words in (
        f"{folder}: pictures with text files",
        "12 found, 9 usable",
        "20 to 256 pixels, median 256; 1 below 32, 2 below 64, 2 below 128, 3 below 256",
        "0.33 to 4.00, median 1.00",
        "7 PNG, 1 JPEG, 1 WEBP; modes: 8 RGB, 1 L",
        "18 (10 distinct), 2 to 3 words",
        "3 pictures look like an earlier one, e.g. 1.png = 4.jpg = 5.webp",
        "bad.png: not a picture",
        f"wrote {sheet}",
    ):
        assert words in shown
    assert json.loads(written.read_text("utf-8")) == inspect.report(survey(list_pictures(folder)))
    result = survey(list_pictures(folder), thumbnails=5)
    assert len(result.thumbnails) == len(result.shown) == 5
    with Image.open(sheet) as image:
        found = np.asarray(image)
    # the second one lies right of the first one, enlarged twice
    np.testing.assert_array_equal(found[4:132:2, 136:264:2], result.thumbnails[1])


@pytest.mark.parametrize("name", ["\x1b[2Jred.png", "two\nlines.png", "caf\udce9.png"])
def test_names_cannot_talk_to_the_terminal(tmp_path, capsys, name):
    write_files(tmp_path, {name: b"", f"{os.path.splitext(name)[0]}.txt": "a caption"})
    inspect.main([str(tmp_path), "--json", str(tmp_path / "report.json")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "empty file" in shown
    assert len(shown.splitlines()) == 4


def test_many_rejections_are_not_all_shown(tmp_path, capsys):
    write_files(tmp_path, {f"{i}.png": b"" for i in range(30)})
    write_files(tmp_path, {f"{i}.txt": "a caption" for i in range(30)})
    inspect.main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert "0 usable" in shown
    assert shown.count(".png: empty file") == 20
    assert "and 10 more" in shown


def test_pictures_of_each_class_are_counted(tmp_path, capsys):
    """Where folders name them: the ten largest, and how many more."""
    files = {"c00/bad.png": b"", "train/c01/x.png": encoded(99)}
    for number in range(12):
        files |= {f"c{number:02}/{i}.png": encoded(20 * number + i) for i in range(14 - number)}
    write_files(tmp_path / "a", files)
    inspect.main([str(tmp_path / "a"), "--json", str(tmp_path / "report.json")])
    shown = capsys.readouterr().out
    assert "classes       12: 14 c00, 14 c01, 12 c02, 11 c03" in shown
    assert "5 c09 … and 2 more" in shown
    classes = json.loads((tmp_path / "report.json").read_text())["classes"]
    assert sum(classes.values()) == sum(range(3, 15)) + 1
    inspect.main([str(tmp_path / "a"), "--data.caption-templates", "a photo of {}", "{}"])
    assert "classes       12: 14 a photo of c00, 14 a photo of c01" in capsys.readouterr().out
    write_files(tmp_path / "b", {f"{k}/{i}.png": encoded(i) for k in "xy" for i in range(3)})
    inspect.main([str(tmp_path / "b")])
    assert "classes       2: 3 x, 3 y\n" in capsys.readouterr().out


def test_no_classes_where_captions_are_written(folder):
    assert inspect.report(survey(list_pictures(folder)))["classes"] == {}


def test_flags_of_training_are_understood(tmp_path, capsys):
    line = '{"file_name": "a.png", "title": "one two three", "words": "a"}'
    write_files(tmp_path, {"a.png": encoded(0), "metadata.jsonl": line})
    for flags in (
        ["--data.path", str(tmp_path), "--data.caption-column", "title"],
        ["--data.caption_column=title", str(tmp_path)],
        ["--caption-column", "title", str(tmp_path)],
    ):
        inspect.main(flags)
        assert "1 (1 distinct), 3 to 3 words" in capsys.readouterr().out
    write_files(tmp_path / "mute", {"a.png": encoded(0)})
    for flags in (["--captions-optional"], ["--data.caption-key="], ["--data.caption-key", ""]):
        inspect.main([str(tmp_path / "mute"), *flags])
        assert "1 found, 1 usable" in capsys.readouterr().out


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_sizes_are_those_of_upright_pictures(tmp_path, file_format):
    exif = with_orientation(6)[1]
    options = {"tiffinfo": {274: 6}} if file_format == "TIFF" else {"exif": exif}
    data = encode(Image.new("RGB", (40, 24)), file_format, **options)
    write_files(tmp_path, {"a.png": data, "a.txt": "a caption"})
    for facts in (survey(list_pictures(tmp_path)).facts, sample_headers(list_pictures(tmp_path))):
        assert [(fact.width, fact.height) for fact in facts] == [(24, 40)]


def test_headers_are_read_without_decoding(tmp_path, monkeypatch):
    for i, file_format in enumerate(("PNG", "JPEG", "WEBP", "GIF", "TIFF")):
        write_files(tmp_path, {f"{i}.png": encoded(i, file_format), f"{i}.txt": "a caption"})
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    facts = sample_headers(list_pictures(tmp_path))
    assert [(fact.width, fact.height, fact.reason) for fact in facts] == [(32, 24, "")] * 5


def test_copies_of_many_photos_are_found_and_no_others(tmp_path):
    files = {}
    for i in range(25):
        image = photo(i)
        files |= {
            f"{i}-a.png": encode(image),
            f"{i}-b.png": encode(image, "JPEG", quality=75),
            f"{i}-c.png": encode(image, "JPEG", quality=50),
            f"{i}-d.png": encode(half(image), "WEBP", quality=80),
        }
    write_files(tmp_path, files)
    groups = copies(survey(list_pictures(tmp_path, ReadOptions(need_captions=False))).facts)
    found = [sorted(fact.name for fact in group) for group in groups]
    assert sorted(found) == sorted([f"{i}-{k}.png" for k in "abcd"] for i in range(25))


def test_plain_pictures_are_copies_only_where_their_files_are(tmp_path):
    colours = ["red", "blue", "red"]
    files = {f"{i}.png": encode(Image.new("RGB", (8, 8), c)) for i, c in enumerate(colours)}
    files["3.png"] = encode(Image.new("RGB", (9, 9), "red"))
    write_files(tmp_path, files)
    groups = copies(survey(list_pictures(tmp_path, ReadOptions(need_captions=False))).facts)
    assert [[fact.name for fact in group] for group in groups] == [["0.png", "2.png"]]


def test_time_for_copies_does_not_grow_with_the_square():
    """Twenty thousand that agree in nearly everything."""
    facts = [
        Facts(str(i), digest=str(i), look=bytes([1] * 31 + [i % 7]), colours=bytes([i % 256]) * 48)
        for i in range(20_000)
    ]
    assert sum(map(len, copies(facts))) > 10_000  # within the test's time


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "the following arguments are required: PATH"),
        (["none"], "does not exist"),
        (["photos/none.png"], "does not exist"),
        (["photos/0.png"], "neither a folder nor a .tar, .parquet or .arrow file"),
        (["nothing"], "no pictures in"),
        (["zipped"], "no pictures in"),
        (["zipped/a.zip"], "unpack it first"),
        (["mute"], "put name.txt beside name.png"),
        (["pipe"], "cannot read folder"),
        (["n" * 300], "cannot be read"),
        (["photos", "--pictures", "0"], "--pictures must be at least 1, not 0"),
        (["photos", "--sheet", "a.gif"], "--sheet must end in .png, not a.gif"),
        (["photos", "--sheet", "none/a.png"], "cannot write"),
        (["photos", "--json", "none/a.json"], "cannot write none/a.json"),
        (["photos", "--fit", "stretch"], "invalid choice: 'stretch'"),
        (["table", "--caption-column", "tale"], "has no column tale; it has: file_name, text"),
        (["photos", "--colour", "1"], "unrecognized arguments: --colour"),
        (["photos", "--data.caption-colum", "a"], "did you mean --data.caption-column?"),
        (["photos", "--data.path", "photos"], "give either PATH or --data.path, not both"),
        (["photos", "--data.resolution", "64"], "resolution changes nothing here: remove"),
        (["photos", "--data.caption-templates", "a"], "data.caption_templates must hold"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_bad_arguments_give_one_line(folder, tmp_path, monkeypatch, capsys, argv, words):
    (tmp_path / "nothing").mkdir()
    fifo(tmp_path / "pipe")
    write_files(tmp_path, {"zipped/a.zip": b"PK", "mute/a.png": encoded(0)})
    line = '{"file_name": "a.png", "text": "a"}'
    write_files(tmp_path, {"table/a.png": encoded(0), "table/metadata.jsonl": line})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inspect", *argv])
    with pytest.raises(SystemExit) as exit_:
        cli.run(inspect.main)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_as_a_process_of_its_own(folder):
    argv = [sys.executable, "-m", "flaxgan", "inspect"]
    done = subprocess.run([*argv, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "12 found, 9 usable" in done.stdout
    assert done.stderr == ""
