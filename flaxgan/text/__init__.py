"""Text encoders: a caption becomes the vectors that condition the networks.

`ENCODERS` is the table of what `text.encoder` may say. The names below are loaded on first use, so
that the modules which need no jax can be imported without it.
"""

import importlib
from typing import Any

_PUBLIC = {
    "ENCODERS": "flaxgan.text.encoders",
    "EncoderKind": "flaxgan.text.encoders",
    "TextEncoder": "flaxgan.text.encoder",
    "build_text_encoder": "flaxgan.text.encoders",
    "compact_captions": "flaxgan.text.cache",
    "embed_captions": "flaxgan.text.cache",
    "encode_captions": "flaxgan.text.cache",
    "sentence_stats": "flaxgan.text.cache",
    "word_stats": "flaxgan.text.cache",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'flaxgan.text' has no attribute {name!r}")
