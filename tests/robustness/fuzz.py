"""Feeds mutated input of every kind to the library.

    python tests/robustness/fuzz.py --count 20000 --seed 0

Case i of kind k is a function of (seed, k, i): `--only checkpoints:17 --seed 0` runs it again. A
case fails unless everything that it called succeeded or raised a UserError of one short line; if it
warned, hung, killed the process, restored something else than was saved; or wrote, started or
connected to anything outside its folder.
"""

import argparse
import collections
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# kind -> share of the cases
SHARES = {
    "configs": 20,
    "flags": 13,
    "prompts": 12,
    "captions": 12,
    "archives": 8,
    "checkpoints": 11,
    "files": 12,
    "images": 12,
}
CHUNK = 1000  # cases of one process
MEMORY = 12 * 2**30  # bytes of data that a process may hold; more is a MemoryError
LONGEST = 600  # characters of an error
ROW = "{:<12} {:>7} {:>10} {:>12} {:>7} {:>6}"  # of the table
KEPT = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV")


def counts(total, kinds):
    """Cases of each kind."""
    shares = {kind: SHARES[kind] for kind in kinds}
    return {kind: -(-total * share // sum(shares.values())) for kind, share in shares.items()}


def run_kind(kind, first, last, seed, root, report):
    """Runs cases in processes of CHUNK each; one that dies takes its case with it, no other.

    Returns:
      Counter of "succeeded", "clear error" and "failed", and the failures.
    """
    tally, failures = collections.Counter(), []
    while first < last:
        stop = min(last, first + CHUNK)
        done, problems, next_case = _run_process(kind, first, stop, seed, root, report)
        tally += done
        failures += problems
        if next_case <= first:
            raise RuntimeError(f"{kind}: the process ended before its first case")
        first = next_case
    return tally, failures


def _run_process(kind, first, last, seed, root, report):
    home, output = root / "home", root.with_suffix(".output")
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TFDS_DATA_DIR": str(home / "tfds"),
        "TMPDIR": str(root / "tmp"),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",
    }
    command = [sys.executable, __file__, "--child", kind, str(first), str(last), str(root)]
    with output.open("wb") as stderr:
        child = subprocess.Popen(
            [*command, "--seed", str(seed)], stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
    tally, failures, running, limit = collections.Counter(), [], None, 300
    while True:
        ready, _, _ = select.select([child.stdout], [], [], limit)
        line = child.stdout.readline() if ready else b""
        if not line:
            break
        message = json.loads(line)
        if message.get("done"):
            child.communicate()
            return tally, failures, last
        if "start" in message:
            running, limit = message["start"], message["limit"] * 2
            continue
        tally[message["outcome"]] += 1
        if message["outcome"] == "failed":
            failures.append(message)
            report(message)
        running = None
    child.kill()
    child.communicate()
    code = child.returncode
    text = output.read_text(errors="replace")
    if running is None:
        raise RuntimeError(f"the process of {kind} cases ended with {code}: {text[-3000:]}")
    why = f"the process died, {code}: {text[-1500:]}" if ready else "hung where no alarm rings"
    message = {"kind": kind, "case": running, "outcome": "failed", "problems": [why]}
    report(message)
    shutil.rmtree(root / "cases", ignore_errors=True)
    return tally + collections.Counter(failed=1), [*failures, message], running + 1


def child_main(kind, first, last, root, seed, verbose=False):
    """Runs cases in this process, one line of JSON before and after each."""
    import resource

    sys.path.insert(0, str(ROOT))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    channel = os.fdopen(os.dup(1), "w")
    output = root.with_suffix(".output")
    with output.open("ab") as file:  # what the library prints is not for the parent
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    output = output.open("rb")

    def say(**message):
        print(json.dumps(message), file=channel, flush=True)

    from tests.robustness.fuzzing.guard import Guard, Hang, Outside

    guard = Guard(root)
    (root / "cases").mkdir(exist_ok=True)
    subject = _kind(kind)(root)
    for case in range(first, last):
        say(start=case, limit=subject.limit)
        rng = random.Random(f"{seed}:{kind}:{case}")
        folder = root / "cases" / f"{kind}-{case}"
        problems, outcomes, began = [], [], time.perf_counter()
        with guard.case(folder, subject.limit) as observed:
            try:
                outcomes = subject.run(rng, folder)
            except Hang:
                problems.append(f"took longer than {subject.limit} s")
            except Outside as error:
                problems.append(f"reached outside: {error}")
            except BaseException as error:
                problems.append("".join(traceback.format_exception(error))[-3000:])
                del error
        problems += observed
        sys.stdout.flush()
        printed = output.read().decode("utf-8", "replace")
        if "Traceback" in printed or "Exception ignored" in printed:
            problems.append(f"printed {printed[-1500:]}")
        errors = [error for error in outcomes if error is not None]
        problems += [p for error in errors if (p := _unclear(error))]
        outcome = "failed" if problems else "clear error" if errors else "succeeded"
        details = {"problems": problems} if problems else {}
        if verbose:
            details["errors"] = [str(error) for error in errors]
        say(kind=kind, case=case, outcome=outcome, s=time.perf_counter() - began, **details)
    say(done=True)


def _kind(name):
    from tests.robustness.fuzzing import checkpoints, kinds

    return checkpoints.Checkpoints if name == "checkpoints" else getattr(kinds, name.capitalize())


def _unclear(error):
    """What is wrong with the line that a command would print."""
    from flaxgan.errors import one_line

    line = one_line(error)
    if not line.strip():
        return "an error without words"
    if len(line) > LONGEST or not line.isprintable() or "Traceback" in line:
        return f"an unclear error: {line[:200]!r} … of {len(line)} characters"
    return None


def main(argv=None):
    """Runs the cases and prints a table."""
    parser = argparse.ArgumentParser(
        prog="python tests/robustness/fuzz.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--count", type=int, default=20_000, help="cases of all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(SHARES), help="some of them, with commas")
    parser.add_argument("--only", metavar="KIND:CASE", help="one case, with what it raised")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        kind, first, last, root = args.child
        child_main(kind, int(first), int(last), Path(root), args.seed)
        return 0
    parent = Path(os.path.realpath(tempfile.mkdtemp(prefix="flaxgan-fuzz-")))
    root = parent / "root"
    for name in ("home", "tmp", "secret"):
        (root / name).mkdir(parents=True)
    try:
        if args.only:
            kind, case = args.only.split(":")
            child_main(kind, int(case), int(case) + 1, root, args.seed, verbose=True)
            return 0
        return _run_all(counts(args.count, args.kinds.split(",")), args.seed, root)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _run_all(cases, seed, root):
    def report(message):
        where = f"{message['kind']}:{message['case']}"
        print(f"\n{where} failed; python tests/robustness/fuzz.py --only {where} --seed {seed}")
        print("\n".join(message["problems"]), flush=True)

    total = collections.Counter()
    outcomes = ("succeeded", "clear error", "failed")
    print(ROW.format("kind", "cases", *outcomes, "s"))
    for kind, count in cases.items():
        began = time.monotonic()
        tally, _ = run_kind(kind, 0, count, seed, root, report)
        total += tally
        numbers = (count, *(tally[o] for o in outcomes), round(time.monotonic() - began))
        print(ROW.format(kind, *numbers), flush=True)
    print(ROW.format("all", sum(cases.values()), *(total[o] for o in outcomes), ""))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
