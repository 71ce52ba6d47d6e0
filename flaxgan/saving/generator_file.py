"""A trained generator in one file: safetensors, with its config and origin as JSON in the header.

Tensors are named by their path: `params/block0/conv0/kernel`, `text_stats/mean`. The discriminator,
needed only for training on, is a file of the same form beside it.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy

from flaxgan.atomic_write import open_atomic
from flaxgan.errors import UserError

SUFFIX = ".safetensors"
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
_WIDER = {"float16": "bfloat16", "bfloat16": "float32"}
Kind = Literal["generator", "discriminator"]  # `flaxgan_<kind>` names the JSON in the header


def discriminator_file(path: Path) -> Path:
    """Where the discriminator of a generator's file is, if it was exported."""
    return path.with_name(f"{path.stem}.discriminator{SUFFIX}")


def write_network(
    path: Path,
    item: Any,
    header: Mapping[str, Any],
    *,
    dtype: str,
    overwrite: bool = False,
    kind: Kind = "generator",
) -> None:
    """Writes the file, in one go; the same input gives the same bytes.

    Args:
      path: ends in .safetensors; its folder is made.
      item: `{"params": …, "text_stats": …}`, the latter of a generator only.
      header: JSON-able; `config` is that of `flaxgan.config.to_json`.
      dtype: of the parameters, a name in DTYPES; text statistics stay float32.
      overwrite: whether an existing file may be replaced.
      kind: which network the parameters belong to.

    Raises:
      UserError: the suffix is wrong, the file exists or cannot be written, or a parameter is not
        finite, or not in this dtype.
    """
    check_free(path, overwrite)
    tensors = {
        name: _cast(name, np.asarray(leaf), dtype if name.startswith("params/") else "float32")
        for name, leaf in named_leaves(item).items()
    }
    sums = {"crc32": _checksum(tensors), "crc32_about": _checksum_about(header, tensors)}
    text = json.dumps({**header, **sums}, sort_keys=True)
    data = safetensors.numpy.save(tensors, metadata={f"flaxgan_{kind}": text})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def check_free(path: Path, overwrite: bool) -> None:
    """Checks that a file may be written.

    Raises:
      UserError: the suffix is wrong, or the file exists and may not be replaced.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"--out must end in {SUFFIX}, not {path.name}")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; name another --out, or replace it with --overwrite")


def read_header(path: Path) -> dict[str, Any]:
    """The header that `write_network` was given for a generator.

    Raises:
      UserError: no such file, a damaged one, or one of another kind.
    """
    return _read(path, "generator")[0]


def read_generator(path: Path, target: Any) -> Any:
    """The generator that `write_network` was given, in float32 and on the target's devices.

    Args:
      path: the file.
      target: abstract item: `jax.ShapeDtypeStruct` leaves with shardings.

    Raises:
      UserError: as `read_header`, or names or shapes are not those of the target.
    """
    tensors = _read_intact(path, "generator")[1]
    expected = named_leaves(target)
    problem = _difference(
        {name: tensor.shape for name, tensor in tensors.items()},
        {name: leaf.shape for name, leaf in expected.items()},
    )
    if problem:
        raise UserError(f"{path} does not fit the model of its config: {problem}")
    return jax.tree.unflatten(
        jax.tree.structure(target),
        [
            jax.device_put(tensors[name].astype(np.float32), leaf.sharding)
            for name, leaf in expected.items()
        ],
    )


def read_params(
    path: Path, kind: Kind = "generator"
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header, and the parameters by path, float32, whatever model they are of.

    Raises:
      UserError: no such file, a damaged one, or one of another kind.
    """
    header, tensors = _read_intact(path, kind)
    prefix = "params/"
    return header, {
        name.removeprefix(prefix): tensor.astype(np.float32)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def read_discriminator(path: Path, header: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The discriminator's parameters by path, float32; None where none was exported.

    Args:
      path: the generator's file.
      header: of that file.

    Raises:
      UserError: it is damaged, or of another run or moment than the generator.
    """
    beside = discriminator_file(path)
    if not beside.exists():
        return None
    about, tensors = read_params(beside, "discriminator")
    if any(about.get(key) != header.get(key) for key in ("config", "step")):
        raise UserError(
            f"{beside} is not of the same checkpoint as {path.name}: export both again with "
            "--discriminator, or remove it"
        )
    return tensors


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, "block0/conv0/kernel", in the order of the tree."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def _read_intact(path: Path, kind: Kind) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    header, tensors = _read(path, kind)
    about = header.get("crc32_about")  # absent in files of earlier versions
    named_right = about is None or about == _checksum_about(header, tensors)
    if _checksum(tensors) != header.get("crc32") or not named_right:
        raise UserError(f"{path} is damaged: its checksum differs; copy it again")
    return header, tensors


def _read(path: Path, kind: Kind) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            text = metadata.get(f"flaxgan_{kind}")
            names = file.keys() if text else []
            tensors = {name: file.get_tensor(name) for name in names}
        header = json.loads(text or "{}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, or no safetensors file: {error}") from error
    if kind == "generator" and "flaxgan_discriminator" in metadata:
        raise UserError(f"{path} holds a discriminator: name the generator's file beside it")
    if not isinstance(header, dict) or "config" not in header:
        raise UserError(f"{path} holds no {kind}: make one with flaxgan export")
    return header, tensors


def _cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise UserError(f"{name} is not finite: training diverged; export an earlier checkpoint")
    with np.errstate(over="ignore"):
        cast = np.array(array, DTYPES[dtype], order="C")
    if not np.isfinite(cast.astype(np.float32)).all():
        raise UserError(f"{name} is too large for {dtype}: use --dtype {_WIDER[dtype]}")
    return cast


def _checksum(tensors: Mapping[str, np.ndarray]) -> int:
    """CRC-32 of all values as they are stored, in the order of their names."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].tobytes(), crc)
    return crc


def _checksum_about(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> int:
    """CRC-32 of what the values mean: the header, and names, dtypes and shapes."""
    fields = {name: value for name, value in header.items() if not name.startswith("crc32")}
    shapes = {name: [str(x.dtype), list(x.shape)] for name, x in tensors.items()}
    return zlib.crc32(json.dumps([fields, shapes], sort_keys=True).encode())


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """The first difference, in words; None: there is none."""
    for name in sorted({*found, *expected}):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"the model has no {name}"
        if found[name] != expected[name]:
            return f"{name} is {list(found[name])}, not {list(expected[name])}"
    return None
