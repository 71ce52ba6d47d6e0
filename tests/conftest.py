"""Eight simulated devices, of which training and scoring see two; data and caches in a folder of
the test session.
"""

import dataclasses
import fcntl
import functools
import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

# worker processes inherit the folder of the process that starts them
_INHERITED = os.environ.get("FLAXGAN_TESTS_FOLDER")
_SESSION = Path(_INHERITED or tempfile.mkdtemp(prefix="flaxgan-tests-"))
os.environ["FLAXGAN_TESTS_FOLDER"] = str(_SESSION)
_WORKER = _SESSION / os.environ.get("PYTEST_XDIST_WORKER", "main")
# the emitters before these, which later releases do not have, compile twice as fast; the others
# save a tenth each, as each worker has but one core; a flag that XLA does not know ends the process
_QUICK = (
    " --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
    " --xla_cpu_parallel_codegen_split_count=1"
    " --xla_llvm_disable_expensive_passes=true"
) * (metadata.version("jaxlib") in ("0.10.0", "0.10.1", "0.10.2"))
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8" + _QUICK
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TFDS_DATA_DIR"] = str(_WORKER / "tfds")
os.environ["XDG_CACHE_HOME"] = str(_WORKER / "cache")
# compiling is most of the time, and nothing runs for long; tests of the same networks compile the
# same programs
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_SESSION / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from flaxgan.run.watchdogs import resident_memory_mb  # noqa: E402
from flaxgan.training import parallel  # noqa: E402

# ignored where the shell started pytest in the background, also in processes that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
DEVICES = jax.devices()
MOST_MEMORY_MB = 2000.0  # of a worker, of which a machine of two cores runs two
gc.set_threshold(50_000)  # tracing makes many objects and little garbage: a tenth of its time
CHECK_REPLICATED = parallel.check_replicated
# of processes that tests start
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2" + _QUICK
# files whose tests take longest, so that the last worker does not begin one when others are done;
# the first makes `text_run`, so that no other waits for it
FIRST = (
    *("test_evaluate", "test_step", "test_objective", "test_models", "test_loop", "test_survival"),
    *("test_transfer", "test_rollback", "test_many_processes", "test_scaling", "test_bad_input"),
    *("test_readme", "test_attribute_net", "test_r3gan", "test_sampler", "test_fuzz"),
)

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    import shutil

    if not _INHERITED:
        shutil.rmtree(_SESSION, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope="session", autouse=True)
def two_devices() -> Iterator[None]:
    """As much as two cores bear; tests that need more take them from `jax.devices()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "all_devices", lambda: DEVICES[:2])
        patch.setattr(jax, "local_devices", lambda: DEVICES[:2])
        yield


@pytest.fixture(scope="session", autouse=True)
def no_proof_of_replicas() -> Iterator[None]:
    """It takes a quarter of a small run's start; `small_run` is begun with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "check_replicated", lambda *args: None)
        yield


# of the training section: what the loop reads, and neither the networks nor their step
OF_THE_LOOP = (
    *("total_kimg", "log_every_steps", "grid_every_kimg", "save_every_kimg", "keep_last"),
    *("grid_prompts", "grid_rows", "grid_cols", "tensorboard", "stall_minutes", "init_from"),
    *("max_skips_in_row", "max_rollbacks"),
)


