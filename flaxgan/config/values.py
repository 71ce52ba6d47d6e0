"""Whether the values of a config are of the types that its fields have."""

import contextlib
import dataclasses
import math
import os
import types
import typing
from typing import Any, Literal

LARGEST = 2**53  # of integers: a JSON number is one of these everywhere


def check_types(value: Any, kind: Any, name: str) -> Any:
    """A value of the config, lists as tuples.

    Raises:
      ValueError: it is not of the type that its field has, or no network or file can hold it.
    """
    if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
        prefix = f"{name}." if name else ""
        hints = typing.get_type_hints(kind)
        fields = {n: check_types(getattr(value, n), hint, prefix + n) for n, hint in hints.items()}
        return dataclasses.replace(value, **fields)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and isinstance(value, str) and value in parts:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(check_types(part, parts[0], name) for part in value)
    if origin is types.UnionType:
        if value is None:
            return None
        with contextlib.suppress(ValueError):  # said below, with what else it may be
            return check_types(value, parts[0], name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and isinstance(value, int) and abs(value) < LARGEST:
        return value
    if kind is float and isinstance(value, float) and not math.isnan(value):
        return value
    if kind is float and number and abs(value) < LARGEST:
        return value
    if kind is str and isinstance(value, str) and "\0" not in value and _is_text(value):
        return value
    raise ValueError(f"{name} must be {_described(kind)}, not {shown(value)}")


def _is_text(value: str) -> bool:
    try:
        os.fsencode(value)  # file names of any bytes are, halves of characters are not
    except UnicodeEncodeError:
        return False
    return True


def _described(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(parts)
    if origin is types.UnionType:
        return f"{_described(parts[0])} or none"
    if origin is tuple:
        return f"a list, each {_described(parts[0])}"
    names = {
        int: "an integer of at most 2^53",
        float: "a number",
        str: "text",
        bool: "true or false",
    }
    return names.get(kind) or kind.__name__


def shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a larger one"
    return text if len(text) <= 80 else f"{text[:79]}…"
