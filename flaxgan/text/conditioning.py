"""The text that conditions a network, as arrays."""

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

INT8_STEPS = 32.0  # of a standard deviation


@flax.struct.dataclass
class Text:
    """Captions of a batch; a field that an encoder does not give is None.

    Attributes:
      sentence_emb: `[b, d]` float, one vector per caption.
      tokens: `[b, t]` int32 token ids, for encoders that are learned with the networks; in
        training with "words", rows of the train state's table of word vectors.
      mask: `[b, t]` bool, True where there is a token.
      token_emb: `[b, t, d]` float, one vector per token.
      picture: `[b, h, w, c]` float in [-1, 1], what an upsampler enlarges, or what an inpainter
        completes, with its hole as one more channel: see `flaxgan.models.given_pictures`.
    """

    sentence_emb: Array | None = None
    tokens: Array | None = None
    mask: Array | None = None
    token_emb: Array | None = None
    picture: Array | None = None


@flax.struct.dataclass
class TextFeatures:
    """What a network makes of its captions; padded tokens have to be ignored.

    Attributes:
      sentence: `[b, d]`, one vector per caption; None where there is a picture only.
      tokens: `[b, t, d]`, one vector per token; None where the text encoder gives sentences only.
      mask: `[b, t]` bool, True where there is a token; None without tokens. For a generator also
        float: how much each token weighs, see `flaxgan.models.attention.attention_weights`.
      picture: as in `Text`.
    """

    sentence: Array | None
    tokens: Array | None = None
    mask: Array | None = None
    picture: Array | None = None


@flax.struct.dataclass
class TextStats:
    """Mean and standard deviation of the training captions' vectors, each `[d]`.

    Of frozen sentence vectors; of word vectors where `text.direct` is on.
    """

    mean: Array
    sd: Array


def standardise(text: Text, stats: TextStats | None) -> Text:
    """Sentence or else word vectors minus the training mean, divided by the training sd, float32.

    Sentence encoders are anisotropic (all cosines above 0.7): without this, the condition that
    reaches the first layer is nearly constant. A few dimensions of word vectors are larger than
    all others together.
    """
    name = "token_emb" if text.sentence_emb is None else "sentence_emb"
    vectors = getattr(text, name)
    if vectors is None or stats is None:
        return text
    return text.replace(**{name: (vectors.astype(jnp.float32) - stats.mean) / stats.sd})


def to_int8(word_table: np.ndarray, stats: TextStats) -> np.ndarray:
    """A table of word vectors `[v, d]`, standardised, in steps of 1 / INT8_STEPS.

    It takes half as much memory as float16. Beyond 4 standard deviations it is cut.
    """
    found = np.empty(word_table.shape, np.int8)
    for start in range(0, len(word_table), 2**16):  # no large float32 copy
        rows = slice(start, start + 2**16)
        standard = (word_table[rows].astype(np.float32) - stats.mean) / stats.sd
        found[rows] = np.clip(np.round(standard * INT8_STEPS), -127, 127)
    return found


def prepare_text(
    text: Text | None, stats: TextStats | None, word_table: Array | None
) -> Text | None:
    """Captions as batches bring them to what the networks read.

    Args:
      text: captions; None for unconditional training.
      stats: see `standardise`.
      word_table: `[v, d]` vectors that the token ids are rows of; None: they are read as they are;
        int8: of `to_int8`, standardised already.
    """
    if text is None:
        return None
    if word_table is not None and text.tokens is not None:
        vectors = jnp.asarray(word_table)[text.tokens]
        if vectors.dtype == jnp.int8:
            return text.replace(tokens=None, token_emb=vectors.astype(jnp.float32) / INT8_STEPS)
        text = text.replace(tokens=None, token_emb=vectors)
    return standardise(text, stats)


def text_features(
    text_encoder: nn.Module | None, text: Text | TextFeatures | None
) -> TextFeatures | None:
    """Text as a network sees it.

    Args:
      text_encoder: learned with the network: its `features(text)` is called; None: the frozen
        sentence vectors that text brings are used as they are.
      text: None for an unconditional network; features are passed on as they are.
    """
    if text is None or isinstance(text, TextFeatures):
        return text
    if text_encoder is None:
        return TextFeatures(sentence=text.sentence_emb, picture=text.picture)
    return text_encoder.features(text).replace(picture=text.picture)
