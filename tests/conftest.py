"""Eight simulated devices, and data and caches in a folder of the test session."""

import os
import tempfile
from pathlib import Path

_SESSION = Path(tempfile.mkdtemp(prefix="flaxgan-tests-"))
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TFDS_DATA_DIR"] = str(_SESSION / "tfds")
os.environ["XDG_CACHE_HOME"] = str(_SESSION / "cache")
# tests of the same networks compile the same programs
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_SESSION / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import pytest  # noqa: E402

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    import shutil

    shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config_path(request: pytest.FixtureRequest) -> Path:
    """Each shipped config file."""
    return request.param
