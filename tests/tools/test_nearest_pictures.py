"""Copies are found, at any size, and the sheet shows them."""

import numpy as np
import pytest
from PIL import Image

from flaxgan.data.source import CaptionedImages
from flaxgan.errors import UserError
from tools import nearest_pictures
from tools.nearest_pictures import main, nearest, small_copies


def pictures(count, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_a_copy_is_the_nearest_and_its_distance_is_zero():
    train = pictures(20)
    (first, second) = nearest(train[[7, 3]], train, 3)
    assert first.indices[0] == 7
    assert first.distances[0] == 0.0
    assert second.indices[0] == 3
    assert (np.diff(first.distances) >= 0).all()


def test_the_distance_is_a_root_mean_square_of_small_copies():
    black, grey = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 30, np.uint8)
    assert nearest(black, grey, 1)[0].distances[0] == pytest.approx(30.0)
    lone = black.copy()
    lone[0, 0, 0] = 40  # a quarter of one block of 2 x 2 pixels, of 32 x 32 blocks
    assert nearest(lone, black, 1)[0].distances[0] == pytest.approx(10.0 / 32)


@pytest.mark.parametrize(("side", "values"), [(16, 256), (32, 1024), (28, 784), (96, 1024)])
def test_copies_are_of_32_pixels_at_most(side, values):
    assert small_copies(pictures(2, side)).shape == (2, 3 * values)


@pytest.mark.slow
def test_the_sheet(tmp_path, monkeypatch, capsys):
    from flaxgan.commands.generator import choose_sampler

    side = choose_sampler(None, "avatars", tmp_path).config.data.resolution

    class Few(CaptionedImages):
        def __init__(self):
            self.images = pictures(6, side)

        def __len__(self):
            return 6

    monkeypatch.setattr(nearest_pictures, "open_dataset", lambda config, split: Few())
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a bald man\n\na woman with pink hair\n")
    out = tmp_path / "sheet.png"
    main(["--model", "avatars", "--prompts", str(prompts), "--out", str(out), "--neighbours", "2"])
    printed = capsys.readouterr().out.splitlines()
    assert "a bald man  (picture " in printed[0]
    assert "a woman with pink hair  (picture " in printed[1]
    assert "the nearest of 6" in printed[2]
    cell = side * max(1, 64 // side) + 4
    with Image.open(out) as sheet:
        assert sheet.width == 3 * cell + 4


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        (None, [], "cannot read --prompts"),
        ("\n", [], "holds no prompt"),
        ("a man", ["--neighbours", "0"], "must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, text, flags, words):
    prompts = tmp_path / "prompts.txt"
    if text is not None:
        prompts.write_text(text)
    with pytest.raises(UserError, match=words):
        main(["--model", "avatars", "--prompts", str(prompts), *flags])
