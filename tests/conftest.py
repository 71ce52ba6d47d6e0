"""Eight simulated devices, and data and caches in a folder of the test session."""

import os
import tempfile
from pathlib import Path

# worker processes inherit the folder of the process that starts them
_INHERITED = os.environ.get("FLAXGAN_TESTS_FOLDER")
_SESSION = Path(_INHERITED or tempfile.mkdtemp(prefix="flaxgan-tests-"))
os.environ["FLAXGAN_TESTS_FOLDER"] = str(_SESSION)
_WORKER = _SESSION / os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TFDS_DATA_DIR"] = str(_WORKER / "tfds")
os.environ["XDG_CACHE_HOME"] = str(_WORKER / "cache")
# compiling is most of the time, and nothing runs for long; tests of the same networks compile the
# same programs
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_SESSION / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import pytest  # noqa: E402

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    import shutil

    if not _INHERITED:
        shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config_path(request: pytest.FixtureRequest) -> Path:
    """Each shipped config file."""
    return request.param


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the README's default config, in its tiny form; do not write to it."""
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    from flaxgan.config import load_config
    from flaxgan.train_loop import train

    workdir = tmp_path_factory.mktemp("runs") / "avatars32_cpu_tiny"
    assert train(load_config(ROOT / "configs" / "avatars32_cpu.py", tiny=True), workdir) is None
    return workdir
