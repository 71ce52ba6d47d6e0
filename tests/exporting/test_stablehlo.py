"""A generator as StableHLO, read by jax alone."""

import dataclasses
import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from flaxgan.commands import export
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.exporting.program import PROMPTS, check_close, examples, program_of

WITHOUT_FLAXGAN = """
import sys
import jax, numpy as np
draw = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
inputs = np.load(sys.argv[2], allow_pickle=False)
np.save(sys.argv[3], draw.call(inputs["tokens"], inputs["mask"], inputs["z"]))
assert not {"flax", "flaxgan"} & set(sys.modules), sys.modules
assert draw.platforms == ("cpu", "cuda", "tpu")
"""


def test_another_process_draws_the_same(tiny_file, tmp_path, capsys):
    """Of any number of pictures, and without Flax."""
    out = tmp_path / "tiny.stablehlo"
    export.main(["--checkpoint", str(tiny_file), "--format", "stablehlo", "--out", str(out)])
    said = capsys.readouterr().out
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert f"sha256 {digest}" in said
    assert "largest difference to the Flax model: " in said
    assert out.with_name("tiny.stablehlo.sha256").read_text() == f"{digest}  tiny.stablehlo\n"
    sampler = load_sampler(tiny_file)
    inputs = examples(sampler, 3)
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [out, tmp_path / "inputs.npz", tmp_path / "images.npy"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FLAXGAN, *paths], env=environment, check=False
    )
    assert done.returncode == 0
    images = np.load(tmp_path / "images.npy", allow_pickle=False)
    text = sampler.encode(PROMPTS[:3])
    expected = jax.jit(sampler.generator.apply)({"params": sampler.params}, inputs["z"], text)
    assert images.shape == (3, 16, 16, 3)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert np.abs(images[0] - images[1]).max() > 0.01


def test_half_precision_is_half_as_large(tiny_file):
    sampler = load_sampler(tiny_file)
    sizes = [
        sum(leaf.nbytes for leaf in jax.tree.leaves(program_of(sampler, dtype).params["generator"]))
        for dtype in ("float32", "float16")
    ]
    assert sizes[0] == 2 * sizes[1]


def test_other_pictures_are_refused():
    check_close(0.001, "float32", "file")
    for difference in (0.5, float("nan")):
        with pytest.raises(UserError, match="draws other pictures"):
            check_close(difference, "float32", "file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "stablehlo", "--out", "a.onnx"], r"--out must end in \.stablehlo"),
        (["--format", "stablehlo", "--license", "mit"], "--license is not read with --format"),
        (["--out", "a.safetensors", "b.safetensors"], "name either --out or b"),
    ],
)
def test_wrong_words(words, said, tiny_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        export.main(["--checkpoint", str(tiny_file), *words])


def test_what_enlarges_pictures_is_refused(tiny_file):
    """Told by its network; the upsampler that is bundled takes long to load."""
    from flaxgan.models.upsampler import Generator

    sampler = dataclasses.replace(load_sampler(tiny_file), generator=Generator())
    with pytest.raises(UserError, match=r"enlarges pictures.*--format safetensors"):
        program_of(sampler)
