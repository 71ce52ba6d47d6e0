"""Text encoders: a caption becomes the vectors that condition the networks."""

from flaxgan.text.cache import embed_captions, encode_captions, sentence_stats
from flaxgan.text.encoder import TextEncoder, build_text_encoder

__all__ = [
    "TextEncoder",
    "build_text_encoder",
    "embed_captions",
    "encode_captions",
    "sentence_stats",
]
