"""Films are read back: frames, sizes, how long they last, and what they say."""

import builtins

import numpy as np
import pytest
from PIL import Image

from flaxgan.drawing import films
from flaxgan.errors import UserError

ABOUT = {"prompt": "a man\n戴帽子的人", "seed": "3"}


def draw(frames=7, side=16, seed=0):
    """Frames of few colours, which a palette holds."""
    blocks = np.random.default_rng(seed).integers(0, 256, (frames, 4, 4, 3), np.uint8)
    return blocks.repeat(side // 4, axis=1).repeat(side // 4, axis=2)


@pytest.mark.parametrize("fps", [8.0, 20.0, 30.0])
@pytest.mark.parametrize("suffix", [".gif", ".png", ".apng", ".webp", ".GIF"])
def test_frames_size_and_time(suffix, fps, tmp_path):
    frames, path = draw(), tmp_path / f"a{suffix}"
    films.save_film(frames, path, fps, ABOUT)
    with Image.open(path) as film:
        assert film.n_frames == 7
        assert film.size == (16, 16)
        assert film.info["loop"] == 0  # again and again
        time = 0
        for number in range(film.n_frames):
            film.seek(number)
            shown = np.asarray(film.convert("RGB")).astype(int)
            time += film.info["duration"]
            limit = 0 if suffix != ".webp" else 40  # which is lossy
            assert np.abs(shown - frames[number]).mean() <= limit
        assert abs(time - 7000 / fps) <= (5 if suffix.lower() == ".gif" else 1)


def test_what_a_film_says_about_itself(tmp_path):
    films.save_film(draw(), tmp_path / "a.png", 20, ABOUT)
    with Image.open(tmp_path / "a.png") as film:
        assert {name: film.text[name] for name in ABOUT} == ABOUT
    films.save_film(draw(), tmp_path / "a.gif", 20, ABOUT)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.info["comment"].decode() == "prompt: a man\n戴帽子的人\nseed: 3"


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_a_film_in_which_nothing_moves_lasts_as_long(suffix, tmp_path):
    films.save_film(draw(1).repeat(5, axis=0), tmp_path / f"a{suffix}", 20, {})
    with Image.open(tmp_path / f"a{suffix}") as film:
        time = 0
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            time += film.info.get("duration", 250)
    assert time == 250


def test_times_add_up():
    assert films.durations(4, 20) == [50] * 4
    assert films.durations(3, 30, unit=10) == [30, 40, 30]
    assert sum(films.durations(60, 24)) == 2500


def test_walks_stand_side_by_side():
    walks = draw(2 * 3).reshape(2, 3, 16, 16, 3)
    sheet = films.tile(walks)
    assert sheet.shape == (2, 256, 256, 3)
    np.testing.assert_array_equal(sheet[1, ::8, ::8][:16, 16:], walks[1, 1])
    np.testing.assert_array_equal(sheet[1, ::8, ::8][16:, :16], walks[1, 2])
    assert (sheet[:, 128:, 128:] == 255).all()
    grey = films.tile(walks[:, :1, :, :, :1])
    assert grey.shape == (2, 128, 128, 3)
    np.testing.assert_array_equal(grey[0, ::8, ::8, 2], walks[0, 0, :, :, 0])
    assert films.tile(draw(1, 200)[:, None]).shape == (1, 200, 200, 3)


def test_kinds_of_files(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--out must end in \.gif, .*, not a\.avi"):
        films.save_film(draw(), tmp_path / "a.avi", 20, {})
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "imageio_ffmpeg":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg"):
        films.save_film(draw(), tmp_path / "a.mp4", 20, {})
    assert not list(tmp_path.iterdir())


def test_mp4(tmp_path):
    """Of an odd size, which H.264 does not know."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    films.save_film(draw(20, 16)[:, :15, :13], tmp_path / "a.mp4", 10, {})
    assert ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4")) == (20, 2.0)
