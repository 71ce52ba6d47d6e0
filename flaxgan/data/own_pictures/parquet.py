"""Parquet files with picture bytes and text, as Hugging Face data sets are stored."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flaxgan.data.own_pictures.shards import (
    NOT_UTF8,
    SHARD_SIZE,
    Listing,
    RawPicture,
    RejectedShard,
    Shard,
    check_regular,
    clean_captions,
    column_names,
    detail_of,
    digest,
    find_caption_column,
    inside,
    no_caption_column,
    printable_name,
    raw_picture,
    read_file,
    reason_of,
    splits_by_name,
    stamp,
)
from flaxgan.errors import UserError

BATCH = 16  # rows in memory at once, with pictures of any size
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "picture")


@dataclasses.dataclass(frozen=True)
class RowGroupShard:
    """Neighbouring row groups of a Parquet file: one, or as many small ones as fill a shard.

    Attributes:
      name: of the file.
      row_groups: number -> rows.
      first: number of the first row.
    """

    path: Path
    name: str
    row_groups: dict[int, int]
    first: int
    image_column: str
    caption_column: str | None
    need_captions: bool
    split: str
    fingerprint: str

    @property
    def size(self) -> int:
        """As Shard."""
        return sum(self.row_groups.values())

    def read(self) -> Iterator[RawPicture]:
        """As Shard."""
        first = self.first
        for group, rows in self.row_groups.items():
            number = first
            try:
                for picture in self._read_group(group, first):
                    yield picture
                    number += 1
            except (OSError, pa.ArrowException) as error:
                detail = f"rows from {number} on: {detail_of(error)}"
                for lost in range(number, first + rows):
                    name = f"{self.name}/{lost}"
                    reason = "damaged archive"
                    yield RawPicture(name, None, reason=reason, detail=detail, split=self.split)
            first += rows

    def _read_group(self, group: int, number: int) -> Iterator[RawPicture]:
        columns = [c for c in (self.image_column, self.caption_column) if c is not None]
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                images = batch.column(batch.schema.names.index(self.image_column))
                texts = None
                if self.caption_column is not None:
                    texts = batch.column(batch.schema.names.index(self.caption_column))
                for row in range(batch.num_rows):
                    text = None if texts is None else texts[row]
                    yield self._picture(f"{self.name}/{number}", images[row], text)
                    number += 1

    def _picture(self, name: str, image: pa.Scalar, text: pa.Scalar | None) -> RawPicture:
        captions: list[str] | str = []
        if text is not None:
            try:
                captions = clean_captions(text.as_py())
            except UnicodeDecodeError:
                captions = NOT_UTF8
        try:
            data = self._data(image)
        except OSError as error:
            reason, detail = reason_of(error)
            return RawPicture(name, None, reason=reason, detail=detail, split=self.split)
        if data is None:
            return RawPicture(name, None, reason="no picture", split=self.split)
        return raw_picture(name, data, captions, need_captions=self.need_captions, split=self.split)

    def _data(self, image: pa.Scalar) -> bytes | None:
        """Bytes of a cell; of the file that it names, if that is in the folder of the archive."""
        if not isinstance(image, pa.StructScalar):
            return image.as_py()
        if not image.is_valid:
            return None
        data = image["bytes"].as_py()
        if data is None and "path" in image.type.names:
            try:
                name = image["path"].as_py()
            except UnicodeDecodeError:
                return None
            path = inside(self.path.parent, name) if isinstance(name, str) and name else None
            data = None if path is None else read_file(Path(path))
        return data


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
            check_regular(path)
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            detail = detail_of(error)
            rejected.append(RawPicture(name, None, reason="damaged archive", detail=detail))
            continue
        images, texts = _image_column(schema, path), None
        if need_captions:
            texts = find_caption_column(schema.names, caption_column)
            if texts is None:
                raise no_caption_column(path, schema.names, caption_column)
        options = (images, texts, need_captions, split_of[path])
        first = 0
        for groups in _group(rows):
            fingerprint = digest(name, groups, stamp(path), options)
            shards.append(RowGroupShard(path, name, groups, first, *options, fingerprint))
            first += sum(groups.values())
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    return Listing(root, f"{len(paths)} Parquet files", shards)


def _group(rows: Sequence[int]) -> Iterator[dict[int, int]]:
    """Row groups, number -> rows, put together up to SHARD_SIZE."""
    groups: dict[int, int] = {}
    for number, count in enumerate(rows):
        if groups and sum(groups.values()) + count > SHARD_SIZE:
            yield groups
            groups = {}
        groups[number] = count
    if groups:
        yield groups


def _image_column(schema: pa.Schema, path: Path) -> str:
    names = [field.name for field in schema if _holds_pictures(field.type)]
    chosen = next((name for name in (*IMAGE_COLUMNS, *names) if name in names), None)
    if chosen is None:
        raise UserError(
            f"{path} has no column with picture bytes; it has: {column_names(schema.names)}"
        )
    return chosen


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")  # null: all of them are files, named by "path"
        inner = kind.field(index).type if index >= 0 else kind
        return pa.types.is_null(inner) or _is_binary(inner)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
