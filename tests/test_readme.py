"""The README: its example runs, its commands are there, its tables are complete."""

import re
from pathlib import Path

import numpy as np

from tests.conftest import CONFIGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["images"].shape == (8, 32, 32, 3)
    assert names["images"].dtype == np.uint8
    assert int(names["state"].step) == 3
    assert capsys.readouterr().out.count("d_loss") == 3


def test_the_commands_that_ci_runs_are_there_once():
    for end in (r"python train\.py --config configs/avatars32_cpu\.py", "pytest"):
        assert len(re.findall(rf"^pip install .*{end}$", README, re.MULTILINE)) == 1, end


def test_every_config_has_a_row():
    rows = re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE)
    assert sorted(rows) == [path.name for path in CONFIGS]


def test_every_path_exists():
    paths = re.findall(r"(?:`|\()((?:flaxgan|configs|docs)/[\w./]*)", README)
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_flag_exists():
    from flaxgan.config import Config, _field_paths

    known = {"--" + path for path in _field_paths(Config)}
    flags = set(re.findall(r"--[a-z-]+\.[a-z0-9-]+", README))
    assert len(flags) > 3
    assert flags - {"--any.field"} <= known
