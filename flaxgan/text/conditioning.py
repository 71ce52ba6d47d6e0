"""The text that conditions a network, as arrays."""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jax import Array


@flax.struct.dataclass
class Text:
    """Captions of a batch; a field that an encoder does not give is None.

    Attributes:
      sentence_emb: `[b, d]` float, one vector per caption.
      tokens: `[b, t]` int32 token ids, for encoders that are learned with the networks; in
        training with "words", rows of the train state's table of word vectors.
      mask: `[b, t]` bool, True where there is a token.
      token_emb: `[b, t, d]` float, one vector per token.
    """

    sentence_emb: Array | None = None
    tokens: Array | None = None
    mask: Array | None = None
    token_emb: Array | None = None


@flax.struct.dataclass
class TextFeatures:
    """What a network makes of its captions; padded tokens have to be ignored.

    Attributes:
      sentence: `[b, d]`, one vector per caption.
      tokens: `[b, t, d]`, one vector per token; None where the text encoder gives sentences only.
      mask: `[b, t]` bool, True where there is a token; None without tokens.
    """

    sentence: Array
    tokens: Array | None = None
    mask: Array | None = None


@flax.struct.dataclass
class TextStats:
    """Mean and standard deviation of the training captions' sentence vectors, each `[d]`."""

    mean: Array
    sd: Array


def standardise(text: Text, stats: TextStats | None) -> Text:
    """Sentence vectors minus the training mean, divided by the training sd, in float32.

    Sentence encoders are anisotropic (all cosines above 0.7): without this, the condition that
    reaches the first layer is nearly constant.
    """
    if text.sentence_emb is None or stats is None:
        return text
    emb = (text.sentence_emb.astype(jnp.float32) - stats.mean) / stats.sd
    return text.replace(sentence_emb=emb)


def prepare_text(
    text: Text | None, stats: TextStats | None, word_table: Array | None
) -> Text | None:
    """Captions as batches bring them to what the networks read.

    Args:
      text: captions; None for unconditional training.
      stats: see `standardise`.
      word_table: `[v, d]` vectors that the token ids are rows of; None: they are read as they are.
    """
    if text is None:
        return None
    if word_table is not None and text.tokens is not None:
        text = text.replace(tokens=None, token_emb=jnp.asarray(word_table)[text.tokens])
    return standardise(text, stats)


def text_features(text_encoder: nn.Module | None, text: Text | None) -> TextFeatures | None:
    """Text as a network sees it.

    Args:
      text_encoder: learned with the network: its `features(text)` is called; None: the frozen
        sentence vectors that text brings are used as they are.
      text: None for an unconditional network.
    """
    if text is None:
        return None
    if text_encoder is None:
        return TextFeatures(sentence=text.sentence_emb)
    return text_encoder.features(text)
