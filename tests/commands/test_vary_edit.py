"""`flaxgan vary` and `flaxgan edit` write what Sampler draws, of any picture file."""

import sys

import numpy as np
import pytest
from PIL import Image

from flaxgan.commands import cli, edit, vary
from flaxgan.commands.main import run_command
from flaxgan.drawing.grids import grid_png, read_png_text, save_png
from flaxgan.drawing.inversion import Search
from flaxgan.drawing.loading import load_sampler
from tests.drawing.conftest import SIDE, write_tiny

SHORT = ["--inversion-steps", "5", "--seed", "3"]
SEARCH = Search(steps=5)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def sampler(tiny_file):
    return load_sampler(tiny_file)


@pytest.fixture
def folder(tmp_path):
    """Two pictures: one lying, half transparent and not square; one that flaxgan drew."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)).save(tmp_path / "a.png")
    drawn = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    save_png(drawn, tmp_path / "b.png", {"prompt": "a man", "version": "flaxgan 0"})
    return tmp_path


def test_edited_files_are_what_the_sampler_draws(folder, tiny_file, sampler, capsys):
    words = ["--from", "a man", "--to", "a hat", "--steps", "3", "--residual", "0.5"]
    argv = [str(folder), *words, *SHORT, "--checkpoint", str(tiny_file)]
    edit.main(argv)
    said = capsys.readouterr()
    assert f"wrote 2 files: {folder / 'a-edit.png'} …" in said.out
    assert "no inversion was found: the nearest picture" in said.err  # noise is no portrait
    assert "of the range from black to white" in said.err
    images = [np.asarray(Image.open(folder / f"{name}.png")) for name in "ab"]
    white = Image.new("RGBA", (30, 20), "white")
    white.alpha_composite(Image.fromarray(images[0]))
    pictures = [np.asarray(white.convert("RGB")), images[1]]
    found = sampler.invert(pictures, "a man", seed=3, search=SEARCH)
    expected = sampler.edit(found, "a man", "a hat", steps=3, residual=0.5)
    for name, row in zip("ab", expected, strict=True):
        strip = np.asarray(Image.open(folder / f"{name}-edit.png"))
        np.testing.assert_array_equal(strip, np.concatenate(row, axis=1))
    text = read_png_text(folder / "b-edit.png")
    assert text.pop("version").startswith("flaxgan ")
    assert text == {
        "prompt": "a hat",
        "edited_from": "a man",
        "emphasis": "4",
        "source": "b.png",
        "strength": "1",
        "residual": "0.5",
        "seed": "3",
        "checkpoint": "tiny step 1",
    }
    edit.main([*argv, "--out", str(folder / "new")])  # its own results are no pictures to edit
    assert sorted(p.name for p in (folder / "new").iterdir()) == ["a-edit.png", "b-edit.png"]


def test_variations(folder, tiny_file, sampler, capsys):
    """Of the drawn one by its own prompt, of the other by the text that is sought."""
    options = [*SHORT, "--checkpoint", str(tiny_file), "--num", "2", "--strength", "0.7"]
    names = [str(folder / "b.png"), str(folder / "b.png")]
    vary.main([*names, *options])
    assert f"wrote {folder / 'b-vary.png'}" in capsys.readouterr().out
    picture = np.asarray(Image.open(folder / "b.png"))
    found = sampler.invert([picture], "a man", seed=3, search=SEARCH)
    expected = sampler.vary(found, num=2, strength=0.7, seed=3)
    sheet = np.asarray(Image.open(folder / "b-vary.png"))
    np.testing.assert_array_equal(sheet, np.asarray(grid_png(expected)))
    assert read_png_text(folder / "b-vary.png")["prompt"] == "a man"
    vary.main([str(folder / "a.png"), *options, "--separate", "--out", str(folder / "v.png")])
    found = sampler.invert(
        [np.asarray(Image.open(folder / "a.png").convert("RGBA"))[..., :3]], seed=3, search=SEARCH
    )
    text = read_png_text(folder / "v-01.png")
    assert (text["prompt"], text["source"], text["num"]) == ("", "a.png", "2")
    assert np.asarray(Image.open(folder / "v-00.png")).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["vary"], "the following arguments are required: pictures"),
        (["vary", "@/none.png"], "no picture at"),
        (["vary", "@/empty"], "no picture in folder"),
        (["vary", "@/text.png"], "text.png: not a picture"),
        (["vary", "@/b.png", "--num", "0"], "--num must be at least 1"),
        (["vary", "@/b.png", "--strength", "2"], "--strength must be in [0, 1]"),
        (["vary", "@/b.png", "--starts", "0"], "--starts must be in"),
        (["vary", "@/b.png", "--seed=-1"], "--seed must be in"),
        (["vary", "@/b.png", "--checkpoint", "avatars.upsampler"], "enlarges pictures"),
        (["vary", "@/b.png", "--checkpoint", "mlp"], "has nothing but noise"),
        (["vary", "@/b.png", "--upsampler", "@/a.png"], "--upsampler is read with --upsample"),
        (["edit", "@/b.png"], "--to"),
        (["edit", "@/b.png", "--to", " "], "--to must say"),
        (["edit", "@/b.png", "--to", "a", "--emphasis", "99"], "--emphasis must be in [0, 16]"),
        (["edit", "@/b.png", "--to", "a", "--steps", "0"], "--steps must be at least 1"),
        (["edit", "@/a.png", "--to", "a hat"], "a.png does not say what it shows: give --from"),
        (["edit", "@/a.png", "@/b.png", "--out", "@/x.png", "--to", "a"], "is one file for 2"),
    ],
)
def test_bad_input_is_one_line(argv, message, folder, tiny_file, monkeypatch, capsys):
    from flaxgan.drawing.bundled import bundled_upsamplers

    (folder / "empty").mkdir()
    (folder / "text.png").write_text("no picture")
    argv = [word.replace("@", str(folder), 1) for word in argv]
    if "--checkpoint" not in argv:
        argv += ["--checkpoint", str(tiny_file)]
    files = {
        "avatars.upsampler": bundled_upsamplers()["avatars.upsampler"],
        "mlp": folder / "mlp.safetensors",
    }
    if "mlp" in argv:
        write_tiny(folder, "mlp", family="mlp", encoder="none", discriminator=False)
    argv = [str(files.get(word, word)) for word in argv]
    monkeypatch.setattr(sys, "argv", ["flaxgan", *argv])
    with pytest.raises(SystemExit) as stop:
        cli.run(run_command, argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(folder.glob("*-vary.png")) + list(folder.glob("*-edit.png"))
