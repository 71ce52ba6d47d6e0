"""What of a state is saved, and what comes back."""

import dataclasses

import jax
import numpy as np
import pytest

from flaxgan.run.checkpointed import CheckpointedState
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.saving.meta import read_meta
from flaxgan.training import parallel
from tests.run.test_loop import small_config

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


def test_frozen_word_vectors_are_made_anew_and_not_saved(tmp_path):
    config = small_config()
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, caption_key="captions", max_captions=1),
        text=dataclasses.replace(config.text, encoder="words"),
    )
    experiment = build_experiment(config)
    state = new_state(experiment, parallel.all_devices())
    table = np.asarray(state.word_table)
    assert np.abs(table).sum() > 0

    trained = state.replace(step=state.step + 3)
    written = CheckpointedState(experiment, trained, tmp_path, report=pytest.fail)
    written.step = 3
    written.save({})
    assert written.wait()
    written.close()
    for item in (tmp_path / "checkpoints" / "3").iterdir():
        assert not any("word_table" in part.name for part in item.rglob("*"))
    assert "word_table" not in read_meta(tmp_path / "checkpoints" / "3")["digests"]["state"]

    resumed = CheckpointedState(experiment, state, tmp_path, report=pytest.fail)
    assert resumed.restore()
    resumed.close()
    assert resumed.step == int(resumed.state.step) == 3
    assert jax.tree.structure(resumed.state) == jax.tree.structure(trained)
    for x, y in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(trained), strict=True):
        np.testing.assert_array_equal(x, y)
