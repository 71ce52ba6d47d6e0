"""What a run writes of its steps: metrics with warnings, pictures and messages."""

import contextlib
from pathlib import Path

import jax
import numpy as np

from flaxgan.config import Config
from flaxgan.run.input_timer import InputTimer
from flaxgan.run.metric_writer import MetricWriter, NoWriter
from flaxgan.run.watchdogs import Watchdogs, resident_memory_mb
from flaxgan.training import processes
from flaxgan.training.state import Batch


class RunLog:
    """The writer of one run and its watchdogs, which judge every line."""

    def __init__(self, config: Config, workdir: Path):
        """Messages are printed at once; files are written from `open` on."""
        self._config, self._workdir = config, workdir
        self._batch_size = config.train.batch_size
        self._writer: MetricWriter | NoWriter = NoWriter()
        self._watchdogs = Watchdogs(config)

    def open(self, stack: contextlib.ExitStack, step: int, total_steps: int) -> None:
        """Starts the progress bar and the files, in the first process, until the stack closes.

        Args:
          stack: closes the writer.
          step: updates done; lines of later ones are dropped.
          total_steps: where the bar ends.
        """
        if processes.is_first():
            self._writer = stack.enter_context(
                MetricWriter(
                    self._workdir,
                    total_images=total_steps * self._batch_size,
                    start_images=step * self._batch_size,
                    tensorboard=self._config.train.tensorboard,
                )
            )
        self._writer.truncate_after(step)

    def message(self, text: str) -> None:
        """Prints a line, above the progress bar where there is one."""
        self._writer.message(text)

    def step(
        self,
        step: int,
        metrics: dict[str, jax.Array],
        batches: InputTimer[Batch],
        *,
        lr_scale: float,
    ) -> bool:
        """Writes the metrics of a step; whether too many updates in a row were not finite.

        Args:
          step: updates done.
          metrics: of the last one, on the devices.
          batches: measures how long devices waited for data.
          lr_scale: factor of both learning rates.
        """
        with batches.fetching():
            scalars = {name: float(value) for name, value in metrics.items()}
        in_row = int(scalars.pop("skipped_in_row"))
        scalars["lr_scale"] = lr_scale
        scalars["input_wait"] = batches.wait_share()
        scalars["host_memory_mb"] = resident_memory_mb()
        scalars = {name: value for name, value in scalars.items() if np.isfinite(value)}
        warnings = self._watchdogs.check(step, scalars)
        self._writer.write(step, step * self._batch_size, scalars, warnings=warnings)
        return in_row >= self._config.train.max_skips_in_row

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Writes what the averaged generators score."""
        self._writer.write(step, step * self._batch_size, scores)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes one picture `[h, w, 3]` uint8 for TensorBoard."""
        self._writer.write_images(step * self._batch_size, name, picture)

    def go_back_to(self, step: int) -> None:
        """Drops the lines beyond a step; the watchdogs begin anew."""
        self._writer.truncate_after(step)
        self._watchdogs = Watchdogs(self._config)
