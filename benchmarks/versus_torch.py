"""flaxgan beside PyTorch: `python benchmarks/versus_torch.py --work mlp28 sampler16 start`.

Both sides do the same work, each in a process of its own that is warm, in turn: other load of the
machine meets both. Time and CPU ratios above 1 mean that flaxgan is faster; a memory ratio above 1
that it needs more. On a busy machine give both one core (`--cores 1`): there neither can wait for a
thread that does not run, and CPU seconds tell what the work costs. With several threads they may
also count waiting. PyTorch's threads are told not to wait in a loop, which on a busy machine made
two of them 13 times faster, and PyTorch takes as many as are fastest.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import works  # noqa: E402

SIDES = ("flaxgan", "torch")
WORKS = (*works.TRAINING, *works.SAMPLING, "start", "compile")
COMPILED = ("dfgan64", "flagship")  # whose steps "compile" measures


class Round(NamedTuple):
    """What a side did in one round; `images` may be processes."""

    images: float
    wall: float
    cpu: float
    peak_mb: float


class Side:
    """A warm process that works when told to: see `benchmarks.worker`."""

    def __init__(self, name: str, work: str, env: dict[str, str]):
        """Starts it, and waits until it is ready."""
        command = [sys.executable, "-m", f"benchmarks.{name}_side", work]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
        )
        self.about = self._answer()

    def measure(self, seconds: float) -> Round:
        """Works for about so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return Round(**self._answer())

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        """The next line of JSON; what libraries print is passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{' '.join(map(str, self._process.args))} ended early")


def run_process(command: list[str], env: dict[str, str]) -> Round:
    """A process from its start to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    wall = time.perf_counter() - start
    return Round(1, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def start_commands(folder: str) -> dict[str, list[str]]:
    """From the start of a process to a picture on disk."""
    ours = ["sample.py", "--model", "avatars", "--prompt", works.PROMPT, "--num", "1"]
    theirs = ["-m", "benchmarks.torch_start", str(works.MODEL), works.PROMPT]
    return {
        "flaxgan": [sys.executable, *ours, "--out", f"{folder}/flaxgan.png"],
        "torch": [sys.executable, *theirs, f"{folder}/torch.png"],
    }


def compare(work: str, seconds: float, rounds: int, env: dict[str, str]) -> dict[str, list[Round]]:
    """Rounds of both sides, in turn; which begins changes from round to round."""
    found: dict[str, list[Round]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        measure: dict[str, Callable[[], Round]]
        sides: list[Side] = []
        if work == "start":
            commands = start_commands(folder)
            measure = {n: lambda c=c: run_process(c, env) for n, c in commands.items()}
            for name in SIDES:  # compile, and bring files into memory
                measure[name]()
        else:
            both = {name: Side(name, work, env) for name in SIDES}
            sides = list(both.values())
            measure = {n: lambda side=side: side.measure(seconds) for n, side in both.items()}
            devices, threads = both["flaxgan"].about["devices"], both["torch"].about["threads"]
            print(f"{work}: {devices} jax device(s), {threads} torch thread(s)", flush=True)
        for number in range(rounds):
            for name in SIDES[:: 1 if number % 2 else -1]:
                found[name].append(measure[name]())
        for side in sides:
            side.close()
    return found


def compile_seconds(work: str, env: dict[str, str]) -> float:
    """Of a training step, with nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        side = Side("flaxgan", work, {**env, "JAX_COMPILATION_CACHE_DIR": folder})
        side.close()
        return side.about["compile_seconds"]


def line_of(work: str, rounds: dict[str, list[Round]]) -> str:
    """One row of the table."""
    pairs = list(zip(*(rounds[name] for name in SIDES), strict=True))
    speed = [(a.images / a.wall) / (b.images / b.wall) for a, b in pairs]
    cpu = [(b.cpu / b.images) / (a.cpu / a.images) for a, b in pairs]
    rates = [statistics.median(r.images / r.wall for r in rounds[name]) for name in SIDES]
    cost = [statistics.median(1000 * r.cpu / r.images for r in rounds[name]) for name in SIDES]
    peak = [max(r.peak_mb for r in rounds[name]) for name in SIDES]
    of = [f"{min(x):5.2f} {statistics.median(x):5.2f} {max(x):5.2f}" for x in (speed, cpu)]
    return (
        f"{work:11} {of[0]}   {of[1]}   {rates[0]:10,.2f} {rates[1]:10,.2f}   "
        f"{cost[0]:9,.2f} {cost[1]:9,.2f}   {peak[0]:6,.0f} {peak[1]:6,.0f} "
        f"{peak[0] / peak[1]:5.2f}"
    )


HEAD = (
    f"{'':11} {'time ratio':17}   {'CPU ratio':17}   {'images/s':>21}   {'CPU ms/image':>19}   "
    f"{'peak MB':>13}\n"
    f"{'':11} {'  min   med   max'}   {'  min   med   max'}   "
    f"{'flaxgan':>10} {'torch':>10}   {'flaxgan':>9} {'torch':>9}   {'flaxgan':>6} "
    f"{'torch':>6} ratio"
)


def machine() -> str:
    """What this runs on, and what else keeps it busy."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    versions = " ".join(f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "torch"))
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} core(s), load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {versions}"
    )


def main() -> None:
    """Measures what the command line names, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each side in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, help="that both sides may use; default: all")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": str(ROOT)}
    print(machine(), flush=True)
    lines = []
    for work in args.work:
        if work == "compile":
            lines += [f"compile {w}: {compile_seconds(w, env):.1f} s" for w in COMPILED]
        else:
            lines.append(line_of(work, compare(work, args.seconds, args.rounds, env)))
        print(lines[-1], flush=True)
    print("\n".join([machine(), HEAD, *lines]))


if __name__ == "__main__":
    main()
