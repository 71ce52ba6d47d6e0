"""What a run says while it goes: a progress bar, metrics.jsonl, TensorBoard."""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flaxgan.errors import UserError

PLAIN_LINE_SECONDS = 10.0  # between lines where the output is not a terminal
SHOWN = {"d_loss": "D", "g_loss": "G", "real_logit": "real", "fake_logit": "fake"}


class MetricWriter:
    """Writes scalars and pictures of one run; a context manager."""

    def __init__(
        self,
        workdir: Path,
        *,
        total_images: int,
        start_images: int = 0,
        tensorboard: bool = True,
        console: Console | None = None,
    ):
        """Opens metrics.jsonl for appending.

        Args:
          workdir: holds metrics.jsonl and tensorboard/.
          total_images: where the bar ends.
          start_images: seen before, by a resumed run.
          tensorboard: also write event files.
          console: of the bar; by default standard output.
        """
        self._tensorboard = _open_tensorboard(workdir, start_images) if tensorboard else None
        self._path = workdir / "metrics.jsonl"
        self._file = self._path.open("a")
        self._console = console or Console()
        self._start = self._last = (time.perf_counter(), start_images)
        self._speed = 0.0
        self._last_line = 0.0
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[images]} images  {task.fields[speed]:.0f}/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=120.0,
        )
        self._total = total_images
        self._task = self._bar.add_task(
            "",
            total=total_images,
            completed=start_images,
            images="0",
            speed=0.0,
            values="compiling",
        )

    def __enter__(self) -> "MetricWriter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def truncate_after(self, step: int) -> None:
        """Drops lines beyond a step, written by a run that died before its next checkpoint."""
        self._file.close()
        kept = []
        for line in self._path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a killed run
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        os.replace(temporary, self._path)
        self._file = self._path.open("a")

    def write(self, step: int, images_seen: int, scalars: dict[str, float]) -> None:
        """Writes one line, one point of each TensorBoard curve, and moves the bar.

        Args:
          step: updates done.
          images_seen: real images seen, the x axis of TensorBoard.
          scalars: name -> value; names with a slash are details that the terminal does not show.
        """
        now = time.perf_counter()
        last_time, last_images = self._last
        if images_seen > last_images:
            speed = (images_seen - last_images) / max(now - last_time, 1e-9)
            self._speed = speed if not self._speed else 0.8 * self._speed + 0.2 * speed
            self._last = (now, images_seen)
        line: dict[str, Any] = {
            "step": step,
            "images_seen": images_seen,
            "seconds": round(now - self._start[0], 3),
            "images_per_second": round(self._speed, 2),
            **scalars,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for name, value in scalars.items():
                self._tensorboard.add_scalar(name, value, images_seen)
            self._tensorboard.flush()
        self._show(images_seen, scalars, now)

    def write_images(self, images_seen: int, name: str, picture: np.ndarray) -> None:
        """One picture `[h, w, 3]` uint8 for TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.add_image(name, picture, images_seen, dataformats="HWC")

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _show(self, images_seen: int, scalars: dict[str, float], now: float) -> None:
        known = {short: scalars[name] for name, short in SHOWN.items() if name in scalars}
        if not known:
            shown = {
                name: value for name, value in scalars.items() if "/" not in name
            }  # no details
            self.message("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
            return
        values = "  ".join(f"{short} {value:+.2f}" for short, value in known.items())
        self._bar.update(
            self._task,
            completed=images_seen,
            images=f"{images_seen:,}",
            speed=self._speed,
            values=values,
        )
        late = now - self._last_line >= PLAIN_LINE_SECONDS or images_seen >= self._total
        if not self._console.is_terminal and late:
            self._last_line = now
            left = (self._total - images_seen) / max(self._speed, 1e-9) / 60
            self.message(
                f"{images_seen:,} / {self._total:,} images  {self._speed:.1f}/s  "
                f"{left:.1f} min left  {values}"
            )


def _open_tensorboard(workdir: Path, start_images: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "TensorBoard files need tensorboardX: pip install tensorboardX, "
            "or use --train.no-tensorboard"
        ) from error
    # hides what a run that died wrote after its last checkpoint
    return SummaryWriter(str(workdir / "tensorboard"), purge_step=start_images + 1)
