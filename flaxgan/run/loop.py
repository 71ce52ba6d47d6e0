"""The training loop: evaluate -> save -> next batch -> step -> log, in that order.

The order is what makes a resumed run equal to an uninterrupted one: a checkpoint holds the state
before a batch, and the batch is a function of the step alone. With several processes each runs
the same loop on its own devices: all decide alike, and the first one writes.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxgan.config import Config, to_json
from flaxgan.data import CaptionedImages
from flaxgan.drawing.drawer import Drawer
from flaxgan.errors import UserError, first_line
from flaxgan.evaluate.evaluator import lower_is_better
from flaxgan.run.auto_settings import settle
from flaxgan.run.experiment import Experiment, build_experiment, new_state
from flaxgan.run.interrupt import catch_signals
from flaxgan.run.metric_writer import MetricWriter, NoWriter
from flaxgan.run.previews import SampleGrid
from flaxgan.run.rollback import Rollbacks
from flaxgan.run.scoring import TrainingScores
from flaxgan.run.stall_alarm import InputTimer, StallAlarm
from flaxgan.run.transfer import find_source, start_from
from flaxgan.run.watchdogs import Watchdogs, resident_memory_mb
from flaxgan.saving.checkpoint import Checkpoints
from flaxgan.saving.workdir import lock_workdir, prepare_workdir
from flaxgan.text.conditioning import TextStats
from flaxgan.training import parallel, processes
from flaxgan.training.state import Batch, TrainState


def train(config: Config, workdir: Path) -> int | None:
    """Trains, or goes on training, in a workdir.

    Args:
      config: the experiment.
      workdir: holds config.json, metrics.jsonl, TensorBoard events, grids/ and checkpoints/; of
        several processes all see the same.

    Returns:
      None when training is complete; the signal's number when SIGINT or SIGTERM ended it early,
      with everything saved.

    Raises:
      UserError: a wrong config, a workdir of another config or that another run is using, a run
        that diverged again and again, or whose last save failed.
    """
    devices = parallel.all_devices()
    source = find_source(config, workdir)
    config = settle(config, workdir, like=source and source.config)
    parallel.check_batch_size(
        config.train.batch_size, len(devices), parts=config.train.accumulate_steps
    )
    with contextlib.ExitStack() as stack:
        with processes.together():
            if processes.is_first():
                stack.enter_context(lock_workdir(workdir))
                prepare_workdir(config, workdir)
        with processes.in_turn():
            experiment = build_experiment(config)
        state = new_state(experiment, devices)
        if source is not None:
            state = start_from(source, state, config)
        del source  # as large as the state
        return _Run(experiment, state, workdir, devices, stack).until_done()


class _Run:
    """One run of an experiment: its state, its files, and what it does between two steps."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        workdir: Path,
        devices: Sequence[jax.Device],
        stack: contextlib.ExitStack,
    ):
        """Opens the files, and restores the newest checkpoint if there is one."""
        config = self.config = experiment.config
        self.experiment, self.workdir, self.devices = experiment, workdir, devices
        self.state, self.step = state, 0
        self.batch_size = config.train.batch_size
        self.total_steps = math.ceil(config.train.total_kimg * 1000 / self.batch_size)
        self.rollbacks = Rollbacks(workdir, config.train)
        self.writer: MetricWriter | NoWriter = NoWriter()
        self.checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep_last=config.train.keep_last,
            best_metric=config.eval.best_metric,
            lower_is_better=lower_is_better(config.eval.best_metric),
            report=self.message,
        )
        stack.callback(self.checkpoints.close)
        self.resumed = self._restore()
        self._use_lr_scale()
        drawer = Drawer(experiment.generator, config.model.z_dim, experiment.text_stats, devices)
        with processes.in_turn():
            self.scores = TrainingScores(experiment, drawer)
            self.grid = SampleGrid(experiment, drawer, self.scores.test)
        self.compiled = _compile_variants(experiment, devices)
        self.watchdogs = Watchdogs(config)
        self.interrupt = stack.enter_context(catch_signals())
        if processes.is_first():
            self.writer = stack.enter_context(
                MetricWriter(
                    workdir,
                    total_images=self.total_steps * self.batch_size,
                    start_images=self.images_seen,
                    tensorboard=config.train.tensorboard,
                )
            )
        self.writer.truncate_after(self.step)
        self.alarm = stack.enter_context(
            StallAlarm(
                workdir,
                config.train.stall_minutes,
                end=processes.count() > 1,
                say=self.message,
            )
        )

    @property
    def images_seen(self) -> int:
        """Real images, counted anew in every epoch."""
        return self.step * self.batch_size

    def until_done(self) -> int | None:
        """The loop; returns as `train` does."""
        if self.resumed and self.step >= self.total_steps:
            self.message(
                f"training is complete: {self.images_seen:,} images seen; "
                "raise --train.total-kimg to go on"
            )
            return None
        if self.resumed:
            again = "" if self.config.train.init_from is None else "; --init-from is not read again"
            self.message(f"resumed at step {self.step}, {self.images_seen:,} images seen{again}")
        fresh = not self.resumed  # else what is due was done before the interruption
        batches, first = self._batches(), self.step
        while True:
            number, complete = self._interrupted(), self.step == self.total_steps
            if fresh:
                with self.alarm.resting():
                    self._evaluate_and_save(complete, interrupted=number is not None)
            if complete or number is not None:
                break
            batch = next(batches)
            with self.alarm.resting() if self.step < first + 2 else contextlib.nullcontext():
                self.state, metrics = self.compiled(self.step)(self.state, batch)  # compiles first
            self.step, fresh = self.step + 1, True
            self.alarm.beat()
            if self._logs() and self._log(metrics, batches):
                self._roll_back()
                batches, fresh = self._batches(), False
        if not self.checkpoints.wait():
            raise UserError(
                f"the last checkpoint could not be written to {self.workdir}: make room, and run "
                "the same command again to go on from the one before it"
            )
        if number is not None:
            self.message(f"saved at step {self.step}; run the same command again to go on")
        else:
            self.message(f'done; draw: python sample.py --checkpoint {self.workdir} --prompt "…"')
        return number

    def message(self, text: str) -> None:
        """Says a line, above the progress bar where there is one."""
        self.writer.message(text)

    def _batches(self) -> InputTimer[Batch]:
        ahead = parallel.shard_ahead(
            self.experiment.batches(self.step), self.config.train.mode, self.devices
        )
        return InputTimer(ahead)

    def _logs(self) -> bool:
        """Whether the step just done is logged."""
        return self.step % self.config.train.log_every_steps == 0 or self.step == self.total_steps

    def _interrupted(self) -> int | None:
        """The signal to stop for; several processes agree, where they wait for results anyway."""
        if processes.count() == 1:
            return self.interrupt.number
        if not self._logs():
            return None
        return processes.largest([self.interrupt.number or 0])[0] or None

    def _evaluate_and_save(self, complete: bool, *, interrupted: bool) -> None:
        """A grid, scores and a checkpoint, as far as they are due."""
        options = self.config.train
        due = functools.partial(_due, self.images_seen, self.batch_size)
        if complete or due(options.grid_every_kimg):
            path = self.workdir / "grids" / f"{self.images_seen:09d}.png"
            try:
                picture = self.grid.save(self.state.ema_params, path)
                self.writer.write_images(self.images_seen, "grid", picture)
            except OSError as error:
                self.message(f"warning: cannot write {path}: {first_line(error)}")
        scores: dict[str, float] = {}
        if save_due := complete or due(options.save_every_kimg):
            scores = self.scores.run(self.state.ema_params)
            if self.state.ema_slow_params is not None:
                slow = self.scores.run(self.state.ema_slow_params)
                scores |= {f"slow/{name}": value for name, value in slow.items()}
            scores = processes.from_first(scores)
            self.writer.write(self.step, self.images_seen, scores)
        if save_due or interrupted:
            data = self.experiment.dataset
            meta = {
                "config": to_json(self.config),
                "next_index": self.step,
                "data": {"pictures": len(data), "sha256": data.fingerprint},
                "skipped_in_row": int(self.state.health.skipped_in_row),
            }
            self.checkpoints.save(_saved(self.state), meta, scores)

    def _log(self, metrics: dict[str, jax.Array], batches: InputTimer[Batch]) -> bool:
        """Writes the metrics of a step; whether too many updates were not finite."""
        with batches.fetching():
            scalars = {name: float(value) for name, value in metrics.items()}
        in_row = int(scalars.pop("skipped_in_row"))
        scalars["lr_scale"] = self.rollbacks.lr_scale
        scalars["input_wait"] = batches.wait_share()
        scalars["host_memory_mb"] = resident_memory_mb()
        scalars = {name: value for name, value in scalars.items() if np.isfinite(value)}
        advice = self.watchdogs.check(self.step, scalars)
        self.writer.write(self.step, self.images_seen, scalars, warnings=advice)
        return in_row >= self.config.train.max_skips_in_row

    def _roll_back(self) -> None:
        """Goes back to the last good checkpoint, with lower learning rates."""
        at_step = self.step
        self.rollbacks.check(at_step)
        self.checkpoints.wait()
        self.checkpoints.drop_after_good()
        if not self._restore():
            raise UserError(
                f"training diverged at step {at_step}, and there is no checkpoint to go back to: "
                "lower --g-opt.lr and --d-opt.lr, and start anew"
            )
        self.rollbacks.add(at_step, self.step)
        self._use_lr_scale()
        self.writer.truncate_after(self.step)
        self.watchdogs = Watchdogs(self.config)
        self.message(
            f"warning: {self.config.train.max_skips_in_row} updates in a row were not finite at "
            f"step {at_step}: back to step {self.step}, with learning rates x "
            f"{self.rollbacks.lr_scale:g}"
        )

    def _restore(self) -> bool:
        """Takes the newest intact checkpoint; whether there is one."""
        restored = self.checkpoints.restore_newest(_abstract(_saved(self.state)))
        if restored is not None:
            state, meta = restored
            _check_same_data(meta, self.experiment.dataset)
            _check_same_text(state.text_stats, self.experiment.text_stats)
            self.state = state.replace(word_table=self.state.word_table)
            self.step = int(state.step)
        return restored is not None

    def _use_lr_scale(self) -> None:
        old = self.state.health.lr_scale
        scale = parallel.put_like(np.float32(self.rollbacks.lr_scale), old)
        self.state = self.state.replace(health=self.state.health.replace(lr_scale=scale))


