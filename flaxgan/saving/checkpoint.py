"""Checkpoints with Orbax: train state, position and config; the averaged generators as items of
their own.

Every leaf's digest is stored beside it, because a flipped bit on disk restores silently otherwise.
A checkpoint that cannot be read, or whose digests differ, is named and passed over for the one
before it. With several processes all of them save and restore at the same steps, in one folder
that all see; process 0 alone renames and reports.
"""

import contextlib
import errno
import json
import logging
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from flaxgan.errors import UserError, first_line
from flaxgan.saving.digests import digests
from flaxgan.saving.orbax_loop import drop_late_answers
from flaxgan.training import processes
from flaxgan.training.state import TrainState

Report = Callable[[str], None]
FORMAT = 2  # of what `meta` and `state` hold
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
        logging.getLogger("absl").addFilter(_not_of_orbax)
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(drop_late_answers())
        self._folder, self._report = folder.absolute(), report
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
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics.get(best_metric, worst),  # without, none are kept
            best_mode="min" if lower_is_better else "max",
            cleanup_tmp_directories=True,
            # in a thread, it fails after five minutes of waiting only
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        self._broken = 0
        with processes.together():
            if processes.is_first():
                self._broken = _set_aside_unreadable(folder, report)
        with processes.together():
            try:
                self._manager = self._open()
            except OSError as error:
                raise UserError(
                    f"cannot write checkpoints to {folder}: {error.strerror}"
                ) from error
            except Exception as error:  # Orbax raises many kinds for files of another form
                reason = first_line(error)
                raise UserError(f"checkpoints in {folder} cannot be opened: {reason}") from error
        self._broken = processes.largest([self._broken])[0]

    def _open(self) -> ocp.CheckpointManager:
        try:
            return ocp.CheckpointManager(self._folder, options=self._options)
        except (ValueError, TypeError, AttributeError):  # of what a step says about itself
            if processes.count() > 1:
                raise
            self._broken += _set_aside_undescribed(self._folder, self._report)
            return ocp.CheckpointManager(self._folder, options=self._options)

    def save(self, state: TrainState, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing the state; returns once it is safe to donate it.

        A save that fails, on a full disk for example, is reported and leaves what was there.

        Args:
          state: the train state; `state.step` names the checkpoint.
          meta: JSON-able: config, position in the data.
          metrics: of this state; non-finite ones are left out.
        """
        copied = _copy(state)
        averaged = _ema_items(copied)
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        meta = {
            **meta,
            "format": FORMAT,
            "metrics": finite,
            "digests": {
                "state": digests(copied),
                **{name: digests(item) for name, item in averaged.items()},
            },
        }
        meta["crc32"] = _crc32(meta)
        self.wait()
        try:
            self._manager.save(
                int(copied.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(copied),
                    **{name: ocp.args.StandardSave(item) for name, item in averaged.items()},
                    meta=ocp.args.JsonSave(meta),
                ),
                metrics=finite if self._best_metric in finite else None,
            )
        except Exception as error:  # Orbax and TensorStore raise many kinds for a disk that is full
            self._failed(error)

    def wait(self) -> bool:
        """Blocks until everything is on disk; whether it is."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:  # as in save
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        """Reports a save that did not succeed, and leaves nothing of it behind.

        Raises:
          UserError: with several processes, as the others wait for this one's part.
        """
        if processes.count() > 1:
            raise UserError(
                f"a checkpoint could not be written to {self._folder}: {_cause(error)}; mend that, "
                "and run the same command again in all processes"
            )
        kept = find_steps(self._folder)
        newest = f"the newest is of step {kept[-1]}" if kept else "there is none yet"
        self._report(
            f"warning: a checkpoint could not be written to {self._folder}: {_cause(error)}; "
            f"{newest}; training goes on, and the next save tries again"
        )
        with contextlib.suppress(Exception):
            self._manager.close()  # raises the same error again
        with contextlib.suppress(OSError):
            self._manager = self._open()  # which removes what is unfinished

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
            folder = self._folder / str(step)
            try:
                return _restore(folder, "state", target)
            except _OtherFormat:
                raise
            except UserError as error:
                with processes.together():
                    if processes.is_first():
                        aside = _set_aside(folder)
                        self._report(f"{error}; moved to {aside.name}, trying the one before it")
                self._manager.reload()  # a step that it still knew would refuse to be saved again
        if steps or self._broken:
            raise UserError(
                f"no intact checkpoint in {self._folder}; the broken ones are kept as "
                "broken-<step>; run the same command again to start anew"
            )
        return None

    def drop_after_good(self) -> None:
        """Removes checkpoints that are newer than the last one saved after a good update."""
        for step in reversed(self.steps()):
            with contextlib.suppress(UserError):  # restore_newest sets it aside
                if not read_meta(self._folder / str(step)).get("skipped_in_row"):
                    return
                self._manager.delete(step)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are kept, ascending."""
        return sorted(self._manager.all_steps())

    def close(self) -> None:
        """Waits for the last save and releases the folder."""
        self.wait()
        self._manager.close()
        self._quiet.close()


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Keeps Orbax out of the log: what matters comes as an exception too, often with less text."""
    return not (record.levelno >= logging.WARNING and "orbax" in record.pathname)


class _OtherFormat(UserError):
    """Not broken, but of another version."""


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON item of one checkpoint folder.

    Raises:
      UserError: not a checkpoint, or unreadable.
    """
    path = folder / "meta" / "metadata"
    try:
        meta = _read_object(path)
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {folder} is not intact: {error}") from error
    if "crc32" in meta and meta["crc32"] != _crc32(meta):
        raise UserError(f"checkpoint {folder} is not intact: checksum differs in {path.name}")
    if meta.get("format") != FORMAT:
        raise _OtherFormat(
            f"checkpoint {folder} was written by another version of flaxgan: go on with that "
            "version, or export its networks there (flaxgan export) and --init-from the file"
        )
    return meta


def _crc32(meta: dict[str, Any]) -> int:
    """Of all that it says, but for the checksum."""
    said = {name: value for name, value in meta.items() if name != "crc32"}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


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


def find_steps(root: Path) -> list[int]:
    """Steps of the finished checkpoints in a `checkpoints` folder, ascending."""
    folders = (p for p in root.glob("*") if p.name.isdecimal())
    return sorted(int(p.name) for p in folders if (p / "meta").is_dir())


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
    steps = find_steps(root)
    if not steps:
        raise UserError(f"no checkpoint in {path}; train one with train.py, or name another folder")
    return [root / str(step) for step in reversed(steps)]


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
            reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
            with reader, drop_late_answers():
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


def _copy(state: TrainState) -> TrainState:
    """The state in memory of its own: the next step reuses that of its arrays while they are saved.

    What is whole on a device comes to the host; what is spread stays where it is, as no host may
    have all of it.
    """
    spread = [x for x in jax.tree.leaves(state) if not x.is_fully_replicated]
    copies = iter(jax.jit(lambda xs: [jnp.copy(x) for x in xs])(spread))
    return jax.tree.map(lambda x: np.array(x) if x.is_fully_replicated else next(copies), state)


def _ema_items(state: TrainState) -> dict[str, Any]:
    items = {"ema": ema_target(state.ema_params, state.text_stats)}
    if state.ema_slow_params is not None:
        items["ema_slow"] = ema_target(state.ema_slow_params, state.text_stats)
    return items


def _restore(folder: Path, item: str, target: Any) -> tuple[Any, dict[str, Any]]:
    def read(path: Path) -> Any:
        # not by a Checkpointer: one that fails leaves the other processes in its barrier
        _check_claims(path, target)  # the target can be of a config that came with the checkpoint
        handler = ocp.StandardCheckpointHandler()
        with contextlib.closing(handler):
            return handler.restore(path, args=ocp.args.StandardRestore(target))

    return _read_intact(folder, item, read)


def _read_intact(
    folder: Path, item: str, read: Callable[[Path], Any]
) -> tuple[Any, dict[str, Any]]:
    with processes.together():
        meta = read_meta(folder)
        try:
            with drop_late_answers():
                restored = read((folder / item).absolute())
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
            raise UserError(f"checkpoint {folder} is not intact: {first_line(error)}") from error
    expected, actual = meta["digests"].get(item, {}), digests(restored)
    broken = [name for name in actual if expected.get(name) != actual[name]]
    if broken:
        raise UserError(f"checkpoint {folder} is not intact: digest differs in {broken[0]}")
    return restored, meta


def _cause(error: Exception) -> str:
    """The operating system's words in what Orbax and TensorStore say, or their first line."""
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO):
        if os.strerror(number) in text:
            return os.strerror(number)
    return first_line(error)
