"""Training in several processes: the same as in one, whatever becomes of them."""

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flaxgan.config import parse_args
from flaxgan.errors import UserError
from flaxgan.run.loop import train
from flaxgan.saving.finding import find_steps
from flaxgan.saving.generator_file import named_leaves
from flaxgan.training import parallel, processes
from tests.conftest import DEVICES
from tests.robustness.process_group import ROOT, group, wait_until

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
STEPS = 6
CONFIG = f"""
import dataclasses
from flaxgan.config import load_config
def get_config():
    config = load_config({str(ROOT / "configs" / "mlp28.py")!r}, tiny=True)
    opts = [dataclasses.replace(o, name="sgd", lr=0.05) for o in (config.g_opt, config.d_opt)]
    train = dataclasses.replace(config.train, total_kimg=STEPS * 8 / 1000, batch_size=8,
                                save_every_kimg=0.016, grid_every_kimg=0.032, log_every_steps=1,
                                ema_slow_halflife_kimg=0.05)
    data = dataclasses.replace(config.data, resolution=8)
    return dataclasses.replace(config, data=data, train=train, g_opt=opts[0], d_opt=opts[1])
"""


def write_config(folder: Path, steps: int = STEPS) -> Path:
    path = folder / f"config{steps}.py"
    path.write_text(CONFIG.replace("STEPS", str(steps)))
    return path


