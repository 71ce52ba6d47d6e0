"""What a run says: lines of metrics.jsonl, plain lines, TensorBoard."""

import io
import json
import struct
import sys
import types

import numpy as np
import pytest
from rich.console import Console

from flaxgan import metric_writer
from flaxgan.errors import UserError
from flaxgan.metric_writer import MetricWriter


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
