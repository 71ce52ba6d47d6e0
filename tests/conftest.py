"""Eight simulated devices, of which training and scoring see two; data and caches in a folder of
the test session.
"""

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# worker processes inherit the folder of the process that starts them
_INHERITED = os.environ.get("FLAXGAN_TESTS_FOLDER")
_SESSION = Path(_INHERITED or tempfile.mkdtemp(prefix="flaxgan-tests-"))
os.environ["FLAXGAN_TESTS_FOLDER"] = str(_SESSION)
_WORKER = _SESSION / os.environ.get("PYTEST_XDIST_WORKER", "main")
# the emitters before these, which later releases do not have, compile twice as fast
_EMITTERS = " --xla_cpu_use_fusion_emitters=false" * metadata.version("jaxlib").startswith("0.10.")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8" + _EMITTERS
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
import pytest  # noqa: E402

from flaxgan.training import parallel  # noqa: E402

# ignored where the shell started pytest in the background, also in processes that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
DEVICES = jax.devices()
# of processes that tests start
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2" + _EMITTERS
# files whose tests take longest, so that the last worker does not begin one when others are done
FIRST = ("test_step", "test_many_processes", "test_train_loop", "test_survival", "test_models")

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


@pytest.fixture(scope="module", autouse=True)
def forget_compiled() -> Iterator[None]:
    """Else a worker ends with several GB of programs that no test will run again."""
    yield
    jax.clear_caches()


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config_path(request: pytest.FixtureRequest) -> Path:
    """Each bundled config file."""
    return request.param


@pytest.fixture(scope="session")
def text_run() -> Path:
    """A finished run of the README's default config, in its tiny form; do not write to it."""
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    from flaxgan.config import load_config
    from flaxgan.run.loop import train

    workdir = _SESSION / "runs" / "avatars32_cpu_tiny"
    with (_SESSION / "text_run.lock").open("w") as lock:  # of the first worker that needs it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not workdir.exists():
            config = load_config(ROOT / "configs" / "avatars32_cpu.py", tiny=True)
            assert train(config, workdir) is None
    return workdir
