"""What tar, Parquet and Arrow files share: how a listing of several is put together."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flaxgan.data.own_pictures.names import printable_name, splits_by_name
from flaxgan.data.own_pictures.shards import (
    Listing,
    RawPicture,
    ReadOptions,
    RejectedShard,
    Shard,
)


def list_archives(
    root: Path,
    paths: Sequence[Path],
    kind: str,
    shards_of: Callable[[Path, str, str], tuple[Sequence[Shard], str]],
    options: ReadOptions,
) -> Listing:
    """The shards of all files, and those that are damaged.

    Args:
      root: folder of all of them, or the only one.
      paths: the files, sorted.
      kind: of file, for the report.
      shards_of: path, printable name and split ("train", "test" or "") of a file to its shards,
        and what is wrong with it or with its rest; empty: nothing.
      options: see ReadOptions.
    """
    shards: list[Shard] = []
    rejected: list[RawPicture] = []
    split_of = splits_by_name(paths)
    for path in paths:
        name = printable_name(path.name if path == root else path.relative_to(root))
        found, problem = shards_of(path, name, split_of[path])
        shards += found
        if problem:
            rejected.append(RawPicture(name, None, reason="damaged archive", detail=problem))
    if rejected:
        shards.append(RejectedShard(tuple(rejected)))
    return Listing(root, f"{len(paths)} {kind}", shards, weighted=options.has_weights)
