"""Parquet files with picture bytes and text, as Hugging Face data sets are stored."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flaxgan.data.own_pictures.shards import (
    CAPTION_COLUMNS,
    SHARD_SIZE,
    Listing,
    RawPicture,
    RejectedShard,
    Shard,
    clean_captions,
    digest,
    inside,
    printable_name,
    raw_picture,
    read_file,
    reason_of,
    stamp,
)
from flaxgan.data.own_pictures.webdataset import splits_by_name
from flaxgan.errors import UserError

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")


@dataclasses.dataclass(frozen=True)
class RowGroupShard:
    """One row group of a Parquet file."""

    path: Path
    name: str
    row_group: int
    size: int
    image_column: str
    caption_column: str | None
    need_captions: bool
    split: str
    fingerprint: str

    def read(self) -> Iterator[RawPicture]:
        """As Shard."""
        columns = [c for c in (self.image_column, self.caption_column) if c is not None]
        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(
                    SHARD_SIZE, row_groups=[self.row_group], columns=columns
                ):
                    for row in batch.to_pylist():
                        yield self._picture(row, number)
                        number += 1
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            detail = f"rows from {number} on: {str(error).splitlines()[0][:160]}"
            for lost in range(number, self.size):
                yield RawPicture(
                    self._name(lost),
                    None,
                    reason="damaged archive",
                    detail=detail,
                    split=self.split,
                )

    def _name(self, number: int) -> str:
        return f"{self.name}/{self.row_group}/{number}"

    def _picture(self, row: dict[str, Any], number: int) -> RawPicture:
        name = self._name(number)
        captions = clean_captions(row.get(self.caption_column)) if self.caption_column else []
        if not self.need_captions and isinstance(captions, str):
            captions = []
        image = row[self.image_column]
        data, file_name = (
            (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        )
        if data is None and file_name:
            path = inside(self.path.parent, file_name)
            try:
                data = None if path is None else read_file(path)
            except OSError as error:
                reason, detail = reason_of(error)
                return RawPicture(name, None, reason=reason, detail=detail, split=self.split)
        if data is None:
            return RawPicture(name, None, reason="no picture", split=self.split)
        return raw_picture(name, data, captions, self.split)


def list_parquet(
    root: Path, paths: Sequence[Path], *, caption_column: str, need_captions: bool
) -> Listing:
    """The rows of Parquet files.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      caption_column: "auto": the first of "text", "caption" …
      need_captions: whether a picture without one is of no use.

    Raises:
      UserError: no column of pictures or of captions.
    """
    shards: list[Shard] = []
    rejected: list[RawPicture] = []
    split_of = splits_by_name(paths)
    for path in paths:
        name = printable_name(path.name if path == root else path.relative_to(root))
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            detail = str(error).splitlines()[0][:160]
            rejected.append(RawPicture(name, None, reason="damaged archive", detail=detail))
            continue
        columns = (
            _image_column(schema, path),
            _caption_column(schema, path, caption_column) if need_captions else None,
        )
        for group, count in enumerate(rows):
            options = (*columns, need_captions, split_of[path])
            fingerprint = digest(name, group, stamp(path), options)
            shards.append(RowGroupShard(path, name, group, count, *options, fingerprint))
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    return Listing(root, f"{len(paths)} Parquet files", shards)


def _image_column(schema: pa.Schema, path: Path) -> str:
    names = [field.name for field in schema if _holds_pictures(field.type)]
    chosen = next((name for name in (*IMAGE_COLUMNS, *names) if name in names), None)
    if chosen is None:
        raise UserError(
            f"{path} has no column with picture bytes; it has: {', '.join(schema.names)}"
        )
    return chosen


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _caption_column(schema: pa.Schema, path: Path, column: str) -> str:
    names = CAPTION_COLUMNS if column == "auto" else (column,)
    chosen = next((name for name in names if name in schema.names), None)
    if chosen is None:
        named = "text or caption" if column == "auto" else column
        raise UserError(
            f"{path} has no column {named}; it has: {', '.join(schema.names)}; name one with "
            "--data.caption-column"
        )
    return chosen
