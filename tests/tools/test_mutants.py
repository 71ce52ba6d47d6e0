"""The table of faults fits the tree, and the tool tells what tests catch from what they do not."""

import pytest

from tools import mutants
from tools.mutants import FAULTS, LEFT_OUT, ROOT, Fault, arguments, judge, main


def test_every_fault_can_be_made_and_its_tests_are_there():
    wrong = []
    for fault in FAULTS:
        path = ROOT / fault.file
        count = path.read_text("utf-8").count(fault.old) if path.is_file() else 0
        files = [word for word in arguments(fault.tests) if word.startswith("tests/")]
        there = files and all((ROOT / file).is_file() for file in files)
        if count != 1 or fault.old == fault.new or not there:
            wrong.append(f"{fault.name}: found {count} times, tests there: {bool(there)}")
    assert not wrong, "\n".join(wrong)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30


@pytest.fixture
def tree(tmp_path):
    """A package of one function, with a test of half of it."""
    (tmp_path / "sign.py").write_text("def sign(x):\n    return 1 if x > 0 else -1\n")
    (tmp_path / "test_sign.py").write_text(
        "from sign import sign\ndef test_positive():\n    assert sign(3) == 1\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


SEEN = Fault("seen", "sign.py", "x > 0", "x < 0", "test_sign.py")
UNSEEN = Fault("unseen", "sign.py", "else -1", "else 0", "test_sign.py")
GONE = Fault("gone", "sign.py", "x >= 0", "x < 0", "test_sign.py")


@pytest.mark.slow
def test_verdicts(tree, capsys):
    before = (tree / "sign.py").read_text()
    assert main(["--root", str(tree)], (SEEN, UNSEEN, GONE)) == 1
    said = capsys.readouterr().out
    verdicts = [line.split()[0] for line in said.splitlines() if line.endswith(("een", "gone"))]
    assert verdicts == ["caught", "survived", "unclear"]
    assert "sign.py holds 'x >= 0' 0 times, not once" in said
    assert "1 of 3 are caught" in said
    assert (tree / "sign.py").read_text() == before


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "survived"), (1, "caught"), (-11, "caught"), (2, "unclear")]
)
def test_exit_codes_of_pytest(tree, monkeypatch, code, verdict):
    """Negative: the process died; others than 0 and 1: it could not run, or there is no test."""
    monkeypatch.setattr(mutants, "run_tests", lambda root, tests: (code, ""))
    assert judge(SEEN, SEEN.tests, tree)[0] == verdict


def test_tests_that_fail_without_a_fault_show_nothing(tree, monkeypatch, capsys):
    monkeypatch.setattr(mutants, "run_tests", lambda root, tests: (1, ""))
    assert main(["--root", str(tree), "--skip-clean"], (SEEN,)) == 0
    assert main(["--root", str(tree)], (SEEN,)) == 1
    assert "without a fault, these do not pass: test_sign.py" in capsys.readouterr().out


def test_what_is_no_part_of_the_tree_is_not_copied(tree):
    assert LEFT_OUT(str(tree), [".git", "sign.py", "__pycache__", "runs"]) == {
        *(".git", "__pycache__", "runs")
    }


def test_list_and_unknown_names(capsys):
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == 3 * len(FAULTS)
    with pytest.raises(SystemExit):
        main(["--only", "no such fault"])
