"""CLIP with tiny random towers in a folder of transformers' form."""

import functools
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.evaluate.networks import clip, hf_weights

safetensors_numpy = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 16,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 21,
}
DIM = 12
CAPTIONS = ["a red hat", "a blue hat", "", "A  red HAT", "a red hat " * 20, "the end of it"]


def write_tokenizer(folder):
    """A byte-level BPE that lower-cases and adds start and end, as CLIP's; returns its size."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *[f"{letter}</w>" for letter in letters], "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    start, end = len(words) - 2, len(words) - 1
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {word: i for i, word in enumerate(words)},
            [("r", "e"), ("re", "d</w>")],
            end_of_word_suffix="</w>",
            unk_token="<|endoftext|>",
        )
    )
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.NFC(),
            tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            tokenizers.normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(
                tokenizers.Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True
            ),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
        ("<|endoftext|>", end),
        ("<|startoftext|>", start),
        trim_offsets=False,
        add_prefix_space=False,
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(words)


def random_tensors(vocabulary, dtype=np.float32):
    """Tensors of transformers' CLIPModel."""
    rng = np.random.default_rng(0)
    tensors = {
        "logit_scale": np.array(np.log(50.0), dtype),
        "text_model.embeddings.position_ids": np.arange(21)[None],  # of old files
    }

    def tensor(name, *shape, around=0.0):
        value = around + rng.normal(size=shape) / np.sqrt(shape[-1])
        tensors[name] = value.astype(dtype)

    def norm(name, width):
        tensor(f"{name}.weight", width, around=1.0)
        tensor(f"{name}.bias", width)

    def dense(name, outputs, inputs):
        tensor(f"{name}.weight", outputs, inputs)
        tensor(f"{name}.bias", outputs)

    for at, config in (("text_model", TEXT), ("vision_model", VISION)):
        width, hidden = config["hidden_size"], config["intermediate_size"]
        for i in range(config["num_hidden_layers"]):
            layer = f"{at}.encoder.layers.{i}"
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                dense(f"{layer}.self_attn.{name}", width, width)
            dense(f"{layer}.mlp.fc1", hidden, width)
            dense(f"{layer}.mlp.fc2", width, hidden)
            norm(f"{layer}.layer_norm1", width)
            norm(f"{layer}.layer_norm2", width)
    width = TEXT["hidden_size"]
    tensor("text_model.embeddings.token_embedding.weight", vocabulary, width)
    tensor("text_model.embeddings.position_embedding.weight", 21, width)
    norm("text_model.final_layer_norm", width)
    tensor("text_projection.weight", DIM, width)
    width, patch = VISION["hidden_size"], VISION["patch_size"]
    tensor("vision_model.embeddings.class_embedding", width)
    tensor("vision_model.embeddings.patch_embedding.weight", width, 3, patch, patch)
    tensor("vision_model.embeddings.position_embedding.weight", 5, width)
    norm("vision_model.pre_layrnorm", width)
    norm("vision_model.post_layernorm", width)
    tensor("visual_projection.weight", DIM, width)
    return tensors


def write_folder(folder, dtype=np.float32):
    size = write_tokenizer(folder)
    safetensors_numpy.save_file(random_tensors(size, dtype), folder / "model.safetensors")
    config = {
        "model_type": "clip",
        "projection_dim": DIM,
        "vision_config": VISION,
        "text_config": TEXT | {"vocab_size": size, "eos_token_id": size - 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def tiny(folder):
    return clip.load_clip(str(folder))


def test_pictures(tiny):
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    features = tiny.image(images)
    assert features.shape == (5, DIM)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-6)
    assert np.abs(features - features[0]).max(axis=1)[1:].min() > 0.01
    assert tiny.image.name == "clip"
    assert tiny.logit_scale == pytest.approx(50.0, rel=1e-6)


def test_the_middle_of_the_picture_counts(tiny):
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 40, 3), dtype=np.uint8)
    images[1, :, 12:28] = images[0, :, 12:28]  # all that a centre crop of 16 x 16 keeps
    a, b = tiny.image(images)
    np.testing.assert_array_equal(a, b)
    images[1, :, 12] = 255 - images[1, :, 12]
    assert np.abs(np.subtract(*tiny.image(images))).max() > 1e-4