@pytest.fixture(scope="session", autouse=True)
def equal_runs_share_a_step() -> Iterator[None]:
    """A run that goes on in the process that began it need not be traced and compiled again.

    Networks and steps are functions of the config alone, and of the devices; so is the state that
    they start with, where there is no text.
    """
    from flaxgan.config import Config, EvalConfig, TrainConfig
    from flaxgan.run import experiment, loop

    build = functools.lru_cache(maxsize=8)(experiment.build_networks)
    compiled = functools.lru_cache(maxsize=8)(parallel.compile_step)
    defaults = {name: getattr(TrainConfig(), name) for name in OF_THE_LOOP}

    def build_networks(config: Config, *, sentence_dim: int | None = None) -> Any:
        train = dataclasses.replace(config.train, **defaults)
        config = dataclasses.replace(config, name="", train=train, eval=EvalConfig())
        return build(config, sentence_dim=sentence_dim)

    def compile_step(
        step: Any,
        mode: str = "pmap",
        devices: Any = None,
        shard_above: int = parallel.SHARD_ABOVE,
        **static: Any,
    ) -> Any:
        devices = tuple(devices or parallel.all_devices())
        return compiled(step, mode, devices, shard_above, **static)

    starts: dict[Any, Any] = {}

    def new_state(made: experiment.Experiment, devices: Any) -> Any:
        if made.text_encoder is not None or parallel.check_replicated is CHECK_REPLICATED:
            return experiment.new_state(made, devices)
        key = (made.step, tuple(devices))
        if key not in starts:
            if len(starts) == 8:
                starts.clear()
            leaves, tree = jax.tree.flatten(experiment.new_state(made, devices))
            starts[key] = tree, [(np.array(x), x.sharding) for x in leaves]
        else:
            next(made.batches())  # as the other does, to see the shapes
        tree, pairs = starts[key]
        # copies: a step is given its state to write into
        return jax.tree.unflatten(tree, [jax.device_put(np.array(x), at) for x, at in pairs])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "new_state", new_state)
        patch.setattr(experiment, "build_networks", build_networks)
        patch.setattr(parallel, "compile_step", compile_step)
        yield


@pytest.fixture(scope="session", autouse=True)
def read_e5_once() -> Iterator[None]:
    """The file takes half a second for each encoder that is built of it.

    There is but one such file: that of another checksum is refused.
    """
    from flaxgan.text import e5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(e5, "read", functools.lru_cache(maxsize=3)(e5.read))
        yield


@pytest.fixture(scope="session", autouse=True)
def few_prior_examples() -> Iterator[None]:
    """Of the attribute scores: to draw all of them takes longer than to train a tiny config."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flaxgan.evaluate.attribute_evaluator.PRIOR_EXAMPLES", 1000)
        yield


@pytest.fixture(scope="module", autouse=True)
def forget_compiled() -> Iterator[None]:
    """Else a worker ends with several GB of programs that no test will run again.

    What jax.numpy has been traced to is of use to later files, and stays while there is room.
    """
    yield
    if resident_memory_mb() > MOST_MEMORY_MB:
        jax.clear_caches()


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config_path(request: pytest.FixtureRequest) -> Path:
    """Each bundled config file."""
    return request.param


def _run_once(
    name: str,
    make_config: Callable[[], Any],
    *,
    loss: dict[str, Any] | None = None,
    prove: bool = False,
    devices: int = 2,
) -> Path:
    """The workdir of a finished run, made by the first worker that needs it.

    With other fields of the loss, if any, than those that its config.json has.
    """
    from flaxgan.config import to_json
    from flaxgan.run.loop import train

    workdir = _SESSION / f"{name}_runs" / name
    with (_SESSION / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not workdir.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(parallel, "all_devices", lambda: DEVICES[:devices])
                patch.setattr(jax, "local_devices", lambda: DEVICES[:devices])
                if prove:
                    patch.setattr(parallel, "check_replicated", CHECK_REPLICATED)
                config = make_config()
                lighter = dataclasses.replace(config.loss, **(loss or {}))
                assert train(dataclasses.replace(config, loss=lighter), workdir) is None
                (workdir / "config.json").write_text(to_json(config))
    return workdir


@pytest.fixture(scope="session")
def text_run() -> Path:
    """A finished run of the README's default config, in its tiny form; do not write to it.

    The same networks, but of one noise, without the penalty and on one device: what there is to
    compile is less than half. `small_run` is that of two devices, and test_step.py has all terms.
    """
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    from flaxgan.config import load_config

    path = ROOT / "configs" / "avatars32_cpu.py"
    return _run_once(
        "avatars32_cpu_tiny",
        lambda: load_config(path, tiny=True),
        loss={"imle_noises": 1, "penalty": "none"},
        devices=1,
    )


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `text_run` had: what goes on with it takes what was compiled for it."""
    monkeypatch.setattr(parallel, "all_devices", lambda: DEVICES[:1])
    monkeypatch.setattr(jax, "local_devices", lambda: DEVICES[:1])


@pytest.fixture(scope="session")
def small_run() -> Path:
    """A finished run of `tests.run.test_loop.small_config()`; do not write to it."""
    from tests.run.test_loop import small_config

    return _run_once("small", small_config, prove=True)
