"""From a run to one file, and from the file to the same pictures."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import flaxgan
from flaxgan.commands import export
from flaxgan.config import from_json, to_json
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.run.transfer import read_source
from flaxgan.saving.generator_file import read_header
from flaxgan.saving.meta import checksum, read_meta

PROMPTS = ["a man with a red beard", "一位女士"]


@pytest.fixture(scope="module")
def images(text_run):
    """What the checkpoint draws."""
    return load_sampler(text_run)(PROMPTS, num=4, seed=5)


@pytest.fixture(scope="module")
def exported(text_run, tmp_path_factory):
    """dtype -> file."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        dtype: export.export(text_run, folder / f"{dtype}.safetensors", dtype=dtype)
        for dtype in ("float32", "float16", "bfloat16")
    }


def test_float32_draws_the_same_pictures(exported, images):
    drawn = load_sampler(exported["float32"])(PROMPTS, num=4, seed=5)
    np.testing.assert_array_equal(drawn, images)


@pytest.mark.parametrize(("dtype", "levels"), [("float16", 2), ("bfloat16", 6)])
def test_half_precision_draws_nearly_the_same(dtype, levels, exported, images):
    drawn = load_sampler(exported[dtype])(PROMPTS, num=4, seed=5)
    np.testing.assert_allclose(drawn.astype(int), images.astype(int), atol=levels)
    assert exported[dtype].stat().st_size < 0.7 * exported["float32"].stat().st_size


def test_the_file_says_where_it_comes_from(exported, text_run):
    header = read_header(exported["float16"])
    assert header["step"] == 4
    assert header["images_seen"] == 32
    assert header["flaxgan"] == flaxgan.__version__
    assert header["metrics"] == read_meta(text_run / "checkpoints" / "4")["metrics"]
    assert header["metrics"]["fd_pixels8"] > 0
    sampler, original = load_sampler(exported["float16"]), load_sampler(text_run)
    assert sampler.config == original.config
    assert (sampler.step, sampler.images_seen) == (original.step, original.images_seen) == (4, 32)


def test_a_file_exported_anew_has_the_same_bytes(exported, text_run, tmp_path):
    again = export.export(text_run, tmp_path / "a.safetensors")
    assert again.read_bytes() == exported["float16"].read_bytes()
    # float32 holds everything, so that a file of it stands for the checkpoint
    of_file = export.export(exported["float32"], tmp_path / "b.safetensors")
    assert of_file.read_bytes() == again.read_bytes()


def test_one_checkpoint_of_a_run(text_run, tmp_path):
    path = export.export(text_run / "checkpoints" / "2", tmp_path / "a.safetensors")
    assert load_sampler(path).step == 2


def with_config(meta, config):
    """The meta of a checkpoint with another config, as if it had been saved so."""
    meta = {**meta, "config": config}
    return {**meta, "crc32": checksum(meta)}


def test_places_on_this_machine_stay_here(text_run, tmp_path):
    """A user's folders are of no use elsewhere, and are nobody's business."""
    run = shutil.copytree(text_run, tmp_path / "run")
    for path in (run / "checkpoints").glob("*/meta/metadata"):
        meta = json.loads(path.read_text())
        config, replace = from_json(meta["config"]), dataclasses.replace
        config = replace(
            config,
            data=replace(config.data, data_dir="/home/me/data", path="/home/me/cats"),
            text=replace(config.text, cache_dir="/home/me/text"),
            eval=replace(
                config.eval,
                cache_dir="/home/me/features",
                inception="/home/me/inception.pth",
                clip="/home/me/clip",
                dinov2="/home/me/dino",
            ),
        )
        path.write_text(json.dumps(with_config(meta, to_json(config))))
    path = export.export(run, tmp_path / "a.safetensors")
    assert b"/home/me" not in path.read_bytes()
    assert from_json(read_header(path)["config"]).data.path == "cats"


def test_a_file_of_another_version(exported, tmp_path, monkeypatch):
    import safetensors
    import safetensors.numpy

    with safetensors.safe_open(exported["float32"], "numpy") as file:
        header = json.loads(file.metadata()["flaxgan_generator"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(header["config"])
    config["model"]["g_channels"] *= 2
    path = tmp_path / "a.safetensors"

    def write(config):
        changed = {**header, "config": json.dumps(config)}
        del changed["crc32_about"]  # as in files of before
        metadata = {"flaxgan_generator": json.dumps(changed)}
        safetensors.numpy.save_file(tensors, path, metadata)

    write(config)
    with pytest.raises(UserError, match="does not fit the model of its config"):
        load_sampler(path)
    write({"model": {"wings": 2}})
    with pytest.raises(UserError, match=r"a\.safetensors .*wings"):
        load_sampler(path)


def test_the_command(text_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    export.main(["--checkpoint", str(text_run)])
    path = tmp_path / "avatars32_cpu_tiny.safetensors"
    assert capsys.readouterr().out == f"wrote {path.name}, {path.stat().st_size:,} bytes\n"
    with pytest.raises(UserError, match="exists"):
        export.main(["--checkpoint", str(text_run)])
    export.main(["--checkpoint", str(text_run), "--dtype", "float32", "--overwrite"])


def test_the_discriminator_of_a_text_run(text_run, tmp_path):
    """With a learned text encoder, and a temperature that is a scalar."""
    path = export.export(text_run, tmp_path / "a.safetensors", dtype="float32", discriminator=True)
    run, file = read_source(text_run), read_source(path)
    assert file.discriminator.keys() == run.discriminator.keys()
    for name, tensor in run.discriminator.items():
        np.testing.assert_array_equal(file.discriminator[name], tensor)
    assert file.discriminator["embedding/log_scale"].shape == ()


def test_the_metrics_read_files(exported, text_run, tmp_path):
    from flaxgan.commands.evaluate import main

    reports = []
    for source in (text_run, exported["float32"]):
        out = tmp_path / "a.json"
        main(["--checkpoint", str(source), "--num-images", "16", "--out", str(out)])
        reports.append(json.loads(out.read_text()))
    assert reports[1]["checkpoint"] == str(exported["float32"])
    for key in ("scores", "generator_sha256", "images_seen"):
        assert reports[0][key] == reports[1][key], key


def test_drawing_from_a_file_does_without_orbax(exported):
    """A visitor who draws one picture does not wait for what only training needs."""
    code = (
        "import sys; from pathlib import Path; from flaxgan.drawing import loading\n"
        "loading.load_sampler(Path(sys.argv[1]))\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, exported["float16"]],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "flax" in loaded
    slow = {"orbax", "grain", "tensorflow_datasets", "tensorflow", "tyro", "tensorboardX", "scipy"}
    assert not loaded & slow
