"""An inpainter trains by the same loop, and what the commands do with one."""

import dataclasses
import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import flaxgan
from flaxgan.commands import cli
from flaxgan.commands.main import run_command
from flaxgan.config import Config, LossConfig, load_config
from flaxgan.data import open_dataset
from flaxgan.drawing import bundled, filling, grids
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.models.holes import random_holes
from flaxgan.rng import example_keys, normal
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.run.loop import train
from flaxgan.training import parallel
from tests.conftest import ROOT
from tests.drawing.conftest import write_tiny

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
SIDE = 16


def inpainter_config() -> Config:
    """16 px, with D from the third step on."""
    config = load_config(ROOT / "configs" / "inpaint_avatars.py", tiny=True)
    replace = dataclasses.replace
    return replace(
        config,
        data=replace(config.data, resolution=SIDE),
        model=replace(config.model, g_channels=4, d_channels=4, attention=(4,)),
        loss=replace(config.loss, imle_noises=1),
        train=replace(config.train, alone_kimg=0.016, grid_cols=1),
        eval=replace(config.eval, num_images=16, metrics=("fd_pixels8",), best_metric="fd_pixels8"),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A generator with random parameters, in a file."""
    sizes = {"g_channels": 4, "d_channels": 4, "w_dim": 8}
    folder = tmp_path_factory.mktemp("inpainter")
    return write_tiny(folder, "inpainter", family="inpainter", discriminator=False, **sizes)


@pytest.fixture(scope="module")
def sampler(file):
    return load_sampler(file)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one with transparency, and masks of the same names."""
    (tmp_path / "masks").mkdir()
    pictures = {"a": noise(20, 30, 4), "b": noise(SIDE, SIDE)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[3:11, 5:12], mask[0, 0], mask[0, 1] = 255, 127, 128
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


@pytest.mark.slow  # the step itself is tested below
def test_it_trains_with_holes_and_shows_them_in_the_grid(tmp_path):
    config = inpainter_config()
    assert train(config, tmp_path) is None
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [("d_loss" in x) for x in lines if "g_loss" in x] == [False, False, True, True]
    sheet = np.asarray(Image.open(tmp_path / "grids" / "000000032.png").convert("RGB"))
    cell, gap = 64, grids.GAP  # 16 px, enlarged four times
    given, drawn, real = (
        sheet[gap : gap + cell, gap + i * (cell + gap) :][:, :cell][2::4, 2::4] for i in range(3)
    )
    np.testing.assert_array_equal(real, open_dataset(config.data, "test").image(0))
    hole = np.asarray(random_holes(jax.random.split(jax.random.key(0), 2), SIDE))[0, ..., 0] > 0
    np.testing.assert_array_equal(drawn[~hole], real[~hole])
    np.testing.assert_array_equal(given[~hole], real[~hole])
    assert (given[hole] == 128).all()
    assert (drawn[hole] != real[hole]).mean() > 0.5


def test_the_step_composes_what_it_draws_with_the_real_picture():
    """The distance and the logits of the first step, written out."""
    config = inpainter_config()
    few = LossConfig(
        adversarial="rpgan", mismatch_weight=0.0, penalty="none", imle_weight=1.0, imle_noises=1
    )
    experiment = build_experiment(dataclasses.replace(config, loss=few))
    state = new_state(experiment, parallel.all_devices()[:1])
    batch = next(experiment.batches())
    real = to_float(jnp.asarray(batch.images))
    key, rows = jax.random.key(state.seed), jnp.arange(len(real))
    holes = random_holes(example_keys(key, "shrink", 0, rows), SIDE)
    picture = jnp.concatenate([jnp.where(holes > 0, 0.0, real), holes], axis=-1)
    text = batch.text.replace(picture=picture)

    draw = jax.jit(experiment.generator.apply)  # by single operations it takes longer

    def composed(stream):
        z = normal(example_keys(key, stream, 0, rows), experiment.config.model.z_dim)
        drawn = draw({"params": state.g_params}, z, text)
        return jnp.where(holes > 0, drawn, real)

    _, metrics = jax.jit(experiment.step)(state, batch)
    difference = np.asarray(composed("z_g") - real)
    scales = [
        np.abs(difference.reshape(8, SIDE // n, n, SIDE // n, n, 3).mean(axis=(2, 4))).mean()
        for n in (1, 2, 4)
    ]
    assert float(metrics["imle"]) == pytest.approx(float(np.mean(scales)), rel=1e-4)

    score = jax.jit(functools.partial(experiment.discriminator.apply, method="score"))
    judge = functools.partial(score, {"params": state.d_params})
    for name, images in (("real_logit", real), ("fake_logit", composed("z_d"))):
        assert float(metrics[name]) == pytest.approx(float(judge(images, text).mean()), rel=1e-3)


def test_pictures_of_any_size_keep_what_is_not_masked(sampler):
    for h, w in ((SIDE, SIDE), (33, 20), (5, 7), (64, 64)):
        picture, mask = noise(h, w, 3), np.zeros((h, w), bool)
        mask[h // 4 : h // 2, w // 3 :] = True
        found = sampler.inpaint(picture, mask, "a man", num=2)
        assert (found.shape, found.dtype) == ((2, h, w, 3), np.uint8)
        for image in found:
            np.testing.assert_array_equal(image[~mask], picture[~mask])
            assert (image[mask] != picture[mask]).mean() > 0.5
        assert (found[0] != found[1]).any()  # other noise
        # what is under the mask plays no part
        other = np.where(mask[..., None], 255 - picture, picture)
        np.testing.assert_array_equal(sampler.inpaint(other, mask, "a man", num=2), found)
    whole = sampler.inpaint(picture, np.ones((h, w), bool), "a man")
    assert (whole[0] != picture).mean() > 0.9
    several = sampler.inpaint([picture, picture[:40]], [mask, mask[:40]], ["a man", "a hat"])
    assert [x.shape for x in several] == [(1, 64, 64, 3), (1, 40, 64, 3)]
    np.testing.assert_allclose(several[0][0].astype(int), found[0].astype(int), atol=1)


def test_a_picture_of_any_size_becomes_a_square_of_known_pixels():
    picture, hole = noise(40, 24, 3), np.zeros((40, 24), bool)
    hole[9:14, :5] = True
    small, missing = filling.shrink(picture, hole, 20)
    known = np.zeros((40, 40, 1), bool)
    known[:, 8:32, 0] = ~hole
    canvas = np.zeros((40, 40, 3))
    canvas[:, 8:32] = picture
    blocks = [x.reshape(20, 2, 20, 2, -1) for x in (canvas, known)]
    whole = blocks[1].all(axis=(1, 3))
    np.testing.assert_array_equal(missing, ~whole[..., 0])
    means = np.where(whole, blocks[0].mean(axis=(1, 3)), 0)
    np.testing.assert_allclose(small, means, atol=0.51)


def test_outpainting_is_inpainting_of_the_border(sampler):
    picture = noise(12, 10, 3)
    found = sampler.outpaint(picture, "a man", left=5, top=3, bottom=1, seed=2)
    assert found.shape == (1, 16, 15, 3)
    np.testing.assert_array_equal(found[0, 3:15, 5:], picture)
    canvas, mask = np.zeros((16, 15, 3), np.uint8), np.ones((16, 15), np.uint8) * 255
    canvas[3:15, 5:], mask[3:15, 5:] = picture, 0
    np.testing.assert_array_equal(found, sampler.inpaint(canvas, mask, "a man", seed=2))


@pytest.mark.parametrize(
    ("picture", "mask", "words"),
    [
        (noise(4, 4, 3), np.zeros((4, 4), bool), "the mask covers nothing: make white"),
        (noise(4, 4, 3), np.ones((4, 5), bool), "has 5 x 4 pixels, and its picture 4 x 4"),
        (noise(4, 4, 3), np.ones((4, 4)), "must be bool or uint8 .* not float64"),
        (noise(4, 4, 3), [np.ones((4, 4), bool)] * 2, "1 pictures need 1 masks"),
        (noise(4, 4, 1), np.ones((4, 4), bool), r"uint8 of shape \[h, w, 3\]"),
        ([], np.ones((4, 4), bool), "no picture"),
    ],
)
def test_what_cannot_be_filled(sampler, picture, mask, words):
    with pytest.raises(UserError, match=words):
        sampler.inpaint(picture, mask, "a man")


def test_an_inpainter_draws_nothing_and_a_generator_fills_nothing(sampler, tmp_path):
    with pytest.raises(UserError, match=r"fills holes .* draws none: use flaxgan inpaint"):
        sampler("a man")
    with pytest.raises(UserError, match="nothing is added"):
        sampler.outpaint(noise(4, 4, 3), "a man")
    other = load_sampler(write_tiny(tmp_path, discriminator=False))
    with pytest.raises(UserError, match=r"fills no holes .*avatars.inpainter"):
        other.inpaint(noise(4, 4, 3), np.ones((4, 4), bool), "a man")


def test_the_commands_keep_every_pixel_outside_of_the_hole(folder, file, sampler, capsys):
    here = ["--checkpoint", str(file), "--prompt", "a man", "--seed", "3"]
    run_command(["inpaint", str(folder), "--mask", str(folder / "masks"), "--num", "2", *here])
    assert f"wrote 4 files: {folder / 'a-00-inpaint.png'} …" in capsys.readouterr().out
    for name in "ab":
        picture = np.asarray(Image.open(folder / f"{name}.png"))
        hole = np.asarray(Image.open(folder / "masks" / f"{name}.png")) >= 128
        assert hole.sum() == 8 * 7 + 1
        for k in range(2):
            path = folder / f"{name}-0{k}-inpaint.png"
            found = np.asarray(Image.open(path))
            kept = picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1)
            np.testing.assert_array_equal(found[~hole], kept[~hole])
            assert (found[hole][:, 3:] == 255).all()
            shown = Image.new("RGBA", (picture.shape[1], picture.shape[0]), "white")
            shown.alpha_composite(Image.fromarray(picture).convert("RGBA"))
            shown = np.asarray(shown.convert("RGB"))
            wanted = sampler.inpaint(shown, hole, "a man", num=2, seed=3)[k]
            difference = found[..., :3].astype(int) - wanted
            assert np.abs(difference[hole]).max() <= 1
    text = grids.read_png_text(path)
    assert text.pop("version") == f"flaxgan {flaxgan.__version__}"
    assert text == {
        "prompt": "a man",
        "seed": "3",
        "source": "b.png",
        "mask": "b.png",
        "inpainter": "inpainter step 1",
        "number": "1",
    }
    # its own results are no pictures to complete; one mask for all
    mask = ["--mask", str(folder / "masks" / "b.png"), "--out", str(folder / "new")]
    (folder / "a.png").unlink()
    run_command(["inpaint", str(folder), *mask, *here])
    assert [p.name for p in (folder / "new").iterdir()] == ["b-inpaint.png"]
    run_command(["outpaint", str(folder / "b.png"), "--left", "4", "--top", "2", *here])
    found = np.asarray(Image.open(folder / "b-outpaint.png"))
    assert found.shape == (SIDE + 2, SIDE + 4, 3)
    np.testing.assert_array_equal(found[2:, 4:, 0], np.asarray(Image.open(folder / "b.png")))
    assert grids.read_png_text(folder / "b-outpaint.png")["margins"] == "left 4 top 2"


MASK = ("--mask", "@/masks/a.png")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["inpaint", *MASK], "the following arguments are required: pictures"),
        (["inpaint", "@/a.png"], "required: --mask"),
        (["inpaint", "@/a.png", "--mask", "@/none.png"], "none.png is not there"),
        (["inpaint", "@/a.png", "--mask", "@/masks/b.png"], "b.png has 16 x 16 pixels, and its"),
        (["inpaint", "@/a.png", "--mask", "@/black.png"], "black.png covers nothing"),
        (["inpaint", "@/a.png", "--mask", "@/text.png"], "cannot use @/text.png: not a picture"),
        (["inpaint", "@/black.png", "--mask", "@/masks"], "has no mask named black"),
        (["inpaint", "@/text.png", *MASK], "cannot use @/text.png: not a picture"),
        (["inpaint", "@/none.png", *MASK], "no picture at"),
        (["inpaint", "@/a.png", *MASK, "--num", "0"], "--num must be at least 1"),
        (["inpaint", "@/a.png", *MASK, "--seed=-1"], "--seed must be in"),
        (["inpaint", "@/a.png", *MASK, "--checkpoint", "upsampler"], "fills no holes"),
        (["inpaint", "@/a.png", *MASK, "--checkpoint", "none"], "has no inpainter: train one"),
        (["inpaint", "@/a.png", *MASK, "--out", "@/masks/a.png"], "masks/a.png would be replaced"),
        (["outpaint", "@/a.png", "--left", "4090"], "4120 x 20 pixels is too large to complete"),
        (["outpaint", "@/a.png"], "nothing to add: give --left"),
        (["outpaint", "@/a.png", "--left", "9999"], "--left must be in [0, 4096], not 9999"),
        (["outpaint", "@/a.png", "--top=-1"], "--top must be in [0, 4096], not -1"),
        (["outpaint", "@/a.png", "@/b.png", "--top", "1", "--out", "@/x.png"], "is one file for 2"),
    ],
)
def test_bad_input_is_one_line(argv, message, folder, file, monkeypatch, capsys):
    (folder / "text.png").write_text("no picture")
    Image.new("L", (30, 20)).save(folder / "black.png")
    here = {
        "upsampler": str(bundled.bundled_upsamplers()["avatars.upsampler"]),
        "none": None,
    }
    if "none" in argv:
        monkeypatch.setattr(bundled, "FOLDER", folder)
        argv = argv[:-2]
    elif "--checkpoint" not in argv:
        argv = [*argv, "--checkpoint", str(file)]
    argv = [here.get(word, word.replace("@", str(folder), 1)) for word in argv]
    monkeypatch.setattr(sys, "argv", ["flaxgan", *argv])
    before = set(folder.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        cli.run(run_command, argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message.replace("@", str(folder)) in error
    assert error.count("\n") == 1
    assert set(folder.rglob("*")) == before


def test_one_never_trained_without_prompts_wants_one(folder, file, sampler, monkeypatch, capsys):
    from flaxgan.commands import filling as shared

    data = dataclasses.replace(sampler.config.data, caption_dropout=0.0)
    strict = dataclasses.replace(sampler, config=dataclasses.replace(sampler.config, data=data))
    monkeypatch.setattr(shared, "choose_inpainter", lambda *args, **options: strict)
    with pytest.raises(UserError, match=r"a.png does not say what it shows: give --prompt"):
        run_command(["outpaint", str(folder / "a.png"), "--top", "1"])
    drawn = {"prompt": "a man", "version": "flaxgan 1"}
    grids.save_png(Image.new("RGB", (8, 8)), folder / "c.png", drawn)
    run_command(["outpaint", str(folder / "c.png"), "--top", "1"])
    assert grids.read_png_text(folder / "c-outpaint.png")["prompt"] == "a man"
