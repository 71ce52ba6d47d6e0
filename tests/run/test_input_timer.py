"""The share of the time in which devices wait for batches."""

import types

import pytest

from flaxgan.run import input_timer
from flaxgan.run.input_timer import InputTimer


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(input_timer, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def interval(clock, batch_seconds, step_seconds, *, steps=10, buffered=0):
    """One log interval of a loop that dispatches ahead of a device; the share that it reports."""
    device_free = clock.now

    def batches():
        for number in range(steps):
            clock.now += 0 if number < buffered else batch_seconds
            yield number

    timer = InputTimer(batches())
    for _ in timer:
        device_free = max(device_free, clock.now) + step_seconds
    with timer.fetching():
        clock.now = max(clock.now, device_free)
    return timer.wait_share()


@pytest.mark.parametrize(
    ("batch_seconds", "step_seconds", "buffered", "share"),
    [
        (0.0, 0.1, 0, 0.0),
        (0.09, 0.1, 4, 0.0),  # the loop waits for half of the time, the device never
        (0.15, 0.1, 0, 0.375),  # (10 x 0.15 - 9 x 0.1) of 1.6 s
        (1.0, 0.1, 0, 9.1 / 10.1),
    ],
)
def test_a_device_waits_for_what_it_cannot_spend_on_steps(
    clock, batch_seconds, step_seconds, buffered, share
):
    found = interval(clock, batch_seconds, step_seconds, buffered=buffered)
    assert found == pytest.approx(share, abs=1e-9)


def test_each_share_is_that_of_the_time_since_the_last(clock):
    def batches():
        for seconds in (1.0, 3.0):
            clock.now += seconds
            yield seconds

    timer = InputTimer(batches())
    assert next(timer) == 1.0
    clock.now += 1.0
    assert timer.wait_share() == 0.5
    next(timer)
    assert timer.wait_share() == 1.0
    assert list(timer) == []
