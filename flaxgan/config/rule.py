"""What a config must fulfil, one rule at a time."""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flaxgan.config.fields import Config


class Rule(NamedTuple):
    """One row of a table of rules.

    Attributes:
      field: dotted path of the field that is wrong where the rule does not hold.
      holds: (its value, the config) -> whether all is well.
      message: what to say if not. One that begins with "must" goes between the field and its value:
        "train.seed must be >= 0, not -1"; any other is the whole line. A function of (value,
        config) makes the line where it has to say more.
    """

    field: str
    holds: Callable[[Any, Config], bool]
    message: str | Callable[[Any, Config], str]

    def error(self, config: Config) -> str | None:
        """What is wrong with a config, in one line; None: nothing."""
        value = operator.attrgetter(self.field)(config)
        if self.holds(value, config):
            return None
        if not isinstance(self.message, str):
            return self.message(value, config)
        if self.message.startswith("must "):
            return f"{self.field} {self.message}, not {value}"
        return self.message


def at_least(low: float, *fields: str) -> Iterator[Rule]:
    """None of the fields may be below; those that are None are."""
    for field in fields:
        yield Rule(field, lambda value, _: value is None or value >= low, f"must be >= {low:g}")


def at_most(high: float, *fields: str) -> Iterator[Rule]:
    """None of the fields may be above."""
    shown = f"{high:g}" if isinstance(high, float) else str(high)
    for field in fields:
        yield Rule(field, lambda value, _: value <= high, f"must be at most {shown}")


def above(low: float, *fields: str) -> Iterator[Rule]:
    """All of the fields must be above."""
    for field in fields:
        yield Rule(field, lambda value, _: value > low, f"must be > {low:g}")


def within(low: float, high: float, *fields: str) -> Iterator[Rule]:
    """From low to high, both allowed; None is."""
    for field in fields:
        yield Rule(
            field,
            lambda value, _: value is None or low <= value <= high,
            f"must be in [{low:g}, {high:g}]",
        )


def one_of(allowed: tuple[Any, ...], *fields: str) -> Iterator[Rule]:
    """Any of a few values."""
    for field in fields:
        yield Rule(
            field,
            lambda value, _: value in allowed,
            f"must be one of {', '.join(map(str, allowed))}",
        )


def one_of_its_type(*fields: str) -> Iterator[Rule]:
    """Any of the values that the `Literal` type of a field lists."""
    for field in fields:
        section, name = field.split(".")
        kind = typing.get_type_hints(type(getattr(Config(), section)))[name]
        yield from one_of(typing.get_args(kind), field)
