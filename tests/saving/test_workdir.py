"""The folder of a run: made once, refused to another experiment."""

import dataclasses
import os

import pytest

from flaxgan.config import Config, OptimConfig, from_json, to_json
from flaxgan.config.fields import flatten
from flaxgan.errors import UserError
from flaxgan.saving.finding import newest_run
from flaxgan.saving.workdir import FREE_FIELDS, prepare_workdir

REPLACE = dataclasses.replace
CONFIG = Config(name="a")


def test_it_writes_the_config(tmp_path):
    workdir = tmp_path / "runs" / "a"
    prepare_workdir(CONFIG, workdir)
    assert from_json((workdir / "config.json").read_text()) == CONFIG
    assert [p.name for p in workdir.iterdir()] == ["config.json"]


def test_the_same_experiment_comes_back_and_free_fields_are_updated(tmp_path):
    prepare_workdir(CONFIG, tmp_path)
    longer = REPLACE(CONFIG, name="b", train=REPLACE(CONFIG.train, total_kimg=7.0))
    prepare_workdir(longer, tmp_path)
    assert from_json((tmp_path / "config.json").read_text()) == longer


def test_another_experiment_is_refused_by_the_name_of_the_field(tmp_path):
    prepare_workdir(CONFIG, tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"g_opt\.lr is 0\.0001 there and 0\.5 here; use another"):
        prepare_workdir(REPLACE(CONFIG, g_opt=OptimConfig(lr=0.5)), tmp_path)
    other = REPLACE(CONFIG, model=REPLACE(CONFIG.model, z_dim=3, g_channels=5))
    with pytest.raises(UserError, match=r"model\.z_dim is 100 there and 3 here and 1 more; use"):
        prepare_workdir(other, tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_free_fields_exist():
    assert set(flatten(CONFIG)) >= FREE_FIELDS


def test_every_field_is_free_or_refused(tmp_path):
    """Every leaf of the config, changed alone."""
    for path, value in flatten(CONFIG).items():
        (tmp_path / "config.json").write_text(to_json(CONFIG))
        other = ("x",) if isinstance(value, tuple) else "x" if value is None else None
        changed = value + 1 if isinstance(value, (int, float)) else other or f"{value}x"
        config = with_field(CONFIG, path.split("."), changed)
        if path in FREE_FIELDS:
            prepare_workdir(config, tmp_path)
        else:
            with pytest.raises(UserError, match=path):
                prepare_workdir(config, tmp_path)


def with_field(config, names, value):
    if len(names) == 1:
        return REPLACE(config, **{names[0]: value})
    inner = with_field(getattr(config, names[0]), names[1:], value)
    return REPLACE(config, **{names[0]: inner})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"model": {"depth": 3}}'])
def test_a_broken_config_is_one_clear_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read") as error:
        prepare_workdir(CONFIG, tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == content


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_the_way_is_one_clear_line(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to workdir"):
        prepare_workdir(CONFIG, tmp_path / "file" / below)


def make_run(root, name, step, seconds):
    checkpoints = root / name / "checkpoints"
    (checkpoints / step / "meta").mkdir(parents=True)
    os.utime(checkpoints, (seconds, seconds))


def test_newest_run(tmp_path):
    make_run(tmp_path, "b", "10", 300)
    make_run(tmp_path, "a", "99", 200)
    make_run(tmp_path, "broken", "broken-10", 400)
    make_run(tmp_path, "killed", "10.orbax-checkpoint-tmp", 500)
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert newest_run(tmp_path) == tmp_path / "b"


def test_no_run_says_what_to_do(tmp_path):
    make_run(tmp_path, "killed", "10.orbax-checkpoint-tmp", 500)
    with pytest.raises(UserError, match=r"no trained run in .*train\.py.*--checkpoint"):
        newest_run(tmp_path)
