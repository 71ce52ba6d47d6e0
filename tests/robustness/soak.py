"""Kills a run again and again, and compares it with one that nobody touched.

    python -m tests.robustness.soak --folder /tmp/soak --minutes 60 --config configs/…
    python -m tests.robustness.soak --folder /tmp/soak --kills 50 --pause 0 8 --tiny \
        --config configs/mlp28.py

Two runs of one config start together, each on one CPU device. One is killed with SIGKILL after
random pauses and started again; the other goes on. In the end their newest common checkpoint must
be equal bit for bit, and so must all metrics and grids until then. Resident memory is sampled.
Flags after `--` go to train.py. Exits with 1 where something differs.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from flaxgan.saving.finding import find_steps
from flaxgan.saving.meta import read_meta
from tests.robustness.process_group import ROOT, environment

TIMES = ("seconds", "images_per_second", "input_wait", "host_memory_mb", "warnings")


class Runner:
    """A run in a process of its own, started again whenever it is killed."""

    def __init__(self, name: str, command: list[str], folder: Path):
        self.workdir, self.output = folder / name, folder / f"{name}.txt"
        self._command = [*command, "--workdir", str(self.workdir)]
        self.memory: list[list[int]] = []  # MB, of each process
        self.start()

    def start(self) -> None:
        with self.output.open("a") as file:
            self.child = subprocess.Popen(
                self._command, cwd=ROOT, env=environment(1), stdout=file, stderr=file
            )
        self.memory.append([])

    def sample(self) -> None:
        """Notes the resident memory."""
        try:
            status = Path(f"/proc/{self.child.pid}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        if found:
            self.memory[-1].append(int(found[1]) // 1024)

    def steps(self) -> list[int]:
        return find_steps(self.workdir / "checkpoints")

    def metrics(self, until: int) -> list[dict]:
        lines = []
        for text in (self.workdir / "metrics.jsonl").read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the half line of a killed run
            if line["step"] <= until:
                lines.append({k: v for k, v in line.items() if k not in TIMES})
        return lines


def differences(killed: Runner, whole: Runner, step: int) -> list[str]:
    """What is not equal up to a step that both have a checkpoint of."""
    found = []
    digests = [read_meta(r.workdir / "checkpoints" / str(step))["digests"] for r in (killed, whole)]
    found += [f"digests of {k}" for k in digests[1] if digests[0].get(k) != digests[1][k]]
    lines = [r.metrics(step) for r in (killed, whole)]
    # the killed run may have logged steps twice: what it wrote after its last checkpoint is dropped
    # when it goes on
    if lines[0] != lines[1]:
        found.append(f"metrics.jsonl: {len(lines[0])} and {len(lines[1])} lines")
    grids = [sorted(p.name for p in (r.workdir / "grids").glob("*.png")) for r in (killed, whole)]
    for name in set(grids[0]) & set(grids[1]):
        a, b = ((r.workdir / "grids" / name).read_bytes() for r in (killed, whole))
        if a != b:
            found.append(f"grid {name}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="made anew")
    parser.add_argument("--config", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=0.0, help="until then runs are killed")
    parser.add_argument("--kills", type=int, default=0, help="or: so often")
    parser.add_argument("--pause", type=float, nargs=2, default=(60.0, 300.0), help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("flags", nargs="*", help="for train.py")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    command = [sys.executable, str(ROOT / "train.py"), "--config", args.config]
    command += [*(["--tiny"] if args.tiny else []), *args.flags]
    whole = Runner("whole", [*command, "--train.keep-last", "100000"], args.folder)
    killed = Runner("killed", [*command, "--train.keep-last", "100000"], args.folder)
    draw, began, kills, fresh_steps = random.Random(args.seed), time.monotonic(), 0, 0
    next_kill = began + draw.uniform(*args.pause)

    def over() -> bool:
        return kills >= args.kills and time.monotonic() - began >= args.minutes * 60

    while True:
        time.sleep(min(1.0, max(args.pause[1] / 50, 0.05)))
        for runner in (killed, whole):
            runner.sample()
            if runner.child.poll() not in (None, 0):
                print(f"{runner.workdir.name} ended with {runner.child.returncode}")
                print(runner.output.read_text()[-3000:])
                whole.child.kill()
                killed.child.kill()
                return 1
        if killed.child.poll() == 0 and not over():
            print(f"complete after {kills} kills: give a larger --train.total-kimg")
            break
        if not over() and time.monotonic() >= next_kill:
            before = killed.steps()
            os.kill(killed.child.pid, signal.SIGKILL)
            killed.child.wait()
            kills += 1
            fresh_steps = len(before)
            print(
                f"{time.monotonic() - began:7.0f} s  kill {kills}: newest checkpoint "
                f"{before[-1] if before else None}, the other run {whole.steps()[-1:]}",
                flush=True,
            )
            killed.start()
            next_kill = time.monotonic() + draw.uniform(*args.pause)
        common = set(killed.steps()) & set(whole.steps())
        ended = killed.child.poll() == 0 and whole.child.poll() == 0
        if over() and common and (ended or len(killed.steps()) > fresh_steps + 1):
            break
    both = [r for r in (killed, whole) if r.child.poll() is None]
    for runner in both:
        runner.child.send_signal(signal.SIGTERM)
    for runner in both:
        runner.child.wait()
    step = max(set(killed.steps()) & set(whole.steps()))
    found = differences(killed, whole, step)
    broken = list((killed.workdir / "checkpoints").glob("broken-*"))
    seconds = time.monotonic() - began
    print(f"{kills} kills in {seconds / 60:.1f} minutes; compared at step {step}")
    print(f"broken checkpoints: {len(broken)}; different: {', '.join(found) or 'nothing'}")
    whole_memory = whole.memory[0]
    tenth = max(1, len(whole_memory) // 10)
    for part, name in (
        (whole_memory[2 * tenth : 3 * tenth], "at 25 %"),
        (whole_memory[-tenth:], "at the end"),
    ):
        if part:
            print(f"resident memory of the untouched run {name}: {sum(part) / len(part):.0f} MB")
    peaks = [max(part) for part in killed.memory if part]
    print(f"highest of each killed process: {min(peaks)} to {max(peaks)} MB")
    return 1 if found or broken or not step else 0


if __name__ == "__main__":
    sys.exit(main())