def _compile_variants(
    experiment: Experiment, devices: Sequence[jax.Device]
) -> Callable[[int], parallel.CompiledStep]:
    """step number -> compiled step, with or without the penalty (lazy regularisation)."""
    config = experiment.config

    @functools.cache
    def compiled(with_penalty: bool) -> parallel.CompiledStep:
        return parallel.compile_step(
            experiment.step,
            config.train.mode,
            devices,
            config.train.shard_above,
            with_penalty=with_penalty,
        )

    return lambda step: compiled(step % config.loss.penalty_every_steps == 0)


def _due(images_seen: int, batch_size: int, every_kimg: float) -> bool:
    """Whether the last step crossed a multiple of `every_kimg`; true at the start."""
    every = every_kimg * 1000
    return images_seen // every > (images_seen - batch_size) // every


def _check_same_data(meta: dict[str, Any], dataset: CaptionedImages) -> None:
    """The order of batches, and so an exact resume, depends on the pictures and captions."""
    old = meta["data"]
    if old["sha256"] != dataset.fingerprint:
        raise UserError(
            f"the pictures or captions of {dataset.name} have changed since this run was saved "
            f"({old['pictures']:,} pictures then, {len(dataset):,} now); bring them back, or start "
            "another --workdir from this run's weights: --init-from"
        )


def _check_same_text(old: TextStats | None, new: TextStats | None) -> None:
    """Mean and sd of the captions' vectors tell another encoder or other captions."""
    if old is None or new is None:
        return
    shift = np.abs(np.asarray(old.mean) - np.asarray(new.mean)) / np.asarray(old.sd)
    if shift.max() > 0.1:
        raise UserError(
            "the captions or the text encoder have changed since this run was saved; bring them "
            "back (data.name, text.path), or use another --workdir"
        )


def _saved(state: TrainState) -> TrainState:
    """What a checkpoint holds: the word table is made from the captions."""
    return state.replace(word_table=None)


def _abstract(state: TrainState) -> TrainState:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
