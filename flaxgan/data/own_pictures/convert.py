"""Brings shards to one size, in threads, each to a file of its own that a restart finds again."""

import concurrent.futures
import dataclasses
import hashlib
import io
import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from flaxgan.atomic_write import open_atomic
from flaxgan.data import pictures
from flaxgan.data.own_pictures.shards import RawPicture, Shard
from flaxgan.data.pictures import Fit, Unreadable
from flaxgan.errors import UserError
from flaxgan.machine import core_count
from flaxgan.progress import progress_bar

WRITTEN_AT_ONCE = 32  # pictures of a shard that are in memory; shards can be large
# a shard's file: one row for each picture, in order; those that were rejected have a reason
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("split", pa.string()),
        ("digest", pa.uint64()),
        ("captions", pa.list_(pa.string())),
        ("image", pa.binary()),
        ("weight", pa.float32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Target:
    """What pictures are brought to.

    Attributes:
      resolution: height and width, pixels.
      channels: 3: RGB, 1: grey.
      fit: see `pictures.load`.
    """

    resolution: int
    channels: int = 3
    fit: Fit = "crop"


class Rejected(Exception):
    """The first picture that cannot be used, where that is the end."""


class Stopped(Exception):
    """The import ends before this shard is done."""


def convert_shards(
    shards: Sequence[Shard],
    folder: Path,
    target: Target,
    *,
    strict: bool = False,
    workers: int | None = None,
) -> list[Path]:
    """Converts those whose files are not there yet.

    Args:
      shards: of one listing.
      folder: of the files; made.
      target: what pictures are brought to.
      strict: whether the first picture that cannot be used ends it.
      workers: threads; None: one per core.

    Returns:
      The files, in the order of the shards. Those that are done stay when it is interrupted.

    Raises:
      UserError: with `strict`, naming the picture and the reason.
      OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{shard.fingerprint}.parquet" for shard in shards]
    stop = threading.Event()

    def work(shard: Shard, file: Path) -> int:
        if _is_whole(file):
            if strict and (bad := _first_rejected(file)):
                raise Rejected(bad)
        else:
            _write(file, _rows(shard, target, strict, stop))
        return shard.size

    with (
        warnings.catch_warnings(),
        progress_bar("importing pictures", sum(shard.size for shard in shards)) as advance,
        concurrent.futures.ThreadPoolExecutor(workers or core_count()) as pool,
    ):
        warnings.simplefilter("ignore")  # of Pillow, about odd but readable files
        tasks = [pool.submit(work, *pair) for pair in zip(shards, files, strict=True)]
        try:
            for task in concurrent.futures.as_completed(tasks):
                advance(task.result())
        except Rejected as error:
            raise strict_error(str(error)) from error
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return files


def read_rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[dict]:
    """Rows of converted shards, with some of SCHEMA's columns."""
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(WRITTEN_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()


def strict_error(what: str) -> UserError:
    """About the first picture that cannot be used; see `describe`."""
    return UserError(f"{what}; leave out --data.strict to skip such pictures")


def describe(row: Mapping[str, str]) -> str:
    """Name, reason and detail of a picture that cannot be used."""
    detail = f" ({row['detail']})" if row["detail"] else ""
    return f"{row['name']}: {row['reason']}{detail}"


def count_reasons(rejected: Sequence[dict]) -> str:
    """ "12 damaged picture, 3 no caption", the most frequent first."""
    counts = Counter(row["reason"] for row in rejected)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _rows(shard: Shard, target: Target, strict: bool, stop: threading.Event) -> Iterator[dict]:
    for raw in shard.read():
        if stop.is_set():
            raise Stopped
        row = _convert(raw, target)
        if strict and row["reason"]:
            raise Rejected(describe(row))
        yield row


def _convert(raw: RawPicture, target: Target) -> dict:
    row = {
        "name": raw.name,
        "split": raw.split,
        "digest": 0,
        "captions": list(raw.captions),
        "image": None,
        "weight": raw.weight,
        "reason": raw.reason,
        "detail": raw.detail,
    }
    if raw.reason or raw.data is None:
        return row
    try:
        image = pictures.load(raw.data, target.resolution, target.channels, fit=target.fit)
    except Unreadable as error:
        return {**row, "reason": error.reason, "detail": error.detail}
    # of the file, not of the pixels: the same pictures are held back at every resolution
    digest = int.from_bytes(hashlib.blake2b(raw.data, digest_size=8).digest())
    return {**row, "digest": digest, "image": _png(image)}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        file, "PNG", compress_level=1
    )
    return file.getvalue()


def _is_whole(file: Path) -> bool:
    """Whether a shard was converted before; a machine that lost power can leave an empty file."""
    try:
        pq.read_metadata(file)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return True


def _write(file: Path, rows: Iterator[dict]) -> None:
    with open_atomic(file) as out, pq.ParquetWriter(out, SCHEMA, compression="none") as writer:
        while part := list(itertools.islice(rows, WRITTEN_AT_ONCE)):
            writer.write_batch(pa.RecordBatch.from_pylist(part, SCHEMA))


def _first_rejected(file: Path) -> str | None:
    rows = read_rows([file], ("name", "reason", "detail"))
    return next((describe(row) for row in rows if row["reason"]), None)
