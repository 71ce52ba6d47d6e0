"""A few hundred cases of tests/robustness/fuzz.py, and that it sees what it is there to see."""

import os
from pathlib import Path

import pytest

from tests.robustness import fuzz
from tests.robustness.fuzzing import guard, mutate

# about 300, most of where a case is cheap
COUNTS = {
    "configs": 80,
    "flags": 24,
    "prompts": 24,
    "captions": 40,
    "archives": 40,
    "checkpoints": 6,
    "files": 40,
    "images": 60,
}


@pytest.fixture
def root(tmp_path):
    """The folder of a run."""
    root = Path(os.path.realpath(tmp_path)) / "root"
    for name in ("home", "tmp", "secret"):
        (root / name).mkdir(parents=True)
    return root


def test_every_kind_is_run():
    assert COUNTS.keys() == fuzz.SHARES.keys()
    assert sum(COUNTS.values()) >= 300
    assert sum(fuzz.counts(20_000, fuzz.SHARES).values()) >= 20_000


@pytest.mark.parametrize("kind", COUNTS)
def test_mutated_input_gives_clear_errors(root, kind):
    tally, failures = fuzz.run_kind(kind, 0, COUNTS[kind], 1, root, lambda message: None)
    assert not failures
    assert tally["succeeded"] + tally["clear error"] == COUNTS[kind]
    assert min(tally["succeeded"], tally["clear error"]) > 0 or kind == "checkpoints"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("raise ValueError('odd')", "ValueError: odd"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("import os; os.kill(os.getpid(), 11)", "the process died, -11"),
        ("(folder.parent.parent / 'x').write_text('')", "reached outside: open"),
        ("(folder.parent.parent / 'x').mkdir()", "reached outside: os.mkdir"),
        ("import os; os.rename(folder, folder.parent / 'x')", "reached outside: os.rename"),
        ("(folder.parent.parent / 'secret' / 'a').read_bytes()", "reached outside: read"),
        ("import subprocess; subprocess.run(['true'])", "reached outside: subprocess.Popen"),
        ("import socket; socket.socket().connect(('127.0.0.1', 9))", "reached outside: socket"),
        ("import warnings; warnings.warn('odd')", "warned: UserWarning: odd"),
        ("import os; os.write(2, b'Traceback')", "printed Traceback"),
        ("return [UserError('no such file; name another')]", None),
        ("return [None]", None),
    ],
)
def test_what_goes_wrong_is_seen(root, monkeypatch, behaviour, words):
    """A kind that does what no reader may."""
    plugin = root.parent / "sitecustomize.py"
    plugin.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(fuzz.ROOT)!r})\n"
        "from flaxgan.errors import UserError\n"
        "from tests.robustness.fuzzing import kinds\n"
        "class Images:\n"
        "    limit = 1\n"
        "    def __init__(self, shared): pass\n"
        "    def run(self, rng, folder):\n"
        f"        {behaviour}\n"
        "        return [None]\n"
        "kinds.Images = Images\n"
    )
    monkeypatch.setattr(fuzz, "KEPT", (*fuzz.KEPT, "PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", str(root.parent))
    tally, failures = fuzz.run_kind("images", 0, 1, 0, root, lambda message: None)
    if words is None:
        assert tally["failed"] == 0
    else:
        assert words in "\n".join(failures[0]["problems"])


def test_unclear_errors_are_seen():
    from flaxgan.errors import UserError

    assert fuzz._unclear(UserError("no such file; name another")) is None
    assert "unclear" in fuzz._unclear(UserError("Traceback (most recent call last)"))


def test_a_case_is_a_function_of_seed_kind_and_number():
    import random

    def made(seed):
        rng = random.Random(f"{seed}:files:3")
        return mutate.data(rng, bytes(100)), mutate.json_bytes(rng, {"a": [1, {"b": 2}]})

    assert made(0) == made(0) != made(1)


def test_a_file_that_is_changed_without_an_audit_event_is_seen(root):
    """As C++ does."""
    watcher = guard.Guard.__new__(guard.Guard)
    watcher.root = root
    before = watcher._snapshot(root / "cases")
    (root / "home" / "x").write_text("")
    assert watcher._snapshot(root / "cases") != before
