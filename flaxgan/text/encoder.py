"""One protocol for all text encoders: captions -> tokens -> what conditions the networks."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from flaxgan.clean_text import clean
from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.text import e5, hf_folder
from flaxgan.text.bert import Bert
from flaxgan.text.conditioning import Text
from flaxgan.text.learned import WordsEncoder
from flaxgan.times import part

E5_PREFIX = "query: "  # models of the E5 family want it (Wang et al. 2024, section 2)
BUCKET = 8  # token lengths are padded to a multiple of this


class TextEncoder(Protocol):
    """What the rest of flaxgan knows of a text encoder.

    Attributes:
      name: as in the config.
      dim: width of its vectors.
      max_tokens: longer captions are cut.
      learned: whether it is part of the networks (`encode` is not used then).
      standardised: whether the networks read its vectors minus the mean of the training captions,
        divided by their standard deviation.
      fingerprint: changes whenever the vectors would.
      params: of a frozen encoder; None for a learned one.
    """

    name: str
    dim: int
    max_tokens: int
    learned: bool
    standardised: bool
    fingerprint: str
    params: Any

    def tokenize(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Captions to tokens `[b, t]` int32 and mask `[b, t]` bool."""

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """Tokens of each whole caption, before it is cut."""

    def unknown_fraction(self, caption: str) -> float:
        """Fraction of the caption's tokens that the vocabulary lacks."""

    def encode(self, params: Any, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """Tokens and mask to `[b, t, d]` token and `[b, d]` sentence vectors; can be jitted."""

    def look_up(self, text: Text) -> Text:
        """What is kept of captions in memory to what the networks read; runs on the host."""

    def intern(self, text: Text) -> tuple[Text, np.ndarray | None]:
        """All captions with their token ids replaced by rows of a table, and the table `[v, d]`.

        A batch of token ids is a thousandth of its word vectors: the table waits on the devices.
        None, and the captions as they are, where `look_up` does nothing.
        """

    def as_function(self) -> tuple[Any, Callable[[Any, Array, Array], Text]]:
        """What the networks read, as a function of arrays that can be traced, for exports.

        Returns:
          Parameters, and a function of them, tokens `[b, t]` and mask `[b, t]`: `encode_text` from
          `tokenize` on.
        """


class FrozenEncoder:
    """A pretrained BERT with its tokeniser."""

    learned, standardised = False, True

    def __init__(
        self,
        *,
        name: str,
        module: Bert,
        params: dict[str, Any],
        word: Any,
        ids: Callable[[Sequence[str]], list[list[int]]],
        unk: int,
        max_tokens: int,
        fingerprint: str,
    ):
        """Holds the parts; `ids` gives the token ids of captions, special tokens included."""
        self.name, self.max_tokens = name, max_tokens
        self.dim = params["token_type"].shape[-1]
        self.params = {"bert": params, "word": word}
        self._module, self._ids, self._unk = module, ids, unk
        recipe = f"{fingerprint}-{name}-{max_tokens}-1"  # the number: of this file's recipe
        self.fingerprint = hashlib.sha256(recipe.encode()).hexdigest()

    def tokenize(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See TextEncoder; t is the longest caption, rounded up to a multiple of BUCKET."""
        rows = []
        for ids in self._ids([clean(caption) for caption in captions]):
            cut = len(ids) > self.max_tokens
            rows.append([*ids[: self.max_tokens - 1], ids[-1]] if cut else ids)
        longest = max(len(row) for row in rows)
        length = min(-(-longest // BUCKET) * BUCKET, max(self.max_tokens, longest))
        tokens = np.zeros((len(rows), length), np.int32)
        mask = np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
            mask[i, : len(row)] = True
        return tokens, mask

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """See TextEncoder."""
        return [len(ids) for ids in self._ids([clean(caption) for caption in captions])]

    def unknown_fraction(self, caption: str) -> float:
        """Fraction of the caption's tokens that the vocabulary lacks."""
        ids = self._ids([clean(caption)])[0]
        return ids.count(self._unk) / max(1, len(ids) - 2)

    def encode(self, params: Any, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """See TextEncoder; sentence vectors have unit length."""
        return self._module.apply(
            {"params": params["bert"]}, e5.look_up(params["word"], tokens), mask
        )

    def look_up(self, text: Text) -> Text:
        """Sentence vectors are what the networks read."""
        return text

    def intern(self, text: Text) -> tuple[Text, None]:
        """Sentence vectors are what the networks read."""
        return text, None

    def as_function(self) -> tuple[Any, Callable[[Any, Array, Array], Text]]:
        """See TextEncoder."""

        def text(params: Any, tokens: Array, mask: Array) -> Text:
            params = {**params, "bert": unpacked(params["bert"])}
            return Text(sentence_emb=self.encode(params, tokens, mask)[1])

        return {**self.params, "bert": packed(self.params["bert"])}, text


def packed(params: Any) -> Any:
    """Parameters of a network whose matrices are packed where that changes nothing."""

    def pack(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        table = e5.pack(leaf)
        return leaf if table is None else table

    return jax.tree.map(pack, params)


def unpacked(params: Any) -> Any:
    """The opposite of `packed`; can be traced."""

    def is_packed(leaf: Any) -> bool:
        return isinstance(leaf, e5.QuantisedTable)

    return jax.tree.map(
        lambda leaf: e5.unpack(leaf) if is_packed(leaf) else leaf, params, is_leaf=is_packed
    )


def read_e5(
    config: TextConfig, prefix: str, layers: int | None = None
) -> tuple[e5.E5File, Callable[[Sequence[str]], list[list[int]]]]:
    """The weights, of the first layers or of all, and the function from captions to token ids."""
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'text.encoder {config.encoder} needs tokenizers: pip install "flaxgan[text]"'
        ) from error
    with part("    read e5"):
        file = e5.read(e5.find_file(config.path), layers)
    tokenizer = e5.Tokenizer(file)

    def ids(captions: Sequence[str]) -> list[list[int]]:
        texts = [e5.normalise_text(prefix + c, file.replacements) for c in captions]
        return [[file.bos, *row, file.eos] for row in tokenizer(texts)]

    return file, ids


def build_e5(config: TextConfig) -> FrozenEncoder:
    """multilingual-e5-small, from its package, its file or a Hugging Face folder."""
    if folder := _named_folder(config):
        return _from_folder(config, folder, None)
    file, ids = read_e5(config, E5_PREFIX)
    layers = sum(name.startswith("block") for name in file.params)
    return FrozenEncoder(
        name="e5",
        module=Bert(layers=layers),
        params=file.params,
        word=file.word,
        ids=ids,
        unk=file.unk,
        max_tokens=config.max_tokens,
        fingerprint=e5.SHA256,
    )


def build_words(config: TextConfig) -> WordsEncoder:
    """The word vectors of multilingual-e5-small."""
    file, ids = read_e5(config, "", layers=0)
    return WordsEncoder(
        word=file.word,
        ids=ids,
        unk=file.unk,
        max_tokens=config.max_tokens,
        dim=config.dim,
        fingerprint=e5.SHA256,
        standardised=config.direct,
    )


def build_minilm(config: TextConfig) -> FrozenEncoder:
    """all-MiniLM-L6-v2, from its package or a Hugging Face folder."""
    if config.path is None:
        return _from_folder(config, hf_folder.find_minilm(), hf_folder.MINILM_SHA256)
    return _from_folder(config, Path(config.path), None)


def _named_folder(config: TextConfig) -> Path | None:
    """`text.path` where it is a folder in the format of Hugging Face."""
    path = None if config.path is None else Path(config.path)
    return path if path is not None and (path / "model.safetensors").exists() else None


def _from_folder(config: TextConfig, folder: Path, sha256: str | None) -> FrozenEncoder:
    files = hf_folder.read(folder, sha256)
    prefix = E5_PREFIX if config.encoder == "e5" else ""

    def ids(captions: Sequence[str]) -> list[list[int]]:
        texts = [prefix + c for c in captions]
        return [e.ids for e in files.tokenizer.encode_batch_fast(texts)]

    unk = next(
        (i for t in ("[UNK]", "<unk>") if (i := files.tokenizer.token_to_id(t)) is not None), -1
    )
    c = files.config
    positions = len(files.params["positions"])
    if config.max_tokens > positions:
        raise UserError(
            f"text.max_tokens must be at most {positions} for {folder}, not {config.max_tokens}"
        )
    return FrozenEncoder(
        name=config.encoder,
        module=Bert(
            layers=c["num_hidden_layers"],
            heads=c["num_attention_heads"],
            hidden=files.params["block0"]["up"]["bias"].size,
            max_positions=positions,
            eps=c["layer_norm_eps"],
        ),
        params=files.params,
        word=files.word,
        ids=ids,
        unk=unk,
        max_tokens=config.max_tokens,
        fingerprint=files.sha256,
    )


@functools.cache
def jit_encode(encoder: TextEncoder) -> Callable[..., Array]:
    """`(params, tokens, mask) -> [b, d]` sentence vectors, compiled."""
    return jax.jit(lambda params, tokens, mask: encoder.encode(params, tokens, mask)[1])
