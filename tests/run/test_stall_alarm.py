"""The alarm of a run that is stuck."""

import subprocess
import sys
import threading
import time
import types

import pytest

from flaxgan.run import stall_alarm
from flaxgan.run.stall_alarm import EXIT_CODE, StallAlarm


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(stall_alarm, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def alarm_of(tmp_path, seconds, **kwargs):
    said = []
    return StallAlarm(tmp_path, seconds / 60, say=said.append, **kwargs), said


def wait_for(count, said):
    deadline = time.monotonic() + 20
    while len(said) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(said) == count


def test_a_stall_is_told_once_with_what_every_thread_does(tmp_path):
    alarm, said = alarm_of(tmp_path, 0.2)
    with alarm:
        wait_for(1, said)
        time.sleep(0.5)
        assert len(said) == 1
        alarm.beat()
        wait_for(2, said)
    assert said[0].startswith("no step for 0.00333333 minutes: the input pipeline")
    assert f"in {tmp_path / 'stalled.txt'} (--train.stall-minutes" in said[0]
    assert "test_a_stall_is_told_once" in (tmp_path / "stalled.txt").read_text()


def test_steps_and_rests_keep_it_quiet(tmp_path):
    alarm, said = alarm_of(tmp_path, 1.0)
    with alarm:
        for _ in range(15):
            time.sleep(0.1)
            alarm.beat()
        with alarm.resting():
            time.sleep(2.0)
    assert said == []
    assert not list(tmp_path.iterdir())


def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path, clock):
    alarm, said = alarm_of(tmp_path, 600.0)
    waits = iter([3600.0, 10.0, None])  # a suspended machine, a tick, the end

    def wait(tick):
        assert tick == 10.0
        passed = next(waits)
        clock.now += passed or 0.0
        return passed is None

    alarm._stop = types.SimpleNamespace(wait=wait)
    alarm._watch()
    assert said == []


def test_zero_minutes_are_no_alarm(tmp_path):
    before = threading.active_count()
    alarm, said = alarm_of(tmp_path, 0.0)
    with alarm:
        assert threading.active_count() == before
        time.sleep(0.1)
    assert said == []


def test_no_thread_is_left(tmp_path):
    before = threading.active_count()
    alarm, _ = alarm_of(tmp_path, 600.0)
    with alarm:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def run_alarm(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_one_of_several_processes_ends(tmp_path):
    done = run_alarm(f"""
import pathlib, time
from flaxgan.run.stall_alarm import StallAlarm
with StallAlarm(pathlib.Path({str(tmp_path)!r}), 0.3 / 60, end=True):
    time.sleep(40)  # a peer that never answers
""")
    assert done.returncode == EXIT_CODE == 75
    first, last = done.stdout.splitlines()
    assert first.startswith("no step for 0.005 minutes")
    assert "exit code 75" in last
    assert "run the same command again" in last
    assert "Thread 0x" in (tmp_path / "stalled.txt").read_text()


def test_it_ends_though_neither_disk_nor_terminal_takes_a_word(tmp_path):
    done = run_alarm(f"""
import pathlib, time
from flaxgan.run import stall_alarm
stall_alarm.PATIENCE = 0.2
missing = pathlib.Path({str(tmp_path / "missing")!r})
with stall_alarm.StallAlarm(missing, 0.3 / 60, end=True, say=lambda text: time.sleep(40)):
    time.sleep(40)
""")
    assert done.returncode == 75
