"""DINOv2 with tiny random weights in a folder of transformers' form."""

import json
import shutil

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.networks import dinov2

safetensors_numpy = pytest.importorskip("safetensors.numpy")

WIDTH, LAYERS, PATCH, OLD = 16, 2, 56, 5  # a table for 5 x 5 patches; 224 pixels make 4 x 4
CONFIG = {
    "model_type": "dinov2",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "patch_size": PATCH,
    "image_size": PATCH * OLD,
}


def random_tensors(swiglu=False, prefix=""):
    """Tensors of transformers' Dinov2Model."""
    rng = np.random.default_rng(0)
    tensors = {}

    def tensor(name, *shape, around=0.0):
        value = around + rng.normal(size=shape) / np.sqrt(shape[-1])
        tensors[prefix + name] = value.astype(np.float32)

    def dense(name, outputs, inputs):
        tensor(f"{name}.weight", outputs, inputs)
        tensor(f"{name}.bias", outputs)

    def norm(name):
        tensor(f"{name}.weight", WIDTH, around=1.0)
        tensor(f"{name}.bias", WIDTH)

    tensor("embeddings.cls_token", 1, 1, WIDTH)
    tensor("embeddings.mask_token", 1, WIDTH)
    tensor("embeddings.patch_embeddings.projection.weight", WIDTH, 3, PATCH, PATCH)
    tensor("embeddings.patch_embeddings.projection.bias", WIDTH)
    tensor("embeddings.position_embeddings", 1, 1 + OLD * OLD, WIDTH)
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            dense(f"{at}.attention.attention.{name}", WIDTH, WIDTH)
        dense(f"{at}.attention.output.dense", WIDTH, WIDTH)
        if swiglu:  # 2/3 of 64 is 42.7, up to a multiple of 8: 48
            dense(f"{at}.mlp.weights_in", 96, WIDTH)
            dense(f"{at}.mlp.weights_out", WIDTH, 48)
        else:
            dense(f"{at}.mlp.fc1", 4 * WIDTH, WIDTH)
            dense(f"{at}.mlp.fc2", WIDTH, 4 * WIDTH)
        norm(f"{at}.norm1")
        norm(f"{at}.norm2")
        tensor(f"{at}.layer_scale1.lambda1", WIDTH)
        tensor(f"{at}.layer_scale2.lambda1", WIDTH)
    norm("layernorm")
    return tensors


def write_folder(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    safetensors_numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("dinov2"), random_tensors())


@pytest.fixture(scope="module")
def tiny(folder):
    return dinov2.load_dinov2(str(folder))


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_features(tiny):
    features = tiny(IMAGES)
    assert features.shape == (5, WIDTH)
    assert features.dtype == np.float32
    assert np.abs(features - features[0]).max(axis=1)[1:].min() > 0.01
    assert tiny.name == "dinov2"
    assert tiny.protocol["side"] == 224
    assert len(tiny.weights_sha256) == 64


def test_batch_size_does_not_matter(tiny):
    images = np.concatenate([IMAGES] * 3)[:11]
    np.testing.assert_allclose(tiny(images), tiny(images, batch_size=1), atol=1e-5)


def test_the_last_norm_is_applied(tiny, folder, tmp_path):
    tensors = random_tensors()
    tensors["layernorm.weight"] *= 2.0
    tensors["layernorm.bias"] *= 2.0
    doubled = dinov2.load_dinov2(str(write_folder(tmp_path / "a", tensors)))
    np.testing.assert_allclose(doubled(IMAGES), 2.0 * tiny(IMAGES), rtol=1e-5)


def test_gated_and_prefixed_models(tiny, tmp_path):
    gated = write_folder(tmp_path / "a", random_tensors(swiglu=True), use_swiglu_ffn=True)
    assert np.abs(dinov2.load_dinov2(str(gated))(IMAGES) - tiny(IMAGES)).max() > 0.01
    prefixed = write_folder(tmp_path / "b", random_tensors(prefix="dinov2."))
    np.testing.assert_array_equal(dinov2.load_dinov2(str(prefixed))(IMAGES), tiny(IMAGES))


def test_positions():
    """A linear ramp stays one away from the edges, at the places that the offset gives."""
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 1)).reshape(64, 1)
    table = np.concatenate([[[100.0]], ramp])
    assert dinov2.interpolate_positions(table, 8, 0.1) is table
    for offset in (0.0, 0.1):
        found = dinov2.interpolate_positions(table, 16, offset)
        assert found[0] == 100.0
        grid = found[1:].reshape(16, 16)
        np.testing.assert_allclose(grid, np.repeat(grid[:, :1], 16, axis=1), atol=1e-5)
        # the filter with a = -0.75 bends a ramp by up to 0.05 of a step
        wanted = (np.arange(16) + 0.5) * 8 / (16 + offset) - 0.5
        np.testing.assert_allclose(grid[4:-4, 0], wanted[4:-4], atol=0.06)
    with pytest.raises(UserError, match="7 position embeddings are not a square grid"):
        dinov2.interpolate_positions(np.zeros((8, 2)), 4, 0.0)


def changed(**fields):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text()) | fields
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def without(name):
    def damage(folder):
        tensors = random_tensors()
        del tensors[name]
        safetensors_numpy.save_file(tensors, folder / "model.safetensors")

    return damage


DAMAGE = [
    (lambda f: (f / "config.json").unlink(), "has no config.json"),
    (changed(model_type="dinov2_with_registers"), "model_type must be 'dinov2', not 'dinov2_with"),
    (changed(hidden_act="relu"), "hidden_act must be 'gelu', not 'relu'"),
    (changed(num_attention_heads=3), "num_attention_heads must divide hidden_size"),
    (changed(hidden_size="wide"), "hidden_size must be a positive integer, not 'wide'"),
    (changed(patch_size=225), "patch_size must be at most 224"),
    (changed(num_hidden_layers=3), "no tensor encoder.layer.2.norm1.weight"),
    (changed(use_swiglu_ffn=True), "no tensor encoder.layer.0.mlp.weights_in.weight"),
    (changed(hidden_size=32), r"has shape .*, config.json says"),
    (without("embeddings.cls_token"), "has no tensor"),
    (without("layernorm.bias"), "has no tensor layernorm.bias"),
    (without("encoder.layer.1.layer_scale1.lambda1"), "has no tensor encoder.layer.1.layer_scale1"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[m for _, m in DAMAGE])
def test_a_broken_folder_is_one_clear_line(folder, tmp_path, damage, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        dinov2.load_dinov2(str(copy))
    assert "\n" not in str(error.value)
