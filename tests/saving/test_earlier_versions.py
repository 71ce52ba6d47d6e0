"""What earlier versions wrote still opens: see tests/fixtures/version1/README.md.

On the machine and with the compiler that made the fixtures, one CPU device and no flags of XLA, the
results are equal bit for bit; the tests run with other flags, and allow for rounding.
"""

import dataclasses
import json
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

import flaxgan
from flaxgan.config import Config, from_json, to_json
from flaxgan.config.serialize import VERSION
from flaxgan.drawing import bundled
from flaxgan.errors import UserError
from flaxgan.run.loop import train
from flaxgan.saving.generator_file import named_leaves, read_header
from flaxgan.training import parallel
from tests.conftest import DEVICES, ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "version1"
PROMPTS = ["picture 3", "a picture that nobody has seen", ""]


@pytest.fixture
def run(tmp_path):
    """The old run, beside the pictures that it was trained on."""
    with tarfile.open(FIXTURES / "run.tar.gz") as archive:
        # Python before 3.11.4 has no filter
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "run", **safely)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(f"picture {i}")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(FIXTURES / "expected.npz"))


def assert_same_pictures(found, wanted):
    """But for rounding at the edge between two levels."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 1e-2


def test_an_old_file_draws_the_same_pictures(expected):
    sampler = flaxgan.load(FIXTURES / "generator.safetensors")
    assert_same_pictures(sampler(PROMPTS, num=2, seed=5), expected["images"])


@pytest.mark.parametrize("slow", [False, True])
def test_an_old_checkpoint_draws_the_same_pictures(run, expected, slow):
    sampler = flaxgan.load(run, slow=slow)
    wanted = expected["slow" if slow else "images"]
    assert_same_pictures(sampler(PROMPTS, num=2, seed=5), wanted)


def go_on(run, total_kimg):
    """Trains the old run on, with its own config."""
    old = from_json((run / "config.json").read_text())
    config = dataclasses.replace(
        old,
        data=dataclasses.replace(old.data, path=str(run.parent / "pictures")),
        train=dataclasses.replace(old.train, total_kimg=total_kimg),
    )
    with pytest.MonkeyPatch.context() as patch:  # it was one device that went on
        patch.setattr(parallel, "all_devices", lambda: DEVICES[:1])
        patch.setattr(jax, "local_devices", lambda: DEVICES[:1])
        train(config, run)
    assert json.loads((run / "config.json").read_text())["version"] == VERSION


def test_all_of_an_old_run_is_read(run, capsys):
    """Optimisers, data and config too; it is complete, which spares the compiling of a step."""
    go_on(run, 0.012)
    assert "training is complete: 12 images seen" in capsys.readouterr().out


@pytest.mark.slow
def test_an_old_run_goes_on_as_it_would_have(run, expected, capsys):
    go_on(run, 0.024)
    assert "resumed at step 3" in capsys.readouterr().out
    from flaxgan.saving.restore import restore_networks

    trees, meta = restore_networks(run / "checkpoints" / "6")
    assert meta["next_index"] == 6
    for name in ("g_params", "d_params"):
        leaves = named_leaves(trees[name])
        assert len(leaves) > 20
        moved = 0.0
        for path, leaf in leaves.items():
            difference = np.abs(leaf - expected[f"{name}/{path}"])
            # Adam turns the sign of a gradient of nothing, which that of a key's bias always is
            assert difference.max() < (1e-2 if path.endswith("key/bias") else 2e-3), path
            moved += float((difference > 1e-4).sum())
        assert moved < 0.01 * sum(leaf.size for leaf in leaves.values())


def test_a_bundled_model_is_of_the_first_version():
    header = read_header(bundled.bundled_file("emoji"))
    assert "version" not in json.loads(header["config"])


def test_fields_that_a_family_never_read_are_left_behind():
    values = json.loads(to_json(Config()))
    del values["version"]
    values["model"] |= {"family": "dfgan", "patch": 4, "g_channels": 48}
    model = from_json(json.dumps(values)).model
    assert (model.patch, model.g_channels) == (Config().model.patch, 48)
    values["version"] = VERSION
    assert from_json(json.dumps(values)).model.patch == 4  # and `check` refuses it


@pytest.mark.parametrize("version", [0, VERSION + 1, "2", None, True])
def test_a_version_that_is_not_known_is_said(version):
    values = json.loads(to_json(Config())) | {"version": version}
    with pytest.raises(UserError, match=r"version .*, and this flaxgan reads 1 to"):
        from_json(json.dumps(values))
