"""Models in the format of Hugging Face: a folder or a name of the hub, config.json and tensors."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flaxgan.errors import UserError

WEIGHTS = "model.safetensors"
# owner/name, and after an @ the branch, tag or commit
HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")


def hf_folder(name_or_path: str, files: Sequence[str], optional: Sequence[str] = ()) -> Path:
    """The folder that holds a model's files.

    Args:
      name_or_path: a folder, or "owner/name" or "owner/name@revision" on the hub, whose files are
        downloaded once by the package huggingface_hub.
      files: that must be there.
      optional: downloaded where they exist.

    Raises:
      UserError: no such folder, a file is missing, or the hub cannot be asked.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        hub_name = HUB_NAME.fullmatch(name_or_path)
        if hub_name is None:
            raise UserError(f"{name_or_path} is neither a folder nor a name like owner/model")
        folder = _download(name_or_path, *hub_name.groups(), [*files, *optional])
    for name in files:
        if not (folder / name).is_file():
            advice = ": save the model again with transformers' save_pretrained, in one file"
            raise UserError(f"{name_or_path} has no {name}" + advice * (name == WEIGHTS))
    return folder


def _download(whole: str, name: str, revision: str | None, files: Sequence[str]) -> Path:
    """Those of the files that the hub has."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"no folder {whole}; to download it: pip install huggingface_hub"
        ) from error
    try:
        return Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(files))
        )
    except Exception as error:  # several HTTP libraries' own, depending on the version
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"no folder {whole}, and it cannot be downloaded: download it elsewhere and name its "
            f"folder ({reason})"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: it is not one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object")
    return value


def positive(config: Mapping[str, Any], path: Path, *names: str) -> list[int]:
    """Values of a config that must be positive integers.

    Raises:
      UserError: one is missing or something else.
    """
    for name in names:
        value = config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{path}: {name} must be a positive integer, not {value!r}")
    return [config[name] for name in names]


class Weights:
    """The tensors of a model.safetensors, as parameters of Linen modules in float32.

    Attributes:
      path: of the file.
      sha256: of the file.
    """

    def __init__(self, folder: Path):
        """Reads the file.

        Raises:
          UserError: safetensors is not installed, or cannot read it.
        """
        try:
            import safetensors.numpy
        except ImportError as error:
            raise UserError(f"to read {folder}: pip install safetensors") from error
        self.path = folder / WEIGHTS
        with self.path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            self._tensors = safetensors.numpy.load_file(self.path)
        # older versions know no bfloat16 and fail by looking it up
        except (safetensors.SafetensorError, TypeError, AttributeError, KeyError) as error:
            raise UserError(f"{self.path} cannot be read: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor in float32.

        Raises:
          UserError: there is none of that name.
        """
        if name not in self._tensors:
            raise UserError(f"{self.path} has no tensor {name}: it belongs to another model")
        return np.asarray(self._tensors[name], np.float32)

    def dense(self, *names: str, bias: bool = True) -> dict[str, np.ndarray]:
        """`nn.Dense` of one linear layer, or of several side by side."""
        params = {"kernel": np.concatenate([self[f"{name}.weight"].T for name in names], axis=-1)}
        if bias:
            params["bias"] = np.concatenate([self[f"{name}.bias"] for name in names])
        return params

    def conv(self, name: str, bias: bool = True) -> dict[str, np.ndarray]:
        """`nn.Conv` of a two-dimensional convolution."""
        weight = self[f"{name}.weight"]
        if weight.ndim != 4:
            raise UserError(f"{self.path}: {name}.weight has shape {weight.shape}, not four axes")
        params = {"kernel": weight.transpose(2, 3, 1, 0)}
        return params | {"bias": self[f"{name}.bias"]} if bias else params

    def norm(self, name: str) -> dict[str, np.ndarray]:
        """`nn.LayerNorm`."""
        return {"scale": self[f"{name}.weight"], "bias": self[f"{name}.bias"]}

    def check(self, module: nn.Module, params: Any, *inputs: jax.ShapeDtypeStruct) -> None:
        """Compares shapes with what the module expects for such inputs.

        Raises:
          UserError: a shape differs: config.json belongs to another model.
        """
        expected = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        found = jax.tree.map(np.shape, params)
        for at, leaf in jax.tree.leaves_with_path(expected):
            shape = found
            for key in at:
                shape = shape[key.key]
            if shape != leaf.shape:
                name = "/".join(key.key for key in at)
                raise UserError(
                    f"{self.path}: {name} has shape {shape}, config.json says {leaf.shape}"
                )
