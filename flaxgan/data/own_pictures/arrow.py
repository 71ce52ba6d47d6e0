"""Arrow files of Hugging Face's `save_to_disk` and of its cache: Parquet's rows in a stream.

pyarrow reads them; `datasets` itself is not needed.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from flaxgan.data.own_pictures.archives import list_archives
from flaxgan.data.own_pictures.parquet import BATCH, lost_rows
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


@dataclasses.dataclass(frozen=True)
class StreamShard:
    """Neighbouring rows of an Arrow stream.

    Attributes:
      name: of the file.
      rows: their numbers.
      reader: of the rows.
    """

    path: Path
    name: str
    rows: range
    reader: RowReader
    split: str
    fingerprint: str

    @property
    def size(self) -> int:
        """As Shard."""
        return len(self.rows)

    def read(self) -> Iterator[RawPicture]:
        """As Shard; what is before its rows is passed over without being read."""
        number = self.rows.start
        try:
            for first, batch in _batches(self.path):
                start = max(number - first, 0)
                stop = min(self.rows.stop - first, batch.num_rows)
                for low in range(start, stop, BATCH):
                    part = batch.slice(low, min(BATCH, stop - low)).select(self.reader.columns)
                    for picture in self.reader.read(
                        part, self.path, self.name, first + low, self.split
                    ):
                        yield picture
                        number += 1
                if number >= self.rows.stop:
                    break
        except (OSError, pa.ArrowException) as error:
            yield from lost_rows(self.name, range(number, self.rows.stop), error, self.split)


def list_arrow(root: Path, paths: Sequence[Path], options: ReadOptions) -> Listing:
    """The rows of Arrow files.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      options: see ReadOptions.

    Raises:
      UserError: no column of pictures or of captions.
    """

    def shards_of(path: Path, name: str, split: str) -> tuple[list[Shard], str]:
        schema, count, problem = None, 0, ""
        try:
            check_regular(path)
            for first, batch in _batches(path):
                schema, count = batch.schema, first + batch.num_rows
        except (OSError, pa.ArrowException) as error:
            problem = detail_of(error)
        shards: list[Shard] = []
        if schema is not None:
            reader = row_reader(schema, path, options)
            for start in range(0, count, SHARD_SIZE):
                rows = range(start, min(start + SHARD_SIZE, count))
                fingerprint = digest(name, rows, stamp(path), reader, split)
                shards.append(StreamShard(path, name, rows, reader, split, fingerprint))
        return shards, problem

    return list_archives(root, paths, "Arrow files", shards_of, options)


def _batches(path: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Number of the first row, and rows; mapped into memory, not read."""
    first = 0
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            yield first, batch
            first += batch.num_rows
