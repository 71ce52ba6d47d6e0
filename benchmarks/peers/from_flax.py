"""Parameters of flaxgan's networks to state dicts of their peers."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def state_dict(params: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A nested dict of arrays by flaxgan's names to tensors by PyTorch's.

    Kernels become `[outputs, inputs, …]`, scales become weights, and query, key and value of an
    encoder's self-attention become one layer, `qkv`.
    """
    found: dict[str, torch.Tensor] = {}
    fused: dict[str, dict[str, torch.Tensor]] = {}
    for path, array in leaves(params):
        *parents, last = path
        tensor, name = _tensor(np.asarray(array, np.float32), last, parents)
        match = re.fullmatch(r"(.*attention\d)\.(query|key|value)", ".".join(parents))
        if match:
            fused.setdefault(f"{match[1]}.qkv.{name}", {})[match[2]] = tensor
        else:
            found[".".join([*parents, name])] = tensor
    for key, parts in fused.items():
        found[key] = torch.cat([parts[name] for name in ("query", "key", "value")])
    return found


def leaves(params: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """(path, array) of each leaf."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _tensor(array: np.ndarray, name: str, parents: list[str]) -> tuple[torch.Tensor, str]:
    """One array as PyTorch has it, and its name there."""
    tensor = torch.from_numpy(array.copy())
    if name == "scale":
        return tensor, "weight"
    if name == "bias":
        return tensor.reshape(-1), "bias"
    if name != "kernel":
        return tensor, name
    if tensor.ndim == 4:  # [kh, kw, in, out]
        return tensor.permute(3, 2, 0, 1).contiguous(), "weight"
    if tensor.ndim == 3:  # of heads: [in, heads, d], or the output's [heads, d, out]
        inputs = -1 if parents[-1] == "out" else len(tensor)
        tensor = tensor.reshape(inputs, tensor.shape[-1] if inputs == -1 else -1)
    return tensor.T.contiguous(), "weight"
