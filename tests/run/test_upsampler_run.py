"""An upsampler trains by the same loop, and what is done with it once it is trained."""

import dataclasses
import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import flaxgan
from flaxgan import rng
from flaxgan.commands import sample
from flaxgan.commands import upsample as command
from flaxgan.commands.evaluate import main as evaluate
from flaxgan.commands.export import export
from flaxgan.config import Config, DataConfig, load_config
from flaxgan.data import avatars, open_dataset
from flaxgan.drawing import bundled, grids
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.evaluate.psnr_evaluator import bicubic
from flaxgan.images import to_float
from flaxgan.models.low_pictures import area_reduce, degrade
from flaxgan.models.upsampler import enlarge
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.run.loop import train
from flaxgan.training import parallel
from tests.conftest import ROOT

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


def upsampler_config(**changes) -> Config:
    """8 to 16 px, with a word of the caption, and with D from the third step on."""
    config = load_config(ROOT / "configs" / "upsample_avatars.py", tiny=True)
    replace = dataclasses.replace
    return replace(
        config,
        data=replace(config.data, resolution=16),
        model=replace(config.model, patch=2, g_channels=4, d_channels=4, g_blocks=1),
        train=replace(config.train, alone_kimg=0.016, grid_cols=1, **changes),
        eval=replace(config.eval, num_images=16),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp("runs") / "upsampler"
    assert train(upsampler_config(), workdir) is None
    return workdir


@pytest.fixture(scope="module")
def sampler(run):
    return load_sampler(run)


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def pictures(tmp_path):
    """Files of two sizes in a folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    for name, image in (("a.png", noise), ("b.jpg", noise), ("c.png", noise[:5])):
        Image.fromarray(image).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_each_grid_shows_the_small_picture_the_large_one_and_the_real_one(run):
    config = upsampler_config()
    assert sorted(p.name for p in (run / "grids").iterdir()) == [
        f"{n:09d}.png" for n in (0, 16, 32)
    ]
    sheet = np.asarray(Image.open(run / "grids" / "000000000.png").convert("RGB"))
    cell, gap = 64, grids.GAP  # 16 px, enlarged four times
    real = open_dataset(config.data, "test").image(0)
    cells = [sheet[gap : gap + cell, gap + i * (cell + gap) :][:, :cell] for i in range(3)]
    np.testing.assert_array_equal(cells[2], real.repeat(4, axis=0).repeat(4, axis=1))
    means = real.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(cells[0][4::8, 4::8] - means).max() <= 0.5 + 1e-3
    assert (cells[1] != cells[0]).any()


def test_its_score_is_psnr_and_it_starts_below_bicubic(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [line for line in lines if "psnr" in line]
    assert [line["images_seen"] for line in scores] == [0, 16, 32]
    assert -3.0 < scores[0]["psnr_gain"] < 0.5  # linear instead of bicubic
    assert [("d_loss" in x) for x in lines if "g_loss" in x] == [False, False, True, True]


@pytest.mark.slow
def test_a_resumed_run_is_the_same(run, tmp_path):
    half = tmp_path / "half"
    train(upsampler_config(total_kimg=0.024), half)
    assert train(upsampler_config(), half) is None
    ours, whole = load_sampler(half), load_sampler(run)
    assert ours.step == whole.step == 4
    jax.tree.map(np.testing.assert_array_equal, ours.params, whole.params)


def test_the_step_makes_small_pictures_by_a_key_for_each_example():
    """At its start G interpolates: the distance of the first step, written out."""
    experiment = build_experiment(upsampler_config())
    state = new_state(experiment, parallel.all_devices()[:1])
    batch = next(experiment.batches())
    _, metrics = jax.jit(functools.partial(experiment.step, alone="g"))(state, batch)
    real = to_float(jnp.asarray(batch.images))
    keys = rng.example_keys(jax.random.key(state.seed), "shrink", 0, jnp.arange(len(real)))
    difference = enlarge(degrade(area_reduce(real, 2), keys), 2) - real
    scales = [difference, area_reduce(difference, 2), area_reduce(difference, 4)]
    wanted = np.mean([np.abs(x).mean() for x in scales])
    assert float(metrics["imle"]) == pytest.approx(float(wanted), rel=1e-4)


def test_pictures_of_any_size_become_larger(sampler):
    assert (sampler.enlarges, sampler.times) == (True, 2)
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 6, 3), dtype=np.uint8)
    larger = sampler.upsample(images, ["a man", "", "一位女士"])
    assert (larger.shape, larger.dtype) == ((3, 18, 12, 3), np.uint8)
    one = sampler.upsample(images[0], "a man")
    np.testing.assert_allclose(one.astype(int), larger[0].astype(int), atol=1)
    # near linear interpolation, from which it starts
    small = larger.reshape(3, 9, 2, 6, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - images).mean() < 40


@pytest.mark.parametrize(
    ("images", "prompts", "words"),
    [
        (np.zeros((1, 4, 4, 3)), "", "must be uint8 .* not float64"),
        (np.zeros((1, 4, 4, 1), np.uint8), "", r"shape \[n, h, w, 3\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "", "must hold pixels"),
        (np.zeros((1, 1025, 1024, 3), np.uint8), "", "1024 x 1025 pixels is too large"),
        (np.zeros((2, 4, 4, 3), np.uint8), ["a"], "2 pictures need 2 prompts"),
        (np.zeros((2, 4, 4, 3), np.uint8), [3, 4], "a prompt must be a string"),
    ],
)
def test_what_cannot_be_enlarged(sampler, images, prompts, words):
    with pytest.raises(UserError, match=words):
        sampler.upsample(images, prompts)


def test_an_upsampler_draws_nothing_and_a_generator_enlarges_nothing(sampler, text_run):
    with pytest.raises(UserError, match=r"enlarges pictures, and draws none.*flaxgan upsample"):
        sampler("a man")
    with pytest.raises(UserError, match=r"draws pictures, and enlarges none"):
        load_sampler(text_run).upsample(np.zeros((1, 4, 4, 3), np.uint8))


def test_one_never_trained_without_prompts_wants_one(sampler):
    data = dataclasses.replace(sampler.config.data, caption_dropout=0.0)
    strict = dataclasses.replace(sampler, config=dataclasses.replace(sampler.config, data=data))
    with pytest.raises(UserError, match=r"was not trained without prompts.*caption-dropout"):
        strict.upsample(np.zeros((1, 4, 4, 3), np.uint8))


def test_the_command_enlarges_files_folders_and_patterns(run, pictures, capsys):
    command.main([str(pictures), "--checkpoint", str(run), "--prompt", "a man"])
    assert "wrote 3 files" in capsys.readouterr().out
    sizes = {p.name: size_of(p) for p in pictures.glob("*-2x.png")}
    assert sizes == {"a-2x.png": (12, 18), "b-2x.png": (12, 18), "c-2x.png": (12, 10)}
    text = grids.read_png_text(pictures / "b-2x.png")
    assert (text["prompt"], text["source"], text["seed"]) == ("a man", "b.jpg", "0")
    assert text["upsampler"] == "upsample_avatars_tiny step 4"
    assert text["version"] == f"flaxgan {flaxgan.__version__}"
    # again: what is there already is not enlarged once more
    command.main([str(pictures / "*.png"), "--checkpoint", str(run), "--out", str(pictures / "x")])
    assert sorted(p.name for p in (pictures / "x").iterdir()) == ["a-2x.png", "c-2x.png"]
    command.main([str(pictures / "c.png"), "--checkpoint", str(run), "--out", f"{pictures}/d.png"])
    assert size_of(pictures / "d.png") == (12, 10)


def test_a_drawn_picture_brings_its_prompt(run, tmp_path):
    image = Image.new("RGB", (8, 8), "red")
    grids.save_png(image, tmp_path / "a.png", {"prompt": "a red man", "version": "flaxgan 1"})
    grids.save_png(image, tmp_path / "b.png", {"prompt": "a red man", "version": "other"})
    grids.save_png(image, tmp_path / "c.png", {"prompt": "a\nb", "version": "flaxgan 1"})
    command.main([str(tmp_path), "--checkpoint", str(run)])
    prompts = {n: grids.read_png_text(tmp_path / f"{n}-2x.png")["prompt"] for n in "abc"}
    assert prompts == {"a": "a red man", "b": "", "c": ""}


def test_what_the_command_refuses(run, pictures, monkeypatch, text_run):
    def refused(*argv, words):
        with pytest.raises(UserError, match=words):
            command.main([*map(str, argv)])

    here = ("--checkpoint", run)
    refused(pictures / "none.png", *here, words=r"no picture at .*none.png")
    refused(pictures / "a\0.png", *here, words="no picture at")
    refused(pictures / "*.gif", *here, words="no picture at")
    refused(pictures / "notes.txt", *here, words=r"cannot enlarge .*notes.txt: not a picture")
    refused(pictures, "--times", "3", *here, words="--times must be 2 for this upsampler, not 3")
    refused(pictures, "--out", "a.png", *here, words="one file for 3 pictures")
    refused(pictures / "a.png", "--out", pictures / "a.png", *here, words="replace .* itself")
    refused(pictures / "a.png", "--checkpoint", text_run, words="enlarges none")
    refused(pictures, "--batch-size", "0", words="--batch-size must be at least 1")
    Image.new("RGB", (8, 8)).save(pictures / "b.png")
    refused(pictures, *here, words=r"b.jpg and .*b.png would both become .*b-2x.png")
    Image.new("RGB", (1100, 1000)).save(pictures / "large.bmp")
    refused(pictures / "large.bmp", *here, words=r"too many pixels \(1100 x 1000\)")
    monkeypatch.setattr(bundled, "FOLDER", pictures)
    refused(pictures, words="this installation has no upsampler")
    (pictures / "folder").mkdir()
    refused(pictures / "folder", *here, words="no picture in folder")


def test_sample_enlarges_what_it_draws(run, text_run, tmp_path, monkeypatch, capsys):
    argv = ["--checkpoint", text_run, "--prompt", "a man", "--num", "2", "--no-captions"]
    argv = [*map(str, argv), "--separate", "--out", str(tmp_path / "a.png")]
    weights = tmp_path / "weights"
    monkeypatch.setattr(bundled, "FOLDER", weights)
    with pytest.raises(UserError, match=r"no upsampler of avatars/tiny.*--upsampler"):
        sample.main([*argv, "--upsample"])
    with pytest.raises(UserError, match="--upsampler is read with --upsample only"):
        sample.main([*argv, "--upsampler", str(run)])
    sample.main([*argv, "--upsample", "--upsampler", str(run)])
    by_path = np.asarray(Image.open(tmp_path / "a-00-01.png"))
    assert by_path.shape == (64, 64, 3)
    export(run, weights / "avatars.upsampler.safetensors")
    sample.main([*argv, "--upsample"])
    assert "enlarging 2 times with the bundled model avatars.upsampler" in capsys.readouterr().out
    text = grids.read_png_text(tmp_path / "a-00-01.png")
    assert text["upsampler"] == "avatars.upsampler: upsample_avatars_tiny step 4"
    by_name = np.asarray(Image.open(tmp_path / "a-00-01.png")).astype(int)
    assert np.abs(by_name - by_path).max() <= 4  # float16
    assert flaxgan.load("avatars.upsampler").times == 2
    assert bundled.bundled_models() == {}


def test_evaluate_enlarges_the_real_pictures_of_a_split(run, tmp_path):
    out = tmp_path / "scores.json"
    flags = ["--metrics", "psnr", "--num-images", "16", "--out", str(out)]
    evaluate(["--checkpoint", str(run), *flags])
    scores = {score["name"]: score for score in json.loads(out.read_text())["scores"]}
    test = open_dataset(dataclasses.replace(upsampler_config().data, resolution=16), "test")
    real = np.stack([test.image(i) for i in range(16)])
    error = ((bicubic(real, 2) - real.astype(float)) ** 2).mean(axis=(1, 2, 3))
    wanted = (10 * np.log10(255**2 / error)).mean()
    gain = scores["psnr"]["value"] - scores["psnr_gain"]["value"]
    assert gain == pytest.approx(wanted, abs=1e-3)
    assert scores["psnr"]["better"] == "higher"


def test_psnr_is_not_for_other_families(text_run):
    with pytest.raises(UserError, match=r"psnr .* needs model.family upsampler"):
        evaluate(["--checkpoint", str(text_run), "--metrics", "psnr", "--num-images", "4"])


def test_the_avatars_can_be_rendered_larger():
    data = DataConfig(name="avatars/tiny", resolution=64)
    small = open_dataset(data, "test")
    example = avatars.make_example(("test", 0), side=128)
    large = np.asarray(Image.open(io.BytesIO(example["image"])))
    assert large.shape == (128, 128, 3)
    means = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    (row,) = [i for i in range(len(small)) if small.captions(i) == list(example["captions"])]
    assert np.abs(means - small.image(row)).mean() < 3
    assert "10k_128px" in [config.name for config in avatars.Avatars.BUILDER_CONFIGS]
