"""Checkpoints with Orbax: train state, position and config; the averaged generators as items of
their own.

Every leaf's CRC-32 is stored beside it, because a flipped bit on disk restores silently otherwise.
A checkpoint that cannot be read, or whose checksums differ, is named and passed over for the one
before it.
"""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from flaxgan.errors import UserError, first_line
from flaxgan.generator_file import named_leaves
from flaxgan.late_answers import drop_late_answers
from flaxgan.state import TrainState

Report = Callable[[str], None]
Result = TypeVar("Result")
# zeros compress well, but most parameters are no zeros
MOST_COMPRESSED, LEAST_REFUSED = 100, 2**28
NETWORKS = ("g_params", "d_params", "ema_params", "ema_slow_params")  # fields of TrainState


class Checkpoints:
    """The checkpoints of one run, in `<folder>/<step>/`: items `state`, `ema` and `meta`."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        best_metric: str = "fd_pixels8",
        lower_is_better: bool = True,
        report: Report = print,
    ):
        """Opens or makes the folder.

        Args:
          folder: of all checkpoints of the run.
          keep_last: newest checkpoints kept, besides the best.
          best_metric: what makes a checkpoint the best; those without it never are.
          lower_is_better: of two values of it.
          report: called with one line for each broken checkpoint that is passed over.

        Raises:
          UserError: the folder cannot be made.
        """
        if keep_last < 1:
            raise UserError(f"train.keep_last must be >= 1, not {keep_last}")
        self._report = report
        self._broken = _set_aside_unreadable(folder, report)
        self._best_metric = best_metric
        worst = np.inf if lower_is_better else -np.inf
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep_last),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics.get(best_metric, worst),
                    reverse=lower_is_better,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics.get(best_metric, worst),  # without, none are kept
            best_mode="min" if lower_is_better else "max",
            cleanup_tmp_directories=True,
        )
        try:
            try:
                self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
            except (ValueError, TypeError, AttributeError):  # of what a step says about itself
                self._broken += _set_aside_undescribed(folder, report)
                self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        except OSError as error:
            raise UserError(f"cannot write checkpoints to {folder}: {error.strerror}") from error
        except Exception as error:  # Orbax raises many kinds for files of another form
            reason = first_line(error)
            raise UserError(f"checkpoints in {folder} cannot be opened: {reason}") from error

    def save(self, state: TrainState, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing the state; returns once it is safe to donate it.

        Args:
          state: the train state; `state.step` names the checkpoint.
          meta: JSON-able: config, position in the data.
          metrics: of this state; non-finite ones are left out.
        """
        # copies: on CPU the state's buffers are reused by the next step
        host_state = jax.tree.map(lambda x: np.array(x), state)
        averaged = _ema_items(host_state)
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        meta = {
            **meta,
            "metrics": finite,
            "crc32": {
                "state": _checksums(host_state),
                **{name: _checksums(item) for name, item in averaged.items()},
            },
        }
        self._manager.save(
            int(host_state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(host_state),
                **{name: ocp.args.StandardSave(item) for name, item in averaged.items()},
                meta=ocp.args.JsonSave(meta),
            ),
            metrics=finite if self._best_metric in finite else None,
        )

    def restore_newest(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Restores the newest intact checkpoint.

        Args:
          target: abstract state (`jax.ShapeDtypeStruct` leaves with shardings).

        Returns:
          The state and the meta; None when there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, and none of them is intact. Broken ones are renamed to
            `broken-<step>`, so that nothing is lost.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            folder = Path(self._manager.directory) / str(step)
            try:
                return _restore(folder, "state", target)
            except UserError as error:
                aside = _set_aside(folder)
                self._manager.reload()  # a step that it still knew would refuse to be saved again
                self._report(f"{error}; moved to {aside.name}, trying the one before it")
        if steps or self._broken:
            raise UserError(
                f"no intact checkpoint in {self._manager.directory}; the broken ones are kept as "
                "broken-<step>; run the same command again to start anew"
            )
        return None

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are kept, ascending."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON item of one checkpoint folder.

    Raises:
      UserError: not a checkpoint, or unreadable.
    """
    path = folder / "meta" / "metadata"
    try:
        return _read_object(path)
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {folder} is not intact: {error}") from error


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
    return _restore(folder, item, target)


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


def newest_intact(path: Path, read: Callable[[Path], Result], report: Report) -> Result:
    """What is read from the newest checkpoint that can be read.

    Args:
      path: see `find_checkpoints`.
      read: makes the result of one checkpoint's folder; a UserError says that it is broken.
      report: called with one line for each broken checkpoint that is passed over.

    Raises:
      UserError: no checkpoint, or none intact.
    """
    folders = find_checkpoints(path)
    for folder in folders[:-1]:
        try:
            return read(folder)
        except UserError as error:
            report(f"{error}; using the one before it")
    return read(folders[-1])


def ema_target(params: Any, text_stats: Any) -> dict[str, Any]:
    """The form of the `ema` and `ema_slow` items, for `restore_ema`."""
    return {"params": params, "text_stats": text_stats}


def find_checkpoints(path: Path) -> list[Path]:
    """Checkpoint folders below a path, newest first.

    Args:
      path: a workdir, its `checkpoints` folder, or one checkpoint.

    Raises:
      UserError: nothing of the kind is there.
    """
    if (path / "meta").is_dir():
        return [path]
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = [p for p in root.glob("*") if p.name.isdecimal() and (p / "meta").is_dir()]
    if not steps:
        raise UserError(f"no checkpoint in {path}; train one with train.py, or name another folder")
    return sorted(steps, key=lambda p: int(p.name), reverse=True)


def _set_aside_unreadable(folder: Path, report: Report) -> int:
    """Renames checkpoints whose JSON cannot be read, as Orbax would not open the others then.

    Returns:
      How many there were.
    """
    count = 0
    for step in sorted(p for p in folder.glob("*") if p.name.isdecimal()):
        for path in (step / "meta" / "metadata", step / "metrics" / "metrics"):
            try:
                if path.exists():
                    _read_object(path)
            except (OSError, ValueError) as error:
                aside = _set_aside(step)
                report(
                    f"checkpoint {step} is not intact: {path.name}: {error}; moved to {aside.name}"
                )
                count += 1
                break
    return count


def _set_aside_undescribed(folder: Path, report: Report) -> int:
    """Renames checkpoints whose Orbax metadata cannot be read.

    Returns:
      How many there were.
    """
    count = 0
    for step in sorted(p for p in folder.glob("*") if p.name.isdecimal() and p.is_dir()):
        try:
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
                reader.metadata(step.absolute())
        except Exception as error:  # Orbax raises many kinds for files of another form
            aside = _set_aside(step)
            report(f"checkpoint {step} is not intact: {first_line(error)}; moved to {aside.name}")
            count += 1
    return count


def _check_claims(folder: Path, tree: Any) -> None:
    """Raises ValueError where arrays claim to be far larger than the files that hold them.

    They would be allocated first: chunks that are missing are zeros, of any number.

    Args:
      folder: of the item.
      tree: of what Orbax says about each array, or of abstract arrays.
    """
    claimed = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if claimed > MOST_COMPRESSED * there + LEAST_REFUSED:
        raise ValueError(f"its arrays claim {claimed:,} bytes, its files hold {there:,}")


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; OSError or ValueError where the file holds none."""
    try:
        value = json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _set_aside(folder: Path) -> Path:
    """Renames `<step>` to `broken-<step>`, with a number where that is taken."""
    aside = folder.with_name(f"broken-{folder.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"broken-{folder.name}-{number}")
    folder.rename(aside)
    return aside


def _ema_items(state: TrainState) -> dict[str, Any]:
    items = {"ema": ema_target(state.ema_params, state.text_stats)}
    if state.ema_slow_params is not None:
        items["ema_slow"] = ema_target(state.ema_slow_params, state.text_stats)
    return items


def _restore(folder: Path, item: str, target: Any) -> tuple[Any, dict[str, Any]]:
    def read(path: Path) -> Any:
        _check_claims(path, target)  # the target can be of a config that came with the checkpoint
        with ocp.StandardCheckpointer() as reader:
            return reader.restore(path, target)

    return _read_intact(folder, item, read)


def _read_intact(
    folder: Path, item: str, read: Callable[[Path], Any]
) -> tuple[Any, dict[str, Any]]:
    meta = read_meta(folder)
    try:
        with drop_late_answers():
            restored = read((folder / item).absolute())
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
        reason = first_line(error)
        raise UserError(f"checkpoint {folder} is not intact: {reason}") from error
    stored = meta.get("crc32")
    expected = stored.get(item) if isinstance(stored, dict) else None
    expected = expected if isinstance(expected, dict) else {}
    actual = _checksums(restored)
    broken = [name for name in actual if expected.get(name) != actual[name]]
    if broken:
        raise UserError(f"checkpoint {folder} is not intact: checksum differs in {broken[0]}")
    return restored, meta


def _checksums(tree: Any) -> dict[str, int]:
    return {
        name: zlib.crc32(np.ascontiguousarray(leaf).tobytes())
        for name, leaf in named_leaves(tree).items()
    }