def command(config: Path, workdir: Path, *flags: str) -> list[str]:
    return [
        str(ROOT / "train.py"),
        "--config",
        str(config),
        "--workdir",
        str(workdir),
        *flags,
    ]


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by name."""
    step = find_steps(workdir / "checkpoints")[-1]
    path = (workdir / "checkpoints" / str(step) / "state").absolute()
    handler = ocp.PyTreeCheckpointHandler()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
    )
    tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {name: np.asarray(leaf) for name, leaf in named_leaves(tree).items()}


def assert_same(a: Path, b: Path, atol: float) -> None:
    """States and logged numbers of two runs, whose sums may be in another order."""
    left, right = final_state(a), final_state(b)
    assert left.keys() == right.keys()
    for name, x in left.items():
        np.testing.assert_allclose(x, right[name], rtol=0, atol=atol, err_msg=name)
    lines = [
        [json.loads(line) for line in (w / "metrics.jsonl").read_text().splitlines()]
        for w in (a, b)
    ]
    for x, y in zip(*lines, strict=True):
        for name in ("step", "d_loss", "g_loss", "fake_diversity", "fd_pixels8"):
            assert x.get(name) == pytest.approx(y.get(name), abs=1e-4), name
    grids = [{p.name for p in (workdir / "grids").iterdir()} for workdir in (a, b)]
    assert grids[0] >= grids[1]  # a run that was prolonged has one of its first end


def run(folder: Path, name: str, shape: tuple[int, int], *flags: str, steps: int = STEPS) -> Path:
    """A finished run of so many processes with so many devices each."""
    workdir = folder / name
    with group(
        command(write_config(folder, steps), workdir, *flags),
        folder / f"{name}_out",
        processes=shape[0],
        devices=shape[1],
    ) as started:
        started.wait()
        for number, output in enumerate(started.outputs):
            said = output.read_text()
            assert ("done; draw" in said) == (number == 0)  # one log
            assert "warning" not in said.lower(), said
    return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


def once(folder: Path, mode: str, shape: tuple[int, int], steps: int = STEPS) -> Path:
    """A run of this module, which no test writes to; one process is this one."""
    name = f"{mode}{shape[0]}x{shape[1]}_{steps}"
    if not (folder / name).exists():
        flags = ["--train.mode", mode, "--train.shard-above", "0"]
        if shape[0] == 1:
            path = write_config(folder, steps)
            config, _ = parse_args(["--config", str(path), *flags])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(parallel, "all_devices", lambda: DEVICES[: shape[1]])
                patch.setattr(jax, "local_devices", lambda: DEVICES[: shape[1]])
                assert train(config, folder / name) is None
        else:
            run(folder, name, shape, *flags, steps=steps)
    return folder / name


@pytest.mark.parametrize(
    ("mode", "shape"),
    [
        ("jit", (2, 1)),
        pytest.param("jit", (2, 2), marks=pytest.mark.slow),
        pytest.param("jit", (4, 1), marks=pytest.mark.slow),
        pytest.param("pmap", (2, 2), marks=pytest.mark.slow),
        pytest.param("pmap", (4, 1), marks=pytest.mark.slow),
        pytest.param("shard_map", (2, 2), marks=pytest.mark.slow),
        pytest.param("shard_map", (4, 1), marks=pytest.mark.slow),
    ],
)
def test_processes_equal_devices_of_one(folder, mode, shape):
    """2 processes x 2 devices and 4 x 1 learn, log and draw what 1 x 4 does; 2 x 1 what 1 x 2 does.

    Two SGD runs of 6 steps differ by 1.5e-8 at most. In mode jit every parameter that divides is
    spread over all processes.
    """
    alone = once(folder, mode, (1, shape[0] * shape[1]), 4)
    assert_same(once(folder, mode, shape, 4), alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "shape"), [((2, 2), (1, 2)), ((1, 4), (2, 1))])
def test_processes_equal_devices_that_go_on(folder, source, shape):
    """What several processes saved one reads, and the other way round."""
    longer = once(folder, "jit", (1, 4), STEPS + 2)
    name = f"go_on{shape[0]}x{shape[1]}"
    shutil.copytree(once(folder, "jit", source), folder / name)
    flags = ["--train.mode", "jit", "--train.shard-above", "0"]
    workdir = run(folder, name, shape, *flags, steps=STEPS + 2)
    assert_same(workdir, longer, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_of_two_dies_and_all_start_again(folder, victim):
    """The other ends by itself; the same command in both ends as if nothing had been."""
    steps = 40
    flags = ["--train.mode", "jit", "--train.shard-above", "0"]
    whole = folder / "two_whole"
    if not whole.exists():
        run(folder, "two_whole", (2, 1), *flags, steps=steps)
    workdir = folder / f"dies{victim}"
    argv = command(write_config(folder, steps), workdir, *flags)
    with group(argv, folder / f"dies{victim}_out", processes=2, devices=1) as started:
        wait_until(lambda: max(find_steps(workdir / "checkpoints"), default=0) >= 6)
        started.children[victim].kill()
        other = started.children[1 - victim]
        assert other.wait(timeout=180) != 0
    run(folder, f"dies{victim}", (2, 1), *flags, steps=steps)
    _assert_equal(workdir, whole)


@pytest.mark.slow
def test_sigterm_to_all_saves_and_the_same_command_goes_on(folder):
    """They agree on one step, between two saves."""
    steps = 40
    flags = ["--train.save-every-kimg", "1000"]
    whole = run(folder, "term_whole", (2, 1), *flags, steps=steps)
    workdir = folder / "term"
    argv = command(write_config(folder, steps), workdir, *flags)
    with group(argv, folder / "term_out", processes=2, devices=1) as started:
        wait_until(lambda: '"step": 4,' in _text(workdir / "metrics.jsonl"))
        started.signal(signal.SIGTERM)
        code = 128 + signal.SIGTERM
        assert started.wait(120, codes=[code]) == [code, code]
    assert 4 <= find_steps(workdir / "checkpoints")[-1] < steps
    run(folder, "term", (2, 1), *flags, steps=steps)
    _assert_equal(workdir, whole)


@pytest.mark.slow
def test_an_error_of_all_is_one_line_of_each(folder):
    argv = command(write_config(folder), folder / "odd", "--train.batch-size", "9")
    with group(argv, folder / "odd_out", processes=2, devices=1) as started:
        assert started.wait(120, codes=[2]) == [2, 2]
        for output in started.outputs:
            said = output.read_text()
            assert "error: batch size 9 does not divide by 2 devices" in said
            assert "Traceback" not in said
    assert not (folder / "odd").exists()


def _assert_equal(a: Path, b: Path) -> None:
    left, right = final_state(a), final_state(b)
    assert left.keys() == right.keys()
    for name, x in left.items():
        np.testing.assert_array_equal(x, right[name], err_msg=name)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# without processes


def test_flags_say_who_this_is():
    launch, rest = processes.take_flags(
        ["--config", "x.py", "--coordinator=a.b:12", "--num-processes", "4", "--process-id", "3"],
        {},
    )
    assert rest == ["--config", "x.py"]
    assert launch == processes.Launch(False, "a.b:12", 4, 3)
    assert launch.several
    launch, rest = processes.take_flags(["--distributed", "--tiny"], {"SLURM_STEP_NUM_TASKS": "8"})
    assert launch.detect
    assert launch.several
    assert rest == ["--tiny"]
    launch, rest = processes.take_flags(["--tiny"], {"SLURM_STEP_NUM_TASKS": "1"})
    assert not launch.several


@pytest.mark.parametrize(
    ("argv", "environment", "words"),
    [
        ("--coordinator a:1", {}, "go together"),
        ("--process-id 1", {}, "go together"),
        ("--distributed --process-id 1", {}, "cannot be combined"),
        ("--coordinator a --num-processes 2 --process-id 0", {}, "HOST:PORT, not 'a'"),
        ("--coordinator a:b --num-processes 2 --process-id 0", {}, "HOST:PORT"),
        ("--coordinator a:1 --num-processes two --process-id 0", {}, "whole number, not 'two'"),
        ("--coordinator a:1 --num-processes 2 --process-id 2", {}, r"in \[0, 2\), not 2"),
        ("--tiny", {"SLURM_STEP_NUM_TASKS": "8"}, "one of 8 tasks.*--distributed"),
        ("--tiny", {"OMPI_COMM_WORLD_SIZE": "2"}, "one of 2 tasks"),
    ],
)
def test_flags_that_make_no_sense(argv, environment, words):
    with pytest.raises(UserError, match=words):
        processes.take_flags(argv.split(), environment)


def test_no_launcher_is_a_clear_error(tmp_path):
    argv = [str(ROOT / "train.py"), "--distributed", "--config", "configs/mlp28.py", "--tiny"]
    with group(argv, tmp_path, processes=1, devices=1) as started:
        started.wait(60, codes=[2])
        assert "no launcher is known here" in started.text()
