"""Progress of a run: a bar in the terminal, metrics.jsonl, TensorBoard."""

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flaxgan.atomic_write import open_atomic
from flaxgan.errors import UserError
from flaxgan.run.watchdogs import Advice

PLAIN_LINE_SECONDS = 10.0  # between lines where the output is not a terminal
SHOWN = {"d_loss": "D", "g_loss": "G", "real_logit": "real", "fake_logit": "fake"}


class NoWriter:
    """Takes MetricWriter's place in all processes but the first: it only prints messages."""

    def truncate_after(self, step: int) -> None:
        """See MetricWriter."""

    def write(
        self,
        step: int,
        images_seen: int,
        scalars: dict[str, float],
        *,
        warnings: Sequence[Advice] | None = None,
    ) -> None:
        """See MetricWriter."""

    def write_images(self, images_seen: int, name: str, picture: np.ndarray) -> None:
        """See MetricWriter."""

    def message(self, text: str) -> None:
        """Prints a line."""
        print(text, flush=True)


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
        self._curves = _Curves(workdir / "tensorboard", start_images) if tensorboard else None
        self._path = workdir / "metrics.jsonl"
        self._path.touch()
        self._failed: set[str] = set()  # what could not be written last time
        self._warnings: tuple[str, ...] = ()
        self._console = console or Console()
        self._start = self._last = (time.perf_counter(), start_images)
        self._speed = 0.0
        self._last_line = 0.0
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[images]} images  {task.fields[speed]:.0f}/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}", markup=False),  # names of a plugin's metrics
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
        if self._curves is not None:
            with self._disk("TensorBoard's files"):
                self._curves.close()

    def truncate_after(self, step: int) -> None:
        """Drops lines beyond a step, written by a run that died before its next checkpoint."""
        kept = []
        for line in self._path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # half a line of a killed run
        with open_atomic(self._path) as file:
            file.write("".join(line + "\n" for line in kept).encode())

    def write(
        self,
        step: int,
        images_seen: int,
        scalars: dict[str, float],
        *,
        warnings: Sequence[Advice] | None = None,
    ) -> None:
        """Writes one line, one point of each TensorBoard curve, and moves the bar.

        A full disk does not end the run: what cannot be written is lost, with one warning.

        Args:
          step: updates done.
          images_seen: real images seen, the x axis of TensorBoard.
          scalars: name -> value; names with a slash are details that the terminal does not show.
          warnings: those that are active now; each is printed when it starts. None: the
            watchdogs were not asked, and all stay as they are.
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
        if warnings is not None:
            self._begin(warnings)
            if warnings:
                line["warnings"] = list(self._warnings)
        with self._disk("metrics.jsonl"):
            _append(self._path, json.dumps(line) + "\n")
        if self._curves is not None:
            with self._disk("TensorBoard's files"):
                self._curves.add_scalars(images_seen, scalars)
        self._show(images_seen, scalars, now)

    def write_images(self, images_seen: int, name: str, picture: np.ndarray) -> None:
        """One picture `[h, w, 3]` uint8 for TensorBoard."""
        if self._curves is not None:
            with self._disk("TensorBoard's files"):
                self._curves.add_image(images_seen, name, picture)

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        with contextlib.suppress(OSError):  # standard output may be a file on a full disk
            self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def _begin(self, warnings: Sequence[Advice]) -> None:
        for advice in warnings:
            if advice.key not in self._warnings:
                self.message(f"warning: {advice.key}: {advice.text}")
        self._warnings = tuple(advice.key for advice in warnings)

    @contextlib.contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        """A full or missing disk loses what is written meanwhile, but does not end the run."""
        try:
            yield
        except OSError as error:
            if what not in self._failed:
                self._failed.add(what)
                self.message(
                    f"warning: {what} cannot be written ({error.strerror or error}); training "
                    "goes on and tries again: free space, checkpoints need it too"
                )
        else:
            if what in self._failed:
                self._failed.remove(what)
                self.message(f"{what} can be written again")

    def _show(self, images_seen: int, scalars: dict[str, float], now: float) -> None:
        known = {short: scalars[name] for name, short in SHOWN.items() if name in scalars}
        if not known:
            shown = {
                name: value for name, value in scalars.items() if "/" not in name
            }  # no details
            self.message("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
            return
        values = "  ".join(f"{short} {value:+.2f}" for short, value in known.items())
        if self._warnings:
            values += f"  ! {', '.join(self._warnings)}"
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


def _append(path: Path, line: str) -> None:
    """Appends a whole line or nothing; the file is opened anew, as an old handle may be stale."""
    data = line.encode()
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # half a line of a process that was killed
                data = b"\n" + data
        if file.write(data) < len(data):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Curves:
    """TensorBoard's event files.

    They are written without a thread: a full disk ends that of tensorboardX's SummaryWriter, and
    the training loop would then wait for it for ever.
    """

    def __init__(self, folder: Path, start_images: int):
        self._folder, self._files = folder, 0
        self._file: Any = None
        try:
            import tensorboardX.proto.event_pb2 as events
        except ImportError as error:
            raise UserError(
                "TensorBoard files need tensorboardX: pip install tensorboardX, "
                "or use --train.no-tensorboard"
            ) from error
        folder.mkdir(exist_ok=True)
        # hides what a run that died wrote after its last checkpoint
        self._write(
            start_images + 1, {"session_log": events.SessionLog(status=events.SessionLog.START)}
        )

    def add_scalars(self, images_seen: int, scalars: dict[str, float]) -> None:
        from tensorboardX.summary import scalar

        points = ({"summary": scalar(name, value)} for name, value in scalars.items())
        self._write(images_seen, *points)

    def add_image(self, images_seen: int, name: str, picture: np.ndarray) -> None:
        from tensorboardX.summary import image

        self._write(images_seen, {"summary": image(name, picture, dataformats="HWC")})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, images_seen: int, *contents: dict[str, Any]) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        try:
            if self._file is None:
                self._files += 1
                suffix = f".{os.getpid()}.{self._files}"
                self._file = EventsWriter(str(self._folder / "events"), suffix)
            for content in contents:
                self._file.write_event(Event(wall_time=time.time(), step=images_seen, **content))
            self._file.flush()
        except OSError:
            # TensorBoard reads a file up to its first half event: the next write begins another
            broken, self._file = self._file, None
            with contextlib.suppress(OSError):
                if broken is not None:
                    broken.close()
            raise
