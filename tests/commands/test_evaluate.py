"""`flaxgan evaluate`, whole: a checkpoint, a folder, exported captions, the JSON."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from flaxgan.commands import cli, data_options
from flaxgan.commands import evaluate as command
from flaxgan.commands.evaluate import main
from flaxgan.config import Config, DataConfig
from flaxgan.data import open_dataset
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.text import encode_captions
from tests.conftest import ROOT

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


def evaluate(*argv):
    main([str(a) for a in argv])


def read(path):
    report = json.loads(path.read_text())
    return report, {score["name"]: score for score in report["scores"]}


@pytest.fixture(scope="module")
def scored(text_run, tmp_path_factory):
    """The report of a checkpoint, and its table."""
    out = tmp_path_factory.mktemp("scores") / "a.json"
    evaluate("--checkpoint", text_run, "--metrics", "fd_pixels8,attributes", "--out", out)
    return read(out)


def test_the_report_says_all_that_makes_a_number_comparable(scored, text_run):
    report, scores = scored
    assert report["checkpoint"] == str(text_run / "checkpoints" / "4")
    assert report["images_seen"] == 32
    assert len(report["generator_sha256"]) == 64
    assert (report["data"], report["split"], report["num_images"]) == ("avatars/tiny", "test", 64)
    assert (report["seed"], report["truncation"], report["resolution"]) == (0, None, 32)
    assert report["seconds"] > 0
    protocol = scores["fd_pixels8"]["protocol"]
    assert protocol["network"] == "pixels8"
    assert protocol["pictures"] == protocol["real_pictures"] == 64
    fd = scores["fd_pixels8"]
    assert fd["better"] == "lower"
    assert fd["value"] > 10 * fd["real"] > 0  # the generator has hardly been trained


def test_attributes_of_a_generator_that_draws_mud(scored):
    """Real pictures are at the ceiling, the generator near or below chance."""
    _, scores = scored
    for name in ("attr_mean", "attr_heldout", "binding", "binding_heldout"):
        score = scores[name]
        assert score["real"] > 0.95 > 0.6 > score["chance"], score
        assert score["value"] < 0.5
        assert score["better"] == "higher"
    assert scores["binding_heldout"]["protocol"]["split"] == "heldout"
    assert scores["diversity_tv"]["value"] > 2 * scores["diversity_tv"]["real"]
    assert scores["repeat_rate"]["value"] > scores["repeat_rate"]["real"]
    assert scores["nearest_train"]["real"] == 1.0
    assert scores["distinct"]["value"] < scores["distinct"]["real"]
    assert scores["entropy"]["value"] < scores["entropy"]["real"]
    assert scores["duplicates"]["value"] <= 0.05


def test_the_same_command_gives_the_same_numbers(scored, text_run, tmp_path, capsys):
    out = tmp_path / "deep" / "b.json"
    evaluate("--checkpoint", text_run, "--metrics", "fd_pixels8", "--batch-size", 24, "--out", out)
    report, scores = read(out)
    assert report["generator_sha256"] == scored[0]["generator_sha256"]
    assert scores["fd_pixels8"]["value"] == pytest.approx(
        scored[1]["fd_pixels8"]["value"], rel=1e-4
    )
    table = capsys.readouterr().out
    assert "fd_pixels8" in table
    assert "64 pictures" in table
    other = tmp_path / "c.json"
    evaluate("--checkpoint", text_run, "--metrics", "fd_pixels8", "--seed", 1, "--out", other)
    assert read(other)[1]["fd_pixels8"]["value"] != scores["fd_pixels8"]["value"]


def test_a_folder_that_another_program_drew_scores_the_same(scored, text_run, tmp_path):
    """Export captions, draw them, score the folder: as if the checkpoint had been scored."""
    folder = tmp_path / "drawn"
    data = ("--data", "avatars/tiny", "--metrics", "fd_pixels8,attributes")
    config = tmp_path / "c.py"
    config.write_text(
        "from flaxgan.config import *\n"
        "def get_config():\n    return Config(data=DataConfig(resolution=32))\n"
    )
    evaluate("--config", config, *data, "--export-captions", folder / "metadata.jsonl")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["set"] for row in rows].count("test") == 64
    assert {row["set"] for row in rows} == {"test", "heldout", "test/open"}
    sampler = load_sampler(text_run)
    for name in {row["set"] for row in rows}:
        mine = [row for row in rows if row["set"] == name]
        text = encode_captions(
            sampler.text_encoder, [row["text"] for row in mine], sampler.config.text
        )
        from flaxgan.drawing.drawer import Drawer

        drawer = Drawer(
            sampler.generator, sampler.config.model.z_dim, sampler.text_stats, jax.local_devices()
        )
        images = drawer.draw(sampler.params, np.arange(len(mine)), text)
        for row, image in zip(mine, images, strict=True):
            Image.fromarray(image).save(folder / row["file_name"])
    out = tmp_path / "folder.json"
    evaluate("--images", folder, *data, "--out", out)
    report, scores = read(out)
    assert report["images"] == str(folder)
    assert set(scores) == set(scored[1])
    for name, score in scored[1].items():
        assert scores[name]["value"] == pytest.approx(score["value"], rel=1e-4, abs=1e-6), name


def test_which_caption_is_drawn_can_be_chosen(tmp_path):
    test = open_dataset(DataConfig(name="avatars/tiny", resolution=32), "test")
    for number in (0, 3):
        file = tmp_path / f"{number}.jsonl"
        flags = ("--data", "avatars/tiny", "--num-images", 5, "--caption-number", number)
        evaluate(*flags, "--export-captions", file)
        texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
        assert texts == [test.captions(i)[number] for i in range(5)]
    assert test.captions(0)[0] != test.captions(0)[3]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty pictures with two columns of captions."""
    folder = tmp_path_factory.mktemp("photos")
    lines = []
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "title": f"t{i}", "text": f"x{i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_a_checkpoint_is_scored_on_own_pictures(text_run, photos, tmp_path):
    """By the flags of training, and without those that training alone reads."""
    data = ("--data.path", photos, "--data.caption_column=title")
    out, captions = tmp_path / "a.json", tmp_path / "real" / "metadata.jsonl"
    evaluate("--checkpoint", text_run, *data, "--out", out)
    report, scores = read(out)
    assert (report["data"], report["split"], report["num_images"]) == (str(photos), "test", 5)
    assert scores["fd_pixels8"]["protocol"]["real_pictures"] == 5
    config = tmp_path / "c.py"  # of a data set with other keys
    config.write_text(
        "from flaxgan.config import *\ndef get_config():\n"
        "    data = DataConfig(resolution=32, image_key='photo', caption_key='label')\n"
        "    return Config(data=data)\n"
    )
    evaluate("--config", config, *data, "--export-captions", captions)
    rows = [json.loads(line) for line in captions.read_text().splitlines()]
    assert len(rows) == 5
    for row in rows:  # the held-out pictures themselves
        assert row["text"][0] == "t"
        pixels = (photos / f"{row['text'][1:]}.png").read_bytes()
        (captions.parent / row["file_name"]).write_bytes(pixels)
    evaluate("--images", captions.parent, *data, "--out", out)
    assert read(out)[1]["fd_pixels8"]["value"] == pytest.approx(0, abs=1e-6)


