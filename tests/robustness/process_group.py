"""Starts a command in several processes that train together on this machine, for tests."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
    """Of a process with so many CPU devices; many processes share two cores, and wait for long."""
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    flags += (
        f" --xla_force_host_platform_device_count={devices} "
        "--xla_cpu_collective_call_terminate_timeout_seconds=600 "
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    )
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}


class Group:
    """Processes that train together; their output is in files."""

    def __init__(self, command: Sequence[str], folder: Path, *, processes: int, devices: int):
        """Starts `python COMMAND…` with the flags of each process.

        Args:
          command: without the interpreter.
          folder: gets out<i>.txt.
          processes: how many; 1: without flags.
          devices: of each.
        """
        folder.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{free_port()}"
        self.outputs = [folder / f"out{i}.txt" for i in range(processes)]
        self.children = []
        for i, output in enumerate(self.outputs):
            flags = ["--coordinator", address, "--num-processes", str(processes)]
            flags += ["--process-id", str(i)]
            with output.open("a") as file:
                child = subprocess.Popen(
                    [sys.executable, *command, *(flags if processes > 1 else [])],
                    cwd=ROOT,
                    env=environment(devices),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self.children.append(child)

    def wait(self, timeout: float = 300.0, *, codes: Sequence[int] = (0,)) -> list[int]:
        """Exit codes of all; where one fails, or time is up, all are killed, and the test fails."""
        deadline = time.monotonic() + timeout
        try:
            while any(child.poll() is None for child in self.children):
                ended = [child.returncode for child in self.children if child.poll() is not None]
                assert all(code in codes for code in ended), self.text()
                assert time.monotonic() < deadline, f"still running\n{self.text()}"
                time.sleep(0.05)
        finally:
            self.kill()
        found = [child.returncode for child in self.children]
        assert all(code in codes for code in found), self.text()
        return found

    def signal(self, number: int) -> None:
        """Sends a signal to all."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    def kill(self) -> None:
        """Ends all, with everything that they started."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def text(self) -> str:
        """The end of what each has said."""
        parts = [f"--- {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in self.outputs]
        return "\n".join(parts)


@contextlib.contextmanager
def group(command: Sequence[str], folder: Path, **options: int) -> Iterator[Group]:
    """A group that does not outlive the block."""
    started = Group(command, folder, **options)
    try:
        yield started
    finally:
        started.kill()


def wait_until(done: Callable[[], bool], timeout: float = 240) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_the_end(numbers: Sequence[int]) -> None:
    """Until none of these processes runs; they need not be children of this one."""
    wait_until(lambda: not any(_runs(number) for number in numbers), timeout=30)


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/stat")  # of a process that nobody has waited for yet: Z
    return not status.exists() or status.read_text().rsplit(")")[-1].split()[0] != "Z"
