"""A config as JSON: in the workdir, in checkpoints, and in exported files."""

import dataclasses
import json
import typing
from collections.abc import Callable
from typing import Any

from flaxgan.config.fields import SHARED_MODEL_FIELDS, Config, ModelConfig
from flaxgan.config.values import check_types, shown
from flaxgan.errors import UserError
from flaxgan.registry import table_of


def to_json(config: Config) -> str:
    """The config as JSON text, readable by `from_json`."""
    return json.dumps({"version": VERSION, **dataclasses.asdict(config)}, indent=2) + "\n"


def from_json(text: str) -> Config:
    """Reads what `to_json` wrote, in this version or an earlier one.

    Raises:
      UserError: not JSON, of a later version, fields that this version does not know, or values of
        a wrong type.
    """
    try:
        values = json.loads(text)
        if isinstance(values, dict):
            values = _migrated(values)
        return _from_dict(Config, values, "")
    except (ValueError, RecursionError) as error:
        raise UserError(f"config.json cannot be read: {error}") from error


def _migrated(values: dict[str, Any]) -> dict[str, Any]:
    """The values in the form of this version; what they are is checked later."""
    version = values.pop("version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(
            f"it is of version {shown(version)}, and this flaxgan reads 1 to {VERSION}: install a "
            "newer one"
        )
    for number in range(version, VERSION):
        values = MIGRATIONS[number](values)
    return values


def _drop_unread_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Version 1 ignored fields of other model families; version 2 wants them at their defaults."""
    model = values.get("model")
    if not isinstance(model, dict):
        return values
    families, name = table_of("model.family"), model.get("family", ModelConfig.family)
    if not isinstance(name, str) or name not in families:
        return values
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unread = known - SHARED_MODEL_FIELDS - families[name].fields
    return {**values, "model": {k: v for k, v in model.items() if k not in unread}}


# version -> what makes the next one of it
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _drop_unread_fields}
VERSION = 1 + len(MIGRATIONS)


def _from_dict(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'it'} is {shown(values)}, not an object")
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"unknown field {prefix}{name}")
        if dataclasses.is_dataclass(hints[name]):
            fields[name] = _from_dict(typing.cast(type, hints[name]), value, f"{prefix}{name}.")
        else:
            fields[name] = check_types(value, hints[name], prefix + name)
    return cls(**fields)
