"""Tables of choices: what a config field may say, and the one object that each name stands for.

Every choice by name has one table, and a member carries all that belongs to it. Members of flaxgan
are written as "module:attribute" and imported when they are first used. Other packages add theirs
without a change to flaxgan: by an entry point in the table's group, or by `Table.register` in a
module that the commands import with `--plugin`. CONTRIBUTING.md has an example of each.
"""

import difflib
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from flaxgan.errors import UserError

Member = TypeVar("Member")

# config field -> its table
OWNERS = {
    "model.family": "flaxgan.models:FAMILIES",
    "loss.adversarial": "flaxgan.losses:ADVERSARIAL",
    "loss.penalty": "flaxgan.losses:PENALTIES",
    "text.encoder": "flaxgan.text:ENCODERS",
    "data.name": "flaxgan.data:EMBEDDED",
    "augment.policies": "flaxgan.training.augment:POLICIES",
    "g_opt.name": "flaxgan.training.optim:OPTIMIZERS",
    "d_opt.name": "flaxgan.training.optim:OPTIMIZERS",
    "eval.metrics": "flaxgan.evaluate:METRICS",
}


def table_of(field: str) -> "Table[Any]":
    """The table of a config field, such as "model.family"."""
    return _resolve(OWNERS[field])


class Table(Generic[Member]):
    """Names and the members that they stand for, in order."""

    def __init__(
        self, field: str, members: Mapping[str, Member | str], *, kind: type | str, group: str
    ):
        """Holds the members of flaxgan.

        Args:
          field: of the config, for errors: "loss.adversarial".
          members: name to member, or to the "module:attribute" where it is.
          kind: class of the members, or that they inherit from, or its "module:attribute".
          group: of entry points, by which other packages add members.
        """
        self.field, self.group = field, group
        self._own, self._members, self._kind = tuple(members), dict(members), kind

    def __getitem__(self, name: str) -> Member:
        """The member of that name.

        Raises:
          UserError: there is none; the message names those that there are.
        """
        member = self._members.get(name)
        if member is None:
            point = self._entry_points().get(name) if isinstance(name, str) else None
            if point is None:
                raise UserError(self._unknown(name))
            try:
                member = self._checked(name, point.load())
            except UserError:
                raise
            except Exception as error:  # the code of another package: anything can come out of it
                where = f"cannot import {point.value}"
                raise UserError(f"{self.field} {name}: {where}: {error}") from error
            self._members[name] = member
        elif isinstance(member, str):
            member = self._members[name] = _resolve(member)
        return member

    def __contains__(self, name: object) -> bool:
        return name in self._members or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._members, *self._entry_points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def items(self) -> Iterator[tuple[str, Member]]:
        """Names and members; imports all of them."""
        return ((name, self[name]) for name in self)

    def register(self, name: str, member: Member) -> Member:
        """Adds a member for this process; one that was registered before is replaced.

        Args:
          name: as config fields say it.
          member: of the table's kind.

        Returns:
          The member.

        Raises:
          UserError: flaxgan itself has a member of that name, or it is of another kind.
        """
        if name in self._own:
            raise UserError(f"{self.field} {name} is built into flaxgan: choose another name")
        self._members[name] = self._checked(name, member)
        return member

    def unregister(self, name: str) -> None:
        """Removes what `register` added."""
        if name not in self._own:
            self._members.pop(name, None)

    def _checked(self, name: str, member: Any) -> Any:
        kind = _resolve(self._kind) if isinstance(self._kind, str) else self._kind
        fits = issubclass(member, kind) if isinstance(member, type) else isinstance(member, kind)
        if not fits:
            raise UserError(
                f"{self.field} {name} must be of type {kind.__name__}, not {type(member).__name__}"
            )
        return member

    def _unknown(self, name: object) -> str:
        near = difflib.get_close_matches(str(name), list(self), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{self.field} must be one of {', '.join(self)}, not {name!r}{hint}"

    def _entry_points(self) -> dict[str, metadata.EntryPoint]:
        found = _installed(tuple(sys.path)).select(group=self.group)
        return {point.name: point for point in found}


@functools.lru_cache(maxsize=1)
def _installed(search_path: tuple[str, ...]) -> metadata.EntryPoints:
    """Entry points of all installed packages, which take milliseconds to read, once."""
    return metadata.entry_points()


def _resolve(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
