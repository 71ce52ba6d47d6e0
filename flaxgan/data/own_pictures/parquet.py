"""Parquet files with picture bytes and text, as Hugging Face data sets are stored."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flaxgan.data.own_pictures.archives import list_archives
from flaxgan.data.own_pictures.rows import RowReader, row_reader
from flaxgan.data.own_pictures.shards import (
    SHARD_SIZE,
    Listing,
    RawPicture,
    ReadOptions,
    Shard,
    check_regular,
    detail_of,
    digest,
    stamp,
)

BATCH = 16  # rows in memory at once, with pictures of any size


@dataclasses.dataclass(frozen=True)
class RowGroupShard:
    """Neighbouring row groups of a Parquet file: one, or as many small ones as fill a shard.

    Attributes:
      name: of the file.
      row_groups: number -> rows.
      first: number of the first row.
      reader: of the rows.
    """

    path: Path
    name: str
    row_groups: dict[int, int]
    first: int
    reader: RowReader
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
                yield from lost_rows(self.name, range(number, first + rows), error, self.split)
            first += rows

    def _read_group(self, group: int, number: int) -> Iterator[RawPicture]:
        columns = self.reader.columns
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                yield from self.reader.read(batch, self.path, self.name, number, self.split)
                number += batch.num_rows


def lost_rows(name: str, rows: range, error: Exception, split: str) -> Iterator[RawPicture]:
    """Of a file that is damaged from some row on."""
    detail = f"rows from {rows.start} on: {detail_of(error)}"
    for row in rows:
        reason = "damaged archive"
        yield RawPicture(f"{name}/{row}", None, reason=reason, detail=detail, split=split)


def list_parquet(root: Path, paths: Sequence[Path], options: ReadOptions) -> Listing:
    """The rows of Parquet files.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      options: see ReadOptions.

    Raises:
      UserError: no column of pictures or of captions.
    """

    def shards_of(path: Path, name: str, split: str) -> tuple[list[Shard], str]:
        try:
            check_regular(path)
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            return [], detail_of(error)
        reader = row_reader(schema, path, options)
        shards: list[Shard] = []
        first = 0
        for groups in _group(rows):
            fingerprint = digest(name, groups, stamp(path), reader, split)
            shards.append(RowGroupShard(path, name, groups, first, reader, split, fingerprint))
            first += sum(groups.values())
        return shards, ""

    return list_archives(root, paths, "Parquet files", shards_of, options)


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
