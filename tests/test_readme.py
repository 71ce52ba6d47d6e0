"""The README: short, its example runs, its commands are there, its table is complete."""

import re
import shutil

from tests.conftest import CONFIGS
from tests.test_docs import ROOT, blocks, run_block

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 150


def test_the_example_draws_and_trains(text_run, one_device, tmp_path, monkeypatch, capsys):
    """In a folder that has the configs; the run that it names was trained before: it resumes."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shutil.copytree(text_run, tmp_path / "runs" / "trial")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(README, "python")
    names = run_block("README.md", code)
    assert names["images"].shape == (4, 32, 32, 3)
    assert names["images"].dtype == "uint8"
    assert names["images"].std() > 20  # pictures, not one grey
    assert names["grid"].shape == (2, 8, 32, 32, 3)
    assert "training is complete: 32 images seen" in capsys.readouterr().out


def test_it_is_short():
    assert len(README.splitlines()) <= MOST_LINES


def test_the_commands_that_ci_runs_are_there_once():
    for end in (r"python train\.py --config configs/avatars32_cpu\.py", "pytest"):
        assert len(re.findall(rf"^pip install .*{end}$", README, re.MULTILINE)) == 1, end


def config_rows(page):
    """Config file -> row of the page's table."""
    return dict(re.findall(r"^\| `(\w+\.py)` (\|.*)$", page, re.MULTILINE))


def test_every_config_has_a_row():
    for page in (README, (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")):
        assert sorted(config_rows(page)) == [path.name for path in CONFIGS]


def test_measured_results_are_those_of_the_page_on_configs():
    full = config_rows((ROOT / "docs" / "configs.md").read_text(encoding="utf-8"))
    for name, row in config_rows(README).items():
        measured = row.rstrip(" |").rsplit("|", 1)[1]
        numbers = re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d\b", measured)
        assert numbers or measured.strip() == "not yet", name
        assert set(numbers) <= set(re.findall(r"\d[\d.,]*\d|\d", full[name])), name
        assert ("not yet" in measured) == ("not yet" in full[name]), name
