"""Reading one checkpoint and proving that it is intact.

Every leaf is compared with the digest saved beside it: Orbax restores a flipped bit silently.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxgan.errors import UserError, first_line
from flaxgan.saving.digests import digests
from flaxgan.saving.event_loop import ignore_late_callbacks
from flaxgan.saving.meta import read_meta
from flaxgan.training import processes

# zeros compress well, but few parameters are zeros
MOST_COMPRESSED, LEAST_REFUSED = 100, 2**28
NETWORKS = ("g_params", "d_params", "ema_params", "ema_slow_params")  # fields of TrainState


def restore_item(folder: Path, item: str, target: Any) -> tuple[Any, dict[str, Any]]:
    """Restores one item of a checkpoint, and its meta.

    Args:
      folder: one checkpoint, `…/checkpoints/<step>`.
      item: "state", "ema" or "ema_slow".
      target: abstract item: `jax.ShapeDtypeStruct` leaves with shardings.

    Raises:
      UserError: the checkpoint is broken, or belongs to another model.
    """

    def read(path: Path) -> Any:
        # not by a Checkpointer: one that fails leaves the other processes in its barrier
        _check_claims(path, target)  # the target can be of a config that came with the checkpoint
        handler = ocp.StandardCheckpointHandler()
        with contextlib.closing(handler):
            return handler.restore(path, args=ocp.args.StandardRestore(target))

    return _read_intact(folder, item, read)


def restore_ema(folder: Path, target: Any, item: str = "ema") -> tuple[Any, dict[str, Any]]:
    """Restores an averaged generator alone: `{"params": …, "text_stats": …}` and the meta.

    Args:
      folder: one checkpoint, `…/checkpoints/<step>`.
      target: abstract item (`jax.ShapeDtypeStruct` leaves), see `ema_target`.
      item: "ema", or "ema_slow" for the second average.

    Raises:
      UserError: the checkpoint is broken, belongs to another model, or has no second average.
    """
    if item == "ema_slow" and not (folder / item).is_dir():
        raise UserError(
            f"checkpoint {folder} has no second average: train with --train.ema-slow-halflife-kimg"
        )
    return restore_item(folder, item, target)


def ema_target(params: Any, text_stats: Any) -> dict[str, Any]:
    """The form of the `ema` and `ema_slow` items, for `restore_ema`."""
    return {"params": params, "text_stats": text_stats}


def restore_networks(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Restores all parameters without knowing the model or the optimiser, and the meta.

    Args:
      folder: one checkpoint, `…/checkpoints/<step>`.

    Returns:
      NumPy trees by the names in NETWORKS, without what the state does not have; the meta.

    Raises:
      UserError: the checkpoint is broken.
    """

    def read(path: Path) -> dict[str, Any]:
        tree = ocp.PyTreeCheckpointHandler().metadata(path).tree
        target = {name: tree[name] for name in NETWORKS if tree.get(name) is not None}
        _check_claims(path, target)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        args = ocp.args.PyTreeRestore(target, restore_args=as_numpy, partial_restore=True)
        with ocp.PyTreeCheckpointer() as reader:
            return reader.restore(path, args)

    return _read_intact(folder, "state", read)


def _read_intact(
    folder: Path, item: str, read: Callable[[Path], Any]
) -> tuple[Any, dict[str, Any]]:
    """What `read` makes of an item's folder, checked against its digests; and the meta."""
    with processes.together():
        meta = read_meta(folder)
        try:
            with ignore_late_callbacks():
                restored = read((folder / item).absolute())
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
            raise UserError(f"checkpoint {folder} is not intact: {first_line(error)}") from error
    expected, actual = meta["digests"].get(item, {}), digests(restored)
    broken = [name for name in actual if expected.get(name) != actual[name]]
    if broken:
        raise UserError(f"checkpoint {folder} is not intact: digest differs in {broken[0]}")
    return restored, meta


def _check_claims(folder: Path, tree: Any) -> None:
    """Refuses arrays that claim to be far larger than the files that hold them.

    They would be allocated before anything is read, and chunks that are missing count as zeros.

    Args:
      folder: of the item.
      tree: abstract arrays, or what Orbax says about each array.

    Raises:
      ValueError: with both sizes.
    """
    claimed = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if claimed > MOST_COMPRESSED * there + LEAST_REFUSED:
        raise ValueError(f"its arrays claim {claimed:,} bytes, its files hold {there:,}")
