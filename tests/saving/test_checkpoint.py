"""Checkpoints: what goes in comes out, and what is broken is never used or thrown away."""

import contextlib
import gc
import shutil
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxgan.errors import UserError
from flaxgan.saving.checkpoint import Checkpoints
from flaxgan.saving.event_loop import ignore_late_callbacks
from flaxgan.saving.finding import find_checkpoints
from flaxgan.saving.meta import read_meta
from flaxgan.saving.restore import ema_target, restore_ema
from flaxgan.text.conditioning import TextStats
from flaxgan.training.state import Health, TrainState


@pytest.fixture(scope="module", autouse=True)
def _only_what_these_tests_make():
    """Else every test looks through all that earlier files of this worker left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collect():
    """Lets what Orbax left behind be found in the test that caused it."""
    yield
    gc.collect()


def make_state(step, seed=0):
    draw = np.random.default_rng(seed)
    params = {"a": {"kernel": draw.normal(size=(64, 33)).astype(np.float32)}, "b": np.float32(step)}
    params = jax.tree.map(jnp.asarray, params)
    tx = optax.adam(1e-3)
    return TrainState(
        step=jnp.int32(step),
        seed=jnp.uint32(2**32 - 1),
        g_params=params,
        d_params=jax.tree.map(lambda x: x + 1, params),
        ema_params=jax.tree.map(lambda x: x * 2, params),
        g_opt_state=tx.init(params),
        d_opt_state=tx.init(params),
        health=Health.good(),
        text_stats=TextStats(mean=jnp.arange(3.0), sd=jnp.ones(3)),
    )


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three checkpoints; the first is the best."""
    folder = tmp_path_factory.mktemp("saved")
    with_scores = {10: 1.0, 20: 5.0, 30: 4.0}
    checkpoints = Checkpoints(folder, keep_last=2)
    for step, score in with_scores.items():
        checkpoints.save(make_state(step, step), {"next_index": step}, {"fd_pixels8": score})
    checkpoints.close()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of them, to damage."""
    return shutil.copytree(saved, tmp_path, dirs_exist_ok=True)


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_round_trip(folder):
    state, meta = Checkpoints(folder).restore_newest(abstract(make_state(0)))
    assert_equal(state, make_state(30, 30))
    assert meta["next_index"] == 30
    assert meta["metrics"] == {"fd_pixels8": 4.0}


def test_averaged_generator_alone(folder):
    state = make_state(30, 30)
    target = abstract(ema_target(state.ema_params, state.text_stats))
    item, meta = restore_ema(folder / "30", target)
    assert_equal(item, ema_target(state.ema_params, state.text_stats))
    assert meta == read_meta(folder / "30")


def test_the_best_and_the_last_ones_are_kept(folder):
    checkpoints = Checkpoints(folder, keep_last=2)
    for step, score in {40: 3.0, 50: 2.0}.items():
        checkpoints.save(make_state(step), {}, {"fd_pixels8": score})
    checkpoints.save(make_state(60), {}, {})  # without a score, as after an interruption
    checkpoints.wait()
    assert checkpoints.steps() == [10, 50, 60]
    checkpoints.close()


def test_the_best_by_a_score_of_which_more_is_better(tmp_path):
    """Also where older checkpoints have another score, as after a change of eval.best_metric."""
    checkpoints = Checkpoints(tmp_path, keep_last=1, best_metric="binding", lower_is_better=False)
    scores = {1: {"fd_pixels8": 0.1}, 2: {"binding": 0.3}, 3: {"binding": 0.9}, 4: {"binding": 0.2}}
    for step, metrics in scores.items():
        checkpoints.save(make_state(step), {}, metrics)
    checkpoints.wait()
    assert checkpoints.steps() == [3, 4]
    checkpoints.close()
    first = Checkpoints(tmp_path / "other", keep_last=1)
    for step, metrics in {1: {"fd_pixels8": 9.0}, 2: {"fd_pixels8": 8.0}}.items():
        first.save(make_state(step), {}, metrics)
    first.close()
    again = Checkpoints(
        tmp_path / "other", keep_last=1, best_metric="binding", lower_is_better=False
    )
    for step, metrics in {3: {"binding": 0.5}, 4: {"binding": 0.4}}.items():
        again.save(make_state(step), {}, metrics)
    again.wait()
    assert again.steps() == [3, 4]
    again.close()


def test_saved_state_is_not_that_of_the_next_step(tmp_path):
    """The step donates its state: what is being written must be a copy."""
    update = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    state = make_state(1)
    expected = jax.tree.map(np.array, state)
    checkpoints.save(state, {}, {})
    for _ in range(3):
        state = update(state)
    checkpoints.wait()
    restored, _ = checkpoints.restore_newest(abstract(state))
    assert_equal(jax.tree.map(np.asarray, restored), expected)
    checkpoints.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "meta"])
def test_a_broken_newest_checkpoint_is_passed_over_and_kept(folder, damage):
    path = largest_file(folder / "30" / "state")
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "remove":
        path.unlink()
    else:
        (folder / "30" / "meta" / "metadata").write_text('{"config": ')
    said = []
    checkpoints = Checkpoints(folder, report=said.append)
    state, _ = checkpoints.restore_newest(abstract(make_state(0)))
    assert_equal(state, make_state(20, 20))
    assert len(said) == 1
    assert "30 is not intact" in said[0]
    assert "\n" not in said[0]
    assert (folder / "broken-30").is_dir()
    # the step can be saved again
    checkpoints.save(make_state(30, 5), {}, {})
    checkpoints.wait()
    assert_equal(checkpoints.restore_newest(abstract(make_state(0)))[0], make_state(30, 5))
    checkpoints.close()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("meta/metadata", "[]"),
        ("meta/metadata", "[" * 100_000),
        ("meta/metadata", '{"crc32": 3}'),
        ("metrics/metrics", "3"),
        ("_CHECKPOINT_METADATA", '{"commit_timestamp_nsecs": [3]}'),
        ("_CHECKPOINT_METADATA", '{"metrics": "none"}'),
    ],
)
def test_json_of_another_form_is_passed_over(folder, file, text):
    (folder / "30" / file).write_text(text)
    said = []
    checkpoints = Checkpoints(folder, report=said.append)
    assert_equal(checkpoints.restore_newest(abstract(make_state(0)))[0], make_state(20, 20))
    checkpoints.close()
    assert len(said) == 1
    assert "30 is not intact" in said[0]
    assert (folder / "broken-30").is_dir()


def test_no_traceback_is_printed_for_a_damaged_checkpoint(folder, capfd):
    """TensorStore's threads answer for the other arrays after Orbax has given up."""
    state = make_state(30, 30)
    target = abstract(ema_target({str(i): jnp.zeros(3) for i in range(50)}, state.text_stats))
    for path in (folder / "30").rglob("d/*"):
        path.write_bytes(b"")
    for _ in range(5):
        with pytest.raises(UserError, match="not intact"):
            restore_ema(folder / "30", target)
    time.sleep(0.1)
    assert "Traceback" not in capfd.readouterr().err


