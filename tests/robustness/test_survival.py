"""What happens to long runs: full disks, folders gone read-only, damaged files, odd clocks."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from flaxgan.config import from_json, load_config
from flaxgan.errors import UserError
from flaxgan.run.checkpointed import abstract
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.run.loop import train
from flaxgan.run.metric_writer import MetricWriter
from flaxgan.saving.checkpoint import Checkpoints
from flaxgan.saving.finding import find_steps
from flaxgan.saving.generator_file import named_leaves
from flaxgan.saving.workdir import lock_workdir
from flaxgan.training import parallel
from tests.conftest import DEVICES
from tests.robustness.process_group import ROOT, environment
from tests.robustness.test_many_processes import final_state
from tests.run.test_loop import assert_same_grids, assert_same_run, read_metrics, small_config

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
STEPS = 40
# of 8 pixels, as a step is most of the time
CONFIG = f"""
import dataclasses
from flaxgan.config import load_config
def get_config():
    config = load_config({str(ROOT / "configs" / "mlp28.py")!r}, tiny=True)
    train = dataclasses.replace(config.train, total_kimg={STEPS * 8 / 1000}, batch_size=8,
                                save_every_kimg=0.04, grid_every_kimg=0.16, log_every_steps=1)
    data = dataclasses.replace(config.data, resolution=8)
    return dataclasses.replace(config, train=train, data=data)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(CONFIG)
    return path


@contextlib.contextmanager
def running(config: Path, workdir: Path, **options):
    """A run in a process of its own; yields the process and the file of what it says."""
    output = config.with_name(f"{workdir.name}.txt")
    argv = [sys.executable, str(ROOT / "train.py"), "--config", str(config)]
    with output.open("w") as file:
        child = subprocess.Popen(
            [*argv, "--workdir", str(workdir)],
            cwd=ROOT,
            env={**environment(1), **options.pop("env", {})},
            stdout=file,
            stderr=file,
            **options,
        )
    try:
        yield child, output
    finally:
        child.kill()
        child.wait()


def wait_until(done, child, output, timeout=300):
    deadline = time.monotonic() + timeout
    while not done():
        assert child.poll() is None, output.read_text()[-3000:]
        assert time.monotonic() < deadline, output.read_text()[-3000:]
        time.sleep(0.02)


def train_here(config: Path, workdir: Path) -> None:
    """The same run in this process, which is spared the start of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "all_devices", lambda: DEVICES[:1])
        patch.setattr(jax, "local_devices", lambda: DEVICES[:1])
        assert train(load_config(config), workdir) is None


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "whole"
    train_here(config, workdir)
    return workdir


def assert_nothing_lost(workdir: Path, whole: Path) -> None:
    """The newest state is that of an untouched run, and no half or broken checkpoint is left."""
    mine, other = final_state(workdir), final_state(whole)
    assert mine.keys() == other.keys()
    for name, x in mine.items():
        np.testing.assert_array_equal(x, other[name], err_msg=name)
    assert read_metrics(workdir) == read_metrics(whole)
    assert_same_grids(workdir, whole)
    names = [p.name for p in (workdir / "checkpoints").iterdir()]
    assert all(name.isdecimal() for name in names), names


def has_step(workdir, step):
    return lambda: any(found >= step for found in find_steps(workdir / "checkpoints"))


def says(output, words):
    return lambda: words in output.read_text()


@pytest.mark.slow
def test_saves_that_fail_cost_nothing_once_there_is_room(config, whole, tmp_path):
    """Files may not grow beyond 100 kB for a while: metrics still can be written, states cannot.

    Then the folder of checkpoints is read-only for a while: by its permissions; for root, whom
    these do not bind, by a mount, where that is allowed.
    """
    workdir = tmp_path / "small_files"
    failed = "could not be written"
    with running(config, workdir) as (child, output):
        wait_until(has_step(workdir, 5), child, output)
        before = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (100_000, before[1]))
        wait_until(says(output, failed), child, output)
        assert "File too large" in output.read_text()
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, before)
        saved = find_steps(workdir / "checkpoints")[-1]
        wait_until(has_step(workdir, saved + 1), child, output)
        times = output.read_text().count(failed)
        with read_only(workdir / "checkpoints") as locked:
            if locked:
                wait_until(lambda: output.read_text().count(failed) > times, child, output)
                words = ("Permission denied", "Read-only file system")
                assert any(word in output.read_text() for word in words)
        assert child.wait(timeout=300) == 0, output.read_text()[-3000:]
    assert "Traceback" not in output.read_text()
    assert_nothing_lost(workdir, whole)


@contextlib.contextmanager
def read_only(folder: Path):
    """Yields whether nothing can be written there."""
    if os.geteuid():
        folder.chmod(0o555)
        yield True
        folder.chmod(0o755)
        return
    mount = ["mount", "--bind", folder, folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        yield False
        return
    try:
        # busy while a file in it is open for writing, as while a checkpoint is saved
        remount = ["mount", "-o", "remount,ro,bind", folder]
        give_up = time.monotonic() + 60
        while subprocess.run(remount, check=False, capture_output=True).returncode:
            assert time.monotonic() < give_up, "cannot be made read-only"
            time.sleep(0.05)
        yield True
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow  # by default a signal ends a run in test_loop.py, and files are damaged below
def test_kill_9_and_a_last_save_that_fails_lose_nothing_but_time(config, whole, tmp_path, capsys):
    """One after the other: killed at a random moment, resumed without room for the last save."""
    workdir = tmp_path / "killed"
    with running(config, workdir) as (child, output):
        wait_until(has_step(workdir, 5), child, output)
        time.sleep(random.uniform(0.0, 0.5))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    *finished, last = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines = [json.loads(line) for line in finished + [last] * last.endswith("\n")]
    assert 0 < max(line["step"] for line in lines) < STEPS  # only the last may be half written
    with running(config, workdir) as (child, output):
        wait_until(says(output, "resumed at step"), child, output)
        limit = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (100_000, limit[1]))
        assert child.wait(timeout=300) == 2
    said = output.read_text()
    assert "error: the last checkpoint could not be written" in said
    assert "Traceback" not in said
    kept = find_steps(workdir / "checkpoints")[-1]
    assert 5 <= kept < STEPS
    capsys.readouterr()
    train_here(config, workdir)
    assert f"resumed at step {kept}" in capsys.readouterr().out
    assert_nothing_lost(workdir, whole)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_is_full_for_a_while(config, whole, tmp_path):
    """A real one, of 256 MB: a file takes all that is left, and goes again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", disk]
    mounted = subprocess.run(mount, check=False)
    if mounted.returncode:
        pytest.skip("cannot mount here")
    try:
        workdir, ballast = disk / "full", disk / "ballast"
        with running(config, workdir) as (child, output):
            wait_until(has_step(workdir, 10), child, output)
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            wait_until(says(output, "could not be written"), child, output)
            ballast.unlink()
            assert child.wait(timeout=300) == 0, output.read_text()[-3000:]
        assert "Traceback" not in output.read_text()
        mine, other = final_state(workdir), final_state(whole)
        for name, x in mine.items():
            np.testing.assert_array_equal(x, other[name], err_msg=name)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("number", [0, pytest.param(200, marks=pytest.mark.slow)])