def test_captions(tiny):
    vectors = tiny.encode_text(CAPTIONS)
    assert vectors.shape == (len(CAPTIONS), DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[3])  # the same tokens: the same bits
    distinct = vectors[[0, 1, 2, 4, 5]]
    assert np.sort(distinct @ distinct.T, axis=1)[:, -2].max() < 0.999
    assert tiny.encode_text([]).shape == (0, DIM)


def test_batch_size_does_not_matter(tiny):
    captions = [f"{i} hats " * (i % 7) for i in range(20)]
    vectors = tiny.encode_text(captions)
    np.testing.assert_allclose(tiny.encode_text(captions, batch_size=1), vectors, atol=2e-6)
    np.testing.assert_allclose(tiny.encode_text(captions[::-1])[::-1], vectors, atol=2e-6)
    images = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(tiny.image(images), tiny.image(images, batch_size=1), atol=2e-6)


@pytest.fixture(scope="module")
def tower():
    """With its parameters."""
    tower = clip.TextTower(
        dim=5,
        width=8,
        layers=2,
        heads=2,
        hidden=8,
        eps=1e-5,
        activation="gelu",
        vocabulary=10,
        positions=12,
        end=9,
    )
    key, tokens = jax.random.key(0, impl="rbg"), np.zeros((1, 4), np.int32)
    return tower, jax.jit(tower.init)(key, tokens)


@pytest.mark.parametrize("end", [2, 9])
def test_padding_does_not_matter(tower, end):
    module, variables = tower
    rng = np.random.default_rng(0)
    tokens = np.array([[8, 3, 4, 9], [8, 5, 9, 9]], np.int32)
    encode = jax.jit(functools.partial(module.clone(end=end).apply, variables))
    vectors = encode(tokens)
    longer = np.pad(tokens, ((0, 0), (0, 6)), constant_values=9)
    np.testing.assert_allclose(encode(longer), vectors, atol=2e-6)
    longer[:, 4:] = rng.integers(0, 8, (2, 6))
    np.testing.assert_allclose(encode(longer), vectors, atol=2e-6)
    tokens[:, 1] = 7  # but what stands before the end does
    assert np.abs(encode(tokens) - vectors).max() > 1e-3


def test_the_end_is_the_first_of_its_kind():
    tokens = jnp.array([[1, 5, 7, 5, 9], [5, 9, 2, 9, 3]])
    np.testing.assert_array_equal(clip.end_position(tokens, 5), [1, 0])
    np.testing.assert_array_equal(clip.end_position(tokens, 2), [4, 1])  # old files: the largest


def test_long_captions_keep_their_end(tiny, folder):
    _, text = clip.read_config(folder / "config.json")
    (row,) = clip.read_tokenizer(folder / "tokenizer.json", text)(["a red hat " * 20])
    assert len(row) == 21
    assert row[-1] == text.end
    same = tiny.encode_text(["a red hat " * 20, "a red hat " * 30])
    np.testing.assert_array_equal(*same)


def test_preprocessing_of_small_levels():
    """By hand: a picture of the right size is only standardised."""
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[..., 1] = 255
    pixels = clip.preprocess(jnp.asarray(images), 4, (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))
    np.testing.assert_allclose(pixels, np.broadcast_to([-1.0, 1.5, 0.0], (1, 4, 4, 3)))


def test_preprocessor_file(tiny, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
    )
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    changed = clip.load_clip(str(copy)).image(images)
    assert np.abs(changed - tiny.image(images)).max() > 1e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(folder, tmp_path, dtype):
    import ml_dtypes

    half = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    (tmp_path / "half").mkdir()
    weights = hf_weights.Weights(write_folder(tmp_path / "half", half))
    full = hf_weights.Weights(folder)
    name = "visual_projection.weight"
    assert weights[name].dtype == np.float32
    np.testing.assert_array_equal(weights[name], full[name].astype(half).astype(np.float32))
    assert weights.sha256 != full.sha256


def changed(file, **fields):
    """Fields of a JSON file; None takes one out."""

    def damage(folder):
        path = folder / file
        values = (json.loads(path.read_text()) if path.exists() else {}) | fields
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return damage


def without(name):
    def damage(folder):
        tensors = safetensors_numpy.load_file(folder / "model.safetensors")
        del tensors[name]
        safetensors_numpy.save_file(tensors, folder / "model.safetensors")

    return damage


