"""Updates that are not finite: left out one by one, then the run goes back, then it stops."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from flaxgan.config import TrainConfig
from flaxgan.errors import UserError
from flaxgan.run.batches import BatchBuilder
from flaxgan.run.loop import train
from flaxgan.run.rollback import Rollbacks
from flaxgan.training import parallel
from tests.run.test_loop import read_metrics, read_state, small_config

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """Eight take six times as long on two cores."""
    monkeypatch.setattr(parallel, "all_devices", lambda: jax.devices()[:1])


@pytest.fixture
def bad_pictures(monkeypatch):
    """Makes the pictures of the given fetched batches, counted from 0 on, NaN."""

    def spoil(numbers):
        batch, fetched = BatchBuilder.build, []

        def spoiled(self, arrays):
            made = batch(self, arrays)
            images = made.images.astype(np.float32) / 127.5 - 1
            if len(fetched) in numbers:
                images[:] = np.nan
            fetched.append(1)
            return made.replace(images=images)

        monkeypatch.setattr(BatchBuilder, "build", spoiled)

    return spoil


def config_of(**changes):
    return small_config(total_kimg=0.08, save_every_kimg=0.032, grid_every_kimg=1, **changes)


def test_a_bad_batch_is_left_out_and_counted(tmp_path, bad_pictures, capsys):
    bad_pictures({3})  # the first is for shapes only: the third step
    assert train(config_of(), tmp_path) is None
    lines = [line for line in read_metrics(tmp_path) if "skipped" in line]
    assert [line["skipped"] for line in lines] == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert "d_loss" not in lines[2]  # it is not a number, and JSON has none that is not
    assert not (tmp_path / "rollbacks.json").exists()
    state, _ = read_state(config_of(), tmp_path)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_a_bad_stretch_brings_the_run_back_with_lower_learning_rates(
    tmp_path, bad_pictures, capsys
):
    """Steps 6 and 7 are bad; the checkpoint is of step 4; after that batches are good again."""
    bad_pictures({6, 7})
    config = config_of(max_skips_in_row=2)
    assert train(config, tmp_path) is None
    said = capsys.readouterr().out
    assert "2 updates in a row were not finite at step 7: back to step 4" in said
    assert "learning rates x 0.5" in said
    found = json.loads((tmp_path / "rollbacks.json").read_text())
    assert found == [{"at_step": 7, "to_step": 4}]
    lines = [line for line in read_metrics(tmp_path) if "lr_scale" in line]
    assert [line["step"] for line in lines] == list(range(1, 11))  # each once
    assert [line["lr_scale"] for line in lines] == 4 * [1.0] + 6 * [0.5]
    state, _ = read_state(config, tmp_path)
    assert float(state.health.lr_scale) == 0.5
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, total_kimg=0.088))
    assert train(longer, tmp_path) is None
    assert read_metrics(tmp_path)[-1]["step"] == 11
    assert [line["lr_scale"] for line in read_metrics(tmp_path) if "lr_scale" in line][-1] == 0.5


def test_what_was_saved_in_a_bad_stretch_is_not_gone_back_to(tmp_path, bad_pictures):
    bad_pictures(set(range(4, 10)))  # from step 4 on: the save at step 4 is of a bad update
    assert train(config_of(max_skips_in_row=4), tmp_path) is None
    found = json.loads((tmp_path / "rollbacks.json").read_text())
    assert found == [{"at_step": 7, "to_step": 0}]


def test_a_run_that_diverges_again_stops(tmp_path, bad_pictures):
    bad_pictures(set(range(3, 1000)))
    config = config_of(max_skips_in_row=2, max_rollbacks=2)
    with pytest.raises(UserError, match=r"diverged again, after 4 \(back to 0\), 2 \(back to 0\)"):
        train(config, tmp_path)
    assert len(json.loads((tmp_path / "rollbacks.json").read_text())) == 2
    assert Rollbacks(tmp_path, config.train).lr_scale == 0.25


def test_a_damaged_file_is_named(tmp_path):
    for text in ("{", "[1]", '[{"at_step": 1}]'):
        (tmp_path / "rollbacks.json").write_text(text)
        with pytest.raises(UserError, match=r"rollbacks\.json cannot be read"):
            Rollbacks(tmp_path, TrainConfig())
