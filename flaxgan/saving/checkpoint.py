"""The checkpoints of a run, written with Orbax: saved after a step, restored from the newest.

Item `state` is the train state, `ema` and `ema_slow` are the averaged generators, and `meta` holds
the config and the position in the data. A checkpoint that proves broken is reported, renamed and
passed over for the one before it. With several processes all of them save and restore at the same
steps, in one folder that all see; process 0 alone renames and reports.
"""

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from flaxgan.errors import UserError, first_line
from flaxgan.saving.digests import digests
from flaxgan.saving.event_loop import ignore_late_callbacks
from flaxgan.saving.finding import Report, find_steps
from flaxgan.saving.meta import OtherFormat, read_meta, stamped
from flaxgan.saving.quarantine import (
    quarantine,
    quarantine_unreadable_json,
    quarantine_unreadable_metadata,
)
from flaxgan.saving.restore import ema_target, restore_item
from flaxgan.training import processes
from flaxgan.training.state import TrainState


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
          best_metric: name of the metric by which one checkpoint is the best and is kept.
          lower_is_better: whether lower values of it are better.
          report: called with one line for each broken checkpoint that is passed over.

        Raises:
          UserError: the folder cannot be made.
        """
        if keep_last < 1:
            raise UserError(f"train.keep_last must be >= 1, not {keep_last}")
        logging.getLogger("absl").addFilter(_drop_orbax)
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(ignore_late_callbacks())
        self._folder, self._report = folder.absolute(), report
        self._best_metric = best_metric
        self._options = _manager_options(keep_last, best_metric, lower_is_better)
        self._broken = 0
        with processes.together():
            if processes.is_first():
                self._broken = quarantine_unreadable_json(folder, report)
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
        except (ValueError, TypeError, AttributeError):  # a step's own metadata is damaged
            if processes.count() > 1:
                raise
            self._broken += quarantine_unreadable_metadata(self._folder, self._report)
            return ocp.CheckpointManager(self._folder, options=self._options)

    def save(self, state: TrainState, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing the state; returns once it is safe to donate it.

        A save that fails, for example on a full disk, is reported and leaves older ones alone.

        Args:
          state: the train state; `state.step` names the checkpoint.
          meta: JSON-able: config, position in the data.
          metrics: of this state; non-finite ones are left out.
        """
        copied = _copy(state)
        averaged = _ema_items(copied)
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        items = {"state": copied, **averaged}
        meta = stamped(
            {
                **meta,
                "metrics": finite,
                "digests": {name: digests(item) for name, item in items.items()},
            }
        )
        self.wait()
        try:
            self._manager.save(
                int(copied.step),
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(item) for name, item in items.items()},
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
                f"a checkpoint could not be written to {self._folder}: {_cause(error)}; fix that, "
                "and run the same command again in all processes"
            )
        kept = find_steps(self._folder)
        newest = f"the newest is of step {kept[-1]}" if kept else "there is none yet"
        self._report(
            f"warning: a checkpoint could not be written to {self._folder}: {_cause(error)}; "
            f"{newest}; training continues, and the next save tries again"
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
                return restore_item(folder, "state", target)
            except OtherFormat:
                raise
            except UserError as error:
                with processes.together():
                    if processes.is_first():
                        aside = quarantine(folder)
                        self._report(f"{error}; moved to {aside.name}, trying the one before it")
                self._manager.reload()  # a step that it still knew would refuse to be saved again
        if steps or self._broken:
            raise UserError(
                f"no intact checkpoint in {self._folder}; the broken ones are kept as "
                "broken-<step>; run the same command again to start again"
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


def _manager_options(
    keep_last: int, best_metric: str, lower_is_better: bool
) -> ocp.CheckpointManagerOptions:
    """Keeps the newest checkpoints and the best; those without the metric are never the best."""
    worst = np.inf if lower_is_better else -np.inf

    def metric(metrics: dict[str, float]) -> float:
        return metrics.get(best_metric, worst)

    return ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep_last),
                checkpoint_managers.BestN(
                    get_metric_fn=metric,
                    reverse=lower_is_better,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        ),
        best_fn=metric,  # without it, no metrics are stored
        best_mode="min" if lower_is_better else "max",
        cleanup_tmp_directories=True,
        # in a thread, a failure would show only after five minutes
        async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    )


def _drop_orbax(record: logging.LogRecord) -> bool:
    """Drops the log lines of Orbax: whatever matters also arrives as an exception."""
    return not (record.levelno >= logging.WARNING and "orbax" in record.pathname)


def _copy(state: TrainState) -> TrainState:
    """A copy: the next step reuses the memory of the state's arrays while they are being saved.

    Replicated arrays are copied to the host. Sharded ones are copied on their devices, as no host
    may hold all of them.
    """
    spread = [x for x in jax.tree.leaves(state) if not x.is_fully_replicated]
    copies = iter(jax.jit(lambda xs: [jnp.copy(x) for x in xs])(spread))
    return jax.tree.map(lambda x: np.array(x) if x.is_fully_replicated else next(copies), state)


def _ema_items(state: TrainState) -> dict[str, Any]:
    items = {"ema": ema_target(state.ema_params, state.text_stats)}
    if state.ema_slow_params is not None:
        items["ema_slow"] = ema_target(state.ema_slow_params, state.text_stats)
    return items


def _cause(error: Exception) -> str:
    """The operating system's error in a message of Orbax or TensorStore; else the first line."""
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO):
        if os.strerror(number) in text:
            return os.strerror(number)
    return first_line(error)