def test_folders_whose_names_are_hardly_numbers(folder):
    (folder / "²" / "meta").mkdir(parents=True)
    assert [p.name for p in find_checkpoints(folder)] == ["30", "20", "10"]


def test_a_flipped_bit_of_the_averaged_generator_is_found(folder):
    path = largest_file(folder / "30" / "ema")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    state = make_state(30, 30)
    with pytest.raises(UserError, match="30 is not intact"):
        restore_ema(folder / "30", abstract(ema_target(state.ema_params, state.text_stats)))


def test_all_broken_is_an_error(folder):
    for step in (10, 20, 30):
        largest_file(folder / str(step) / "state").write_bytes(b"")
    with pytest.raises(UserError, match="no intact checkpoint"):
        Checkpoints(folder, report=lambda line: None).restore_newest(abstract(make_state(0)))
    assert sorted(p.name for p in folder.glob("broken-*")) == [
        "broken-10",
        "broken-20",
        "broken-30",
    ]


def test_no_checkpoint_yet_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore_newest(abstract(make_state(0))) is None


def test_another_model_is_refused(folder):
    state = make_state(30)
    target = abstract(ema_target({"other": jnp.zeros(3)}, state.text_stats))
    with pytest.raises(UserError, match="not intact"):
        restore_ema(folder / "30", target)


def test_checkpoints_are_found_from_every_level(folder, tmp_path):
    names = [p.name for p in find_checkpoints(folder)]
    assert names == ["30", "20", "10"]
    assert find_checkpoints(folder / "20") == [folder / "20"]
    with pytest.raises(UserError, match="no checkpoint in"):
        find_checkpoints(tmp_path / "nothing")


def test_an_unfinished_checkpoint_of_a_killed_run_is_not_one(folder):
    (folder / "40.orbax-checkpoint-tmp").mkdir()
    (folder / "40.orbax-checkpoint-tmp" / "meta").mkdir()
    assert find_checkpoints(folder)[0].name == "30"
    checkpoints = Checkpoints(folder)
    assert checkpoints.steps() == [10, 20, 30]
    checkpoints.close()


def test_what_orbax_did_not_start_gives_no_warning():
    """A coroutine made before an error; Python warns when the error is let go."""

    async def metadata():
        pass

    def read():
        asked = [metadata()]
        raise ValueError(f"{len(asked)} asked")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ValueError), ignore_late_callbacks():
            read()
        gc.collect()
    assert not caught
