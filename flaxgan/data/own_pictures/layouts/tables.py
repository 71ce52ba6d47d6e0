"""Captions in tables: metadata of imagefolder (Hugging Face), Flickr8k and 30k, CSV, JSON lines.

A row names a picture and has its caption, in any of the usual columns. Tables without a header are
read where the first cell is a picture: `1.jpg#0<tab>A dog runs.` is the form of Flickr's
annotations.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flaxgan.data.own_pictures.columns import (
    caption_columns,
    column_names,
    no_caption_column,
)
from flaxgan.data.own_pictures.folder import Found
from flaxgan.data.own_pictures.layouts.layout import Captions, Missing, Reading, broken, named
from flaxgan.data.own_pictures.names import printable_name
from flaxgan.data.own_pictures.rows import is_binary
from flaxgan.data.own_pictures.shards import READABLE, RawPicture, ReadOptions, detail_of
from flaxgan.errors import UserError

METADATA = frozenset(
    {"metadata.jsonl", "metadata.csv", "metadata.parquet", "metadata.tsv", "metadata.ndjson"}
)
PICTURE_COLUMNS = (
    *("file_name", "filename", "file", "filepath", "file_path", "image_name", "image_file"),
    *("image_path", "image", "img", "img_path", "img_name", "image_id", "path", "picture", "photo"),
)
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".token", ".txt", ".parquet")
DELIMITERS = ",\t|;"
NUMBERED = re.compile(r"(.+)#\d+$")  # picture and number of its caption
SNIFFED = 65_536  # bytes
CROWD = 50  # so many text files of a folder are not tables
Row = tuple[str, "dict[str, Any] | str"]  # where, and fields or what is wrong


class Tables:
    """See the module."""

    name = "table"
    looks_like = (
        "`metadata.jsonl`, `.csv` or `.parquet` (Hugging Face imagefolder), `results.csv` "
        "(Flickr30k), `captions.txt`, `Flickr8k.token.txt`, any CSV, TSV or JSON lines whose rows "
        "name pictures"
    )

    def probe(self, found: Found) -> Sequence[str]:
        """Files called metadata, and others whose first row names a picture that is there."""
        texts = [t for t in found.other_texts if os.path.splitext(t)[1].lower() in TABLES]
        crowds: dict[str, int] = {}
        for text in texts:
            if text.lower().endswith(".txt"):
                folder = os.path.dirname(text)
                crowds[folder] = crowds.get(folder, 0) + 1
        few = [t for t in texts if crowds.get(os.path.dirname(t), 0) <= CROWD]
        return [text for text in few if _is_metadata(text) or _names_pictures(found, text)]

    def read(self, found: Found, files: Sequence[str], options: ReadOptions) -> Reading:
        """As Layout.

        Raises:
          UserError: a table has no column of pictures or of captions.
        """
        captions, rejected = Captions(), []
        for file in files:
            rejected += _read(found, file, captions, options)
        return Reading(named(files), captions.entries(), rejected, frozenset(files))


def _is_metadata(file: str) -> bool:
    return os.path.basename(file).lower() in METADATA


def _names_pictures(found: Found, file: str) -> bool:
    """Whether one of the first rows names a picture of the folder, or the header says so."""
    folder = os.path.dirname(file)
    try:
        for number, (_, fields) in enumerate(_rows(found, file, SNIFFED)):
            if isinstance(fields, dict) and (column := picture_column(fields)):
                name = fields[column]
                if isinstance(name, str) and found.find(name.strip(), folder):
                    return True
                if caption_columns(tuple(fields), "auto") and len(fields) > 1 and found.pictures:
                    # a part of the pictures may be there, and the first rows not among it
                    return _names_files(name)
            if number > 20:
                break
    except OSError:
        return False
    return False


def _names_files(value: Any) -> bool:
    return isinstance(value, str) and os.path.splitext(value)[1].lower() in READABLE


def picture_column(columns: Any) -> str | None:
    """The column that names pictures; None: there is none."""
    names = {column.strip().lower(): column for column in columns}
    return next((names[name] for name in PICTURE_COLUMNS if name in names), None)


def _read(
    found: Found, file: str, captions: Captions, options: ReadOptions
) -> Iterator[RawPicture]:
    """Adds the rows of a table; gives those that cannot be used."""
    folder, strict, missing = os.path.dirname(file), _is_metadata(file), Missing(file)
    columns: dict[str, None] = {}
    try:
        rows = _rows(found, file)
        for where, fields in rows:
            if isinstance(fields, str):
                yield broken(where, fields)
                continue
            columns |= dict.fromkeys(fields)
            column = "file_name" if "file_name" in fields else picture_column(fields)
            name = None if column is None else fields[column]
            if not isinstance(name, str) or not name.strip():
                yield broken(where, "no file_name")
                continue
            name = name if strict else name.strip()
            path = found.inside(folder, name) if strict else found.find(name, folder)
            if path is None and strict:
                yield broken(where, f"{name[:80]!r} is outside the folder")
                continue
            if path is None:
                missing.add(name)
                continue
            captions.add_row(path, fields, where, options)
    except OSError as error:
        raise UserError(f"cannot read {found.root / file}: {error.strerror or error}") from error
    yield from missing.report()
    _check_columns(found.root / file, tuple(columns), options)


def _check_columns(path: Path, columns: Sequence[str], options: ReadOptions) -> None:
    if columns and picture_column(columns) is None:
        raise UserError(f"{path} has no column file_name; it has: {column_names(columns)}")
    wish = options.caption_column
    if options.need_captions and columns and not caption_columns(tuple(columns), wish):
        raise no_caption_column(path, columns, wish)


def _rows(found: Found, file: str, most: int = -1) -> Iterator[Row]:
    """The rows of a table, or of its first bytes.

    Raises:
      OSError: it cannot be read.
    """
    shown, suffix = printable_name(file), os.path.splitext(file)[1].lower()
    if suffix == ".parquet":
        yield from _parquet_rows(found.root / file, shown)
        return
    text = found.read_text(file, most)
    if most >= 0 and len(text) >= most - 3:
        text = text.rpartition("\n")[0]  # the last line may be cut
    if suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(text, shown)
    else:
        yield from _csv_rows(found, file, text, shown)


def _json_lines(text: str, shown: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{shown} line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, f"not JSON: {detail_of(error)[:80]}"
            continue
        yield where, fields if isinstance(fields, dict) else "not a JSON object"


def _csv_rows(found: Found, file: str, text: str, shown: str) -> Iterator[Row]:
    first = text.lstrip("\n").split("\n", 1)[0].rstrip("\r")
    delimiter = _delimiter(first, file)
    if _has_header(first, delimiter) or _is_metadata(file):
        quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{shown} line {reader.line_num}", str(error)
                continue
            row = {k: v for k, v in fields.items() if k is not None}
            if delimiter == "|":
                row = {k.strip(): v and v.strip() for k, v in row.items()}
            yield f"{shown} line {reader.line_num}", row
    folder = os.path.dirname(file)
    for number, line in enumerate(text.split("\n"), 1):
        name, _, caption = line.rstrip("\r").partition(delimiter)
        name = match[1] if (match := NUMBERED.match(name)) else name
        if not line.strip():
            continue
        known = (match and _names_files(name)) or found.find(name.strip(), folder)
        if number == 1 and not known:
            return  # neither a header nor a picture: this is no table
        yield f"{shown} line {number}", {"file_name": name.strip(), "text": caption.strip()}


def _delimiter(first: str, file: str) -> str:
    """Of the first line: the one that leaves a cell by the name of a column, or a picture."""
    for delimiter in DELIMITERS:
        if delimiter in first and _has_header(first, delimiter):
            return delimiter
    if "\t" in first:
        return "\t"
    return "\t" if file.lower().endswith((".tsv", ".token")) else ","


def _has_header(first: str, delimiter: str) -> bool:
    cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
    return len(cells) > 1 and picture_column(cells) is not None


def _parquet_rows(path: Path, shown: str) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            if any(_holds_bytes(field.type) for field in schema):
                return  # with its pictures inside: an archive, not a table
            number = 0
            for batch in opened.iter_batches(1024):
                for fields in batch.to_pylist():
                    yield f"{shown} row {number}", fields
                    number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        yield shown, f"not Parquet: {detail_of(error)}"


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(field.type) for field in kind)
    return is_binary(kind)
