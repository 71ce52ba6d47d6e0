"""A generator as a static web page: onnxruntime-web draws, on the machine of who types.

The page (folder `page`) has a tokenizer of its own. Of e5's vocabulary it knows the pieces of some
languages; their vectors are rows of files, of which the first, with the commonest pieces, is loaded
at once, and another only if a prompt has a piece of it. Packed, as e5 has them: nothing is lost.
"""

import gzip
import hashlib
import itertools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.exporting import npm
from flaxgan.exporting.files import write_file
from flaxgan.exporting.onnx_file import metadata_of, open_session
from flaxgan.exporting.program import check_close, largest_difference, program_of
from flaxgan.models.latents import generator_text
from flaxgan.text import e5
from flaxgan.text.conditioning import TextFeatures, standardise
from flaxgan.text.encoder import E5_PREFIX, unpacked

# what a piece is made of that a language uses
ASCII = "\u2581\x21-\x7e\u2013\u2014\u2018-\u201d\u2026\u2044"
HAN = "\u3001-\u303f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LETTERS = {"en": ASCII, "zh": ASCII + HAN}
COMMON = {"en": 15_000, "zh": 11_000}  # pieces in the file that is loaded at once
EACH = 512  # pieces in every other
UNKNOWN_PENALTY = 10.0  # of sentencepiece: below the least likely piece
PAGE = (
    "index.html",
    "style.css",
    "page.js",
    "worker.js",
    "generator.js",
    "tokenizer.js",
    "noise.js",
)
RUNTIMES = {
    "wasm": {
        "script": "ort.wasm.min.mjs",
        "glue": "ort-wasm-simd-threaded.mjs",
        "binary": "ort-wasm-simd-threaded.wasm",
    },
    "webgpu": {
        "script": "ort.webgpu.min.mjs",
        "glue": "ort-wasm-simd-threaded.asyncify.mjs",
        "binary": "ort-wasm-simd-threaded.asyncify.wasm",
    },
}
PROMPTS = {"avatars": "a bald man with a red beard", "emoji": "red apple"}
UNIGRAM = {"e5": E5_PREFIX, "e5_tokens": "", "words": ""}  # encoder -> what it puts before captions


def chosen_rows(
    pieces: list[tuple[str, float]], languages: tuple[str, ...]
) -> tuple[list[int], int]:
    """Which pieces of a vocabulary the page knows.

    Args:
      pieces: (text, log probability) of each token id; the first four are special.
      languages: names in LETTERS.

    Returns:
      Token ids, those of the first file first, and how many these are.
    """
    text = (resources.files("flaxgan") / "exporting" / "english_pieces.txt").read_text("utf-8")
    english = {piece for line in text.splitlines() if line[0] != "#" for piece in line.split()}
    rest: list[int] = []
    common: list[int] = []
    for name in languages:
        pattern, taken = re.compile(f"[{LETTERS[name]}]+"), {*range(4), *common, *rest}
        fits = [i for i, (text, _) in enumerate(pieces) if pattern.fullmatch(text)]
        # words of a dictionary, and what any text can be cut into, before likelier pieces of the
        # other languages that have the same letters
        fits = sorted(
            set(fits) - taken,
            key=lambda i: (pieces[i][0] not in english and len(pieces[i][0]) > 1, -pieces[i][1], i),
        )
        common += fits[: COMMON[name]]
        rest += fits[COMMON[name] :]
    rest.sort(key=lambda i: (-pieces[i][1], i))
    return [*range(4), *common, *rest], 4 + len(common)


