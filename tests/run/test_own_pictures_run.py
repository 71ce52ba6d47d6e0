"""A folder of pictures to a trained generator by the commands of docs/data.md."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

COLORS = {"red": (220, 30, 30), "green": (20, 160, 40), "blue": (30, 60, 220)}
SMALL = {
    "model.g-channels": 8,
    "model.d-channels": 8,
    "model.w-dim": 16,
    "model.embed-dim": 8,
    "model.attention": 4,
    "text.encoder": "bytes",
    "text.dim": 16,
    "train.batch-size": 8,
    "train.grid-rows": 2,
    "train.grid-cols": 2,
    "loss.contrastive-negatives": 2,
}
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name}", value)]


def run(*args):
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_folder_to_pictures(tmp_path):
    folder, workdir = tmp_path / "my pictures", tmp_path / "run"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(48):
        name = list(COLORS)[i % 3]
        pixels = np.full((50, 40, 3), 255)
        pixels[10:40, 8:32] = COLORS[name]
        noisy = np.clip(pixels + rng.integers(-9, 10, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a {name} box\n")
    (folder / "broken.png").write_bytes(b"nothing")

    report = run("-m", "flaxgan", "inspect", folder, "--sheet", tmp_path / "sheet.png")
    assert "49 found, 48 usable" in report
    train = ["train.py", "--config", "configs/folder.py", "--data.path", folder]
    train += ["--workdir", workdir, *FLAGS, "--train.total-kimg"]
    first = run(*train, "0.032")
    assert "--data.resolution 32" in first
    assert "49 pictures" not in first
    assert "1 skipped: 1 no caption" in first
    assert "resumed at step 4" in run(*train, "0.064")
    scores = tmp_path / "scores.json"
    run("-m", "flaxgan", "evaluate", "--checkpoint", workdir, "--split", "train", "--out", scores)
    assert "fd_pixels8" in json.dumps(json.loads(scores.read_text()))
    out = tmp_path / "out.png"
    run("sample.py", "--checkpoint", workdir, "--prompt", "a red box", "--prompt", "", "--out", out)
    with Image.open(out) as image:
        assert image.width > 100
    other = [*train[:-1], "--init-from", workdir, "--train.total-kimg"]
    other[other.index("--workdir") + 1] = tmp_path / "other"
    assert "started from" in run(*other, "0.016")
