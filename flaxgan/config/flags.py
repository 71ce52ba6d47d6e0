"""Command lines: any field of a config is a flag, spelt as its dotted path."""

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from flaxgan.config.fields import Config
from flaxgan.config.files import load_config
from flaxgan.config.values import check_types
from flaxgan.errors import UserError
from flaxgan.registry import OWNERS, table_of

# that are no fields of a config; for --help
OTHER_FLAGS = (
    "--config FILE or NAME; --workdir DIR (default: runs/NAME); --init-from RUN, CHECKPOINT, FILE "
    "or MODEL: weights to start from; --tiny: the same in seconds; --plugin MODULE: a module "
    "to import first. Fields of the config:"
)


def parse_args(argv: Sequence[str]) -> tuple[Config, Path]:
    """Reads `--config FILE [--workdir DIR] [--init-from WHAT] [--any.field VALUE …]`.

    Returns:
      The config, and the workdir: by default runs/<config name>.

    Raises:
      UserError: no config, an unknown flag, or a value of the wrong type.
    """
    path, rest = split_flag(argv, "--config", None)
    workdir, rest = split_flag(rest, "--workdir", None)
    init_from, rest = split_flag(rest, "--init-from", None)
    if init_from is not None:
        rest = [*rest, "--train.init-from", init_from]
    if path is None:
        if "--help" in rest or "-h" in rest:
            return parse_flags(Config(), ["--help"]), Path()
        raise UserError("name a config file: --config configs/avatars32_cpu.py")
    tiny = "--tiny" in rest
    flags = [flag for flag in rest if flag != "--tiny"]
    config = parse_flags(load_config(path, tiny=tiny), flags)
    config = dataclasses.replace(config, auto=tuple(n for n in config.auto if n not in _set(flags)))
    try:
        config = check_types(config, Config, "")
    except ValueError as error:
        raise UserError(f"flags: {error}") from error
    return config, Path(workdir or Path("runs") / config.name)


def _set(flags: Sequence[str]) -> set[str]:
    """Fields that a command line names."""
    names = {flag[2:].split("=", 1)[0] for flag in flags if flag.startswith("--")}
    return {name.replace("-", "_") for name in names}


def split_flag(argv: Sequence[str], name: str, default: str | None) -> tuple[str | None, list[str]]:
    """Takes `--name VALUE` or `--name=VALUE` out of a command line.

    Returns:
      The value (the last one where there are several), and the rest of the command line.

    Raises:
      UserError: the flag stands without a value.
    """
    value, rest, words = default, [], list(argv)
    while words:
        word = words.pop(0)
        if word == name:
            if not words or words[0].startswith("--"):
                raise UserError(f"{name} needs a value")
            value = words.pop(0)
        elif word.startswith(name + "="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    return value, rest


def parse_flags(config: Config, flags: Sequence[str]) -> Config:
    """Overrides fields by command-line flags such as `--train.total-kimg 500`.

    Raises:
      UserError: an unknown flag (with the nearest known one) or a value of the wrong type.
    """
    import tyro

    known = {"--" + name for name in field_paths(Config)}
    for flag in flags:
        name = flag.split("=", 1)[0].replace("_", "-")
        if not name.startswith("--") or name in ("--help",):
            continue
        if name not in known and name.replace(".no-", ".") not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown flag {name}{hint}")
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                Config,
                prog="flaxgan train",
                default=config,
                args=list(flags),
                description=_description(config, flags),
            )
    except SystemExit as error:
        if not error.code:
            raise
        raise UserError(f"flags: {_box_text(output.getvalue())}") from None


def _description(config: Config, flags: Sequence[str]) -> str:
    """The experiment's name; for --help also what fields may say that name a member of a table."""
    if not {"--help", "-h"} & set(flags):
        return config.name
    choices = [f"{field}: {', '.join(table_of(field))}" for field in OWNERS if field != "data.name"]
    return "\n\n".join([OTHER_FLAGS, *choices])


def _box_text(box: str) -> str:
    """What a box drawn by tyro says below its title, up to the next rule, as one line."""
    body: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        words = line.strip("│| ")
        if words.strip("─-╰╯+"):
            body.append(words)
        elif body:
            break
    return " ".join(body)


def field_paths(cls: type, prefix: str = "") -> Iterator[str]:
    """Flags of all fields of a config class, without the dashes: "train.total-kimg"."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from field_paths(typing.cast(type, hints[field.name]), path + ".")
        else:
            yield path