def test_no_damage_to_any_file_goes_unnoticed(whole, tmp_path, number):
    """Bits flipped, and ends cut off: the run comes back from the checkpoint before."""
    draw = random.Random(number)
    files = sorted(
        p.relative_to(whole / "checkpoints")
        for p in (whole / "checkpoints" / str(STEPS)).rglob("*")
        if p.is_file()
    )
    older, expected = find_steps(whole / "checkpoints")[-2], final_state(whole)

    config = from_json((whole / "config.json").read_text())
    target = abstract(new_state(build_experiment(config), jax.devices()[:1]))
    noticed = harmless = read = 0
    for trial in range(max(number, len(files))):
        copy = tmp_path / "copy"
        shutil.copytree(whole / "checkpoints", copy)
        path = copy / files[trial % len(files)]
        read += "ema" not in files[trial % len(files)].parts  # else only drawing reads it
        data = bytearray(path.read_bytes())
        if data and draw.random() < 0.7:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            data = data[: draw.randrange(len(data) + 1)]
        path.write_bytes(bytes(data))
        said = []
        checkpoints = Checkpoints(copy, report=said.append)
        try:
            restored, _ = checkpoints.restore_newest(target)
        finally:
            checkpoints.close()
        if int(restored.step) == STEPS:
            harmless += 1
            for name, x in named_leaves(restored).items():
                np.testing.assert_array_equal(x, expected[name], err_msg=f"{path} {name}")
        else:
            assert int(restored.step) == older
            assert len(said) == 1
            assert f"/{STEPS}" in said[0]
            assert (copy / f"broken-{STEPS}").is_dir()
            noticed += 1
        shutil.rmtree(copy)
    print(f"{noticed} noticed, {harmless} without effect")
    # files are named by hashes of their contents: which of them is hit differs from run to run
    assert noticed > read // 4


@pytest.mark.parametrize("jump", [-400 * 86400, pytest.param(400 * 86400, marks=pytest.mark.slow)])
def test_clocks_may_jump(small_run, tmp_path, monkeypatch, jump):
    """Between two sessions and within one; files may be dated in any order."""
    write = MetricWriter.write

    def interrupting(self, step, *args, **options):
        write(self, step, *args, **options)
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricWriter, "write", interrupting)
        assert train(small_config(), tmp_path / "run") == signal.SIGTERM
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    for age, path in enumerate(sorted((tmp_path / "run" / "checkpoints").iterdir())):
        os.utime(path, (now() - 1000 * age, now() - 1000 * age))
    assert train(small_config(), tmp_path / "run") is None
    assert_same_run(small_run, tmp_path / "run", small_config())
    speeds = [line["images_per_second"] for line in raw_metrics(tmp_path / "run")]
    assert all(0 <= speed < 1e6 for speed in speeds)


def raw_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_second_run_in_one_folder_is_refused(tmp_path):
    """Also where the first was killed a moment ago, nothing is in the way of the next."""
    with lock_workdir(tmp_path / "run"):
        with pytest.raises(UserError, match="another process is training in"):
            train(small_config(), tmp_path / "run")
        assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.lock"]
    code = "import sys, time; from pathlib import Path\n"
    code += "from flaxgan.saving.workdir import lock_workdir\n"
    code += "with lock_workdir(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"in\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with lock_workdir(tmp_path / "run"):
        pass


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_kills_at_random_moments(tmp_path):
    """See tests/robustness/soak.py."""
    command = [
        sys.executable,
        "-m",
        "tests.robustness.soak",
        "--folder",
        str(tmp_path / "soak"),
        "--tiny",
    ]
    command += [
        "--config",
        str(ROOT / "configs" / "mlp28.py"),
        "--kills",
        "50",
        "--pause",
        "0",
        "16",
    ]
    command += ["--", "--train.total-kimg", "800", "--train.save-every-kimg", "0.16"]
    command += ["--train.grid-every-kimg", "1.6", "--train.log-every-steps", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
