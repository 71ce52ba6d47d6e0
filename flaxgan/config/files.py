"""Config files: Python with a function `get_config() -> Config`.

A config file is code: run only those that you trust.
"""

import difflib
import importlib.util
import os
from pathlib import Path

from flaxgan.config.fields import Config
from flaxgan.config.values import check_types
from flaxgan.errors import UserError


def load_config(path: str | Path, *, tiny: bool = False) -> Config:
    """Runs a config file and returns its `get_config()` (or `tiny()`).

    Raises:
      UserError: the file is missing, does not run, or returns something else than a Config.
    """
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, without an error for impossible names
        near = difflib.get_close_matches(path.name, _config_files(path.parent), n=1, cutoff=0.4)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"config file {path} does not exist{hint}")
    function = "tiny" if tiny else "get_config"
    spec = importlib.util.spec_from_file_location(f"flaxgan_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = getattr(module, function)()
    except UserError:
        raise
    except AttributeError as error:
        if not hasattr(module, function):
            raise UserError(f"config file {path} has no function {function}()") from error
        raise UserError(f"config file {path}: {error}") from error
    except Exception as error:  # a config file is the user's own code: anything can come out of it
        raise UserError(f"config file {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(
            f"{function}() in {path} must return a flaxgan Config, not a {type(config).__name__}"
        )
    try:
        return check_types(config, Config, "")
    except ValueError as error:
        raise UserError(f"config file {path}: {error}") from error


def _config_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []
