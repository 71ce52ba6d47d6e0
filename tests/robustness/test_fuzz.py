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


def folder_of_a_run(parent):
    root = Path(os.path.realpath(parent)) / "root"
    for name in ("home", "tmp", "secret"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def root(tmp_path):
    """The folder of a run."""
    return folder_of_a_run(tmp_path)


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


# of a kind that does what no reader may; and what is said of it
BEHAVIOURS = [
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
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Place in BEHAVIOURS -> problems that were seen; all of them in two processes, as one dies."""
    parent = Path(os.path.realpath(tmp_path_factory.mktemp("behaviours")))
    cases = "".join(
        f"def case_{i}(folder):\n    {code}\n    return [None]\n"
        for i, (code, _) in enumerate(BEHAVIOURS)
    )
    (parent / "sitecustomize.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(fuzz.ROOT)!r})\n"
        "from flaxgan.errors import UserError\n"
        "from tests.robustness.fuzzing import kinds\n"
        f"{cases}"
        "class Images:\n"
        "    limit = 1\n"
        "    def __init__(self, shared): pass\n"
        "    def run(self, rng, folder):\n"
        "        return globals()['case_' + folder.name.split('-')[1]](folder)\n"
        "kinds.Images = Images\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "KEPT", (*fuzz.KEPT, "PYTHONPATH"))
        patch.setenv("PYTHONPATH", str(parent))
        tally, failures = fuzz.run_kind(
            "images", 0, len(BEHAVIOURS), 0, folder_of_a_run(parent), lambda message: None
        )
    assert sum(tally.values()) == len(BEHAVIOURS)
    assert tally["failed"] == len(failures)
    return {failure["case"]: failure["problems"] for failure in failures}


@pytest.mark.parametrize(("case", "words"), [(i, words) for i, (_, words) in enumerate(BEHAVIOURS)])
def test_what_goes_wrong_is_seen(said, case, words):
    if words is None:
        assert case not in said
    else:
        assert words in "\n".join(said[case])


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
