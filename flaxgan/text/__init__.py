"""Text encoders: a caption becomes the vectors that condition the networks."""

from flaxgan.text.cache import compact_captions, embed_captions, encode_captions, sentence_stats
from flaxgan.text.encoder import TextEncoder, build_text_encoder

__all__ = [
    "TextEncoder",
    "build_text_encoder",
    "compact_captions",
    "embed_captions",
    "encode_captions",
    "sentence_stats",
]