def test_all_fields_of_data_are_flags_and_take_the_values_of_training():
    every = {field.name for field in dataclasses.fields(DataConfig)}
    parser = cli.Parser(prog="a")
    data_options.add_data_options(parser, also={"name": ("--data",)})
    assert data_options.named_fields(parser.parse_args([])) == set()
    flags = ["--data.caption-templates", "{}", "a {}", "--data.strict", "--data.in_memory_mb=7"]
    flags += ["--data.path=None", "--data", "b", "--data.caption-key=", "--data.fit", "pad"]
    flags += ["--data.caption-numbers", "0", "2", "--data.num-workers", "3"]
    args = parser.parse_args(data_options.dashed(flags))
    data = data_options.override(Config(), args).data
    assert data == DataConfig(
        caption_templates=("{}", "a {}"),
        strict=True,
        in_memory_mb=7,
        name="b",
        caption_key="",
        fit="pad",
        caption_numbers=(0, 2),
        num_workers=3,
    )
    args = parser.parse_args(["--data.no-strict"])
    assert not data_options.override(Config(data=DataConfig(strict=True)), args).data.strict
    shown = parser.format_help()
    assert all(f"--data.{name.replace('_', '-')}" in shown for name in every)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.caption-colum", "a"], "did you mean --data.caption-column?"),
        (["--data.in-memory-mb", "much"], "flags: "),
        (["--data.caption-dropout", "0.1"], "dropout changes nothing here: remove it"),
        (["--data.resolution", "64"], "--data.resolution 64: the pictures to score have 32"),
        (["--data.channels", "1"], "--data.channels 1: the pictures to score have 3"),
        (["--data.path", "none"], "none does not exist"),
    ],
)
def test_wrong_flags_of_data_are_told(text_run, flags, words):
    with pytest.raises(UserError) as error:
        evaluate("--checkpoint", text_run, *flags)
    assert words in str(error.value)


