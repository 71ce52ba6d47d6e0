"""Which weights are drawn with, and those that come with the package."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flaxgan
from flaxgan.commands import export, generator
from flaxgan.data import avatars
from flaxgan.data.pictures import decode
from flaxgan.drawing import bundled
from flaxgan.errors import UserError


@pytest.fixture(scope="module")
def files(text_run, tmp_path_factory):
    """A folder like that of the package, with both models."""
    folder = tmp_path_factory.mktemp("weights")
    export.export(text_run, folder / "avatars.safetensors")
    export.export(text_run / "checkpoints" / "2", folder / "emoji.safetensors")
    return folder


@pytest.fixture
def weights(tmp_path, monkeypatch, files):
    """Puts models into an empty folder that stands for that of the package."""
    folder = tmp_path / "weights"
    monkeypatch.setattr(bundled, "FOLDER", folder)

    def put(*names):
        folder.mkdir(exist_ok=True)
        for name in names:
            shutil.copy(files / f"{name}.safetensors", folder)
        return folder

    return put


def test_what_is_bundled(weights):
    assert bundled.bundled_models() == {}  # not even the folder
    folder = weights("emoji")
    (folder / "notes.safetensors").write_text("")
    assert bundled.bundled_models() == {"emoji": folder / "emoji.safetensors"}
    weights("avatars")
    assert list(bundled.bundled_models()) == ["avatars", "emoji"]
    assert flaxgan.load("avatars").step == 4
    assert flaxgan.load("emoji").step == 2


def test_unknown_names(weights):
    with pytest.raises(UserError, match=r"no bundled model and no path 'avatars': .* has none"):
        flaxgan.load("avatars")
    weights("avatars", "emoji")
    with pytest.raises(UserError, match=r"no path 'cats': give one of avatars, emoji"):
        flaxgan.load("cats")


def choose(text_run, tmp_path, *, checkpoint=None, model=None, run=True):
    sampler = generator.choose_sampler(
        checkpoint, model, text_run.parent if run else tmp_path / "none"
    )
    return generator.describe(sampler)


def test_which_is_chosen(weights, files, text_run, tmp_path):
    def words(**options):
        return choose(text_run, tmp_path, **options)

    with pytest.raises(UserError, match="no trained run in"):
        words(run=False)
    weights("emoji")
    emoji = "the bundled model emoji (16 images seen, flaxgan 0.1.0)"
    assert words(run=False) == emoji
    weights("avatars")
    avatars = "the bundled model avatars (32 images seen, flaxgan 0.1.0)"
    assert words(run=False) == avatars
    assert words() == f"{text_run}, step 4"
    assert words(model="emoji") == emoji
    assert words(checkpoint=text_run / "checkpoints" / "2", run=False) == f"{text_run}, step 2"
    file = files / "emoji.safetensors"
    assert words(checkpoint=file) == f"{file} (16 images seen, flaxgan 0.1.0)"
    assert words(checkpoint=bundled.FOLDER / "avatars.safetensors") == avatars
    with pytest.raises(UserError, match="either --checkpoint or --model"):
        words(checkpoint=text_run, model="emoji")


def test_a_broken_run_does_not_become_a_bundled_model(weights, text_run, tmp_path):
    weights("avatars")
    run = shutil.copytree(text_run, tmp_path / "runs" / "a")
    for path in (run / "checkpoints").glob("*/ema/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match="not intact"):
        generator.choose_sampler(None, None, tmp_path / "runs", lambda line: None)


def test_the_metrics_read_bundled_models(weights, tmp_path):
    import json

    from flaxgan.commands.evaluate import main

    weights("avatars")
    out = tmp_path / "a.json"
    main(["--model", "avatars", "--num-images", "16", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["checkpoint"] == "avatars"  # and not a place on this machine
    assert report["images_seen"] == 32


@pytest.mark.parametrize("name", bundled.bundled_models())
def test_bundled_weights(name):
    """Of the package itself: they load, they draw, and a card says what they are."""
    sampler = flaxgan.load(name)
    images = sampler(["a smiling face"], num=2)
    assert images.std() > 10
    assert (images[0, 0] != images[0, 1]).any()
    path = sampler.checkpoint
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith("# ")
    assert path.stat().st_size < 30e6


@pytest.mark.parametrize("name", bundled.bundled_upsamplers())
def test_bundled_upsamplers(name):
    """Of the package itself: they enlarge what the model before the dot draws."""
    upsampler, generator = flaxgan.load(name), flaxgan.load(name.partition(".")[0])
    small = generator(["a smiling face"], num=1)[0]
    large = upsampler.upsample(small, "a smiling face")
    times = upsampler.times
    assert large.shape == (1, *(times * n for n in small.shape[1:3]), 3)
    means = large.reshape(32, times, 32, times, 3).mean(axis=(1, 3))
    assert np.abs(means - small[0]).mean() < 12  # the same picture
    path = upsampler.checkpoint
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith("# ")
    assert path.stat().st_size < 10e6


@pytest.mark.parametrize("name", bundled.bundled_inpainters())
def test_bundled_inpainters(name):
    """Of the package itself: what it draws in a hole of a real portrait goes on from around it."""
    inpainter = flaxgan.load(name)
    attributes, captions = avatars.sample_example("test", 0, 1)
    real = decode(avatars.render(attributes), 32, 3, what="a portrait")
    hole = np.zeros((32, 32), bool)
    hole[20:, 16:] = True  # half of the clothes
    (image,) = inpainter.inpaint(real, hole, captions[0])
    np.testing.assert_array_equal(image[~hole], real[~hole])
    difference = np.abs(image.astype(int) - real)[hole].mean()
    assert 0 < difference < 40
    path = inpainter.checkpoint
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith("# ")
    assert path.stat().st_size < 10e6


def test_a_package_without_weights_is_one_too(tmp_path):
    """In a fresh process: a copy of the package whose folder of weights is not there."""
    package = Path(flaxgan.__file__).parent
    leave_out = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(package, tmp_path / "flaxgan", ignore=leave_out)
    code = "from flaxgan.drawing import bundled; print(bundled.bundled_models(), bundled.FOLDER)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{{}} {tmp_path / 'flaxgan' / 'weights'}"
