"""Weights of the judges that come with the package: a safetensors file with a header of facts."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import safetensors


class JudgeFile(NamedTuple):
    """What such a file holds.

    Attributes:
      header: what the tool that wrote it says of it.
      params: tree of arrays.
      sha256: of the file.
    """

    header: dict[str, Any]
    params: dict[str, Any]
    sha256: str


def read_judge(path: Path) -> JudgeFile:
    """Reads a file that `tools/train_*_net.py` or `tools/train_emoji_matcher.py` wrote."""
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["flaxgan"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    params = flax.traverse_util.unflatten_dict(tensors, sep="/")
    return JudgeFile(header, params, hashlib.sha256(path.read_bytes()).hexdigest())
