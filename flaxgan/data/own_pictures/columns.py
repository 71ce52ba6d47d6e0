"""Which columns of a table hold captions, and what a cell of them says."""

import ast
import fnmatch
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flaxgan.clean_text import clean
from flaxgan.data.own_pictures.names import printable_name
from flaxgan.errors import UserError

NOT_UTF8 = "caption is not UTF-8"
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
# in this order; where one is empty in a row, the next one is read
USUAL = (
    "text",
    "caption",
    "captions",
    "prompt",
    "description",
    "sentences",
    "sentence",
    "comment",
    "raw",
)
WEAK = ("title",)  # often a file name: only where nothing else is there
NUMBERED = re.compile(
    r"(captions?|text|sentences?|prompts?|comments?|descriptions?)[_ -]?\d+", re.IGNORECASE
)
LIKE = re.compile(r"caption|prompt|descri|sentence|(^|[_ -])text([_ -]|$)", re.IGNORECASE)
UNLIKE = re.compile(
    r"negative|number|count|length|score|embed|token|lang|(^|[_ -])(ids?|url|path|file)$",
    re.IGNORECASE,
)
INNER = ("raw", "caption", "text", "sentence", "value")  # of captions that are objects
# ['a cat', "a dog"], with or without commas: a list as pandas and NumPy print it into a cell
QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
PRINTED_LIST = re.compile(rf"\[\s*{QUOTED}(?:(?:\s*,)?\s*{QUOTED})*\s*\]", re.DOTALL)
LONGEST_LIST = 20_000  # characters


@functools.lru_cache(maxsize=1024)
def caption_columns(columns: tuple[str, ...], wish: str) -> tuple[tuple[str, ...], ...]:
    """Groups of columns; the captions of a row are those of the first group that has any.

    Args:
      columns: of the table.
      wish: "auto", or names and patterns with commas between ("caption_*,title"): one group.

    Returns:
      Nothing where no column fits, or where for "auto" several unusual ones would.
    """
    if wish != "auto":
        return _wished(columns, wish)
    names = {column.strip().lower(): column for column in reversed(columns)}
    groups = [(names[name],) for name in USUAL if name in names]
    if numbered := tuple(c for c in columns if NUMBERED.fullmatch(c.strip())):
        groups.append(numbered)
    if not groups and len(like := alike(columns)) == 1:
        groups.append(like)
    if not groups:
        groups = [(names[name],) for name in WEAK if name in names]
    return tuple(groups)


def _wished(columns: tuple[str, ...], wish: str) -> tuple[tuple[str, ...], ...]:
    if wish in columns:
        return ((wish,),)
    chosen: dict[str, None] = {}
    for pattern in filter(None, (part.strip() for part in wish.split(","))):
        matches = [c for c in columns if c == pattern or fnmatch.fnmatchcase(c, pattern)]
        if not matches:
            return ()
        chosen |= dict.fromkeys(matches)
    return (tuple(chosen),) if chosen else ()


def alike(columns: Iterable[str]) -> tuple[str, ...]:
    """Columns whose name is unusual but like one of captions ("blip_caption")."""
    return tuple(c for c in columns if LIKE.search(c) and not UNLIKE.search(c.strip()))


def no_caption_column(path: Path | str, columns: Iterable[str], wish: str) -> UserError:
    """That a table has none; a caller has found that out."""
    columns = list(columns)
    names = f"{path} has no column {'text or caption' if wish == 'auto' else wish}"
    several = alike(columns) if wish == "auto" else ()
    advice = "name one with --data.caption-column"
    if len(several) > 1:
        first = several[0]
        advice = (
            f"{column_names(several)} could be: --data.caption-column {first}, or several with "
            "commas between"
        )
    return UserError(f"{names}; it has: {column_names(columns)}; {advice}")


def column_names(names: Iterable[str]) -> str:
    """Of metadata, for errors."""
    return ", ".join(sorted(printable_name(name)[:40] for name in names)[:20])


def captions_in(fields: dict[str, Any], wish: str) -> tuple[list[str] | str, str]:
    """Captions of a row, or the reason why there are none, with a detail.

    Args:
      fields: column -> value.
      wish: see `caption_columns`.
    """
    reason, detail = "", ""
    for group in caption_columns(tuple(fields), wish):
        values = [fields[name] for name in group]
        captions = clean_captions(values[0] if len(values) == 1 else values)
        if not isinstance(captions, str):
            return captions, ""
        if not reason:
            reason, detail = captions, _held(group[0], values[0])
    return reason or "no caption", detail


def weight_in(fields: dict[str, Any], column: str) -> float | None:
    """The weight of a row; 1 without a column for it ("auto" and ""); None where it is wrong.

    A weight is a number above 0 and below a million.
    """
    if column in ("", "auto"):
        return 1.0
    try:
        weight = float(fields.get(column))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return weight if 0.0 < weight < 1e6 else None


def no_weight(fields: dict[str, Any], column: str) -> str:
    """What stands in the place of a weight, for reports."""
    shown = printable_name(repr(fields.get(column)))[:60]
    return f"column {printable_name(column)[:40]} holds {shown}, not a number above 0"


def captions_of_fields(fields: dict[str, Any], wish: str) -> list[str] | tuple[str, str]:
    """As `captions_in`, of a JSON object that goes with one picture; it says what there is else."""
    captions, detail = captions_in(fields, wish)
    if isinstance(captions, str):
        return captions, detail or f"its JSON has: {column_names(fields)}"
    return captions


def _held(column: str, value: Any) -> str:
    """What a column has that is no caption, for a detail; nothing of text and of empty cells."""
    if value is None or isinstance(value, str):
        return ""
    shown = printable_name(repr(value))[:60]
    return f"column {printable_name(column)[:40]} holds {shown}, not text"


def clean_captions(values: Any) -> list[str] | str:
    """Captions of a metadata field or of a text file, or the reason why there are none.

    Args:
      values: a string, a list of strings, or anything else that a metadata file can hold. Of
        objects in a list, "raw", "caption" or "text" is read; of a string that is a printed list
        of strings, its items.

    Returns:
      Distinct captions, NFC, on one line each; or "no caption", "empty caption", "caption is not
      UTF-8".
    """
    texts = values if isinstance(values, list) else [values]
    if not all(isinstance(text, str) and text[:1] != "[" for text in texts):
        texts = list(_texts(values))
    if not texts:
        return "no caption"
    if any(NOT_TEXT.search(text) for text in texts):
        return NOT_UTF8
    cleaned = dict.fromkeys(" ".join(clean(text).split()) for text in texts)
    cleaned.pop("", None)
    return list(cleaned) or "empty caption"


def _texts(values: Any, depth: int = 2) -> Iterable[str]:
    if isinstance(values, str):
        yield from _printed_list(values) if values[:1] == "[" else (values,)
    elif isinstance(values, list | tuple) and depth:
        for value in values:
            yield from _texts(value, depth - 1)
    elif isinstance(values, dict) and depth < 2:  # a list's: by itself it is no caption
        inner = next((values[name] for name in INNER if isinstance(values.get(name), str)), None)
        if inner is not None:
            yield inner


def _printed_list(text: str) -> list[str]:
    text = text.strip()
    if len(text) > LONGEST_LIST or text[-1] != "]" or not PRINTED_LIST.fullmatch(text):
        return [text]
    try:
        return [ast.literal_eval(item) for item in re.findall(QUOTED, text, re.DOTALL)]
    except (ValueError, SyntaxError):  # a new line in quotes, an escape that is none
        return [text]
