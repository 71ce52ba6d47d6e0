"""What the commands share: clear errors, plugins, common options, and jax set up in time."""

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from flaxgan.commands.cpu_devices import cpu_devices
from flaxgan.config import split_flag
from flaxgan.errors import UserError, first_line, one_line
from flaxgan.machine import cache_dir, core_count

Main = Callable[[Sequence[str]], int | None]


def run(main: Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `main(argv)` and exits: 0, 2 with one line for a UserError, 128 + n for signal n.

    `--plugin MODULE`, any number of times, is taken out of the command line first.

    Args:
      main: of a command.
      argv: the command line without the program; None: that of the process.
    """
    try:
        code = main(import_plugins(sys.argv[1:] if argv is None else argv)) or 0
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


def import_plugins(argv: Sequence[str]) -> list[str]:
    """Imports each `--plugin MODULE`, which may add members to tables: see `flaxgan.registry`.

    A module is looked for in the current folder and among installed packages.

    Returns:
      The rest of the command line.

    Raises:
      UserError: a module that cannot be imported.
    """
    rest = list(argv)
    while any(_is_plugin(word) for word in rest):
        name, rest = _first_plugin(rest)
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:  # the user's own code: anything can come out of it
            kind = type(error).__name__
            raise UserError(f"--plugin {name}: {kind}: {first_line(error)}") from error
    return rest


def _first_plugin(argv: list[str]) -> tuple[str, list[str]]:
    """The module of the first `--plugin`, and the command line without it."""
    start = next(i for i, word in enumerate(argv) if _is_plugin(word))
    name, rest = split_flag(argv[start : start + 2], "--plugin", None)
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"--plugin must be the name of a Python module, not {name!r}")
    return name, [*argv[:start], *rest, *argv[start + 2 :]]


def _is_plugin(word: str) -> bool:
    return word == "--plugin" or word.startswith("--plugin=")


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations; its errors are one line without the usage."""

    def __init__(self, **options: Any):
        """See `argparse.ArgumentParser`."""
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse; an unknown option is told with the nearest known one.

        Raises:
          UserError: a command line that does not fit.
        """
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            known = [word for action in self._actions for word in action.option_strings]
            near = difflib.get_close_matches(rest[0].split("=")[0], known, n=1, cutoff=0.7)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_checkpoint_option(parser: Parser, *, required: bool = False) -> None:
    """`--checkpoint`: whose generator."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=required,
        help="a run, one of its checkpoints, or an exported .safetensors file",
    )


def add_generator_options(parser: Parser) -> None:
    """The options that `generator.choose_sampler` reads."""
    add_checkpoint_option(parser)
    parser.add_argument(
        "--model",
        help="a bundled model (avatars, emoji), or hub:user/name; default: the newest run, else "
        "avatars",
    )
    add_slow_option(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are looked for")


def add_slow_option(parser: Parser) -> None:
    """`--slow`: which of a run's averages."""
    parser.add_argument(
        "--slow",
        action="store_true",
        help="the slow EMA generator of a run (train.ema_slow_halflife_kimg)",
    )


def add_drawing_options(parser: Parser, *, batch_size: int) -> None:
    """`--seed` and `--batch-size`."""
    parser.add_argument("--seed", type=int, default=0, help="of the noise, in [0, 2^32)")
    parser.add_argument(
        "--batch-size", type=int, default=batch_size, help="pictures that are drawn at once"
    )


def check_drawing_options(args: argparse.Namespace) -> None:
    """Raises UserError where `--seed` or `--batch-size` is out of range."""
    if args.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {args.batch_size}")
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed must be in [0, 2^32), not {args.seed}")


def prepare_process(batch_size: int = 1, *, family: str = "", say: bool = False) -> None:
    """Sets up jax before it is first used, unless the user has: CPU devices, compilation cache.

    One jax device on CPU does not keep all cores busy. On a machine without accelerators there are
    as many as `cpu_devices` says, unless XLA_FLAGS or JAX_NUM_CPU_DEVICES gives their number.

    Args:
      batch_size: global images per step; 0: any number of devices will do.
      family: of the networks that are trained; "": none are.
      say: whether the number of devices is printed.
    """
    flags, name = os.environ.get("XLA_FLAGS", ""), "xla_force_host_platform_device_count"
    if name not in flags and "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = core_count()
        count = cpu_devices(batch_size, cores, family)
        os.environ["XLA_FLAGS"] = f"{flags} --{name}={count}".strip()
        if say:
            print(
                f"on CPU: {count} jax device(s) of {cores} core(s) for {family}, batch "
                f"{batch_size or 'auto'}; JAX_NUM_CPU_DEVICES=N overrides",
                flush=True,
            )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_dir("jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0.5,
    }
    for name, value in defaults.items():
        if name not in os.environ:
            os.environ[name] = str(value)
            if "jax" in sys.modules:  # a plugin or a config file has imported it
                sys.modules["jax"].config.update(name.lower(), value)
