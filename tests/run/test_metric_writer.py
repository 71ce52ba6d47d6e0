"""What a run says: lines of metrics.jsonl, plain lines, TensorBoard."""

import contextlib
import errno
import io
import json
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flaxgan.errors import UserError
from flaxgan.run import metric_writer
from flaxgan.run.metric_writer import MetricWriter
from flaxgan.run.watchdogs import Advice


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    clock = types.SimpleNamespace(now=1000.0)
    fake = types.SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(metric_writer, "time", fake)
    return clock


def open_writer(tmp_path, *, terminal=False, **kwargs):
    kwargs = {"total_images": 1000, "tensorboard": False} | kwargs
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    return MetricWriter(tmp_path, console=console, **kwargs), output


def lines_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_one_line_for_each_write(tmp_path, clock):
    writer, _ = open_writer(tmp_path)
    with writer:
        clock.now += 2
        writer.write(1, 64, {"d_loss": 0.5, "g_loss": -1.25})
        assert len(lines_of(tmp_path)) == 1  # at once
        clock.now += 0.5
        writer.write(2, 128, {"fd_pixels8": 3.0})
    first, second = lines_of(tmp_path)
    assert first == {
        "step": 1,
        "images_seen": 64,
        "seconds": 2.0,
        "images_per_second": 32.0,
        "d_loss": 0.5,
        "g_loss": -1.25,
    }
    assert second["fd_pixels8"] == 3.0
    assert second["seconds"] == 2.5


def test_names_are_shown_as_they_are(tmp_path):
    """A plugin's watchdog or metric may be called anything."""
    writer, output = open_writer(tmp_path, terminal=True)
    with writer:
        advice = Advice("d [b]wins[/i] :cat:", "because of [red]")
        writer.write(1, 64, {"d_loss": 0.5}, warnings=[advice])
        writer.write(2, 128, {"fd [b]x": 3.0})
        writer._bar.refresh()
    assert "warning: d [b]wins[/i] :cat:: because of [red]" in output.getvalue()
    assert "! d [b]wins[/i] :cat:" in output.getvalue()
    assert "fd [b]x 3" in output.getvalue()


def test_speed_is_smoothed_and_counts_from_the_resumed_image(tmp_path, clock):
    writer, _ = open_writer(tmp_path, start_images=500)
    with writer:
        speeds = []
        for seconds, images in ((10, 600), (10, 800), (5, 800), (5, 900)):
            clock.now += seconds
            writer.write(0, images, {"d_loss": 0.0})
            speeds.append(lines_of(tmp_path)[-1]["images_per_second"])
    # 10/s, then 20/s, then no image, then 100 images in 10 s
    assert speeds == pytest.approx([10, 12, 12, 0.8 * 12 + 0.2 * 10])


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "d_loss": step / 2}) for step in (1, 2, 3, 4)]
    strange = ['"no line"', "[1]", "7", "{}"]
    path.write_text("\n".join([*lines[:3], *strange, lines[3], '{"step": 5, "d']))
    writer, _ = open_writer(tmp_path)
    with writer:
        writer.truncate_after(2)
        assert path.read_text() == "".join(line + "\n" for line in lines[:2])
        writer.write(3, 30, {"d_loss": 9.0})
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3]
    assert lines_of(tmp_path)[-1]["d_loss"] == 9.0
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_half_a_line_of_the_last_step_is_dropped_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "d_lo')
    writer, _ = open_writer(tmp_path)
    with writer:
        writer.truncate_after(2)
        writer.write(3, 3, {})
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 3]


def test_plain_lines_where_the_output_is_not_a_terminal(tmp_path, clock):
    writer, output = open_writer(tmp_path)
    with writer:
        for step in range(1, 26):
            clock.now += 1
            writer.write(step, 40 * step, {"d_loss": 0.25, "g_loss": 1.5, "grad_norm": 3.0})
    lines = output.getvalue().splitlines()
    assert lines[0] == "40 / 1,000 images  40.0/s  0.4 min left  D +0.25  G +1.50"
    # one in ten seconds, and the last
    assert [line.split(" ")[0] for line in lines] == ["40", "440", "840", "1,000"]


def test_scores_and_messages_are_printed_as_they_are(tmp_path):
    writer, output = open_writer(tmp_path)
    with writer:
        writer.write(1, 1, {"fd_pixels8": 1.23456, "other": 7.0})
        writer.message("[red]not markup[/red] " + "long " * 40)
    scores, message = output.getvalue().splitlines()
    assert scores == "fd_pixels8 1.235  other 7"
    assert message == "[red]not markup[/red] " + "long " * 40


def test_a_bar_on_a_terminal(tmp_path, clock):
    writer, output = open_writer(tmp_path, terminal=True)
    with writer:
        clock.now += 1
        writer.write(1, 500, {"d_loss": 0.25})
        writer._bar.refresh()
    assert "500 images  500/s" in output.getvalue()
    assert "D +0.25" in output.getvalue()
    assert "min left" not in output.getvalue()


def events(tmp_path):
    """The events of all files, in order of time."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return sorted(found, key=lambda event: event.wall_time)


def curve(found, tag):
    """Points that TensorBoard shows: a session start hides its step and those beyond."""
    points = []
    for event in found:
        if event.session_log.status == event.session_log.START:
            points = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            if value.tag == tag:
                points.append((event.step, value.simple_value))
    return points


def test_tensorboard_curves_over_images_survive_a_crash(tmp_path):
    """The point of the checkpoint stays, what came after it is hidden."""
    pytest.importorskip("tensorboardX")
    writer, _ = open_writer(tmp_path, tensorboard=True)
    with writer:
        for step in range(4):
            writer.write(step, 10 * step, {"d_loss": float(step)})
        writer.write_images(30, "grid", np.zeros((4, 6, 3), np.uint8))
    assert curve(events(tmp_path), "d_loss") == [(0, 0), (10, 1), (20, 2), (30, 3)]
    (image,) = [v.image for e in events(tmp_path) for v in e.summary.value if v.tag == "grid"]
    assert (image.height, image.width) == (4, 6)
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.rename(path.with_suffix(".first"))  # files of one second have one name
    writer, _ = open_writer(tmp_path, tensorboard=True, start_images=20)
    with writer:
        writer.write(3, 30, {"d_loss": 7.0})
    assert curve(events(tmp_path), "d_loss") == [(0, 0), (10, 1), (20, 2), (30, 7)]


def test_without_tensorboard_there_are_no_event_files(tmp_path):
    writer, _ = open_writer(tmp_path)
    with writer:
        writer.write(1, 1, {"d_loss": 0.0})
        writer.write_images(1, "grid", np.zeros((4, 4, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_that_is_missing_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"pip install tensorboardX, .* --train\.no-tensorboard"):
        open_writer(tmp_path, tensorboard=True)


COLLAPSE = Advice("collapse", "fakes are alike; do this")
GAMMA = Advice("gamma_low", "the penalty is weak; do that")


def test_warnings_in_the_file_and_once_as_a_message(tmp_path, clock):
    writer, output = open_writer(tmp_path)
    with writer:
        for step, warnings in enumerate(([], [COLLAPSE], [COLLAPSE, GAMMA], [], [COLLAPSE])):
            clock.now += 20
            writer.write(step, 10 * step + 10, {"d_loss": 0.5}, warnings=warnings)
        writer.write(5, 60, {"fd_pixels8": 1.0})  # not a log line: nothing has changed
        clock.now += 20
        writer.write(6, 70, {"d_loss": 0.5}, warnings=[COLLAPSE])
    first, second = ["collapse"], ["collapse", "gamma_low"]
    assert [line.get("warnings") for line in lines_of(tmp_path)] == [
        *(None, first, second, None, first, None, first)
    ]
    lines = output.getvalue().splitlines()
    begun = [line for line in lines if line.startswith("warning: ")]
    assert begun == [
        "warning: collapse: fakes are alike; do this",
        "warning: gamma_low: the penalty is weak; do that",
        "warning: collapse: fakes are alike; do this",
    ]
    shown = [line.partition("D +0.50")[2] for line in lines if "images" in line]
    alone = "  ! collapse"
    assert shown == ["", alone, "  ! collapse, gamma_low", "", alone, alone]


def test_warnings_in_the_bar(tmp_path, clock):
    writer, output = open_writer(tmp_path, terminal=True)
    with writer:
        clock.now += 1
        writer.write(1, 500, {"d_loss": 0.25}, warnings=[COLLAPSE, GAMMA])
        writer._bar.refresh()
    assert "! collapse, gamma_low" in output.getvalue()


needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@needs_full_disk
def test_a_full_disk_costs_lines_but_not_the_run(tmp_path, clock):
    writer, output = open_writer(tmp_path)
    path, kept = tmp_path / "metrics.jsonl", tmp_path / "kept"
    with writer:
        writer.write(1, 1, {"d_loss": 1.0})
        path.rename(kept)
        path.symlink_to("/dev/full")
        for step in (2, 3):
            writer.write(step, step, {"d_loss": 1.0})
        kept.replace(path)
        writer.write(4, 4, {"d_loss": 1.0})
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 4]
    said = [line for line in output.getvalue().splitlines() if "metrics.jsonl" in line]
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert said[1] == "metrics.jsonl can be written again"


def test_a_line_that_fits_in_part_is_taken_back(tmp_path):
    """A limit on the size of files stands for a disk that fills up within a line."""
    code = f"""
import pathlib, resource, signal
from flaxgan.run.metric_writer import _append
path = pathlib.Path({str(tmp_path / "lines")!r})
_append(path, "first\\n")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
try:
    _append(path, "second\\n")
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
_append(path, "third\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "No space left on device\n"
    assert (tmp_path / "lines").read_text() == "first\nthird\n"


def test_a_line_does_not_go_on_where_a_killed_process_stopped(tmp_path):
    writer, _ = open_writer(tmp_path)
    with writer:
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
        writer.write(3, 3, {})
    first, half, last = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert (first, half, json.loads(last)["step"]) == ('{"step": 1}', '{"st', 3)


@needs_full_disk
def test_tensorboard_goes_on_in_another_file_after_a_full_disk(tmp_path):
    pytest.importorskip("tensorboardX")
    writer, output = open_writer(tmp_path, tensorboard=True)
    with writer:
        writer.write(1, 10, {"d_loss": 1.0})
        record = writer._curves._file._py_recordio_writer
        record._writer.close()
        record._writer = full = open("/dev/full", "wb")  # noqa: SIM115
        writer.write(2, 20, {"d_loss": 2.0})
        with contextlib.suppress(OSError):
            full.close()
        for step in range(3, 30):  # more than a queue of ten holds
            writer.write(step, 10 * step, {"d_loss": float(step)})
    assert [point[0] for point in curve(events(tmp_path), "d_loss")] == [10, *range(30, 300, 10)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    said = [line for line in output.getvalue().splitlines() if "TensorBoard" in line]
    assert len(said) == 2


def test_a_message_into_a_file_on_a_full_disk(tmp_path):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    console = Console(file=Full())
    with MetricWriter(tmp_path, total_images=10, tensorboard=False, console=console) as writer:
        writer.message("nobody can read this")
        writer.write(1, 1, {"d_loss": 1.0})
    assert len(lines_of(tmp_path)) == 1
