"""Every metric by its name, through the command: what is real scores as real pictures do."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxgan.commands.evaluate import main
from flaxgan.config import Config, DataConfig, EvalConfig
from flaxgan.data import open_dataset
from flaxgan.errors import UserError
from flaxgan.evaluate.build import METRICS, build_evaluators

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
HERE = Path(__file__).parent


def sibling(name):
    """A test file whose writers of tiny models are used here too."""
    spec = importlib.util.spec_from_file_location(name, HERE / "networks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a CLIP and of a DINOv2 with random weights."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("models")
    clip, dinov2 = folder / "clip", folder / "dinov2"
    clip.mkdir()
    dinov2.mkdir()
    sibling("test_clip").write_folder(clip)
    module = sibling("test_dinov2")
    module.write_folder(dinov2, module.random_tensors())
    return clip, dinov2


def test_networks_named_by_the_user(models, tmp_path):
    """The real pictures of the split, from a folder, under CLIP and DINOv2."""
    data = ["--data", "avatars/tiny", "--split", "train", "--cache-dir", str(tmp_path / "cache")]
    names = "clip,cmmd,fd_dinov2,kid_dinov2,prdc_dinov2"
    networks = ["--metrics", names, "--clip", str(models[0]), "--dinov2", str(models[1])]
    config = tmp_path / "c.py"
    config.write_text(
        "from flaxgan.config import *\n"
        "def get_config():\n    return Config(data=DataConfig(resolution=32))\n"
    )
    folder = tmp_path / "real"
    export = ["--config", str(config), "--export-captions", str(folder / "metadata.jsonl")]
    main([*data, *networks, *export])
    train = open_dataset(DataConfig(name="avatars/tiny", resolution=32), "train")
    for row in range(len(train)):
        Image.fromarray(train.image(row)).save(folder / f"train-{row:06d}.png")
    out = tmp_path / "scores.json"
    main([*data, *networks, "--images", str(folder), "--out", str(out)])
    scores = {score["name"]: score for score in json.loads(out.read_text())["scores"]}
    assert set(scores) == {
        *("clip_score", "clip_r_precision", "cmmd", "fd_dinov2", "kid_dinov2"),
        *(f"{name}_dinov2" for name in ("precision", "recall", "density", "coverage")),
    }
    assert scores["cmmd"]["value"] == pytest.approx(0, abs=1e-5)
    assert scores["fd_dinov2"]["value"] == pytest.approx(0, abs=1e-4)
    assert scores["kid_dinov2"]["value"] < 0  # unbiased for other pictures; these are the same
    for name in ("clip_score", "clip_r_precision"):
        assert scores[name]["value"] == pytest.approx(scores[name]["real"], rel=1e-5)
    # random weights read nothing: the caption is found as often as by chance
    assert scores["clip_r_precision"]["value"] == pytest.approx(0.01, abs=0.03)
    assert len(scores["fd_dinov2"]["protocol"]["weights_sha256"]) == 64


def test_a_metric_named_twice_is_built_once():
    config = Config(
        data=DataConfig(name="avatars/tiny", resolution=32),
        eval=EvalConfig(metrics=("fd_pixels8", "fd_pixels8")),
    )

    def open_split(split):
        return open_dataset(config.data, split)

    (evaluator,) = build_evaluators(config, open_split, split="test")
    assert len(evaluator.sets[0]) == 64
    np.testing.assert_array_equal(evaluator.sets[0].rows, np.arange(64))


def test_names():
    assert len(set(METRICS)) == len(METRICS) == len([METRICS[name] for name in METRICS])
    with pytest.raises(UserError, match="did you mean kid_efflite0"):
        METRICS["kid_eflite0"]