def to_web(
    sampler: Sampler,
    folder: Path,
    languages: tuple[str, ...],
    dtype: str = "float16",
    archive: Path | None = None,
) -> tuple[float, int]:
    """Writes the page.

    Args:
      sampler: of `flaxgan.load`.
      folder: is made.
      languages: of prompts, names in LETTERS.
      dtype: of the generator's parameters in the files: float16 or float32.
      archive: see `flaxgan.exporting.npm.runtime_files`.

    Returns:
      The largest difference of its pictures, in [-1, 1], to those of the Flax model, and the bytes
      that a visitor loads before the first picture.

    Raises:
      UserError: this kind of generator has no page, onnxruntime-web cannot be had, or something
        cannot be written.
    """
    files, config = model_files(sampler, languages, dtype)
    difference = largest_difference(sampler, lambda inputs: _draw(sampler, files, inputs))
    check_close(difference, dtype, "web page")
    for name in [name for name in files if name.endswith(".onnx")]:
        beside = f"{name.removesuffix('.onnx')}.bin"
        files[name], files[beside], config["weights"][name] = without_weights(files[name])
        config["needed"].append(beside)
    # not all hosts compress; the other rows are small, and hardly become smaller
    stored = {name: _gzip(files.pop(name)) for name in config["needed"]}
    config["bytes"] = sum(map(len, stored.values()))
    site = {f"model/{name}.gz": data for name, data in stored.items()}
    site |= {f"model/{name}": data for name, data in files.items()}
    for kind, names in RUNTIMES.items():
        found = npm.runtime_files(list(names.values()), archive)
        found[f"{names['binary']}.gz"] = _gzip(found.pop(names["binary"]))
        site |= {f"runtime/{name}": data for name, data in found.items()}
        config["runtime"][kind] = {**names, "bytes": len(found[f"{names['binary']}.gz"])}
    site["runtime/VERSION"] = f"{npm.PACKAGE} {npm.VERSION}, MIT License\n".encode()
    site["model/config.json"] = json.dumps(config, ensure_ascii=False, indent=1).encode()
    page = resources.files("flaxgan") / "exporting" / "page"
    site |= {name: (page / name).read_bytes() for name in PAGE}
    digest = hashlib.sha256()
    for name in sorted(site):
        digest.update(f"{name} {len(site[name])} ".encode() + site[name])
    offline = (page / "offline.js").read_text(encoding="utf-8")
    site["offline.js"] = offline.replace("{{digest}}", digest.hexdigest()[:16]).encode()
    for name, data in site.items():
        write_file(folder / name, data)
    wasm = RUNTIMES["wasm"]
    loaded = sum(len(site[name]) for name in (*PAGE, "offline.js", "model/config.json"))
    loaded += sum(len(site[f"runtime/{wasm[part]}"]) for part in ("script", "glue"))
    return difference, loaded + config["bytes"] + config["runtime"]["wasm"]["bytes"]


