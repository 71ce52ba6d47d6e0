"""Text encoders: a caption becomes the vectors that condition the networks.

`ENCODERS` is the table of what `text.encoder` may say.
"""

from flaxgan.text.cache import (
    compact_captions,
    embed_captions,
    encode_captions,
    sentence_stats,
    word_stats,
)
from flaxgan.text.encoder import TextEncoder
from flaxgan.text.encoders import ENCODERS, EncoderKind, build_text_encoder

__all__ = [
    "ENCODERS",
    "EncoderKind",
    "TextEncoder",
    "build_text_encoder",
    "compact_captions",
    "embed_captions",
    "encode_captions",
    "sentence_stats",
    "word_stats",
]