def test_a_named_data_set_takes_the_place_of_own_pictures(tmp_path):
    file = tmp_path / "a.jsonl"
    for i in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{i}.png")
    config = ROOT / "configs" / "folder.py"  # its data.path is not there
    flags = ("--images", tmp_path, "--config", config, "--num-images", 3)
    evaluate(*flags, "--data", "avatars/tiny", "--export-captions", file)
    assert len(file.read_text().splitlines()) == 3


def test_real_pictures_in_a_folder_score_zero(tmp_path):
    test = open_dataset(DataConfig(name="avatars/tiny", resolution=32), "test")
    for i in range(len(test)):
        Image.fromarray(test.image(i)).save(tmp_path / f"{i:03d}.png")
    out = tmp_path / "a.json"
    evaluate("--images", tmp_path, "--data", "avatars/tiny", "--out", out)
    _, scores = read(out)
    assert scores["fd_pixels8"]["value"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["avatars [gamma 1]", "a[/b]", ":cat:"])
def test_a_folder_may_be_called_as_markup(tmp_path, capsys, name):
    folder, out = tmp_path / name, tmp_path / "scores.json"
    folder.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (32, 32), (0, 0, 99 * i)).save(folder / f"{i}.png")
    evaluate("--images", folder, "--data", "avatars/tiny", "--out", out)
    report, _ = read(out)
    assert report["images"] == str(folder)
    shown = capsys.readouterr().out.replace("\n", "").replace(" ", "")  # it may be wrapped
    assert f"{folder}:2pictures,avatars/tinytest".replace(" ", "") in shown


def test_scores_are_written_before_they_are_shown(tmp_path, monkeypatch):
    for i in range(2):
        Image.new("RGB", (32, 32), (0, 0, 99 * i)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(command, "_print", None)
    with pytest.raises(TypeError):
        evaluate("--images", tmp_path, "--data", "avatars/tiny", "--out", tmp_path / "a.json")
    assert "fd_pixels8" in read(tmp_path / "a.json")[1]


def test_an_unknown_metric_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(command, "choose_sampler", None)
    monkeypatch.setattr(command, "ImageFolder", None)
    monkeypatch.setattr(command, "open_dataset", None)
    for flags in ([], ["--images", "none"]):
        with pytest.raises(UserError, match="not 'kid_eflite0'; did you mean kid_efflite0"):
            evaluate("--metrics", "fd_pixels8,kid_eflite0", *flags)


def test_the_help_names_the_metrics(capsys):
    with pytest.raises(SystemExit):
        evaluate("--help")
    assert "fd_efflite0" in capsys.readouterr().out


def test_as_a_process_of_its_own():
    command = [sys.executable, "-m", "flaxgan", "evaluate", "--metrics", "fdi"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: eval.metrics must be one of fd_pixels8")
    assert "not 'fdi'; did you mean fid?" in done.stderr
    assert "Traceback" not in done.stderr
