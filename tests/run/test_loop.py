"""The loop: whole, interrupted, killed, and resumed."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from flaxgan.config import Config, from_json, load_config, to_json
from flaxgan.errors import UserError
from flaxgan.run import metric_writer
from flaxgan.run.checkpointed import check_same_text
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.run.loop import train
from flaxgan.saving.checkpoint import Checkpoints
from flaxgan.saving.finding import newest_run
from flaxgan.saving.meta import read_meta
from flaxgan.saving.workdir import prepare_workdir
from flaxgan.text.conditioning import TextStats
from flaxgan.training import parallel

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
ROOT = Path(__file__).parents[2]
STEPS = 6


def small_config(**changes) -> Config:
    """The MLP pair, with dropout, Adam and an averaged generator: all that has a memory."""
    config = load_config(ROOT / "configs" / "mlp28.py", tiny=True)
    fields = {
        "total_kimg": STEPS * 8 / 1000,
        "grid_every_kimg": 0.016,
        "save_every_kimg": 0.016,
        **changes,
    }
    data = dataclasses.replace(config.data, resolution=8)  # a step is most of the time
    return dataclasses.replace(config, data=data, train=dataclasses.replace(config.train, **fields))


def read_state(config, workdir):
    state = new_state(build_experiment(config), parallel.all_devices())
    checkpoints = Checkpoints(workdir / "checkpoints")
    restored, meta = checkpoints.restore_newest(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    )
    checkpoints.close()
    return jax.tree.map(np.asarray, restored), meta


def read_metrics(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timing = ("seconds", "images_per_second", "input_wait", "host_memory_mb")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


def assert_same_run(a, b, config):
    """Bit for bit: every leaf of the state, every number in the log, every pixel of the grids."""
    (state_a, meta_a), (state_b, meta_b) = read_state(config, a), read_state(config, b)
    assert jax.tree.structure(state_a) == jax.tree.structure(state_b)
    for x, y in zip(jax.tree.leaves(state_a), jax.tree.leaves(state_b), strict=True):
        np.testing.assert_array_equal(x, y)
    assert meta_a["digests"] == meta_b["digests"]
    assert read_metrics(a) == read_metrics(b)
    assert_same_grids(a, b)


def assert_same_grids(a, b):
    grids = sorted(p.name for p in (a / "grids").glob("*.png"))
    assert grids == sorted(p.name for p in (b / "grids").glob("*.png"))
    for name in grids:
        np.testing.assert_array_equal(
            Image.open(a / "grids" / name), Image.open(b / "grids" / name)
        )


@pytest.fixture
def whole(small_run):
    """A run that nobody interrupted."""
    return small_run


def test_a_finished_run_has_everything(whole):
    config = small_config()
    assert from_json((whole / "config.json").read_text()) == config
    images_seen = [0, 16, 32, 48]
    assert sorted(p.name for p in (whole / "grids").glob("*.png")) == [
        f"{n:09d}.png" for n in images_seen
    ]
    lines = read_metrics(whole)
    assert [line["step"] for line in lines if "d_loss" in line] == list(range(1, STEPS + 1))
    assert [line["images_seen"] for line in lines if "fd_pixels8" in line] == images_seen
    assert all(np.isfinite(v) for line in lines for v in line.values())
    state, meta = read_state(config, whole)
    assert int(state.step) == STEPS
    assert meta["next_index"] == STEPS
    assert from_json(meta["config"]) == config
    start = new_state(build_experiment(config), parallel.all_devices())
    for name in ("g_params", "d_params", "ema_params"):
        before, after = getattr(start, name), getattr(state, name)
        assert all(
            np.any(np.asarray(a) != np.asarray(b))
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        )


@pytest.mark.parametrize(
    "interruptions",
    [
        {1: signal.SIGTERM, 3: signal.SIGINT},
        pytest.param({1: signal.SIGINT}, marks=pytest.mark.slow),
        pytest.param({3: signal.SIGTERM}, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(whole, tmp_path, monkeypatch, interruptions):
    write = metric_writer.MetricWriter.write

    def interrupting(self, step, *args, **options):
        write(self, step, *args, **options)
        if step in interruptions:
            signal.raise_signal(interruptions[step])

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for at_step, number in interruptions.items():
        with monkeypatch.context() as patch:
            patch.setattr(metric_writer.MetricWriter, "write", interrupting)
            assert train(small_config(), tmp_path / "run") == number
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (tmp_path / "run" / "checkpoints" / str(at_step)).is_dir()
    assert train(small_config(), tmp_path / "run") is None
    assert_same_run(whole, tmp_path / "run", small_config())


def test_a_complete_run_says_so_and_can_be_prolonged(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    capsys.readouterr()
    assert train(small_config(), tmp_path / "run") is None
    assert "training is complete" in capsys.readouterr().out
    assert read_metrics(tmp_path / "run") == read_metrics(whole)
    assert train(small_config(total_kimg=0.064), tmp_path / "run") is None
    assert "resumed at step 6" in capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoints" / "8").is_dir()


def test_a_workdir_of_another_experiment_is_refused(whole):
    config = small_config()
    other = dataclasses.replace(config, g_opt=dataclasses.replace(config.g_opt, lr=1.0))
    before = (whole / "config.json").read_text()
    with pytest.raises(UserError, match=r"g_opt\.lr is 0\.0002 there and 1\.0 here"):
        prepare_workdir(other, whole)
    assert (whole / "config.json").read_text() == before


def test_captions_that_have_changed_are_noticed():
    old = TextStats(mean=np.zeros(3), sd=np.full(3, 0.1))
    check_same_text(old, TextStats(mean=np.array([0.0, 0.001, 0.0]), sd=np.full(3, 0.1)))
    check_same_text(None, None)
    with pytest.raises(UserError, match="captions or the text encoder have changed"):
        check_same_text(old, TextStats(mean=np.array([0.0, 0.05, 0.0]), sd=np.full(3, 0.1)))


def test_what_does_not_change_results_may_change(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    changed = small_config(grid_rows=3, log_every_steps=2, keep_last=5, mode="jit")
    prepare_workdir(changed, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == to_json(changed)


def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    config = small_config(save_every_kimg=0.008, max_skips_in_row=2)
    opt = dataclasses.replace(config.g_opt, name="sgd", lr=1e30)
    config = dataclasses.replace(config, g_opt=opt, d_opt=opt)
    with pytest.raises(UserError, match=r"training diverged again.*lower --g-opt\.lr"):
        train(config, tmp_path / "run")
    kept = sorted((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert kept
    assert read_meta(kept[0])["next_index"] == 0


def test_text_run_draws_test_captions(text_run):
    assert len(list((text_run / "grids").glob("*.png"))) == 3
    assert newest_run(text_run.parent) == text_run
    last = [line for line in read_metrics(text_run) if "d_loss" in line][-1]
    assert {
        "contrastive_real",
        "contrastive_fake",
        "penalty",
        "g_loss",
        "real_logit",
        "fake_logit",
    } <= set(last)


def test_tensorboard_has_curves_and_pictures(tmp_path):
    assert train(small_config(tensorboard=True, total_kimg=0.008), tmp_path / "run") is None
    events = b"".join(p.read_bytes() for p in (tmp_path / "run" / "tensorboard").glob("*events*"))
    for name in (b"d_loss", b"fd_pixels8", b"grid"):
        assert name in events
