"""The training loop: evaluate -> save -> next batch -> step -> log, in that order.

The order is what makes a resumed run equal to an uninterrupted one: a checkpoint holds the state
before a batch, and the batch is a function of the step alone. With several processes each runs
the same loop on its own devices: all decide alike, and the first one writes.
"""

import contextlib
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import jax

from flaxgan.config import Config
from flaxgan.drawing.drawer import Drawer
from flaxgan.errors import UserError, first_line
from flaxgan.models.given_pictures import enlarges, inpaints
from flaxgan.run.auto_settings import settle
from flaxgan.run.checkpointed import CheckpointedState
from flaxgan.run.data_report import describe_data
from flaxgan.run.experiment import Experiment, build_experiment, compile_steps, new_state
from flaxgan.run.input_timer import InputTimer
from flaxgan.run.interrupt import catch_signals
from flaxgan.run.previews import SampleGrid
from flaxgan.run.run_log import RunLog
from flaxgan.run.scoring import TrainingScores
from flaxgan.run.stall_alarm import StallAlarm
from flaxgan.run.transfer import find_source, start_from
from flaxgan.saving.workdir import lock_workdir, prepare_workdir
from flaxgan.training import parallel, processes
from flaxgan.training.state import Batch, TrainState


def train(config: Config, workdir: str | Path) -> int | None:
    """Trains a config in a workdir, or resumes the run that is there.

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
    workdir = Path(workdir)
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
        if processes.is_first():
            for line in describe_data(config.data, experiment.dataset, experiment.text_encoder):
                print(line, flush=True)
        state = new_state(experiment, devices)
        if source is not None:
            state = start_from(source, state, config)
        del source  # as large as the state
        return _Loop(experiment, state, workdir, devices, stack).run()


class _Loop:
    """The loop of one run, and the files that it writes."""

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
        self.total_steps = math.ceil(config.train.total_kimg * 1000 / config.train.batch_size)
        self.log = RunLog(config, workdir)
        self.current = CheckpointedState(experiment, state, workdir, report=self.log.message)
        stack.callback(self.current.close)
        self.resumed = self.current.restore()
        drawer = Drawer(experiment.generator, config.model.z_dim, experiment.text_stats, devices)
        with processes.in_turn():
            self.scores = TrainingScores(experiment, drawer)
            self.grid = SampleGrid(experiment, drawer, self.scores.test)
        self.compiled = compile_steps(experiment, devices)
        self.interrupt = stack.enter_context(catch_signals())
        self.log.open(stack, self.current.step, self.total_steps)
        minutes, end = config.train.stall_minutes, processes.count() > 1
        self.alarm = stack.enter_context(
            StallAlarm(workdir, minutes, end=end, say=self.log.message)
        )

    def run(self) -> int | None:
        """Trains until the end or a signal; returns as `train` does."""
        current, say = self.current, self.log.message
        if self.resumed and current.step >= self.total_steps:
            say(
                f"training is complete: {current.images_seen:,} images seen; "
                "raise --train.total-kimg to go on"
            )
            return None
        if self.resumed:
            again = "" if self.config.train.init_from is None else "; --init-from is not read again"
            say(f"resumed at step {current.step}, {current.images_seen:,} images seen{again}")
        number = self._until_done()
        if not current.wait():
            raise UserError(
                f"the last checkpoint could not be written to {self.workdir}: free disk "
                "space, then rerun the same command to resume from the one before it"
            )
        if number is not None:
            say(f"saved at step {current.step}; run the same command again to go on")
        else:
            what = "sample"
            if enlarges(self.experiment.generator):
                what = "upsample PICTURE"
            elif inpaints(self.experiment.generator):
                what = "inpaint PICTURE --mask MASK"
            say(f'done; draw: flaxgan {what} --checkpoint {self.workdir} --prompt "…"')
        return number

    def _until_done(self) -> int | None:
        """The loop itself; the signal that ended it, or None."""
        current = self.current
        fresh = not self.resumed  # else what is due was done before the interruption
        batches, first = self._batches(), current.step
        while True:
            number, complete = self._interrupted(), current.step == self.total_steps
            if fresh:
                with self.alarm.resting():
                    self._evaluate_and_save(complete, interrupted=number is not None)
            if complete or number is not None:
                return number
            batch = next(batches)
            compiles = current.step < first + 2  # may take longer than any step
            with self.alarm.resting() if compiles else contextlib.nullcontext():
                current.state, metrics = self.compiled(current.step)(current.state, batch)
            current.step, fresh = current.step + 1, True
            self.alarm.beat()
            if self._logs() and self.log.step(
                current.step, metrics, batches, lr_scale=current.lr_scale
            ):  # too many updates in a row were not finite
                self._roll_back()
                batches, fresh = self._batches(), False

    def _batches(self) -> InputTimer[Batch]:
        ahead = parallel.shard_ahead(
            self.experiment.batches(self.current.step), self.config.train.mode, self.devices
        )
        return InputTimer(ahead)

    def _logs(self) -> bool:
        """Whether the step just done is logged."""
        step = self.current.step
        return step % self.config.train.log_every_steps == 0 or step == self.total_steps

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
        due = functools.partial(_due, self.current.images_seen, options.batch_size)
        if complete or due(options.grid_every_kimg):
            self._draw_grid()
        scores: dict[str, float] = {}
        if save_due := complete or due(options.save_every_kimg):
            scores = self.scores.of_averages(self.current.state)
            self.log.scores(self.current.step, scores)
        if save_due or interrupted:
            self.current.save(scores)

    def _draw_grid(self) -> None:
        path = self.workdir / "grids" / f"{self.current.images_seen:09d}.png"
        try:
            picture = self.grid.save(self.current.state.ema_params, path)
            self.log.picture(self.current.step, "grid", picture)
        except OSError as error:
            self.log.message(f"warning: cannot write {path}: {first_line(error)}")

    def _roll_back(self) -> None:
        """Goes back to the last good checkpoint, with lower learning rates."""
        at_step = self.current.step
        self.current.roll_back()
        self.log.go_back_to(self.current.step)
        self.log.message(
            f"warning: {self.config.train.max_skips_in_row} updates in a row were not finite at "
            f"step {at_step}: back to step {self.current.step}, with learning rates x "
            f"{self.current.lr_scale:g}"
        )


def _due(images_seen: int, batch_size: int, every_kimg: float) -> bool:
    """Whether the last step crossed a multiple of `every_kimg`; true at the start."""
    every = every_kimg * 1000
    return images_seen // every > (images_seen - batch_size) // every