def model_files(
    sampler: Sampler, languages: tuple[str, ...], dtype: str
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a model as the page reads them, not compressed, and its config.

    Raises:
      UserError: the page has no tokenizer for this generator's text encoder, or no translation.
    """
    from flaxgan.drawing.bundled import bundled_name
    from flaxgan.exporting.onnx_graph import model_of

    name, encoder, settings = sampler.config.text.encoder, sampler.text_encoder, sampler.config.text
    if encoder is not None and name != "bytes" and (name not in UNIGRAM or settings.path):
        raise UserError(
            f"a web page has no tokenizer for text.encoder {name}"
            f"{' with text.path' if settings.path else ''}; it has for "
            f"{', '.join(UNIGRAM)}, bytes and none"
        )
    program = program_of(sampler, dtype)
    # as the graphs compute with them: the page unpacks them, faster than the runtime would
    params = {
        **program.params,
        "generator": jax.tree.map(lambda x: x.astype(np.float32), program.params["generator"]),
    }
    config: dict[str, Any] = {
        "title": bundled_name(sampler.checkpoint) or sampler.config.name,
        "prompt": PROMPTS.get(bundled_name(sampler.checkpoint) or "", ""),
        "side": sampler.config.data.resolution,
        "channels": sampler.config.data.channels,
        "z": sampler.config.model.z_dim,
        "step": sampler.step,
        "text": None,
        "runtime": {},
        "weights": {},
        "needed": ["images.onnx"],
    }
    inputs = {"z": program.inputs["z"]}
    files: dict[str, bytes] = {}
    if encoder is not None:
        text, features = _text_graph(sampler, params)
        files["text.onnx"] = text
        config["needed"].insert(0, "text.onnx")
        inputs |= features
        config["text"] = {"kind": "bytes", "maxTokens": encoder.max_tokens}
    if encoder is not None and name != "bytes":
        added, about = _vocabulary(sampler, params["text"]["word"], languages)
        files |= added
        config["text"] = {**about, "prefix": UNIGRAM[name], "maxTokens": encoder.max_tokens}
        config["needed"] += ["vocabulary.json", "scores.bin", "rows0.bin"]

    def draw(params: Any, z: Array, **given: Array) -> Array:
        words = None
        if given:
            each = {k: jnp.broadcast_to(x, (z.shape[0], *x.shape[1:])) for k, x in given.items()}
            words = TextFeatures(
                sentence=each["sentence"], tokens=each.get("features"), mask=each.get("mask")
            )
        return sampler.generator.apply({"params": params}, z, words)

    about = metadata_of(sampler)
    images = model_of(draw, params["generator"], inputs, ["images"], about, fold=True)
    files["images.onnx"] = images.SerializeToString()
    return files, config


def without_weights(data: bytes) -> tuple[bytes, bytes, list[list[Any]]]:
    """Takes the large arrays out of a graph.

    Args:
      data: an ONNX file.

    Returns:
      The file, which names them as external data; their bytes, as small as they can be without a
      loss; and for each its kind, rows and columns: "q4", in blocks of 18 bytes for 32 numbers of a
      column, see `flaxgan.text.e5`; "f2", float16; "f4", float32.
    """
    import onnx
    from onnx import external_data_helper, numpy_helper

    model = onnx.load_from_string(data)
    parts, about, place = [], [], 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 256:
            continue
        kind, stored = _smallest(array)
        parts.append(stored)
        columns = array.shape[-1]
        about.append([kind, array.size // columns, columns])
        external_data_helper.set_external_data(tensor, "weights", place, array.nbytes)
        tensor.ClearField("raw_data")
        place += array.nbytes
    return model.SerializeToString(), b"".join(parts), about


def _smallest(array: np.ndarray) -> tuple[str, bytes]:
    packed = e5.pack(array)
    if packed is not None:
        return "q4", _rows(packed).tobytes()
    with np.errstate(over="ignore"):
        half = array.astype("<f2")
    if np.array_equal(half.astype(np.float32), array):
        return "f2", half.tobytes()
    return "f4", array.astype("<f4").tobytes()


def _rows(table: e5.QuantisedTable) -> np.ndarray:
    """Packed rows as bytes, `[rows, 18 blocks]`: each block's scale, then its nibbles."""
    count = len(table.scale)
    scale = np.ascontiguousarray(table.scale, "<f2").view(np.uint8).reshape(count, -1, 2)
    return np.concatenate([scale, table.nibbles], axis=-1).reshape(count, -1)


def _text_graph(sampler: Sampler, params: Any) -> tuple[bytes, dict[str, jax.ShapeDtypeStruct]]:
    """What a prompt becomes before noise comes in: words, or bytes, to features.

    Returns:
      The graph, and the shapes of what the images' graph reads of it.
    """
    from flaxgan.exporting.onnx_graph import model_of

    encoder = sampler.text_encoder
    as_text = encoder.as_function()[1]
    (t,) = jax.export.symbolic_shape("t", constraints=(f"t <= {encoder.max_tokens}",))
    mask = jax.ShapeDtypeStruct((1, t), jnp.bool_)
    packed = "word" in params["text"]
    inputs = {"tokens": jax.ShapeDtypeStruct((1, t), jnp.int32), "mask": mask}
    if packed:
        width = 32 * params["text"]["word"].scale.shape[-1]
        inputs = {"words": jax.ShapeDtypeStruct((1, t, width), jnp.float32), "mask": mask}
    bert = params["text"].get("bert")
    missing = 0
    if bert is not None:  # positions that no prompt has need not be stored
        missing = len(bert["positions"]) - encoder.max_tokens
        bert = {**bert, "positions": bert["positions"][: encoder.max_tokens]}
        params = {**params, "text": {**params["text"], "bert": bert}}
    own = {**params, "text": {k: unpacked(v) for k, v in params["text"].items() if k != "word"}}

    def features(params: Any, mask: Array, **given: Array) -> TextFeatures:
        text, tokens = params["text"], given.get("tokens")
        if bert is not None:
            positions = jnp.pad(text["bert"]["positions"], ((0, missing), (0, 0)))
            text = {**text, "bert": {**text["bert"], "positions": positions}}
        if packed:  # the rows of this very prompt are the table
            words = given["words"]
            text, tokens = {**text, "word": words[0]}, jnp.arange(words.shape[1])[None]
        text = standardise(as_text(text, tokens, mask), params["stats"])
        found = generator_text(sampler.generator, params["generator"], text)
        return found

    def flat(params: Any, **given: Array) -> tuple[Array, ...]:
        found = features(params, **given)
        return (found.sentence,) if found.tokens is None else (found.sentence, found.tokens)

    shapes = jax.eval_shape(flat, own, **inputs)
    names = ["sentence", "features"][: len(shapes)]
    model = model_of(flat, own, inputs, names, metadata_of(sampler), fold=True)
    read = {
        name: jax.ShapeDtypeStruct(shape.shape, shape.dtype)
        for name, shape in zip(names, shapes, strict=True)
    }
    if "features" in read:
        read["mask"] = mask
    return model.SerializeToString(), read


def _vocabulary(
    sampler: Sampler, word: e5.QuantisedTable, languages: tuple[str, ...]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Pieces, their log probabilities, and their rows, first those that are loaded at once."""
    file = e5.read(e5.find_file(None), layers=0)
    pieces = file.pieces.entries(np.arange(len(file.pieces.scores)))
    ids, first = chosen_rows(pieces, languages)
    about = {
        "pieces": "\n".join(pieces[i][0] for i in ids),
        "replacements": {chr(code): text for code, text in file.replacements.items()},
        "ids": ids,
    }
    rows = _rows(e5.QuantisedTable(word.scale[ids], word.nibbles[ids]))
    places = [0, *range(first, len(ids), EACH), len(ids)]
    files = {
        "vocabulary.json": json.dumps(about, ensure_ascii=False).encode(),
        "scores.bin": np.array([pieces[i][1] for i in ids], "<f4").tobytes(),
    }
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        files[f"rows{number}.bin"] = rows[start:end].tobytes()
    return files, {
        "kind": "unigram",
        "languages": list(languages),
        "unkScore": min(score for _, score in pieces) - UNKNOWN_PENALTY,
        "special": {
            "bos": ids.index(file.bos),
            "eos": ids.index(file.eos),
            "unk": ids.index(file.unk),
        },
        "rows": {"dim": 32 * word.scale.shape[-1], "first": first, "each": EACH, "count": len(ids)},
    }


def _draw(sampler: Sampler, files: dict[str, bytes], inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the page draws, by the same graphs and rows, but in Python."""
    images = open_session(files["images.onnx"])
    if sampler.text_encoder is None:
        return np.asarray(images.run(["images"], {"z": inputs["z"]})[0])
    text = open_session(files["text.onnx"])
    drawn = []
    for row in range(len(inputs["z"])):
        count = int(inputs["mask"][row].sum())
        tokens = inputs["tokens"][row : row + 1, :count]
        given: dict[str, Any] = {"tokens": tokens, "mask": inputs["mask"][row : row + 1, :count]}
        if "vocabulary.json" in files:
            word = sampler.text_encoder.as_function()[0]["word"]
            given["words"] = np.asarray(e5.look_up(word, tokens), np.float32)
        found = text.run(None, {x.name: given[x.name] for x in text.get_inputs()})
        named = dict(zip([x.name for x in text.get_outputs()], found, strict=True))
        whole = {**named, "mask": given["mask"], "z": inputs["z"][row : row + 1]}
        drawn.append(
            images.run(["images"], {x.name: whole[x.name] for x in images.get_inputs()})[0]
        )
    return np.concatenate(drawn)


def _gzip(data: bytes) -> bytes:
    """The same bytes give the same bytes: without a time stamp."""
    return gzip.compress(data, 9, mtime=0)
