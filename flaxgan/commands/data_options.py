"""The data section of a config as options of a command: spelt, and meaning, as in training.

They are made from the fields of `DataConfig`, so that a new field is an option by itself.
"""

import argparse
import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flaxgan.commands.cli import Parser
from flaxgan.config import Config, DataConfig, parse_flags

PREFIX = "--data."


def add_data_options(
    parser: Parser,
    *,
    without: Collection[str] = (),
    also: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """`--data.path`, `--data.caption-column` … of all fields.

    Args:
      parser: of the command.
      without: fields that change nothing here; their options are refused, saying so.
      also: field -> other spellings of its option.
    """
    group = parser.add_argument_group(
        "data", "fields of a config's data section; flaxgan train --help says what each means"
    )
    hints = typing.get_type_hints(DataConfig)
    for field in dataclasses.fields(DataConfig):
        name, kind = field.name.replace("_", "-"), hints[field.name]
        words = [PREFIX + name, *(also or {}).get(field.name, ())]
        options: dict[str, Any] = {"dest": f"data.{field.name}", "default": None}
        if kind is bool:
            words.append(f"{PREFIX}no-{name}")
            options |= {"action": _Switch, "nargs": 0}
        elif typing.get_origin(kind) is typing.Literal:
            options["choices"] = typing.get_args(kind)
        else:
            options["metavar"] = name.upper()
            options["nargs"] = "*" if typing.get_origin(kind) is tuple else None
        if field.name in without:
            options = {"dest": f"data.{field.name}", "action": _Refused, "nargs": "*"}
            options["help"] = argparse.SUPPRESS
        group.add_argument(*words, **options)


def dashed(argv: Sequence[str]) -> list[str]:
    """A command line with `--data.caption-column` for `--data.caption_column`, as in training."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        words.append((name.replace("_", "-") if name.startswith(PREFIX) else name) + equals + value)
    return words


def named_fields(args: argparse.Namespace) -> set[str]:
    """Fields of the data section that a command line names."""
    given = (field.name for field in dataclasses.fields(DataConfig))
    return {name for name in given if getattr(args, f"data.{name}") is not None}


def override(config: Config, args: argparse.Namespace) -> Config:
    """A config with the values that a command line gives to its data section.

    Raises:
      UserError: a value of the wrong type.
    """
    flags: list[str] = []
    for name in sorted(named_fields(args)):
        flag, value = PREFIX + name.replace("_", "-"), getattr(args, f"data.{name}")
        if isinstance(value, list):
            flags += [flag, *value]
        elif isinstance(value, bool):
            flags.append(flag if value else flag.replace(PREFIX, f"{PREFIX}no-"))
        else:
            flags.append(f"{flag}={value}")
    return parse_flags(config, flags) if flags else config


class _Switch(argparse.Action):
    """`--data.strict` and `--data.no-strict`."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        on = not (option_string or "").startswith(f"{PREFIX}no-")
        setattr(namespace, self.dest, on)


class _Refused(argparse.Action):
    """An option that would change nothing."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        parser.error(f"{option_string} changes nothing here: remove it")
