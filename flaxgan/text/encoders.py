"""The table of text encoders: what `text.encoder` may say."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

from flaxgan.config.fields import Config, TextConfig
from flaxgan.config.rule import Rule, within
from flaxgan.config.rules import check
from flaxgan.registry import Table
from flaxgan.text.encoder import TextEncoder, build_e5, build_minilm, build_words
from flaxgan.text.in_context import build_e5_tokens
from flaxgan.text.learned import BYTE_VOCABULARY, BytesEncoder
from flaxgan.text.transformer import TextTransformer


@dataclasses.dataclass(frozen=True)
class EncoderKind:
    """One kind of text encoder.

    Attributes:
      build: the section of the config to an encoder; None for unconditional training. It raises
        UserError where its weights are missing.
      module: the section to a module that is learned within a network and turns what the encoder
        gives into vectors; None where sentence vectors are frozen, or there is no text.
      independent: whether a token keeps its vector when another word of the caption is swapped.
      rules: that its fields must fulfil.
    """

    build: Callable[[TextConfig], TextEncoder | None]
    module: Callable[[TextConfig], nn.Module] | None = None
    independent: bool = True
    rules: tuple[Rule, ...] = ()


def _transformer(vocabulary: int | None) -> Callable[[TextConfig], nn.Module]:
    def module(config: TextConfig) -> nn.Module:
        return TextTransformer(
            dim=config.dim,
            depth=config.depth,
            max_tokens=config.max_tokens,
            vocabulary=vocabulary,
            direct=config.direct,
        )

    return module


_WHOLE_HEADS = Rule("text.dim", lambda dim, _: dim % 16 == 0, "must be a multiple of 16")
_TOKENS = tuple(within(8, 512, "text.max_tokens"))  # of e5's vocabulary

ENCODERS = Table(
    "text.encoder",
    {
        "none": EncoderKind(lambda config: None),
        "e5": EncoderKind(build_e5, rules=_TOKENS),
        "minilm": EncoderKind(build_minilm, rules=_TOKENS),
        "bytes": EncoderKind(
            lambda config: BytesEncoder(config.max_tokens, config.dim),
            module=_transformer(BYTE_VOCABULARY),
            rules=(_WHOLE_HEADS,),
        ),
        "words": EncoderKind(
            build_words, module=_transformer(None), rules=(_WHOLE_HEADS, *_TOKENS)
        ),
        "e5_tokens": EncoderKind(
            build_e5_tokens,
            module=_transformer(None),
            independent=False,
            rules=(_WHOLE_HEADS, *_TOKENS, *within(1, 12, "text.layers")),
        ),
    },
    kind=EncoderKind,
    group="flaxgan.text_encoders",
)


def build_text_encoder(config: TextConfig) -> TextEncoder | None:
    """The encoder of a config; None for "none".

    Raises:
      UserError: a wrong value, or weights that are not installed or not the right ones.
    """
    check(Config(text=config), "text")
    return ENCODERS[config.encoder].build(config)