def broken(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def text(name, value):
    """A field of the text tower."""

    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"][name] = value
        (folder / "config.json").write_text(json.dumps(config))

    return damage


DAMAGE = [
    (lambda f: (f / "config.json").unlink(), "has no config.json"),
    (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors: save the model"),
    (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (broken("config.json", b"{"), "config.json cannot be read"),
    (broken("config.json", b"[]"), "config.json is not a JSON object"),
    (broken("model.safetensors", b"\0" * 100), "model.safetensors cannot be read"),
    (broken("tokenizer.json", b"{}"), "tokenizer.json cannot be read"),
    (changed("config.json", model_type=None), "model_type must be 'clip', not None"),
    (changed("config.json", model_type="siglip"), "model_type must be 'clip', not 'siglip'"),
    (changed("config.json", projection_dim=0), "projection_dim must be a positive integer"),
    (changed("config.json", vision_config=3), "vision_config must be an object"),
    (
        changed("config.json", vision_config=VISION | {"hidden_act": "relu"}),
        "hidden_act must be gelu or quick_gelu, not 'relu'",
    ),
    (
        changed("config.json", vision_config=VISION | {"num_attention_heads": 5}),
        "num_attention_heads must divide hidden_size",
    ),
    (
        changed("config.json", vision_config=VISION | {"patch_size": [8, 8]}),
        r"patch_size must be a positive integer, not \[8, 8\]",
    ),
    (
        changed("config.json", vision_config=VISION | {"image_size": 32}),
        r"patches/positions has shape \(5, 24\), config.json says \(17, 24\)",
    ),
    (changed("config.json", vision_config=None), "no tensor vision_model.encoder.layers.2"),
    (text("num_hidden_layers", 3), "no tensor text_model.encoder.layers.2"),
    (text("eos_token_id", 7), "does not end captions with the token that config.json names"),
    (text("vocab_size", 100), "tokens, the model 100: it belongs to another model"),
    (
        changed("preprocessor_config.json", image_mean=[0.5, 0.5]),
        "image_mean must be three numbers",
    ),
    (without("vision_model.pre_layrnorm.bias"), "has no tensor vision_model.pre_layrnorm.bias"),
    (without("logit_scale"), "has no tensor logit_scale"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[m for _, m in DAMAGE])
def test_a_broken_folder_is_one_clear_line(folder, tmp_path, damage, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        clip.load_clip(str(copy))
    assert "\n" not in str(error.value)


def test_old_files_say_end_2(tiny, folder, tmp_path):
    """The largest token is meant: the same vectors."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    text("eos_token_id", 2)(copy)
    np.testing.assert_array_equal(
        clip.load_clip(str(copy)).encode_text(CAPTIONS),
        tiny.encode_text(CAPTIONS),
    )


@pytest.mark.parametrize("name", ["no/such/folder", "./none", "/none/here", ""])
def test_no_such_folder(name):
    with pytest.raises(UserError, match="neither a folder nor a name like owner/model"):
        hf_weights.hf_folder(name or "none", ["config.json"])


class Hub:
    """Stands in for huggingface_hub."""

    def __init__(self, folder=None):
        self.folder, self.asked = folder, None

    def snapshot_download(self, name, *, revision, allow_patterns):
        self.asked = (name, revision, allow_patterns)
        if self.folder is None:
            raise ConnectionError("no route to host\nmore lines")
        return str(self.folder)


def test_hub(monkeypatch, folder):
    hub = Hub(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert hf_weights.hf_folder("owner/model@refs/pr/3", ["config.json"], ["more.json"]) == folder
    assert hub.asked == ("owner/model", "refs/pr/3", ["config.json", "more.json"])
    hf_weights.hf_folder("owner/model", ["config.json"])
    assert hub.asked == ("owner/model", None, ["config.json"])
    with pytest.raises(UserError, match=r"owner/model has no other.json"):
        hf_weights.hf_folder("owner/model", ["other.json"])


def test_no_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub())
    with pytest.raises(UserError, match=r"cannot be downloaded.*\(no route to host\)$"):
        hf_weights.hf_folder("owner/model", ["config.json"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        hf_weights.hf_folder("owner/model", ["config.json"])


@pytest.mark.parametrize("package", ["safetensors.numpy", "tokenizers"])
def test_packages_that_are_missing(monkeypatch, folder, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package.split('.')[0]}"):
        clip.load_clip(str(folder))
