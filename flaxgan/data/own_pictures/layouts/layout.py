"""What a layout of a folder is: where it looks for captions, and what it makes of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from flaxgan.data.own_pictures.columns import captions_in, no_weight, weight_in
from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.names import printable_name, split_of
from flaxgan.data.own_pictures.shards import RawPicture, ReadOptions
from flaxgan.errors import UserError


class Entry(NamedTuple):
    """What is known of a picture before it is read.

    Attributes:
      captions: cleaned.
      text_files: that hold them, when it is read.
      split, weight: see RawPicture.
      reason, detail: why there are no captions.
    """

    captions: tuple[str, ...] = ()
    text_files: tuple[str, ...] = ()
    split: str = ""
    weight: float = 1.0
    reason: str = ""
    detail: str = ""

    @property
    def has_captions(self) -> bool:
        """Whether there are any to be read."""
        return bool(self.captions or self.text_files)


@dataclasses.dataclass(frozen=True)
class Reading:
    """The captions of a layout.

    Attributes:
      words: where they come from, for the report.
      entries: picture -> what is known of it; a path in the folder that is no picture by its
        suffix may be one, too.
      rejected: lines that name no picture.
      used: the files that were read.
    """

    words: str
    entries: Mapping[str, Entry]
    rejected: Sequence[RawPicture] = ()
    used: frozenset[str] = frozenset()


class Layout(Protocol):
    """One way to put captions into a folder of pictures.

    Attributes:
      name: for `--data.captions`.
      looks_like: how it looks, for the table of docs/data.md.
    """

    name: str
    looks_like: str

    def probe(self, found: Found) -> Sequence[str]:
        """The files that speak for this layout, cheaply found; none: it is another one."""

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """Reads the captions in the files of `probe`.

        Raises:
          UserError: they are this layout's beyond doubt, but cannot be used.
        """


class Captions:
    """Collects the captions of pictures, line by line."""

    def __init__(self) -> None:
        """Empty."""
        self._texts: dict[str, list[str]] = {}
        self._problems: dict[str, tuple[str, str]] = {}
        self._splits: dict[str, str] = {}
        self._weights: dict[str, float] = {}

    def add(
        self,
        path: str,
        captions: Sequence[str] | str,
        *,
        detail: str = "",
        split: str = "",
        weight: float = 1.0,
    ) -> None:
        """What a line says of a picture; a string is the reason why it has no caption."""
        texts = self._texts.setdefault(path, [])
        if isinstance(captions, str):
            self._problems.setdefault(path, (captions, detail))
        else:
            texts.extend(captions)
        if split:
            self._splits[path] = split
        if weight != 1.0:
            self._weights[path] = weight

    def add_row(
        self,
        path: str,
        fields: dict[str, Any],
        where: str,
        options: ReadOptions,
        *,
        split: str = "",
    ) -> None:
        """What a row of a table or an object of JSON says of a picture.

        Args:
          path: of the picture.
          fields: column -> value; one of them may be "split".
          where: the row, for reports.
          options: names the columns.
          split: where there is no such column.

        Raises:
          UserError: a column of weights is named, and holds none here.
        """
        weight = weight_in(fields, options.weight_column)
        if weight is None:
            problem = no_weight(fields, options.weight_column)
            raise UserError(f"data.weight_column: {where}: {problem}")
        captions, detail = captions_in(fields, options.caption_column)
        self.add(
            path,
            captions,
            detail=f"{where}: {detail}" if detail else where,
            split=split_of(str(fields["split"])) if "split" in fields else split,
            weight=weight,
        )

    def entries(self) -> dict[str, Entry]:
        """Of all pictures that were named."""
        entries = {}
        for path, texts in self._texts.items():
            reason, detail = ("", "") if texts else self._problems.get(path, ("", ""))
            entries[path] = Entry(
                captions=tuple(dict.fromkeys(texts)),
                split=self._splits.get(path, ""),
                weight=self._weights.get(path, 1.0),
                reason=reason,
                detail=detail,
            )
        return entries


def named(files: Sequence[str], most: int = 3) -> str:
    """Files for the report: "a.json, b.json and 7 more"."""
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return ", ".join(files[:most]) + more


def broken(where: str, detail: str) -> RawPicture:
    """A line that names no picture."""
    return RawPicture(where, None, reason="broken metadata", detail=detail)


class Missing:
    """Counts the pictures that a file names and that are not there: one line in the report.

    Data sets are often downloaded in part, and captions of all of them are no fault.
    """

    def __init__(self, file: str):
        """Of one file, relative to the root."""
        self._file, self._count, self._example = file, 0, ""

    def add(self, name: str) -> None:
        """One more."""
        self._count += 1
        self._example = self._example or name

    def report(self) -> list[RawPicture]:
        """At most one row."""
        if not self._count:
            return []
        name = f"{printable_name(self._file)}: {self._count:,} pictures"
        detail = f"for example {printable_name(self._example)[:80]}"
        return [RawPicture(name, None, reason="file is missing", detail=detail)]
