"""`flaxgan interpolate` writes the film that Sampler draws; what `sample` chooses, it says."""

import sys

import numpy as np
import pytest
from PIL import Image

from flaxgan.commands import interpolate, sample
from flaxgan.drawing.films import tile
from flaxgan.drawing.grids import read_png_text
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from tests.drawing.conftest import write_tiny

WALK = ["--prompt", "a man", "--prompt", "a hat", "--frames", "6", "--seed", "2"]


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def test_the_film_is_what_the_sampler_draws(tiny_file, tmp_path, capsys):
    out = tmp_path / "new" / "walk.png"
    words = ["--checkpoint", str(tiny_file), "--num", "2", "--fps", "10", "--loop"]
    interpolate.main([*WALK, *words, "--out", str(out)])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("drawing with ")
    assert said[1] == f"wrote {out}, 6 frames, 0.6 s"
    film = load_sampler(tiny_file).interpolate(
        ["a man", "a hat"], frames=6, num=2, seed=2, loop=True, batch_size=64
    )
    with Image.open(out) as written:
        assert written.n_frames == 6
        for number, frame in enumerate(tile(film)):
            written.seek(number)
            np.testing.assert_array_equal(np.asarray(written.convert("RGB")), frame)
        assert written.info["duration"] == 100
    text = read_png_text(out)
    assert text["prompt"] == "a man\na hat"
    assert text["seed"] == "2"
    assert text["checkpoint"] == "tiny step 1"


@pytest.mark.parametrize("words", [[], ["--no-loop", "--fixed-noise"]])
def test_a_gif(words, tiny_file, tmp_path):
    out = tmp_path / "walk.gif"
    interpolate.main([*WALK, *words, "--checkpoint", str(tiny_file), "--out", str(out)])
    with Image.open(out) as film:
        assert film.n_frames == 6
        assert film.size == (128, 128)
        assert film.info["duration"] == 50


def test_nowhere_to_write(tiny_file, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["--checkpoint", str(tiny_file), "--out", str(tmp_path / "file" / "a.gif")]
    with pytest.raises(UserError, match="cannot write"):
        interpolate.main([*WALK, *words])


def test_enlarged_frames_have_one_noise_and_the_nearest_prompt(tiny_file, tmp_path):
    class Upsampler:
        times, checkpoint, step, source = 2, tiny_file, 3, None
        config = load_sampler(tiny_file).config

        def __init__(self):
            self.prompts = []

        def upsample(self, images, prompts, *, seed, batch_size):
            self.prompts += prompts
            return images.repeat(2, axis=1).repeat(2, axis=2)

    upsampler = Upsampler()
    path = interpolate.interpolate(
        ["a man", "a hat"],
        load_sampler(tiny_file),
        out=tmp_path / "a.png",
        frames=4,
        fps=20,
        num=2,
        seed=0,
        batch_size=4,
        loop=False,
        fixed_noise=True,
        upsampler=upsampler,
    )
    assert upsampler.prompts == ["a man"] * 4 + ["a hat"] * 4
    assert read_png_text(path)["upsampler"] == "tiny step 3"
    assert interpolate.nearest_prompts(["a", "b"], 4, loop=True) == ["a", "a", "b", "b"]


def test_sample_says_what_was_chosen(tiny_file, tmp_path, capsys):
    out = tmp_path / "a.png"
    words = ["--prompt", "a man", "--checkpoint", str(tiny_file), "--num", "2", "--seed", "2"]
    verbs = ["--best-of", "3", "--truncation", "0.7", "--avoid", " a  hat", "--avoid-strength", "1"]
    sample.main([*words, *verbs, "--out", str(out), "--separate"])
    images = load_sampler(tiny_file)(
        "a man", num=2, seed=2, best_of=3, truncation=0.7, avoid="a hat", avoid_strength=1
    )
    for number, image in enumerate(images):
        path = tmp_path / f"a-00-0{number}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
        text = read_png_text(path)
        assert {name: text[name] for name in ("best_of", "truncation", "avoid")} == {
            "best_of": "3",
            "truncation": "0.7",
            "avoid": "a hat",
        }
        assert text["avoid_strength"] == "1.0"
    sample.main([*words, "--avoid", "hats", "--out", str(out)])
    assert read_png_text(out)["avoid_strength"] == "1.5"
    assert "longer than" not in capsys.readouterr().err
    sample.main([*words, "--avoid", "a very long list of things", "--out", str(out)])
    assert "its end is cut" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [({"discriminator": False}, "no discriminator beside it"), ({"embed_dim": 0}, "matching head")],
)
def test_nothing_to_choose_with_is_one_line(model, message, tmp_path, monkeypatch, capsys):
    from flaxgan.commands import cli

    path = write_tiny(tmp_path, **model)
    words = ["--prompt", "a man", "--checkpoint", str(path), "--out", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["sample.py", *words, "--best-of", "2"])
    with pytest.raises(SystemExit) as stop:
        cli.run(sample.main)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
