"""Which layout a path has."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from flaxgan.data.own_pictures.folder import ARCHIVES, Found, walk
from flaxgan.data.own_pictures.hints import PACKED, hints
from flaxgan.data.own_pictures.image_folder import FileShard, list_folder
from flaxgan.data.own_pictures.layouts import LAYOUTS
from flaxgan.data.own_pictures.layouts.folder_names import unused_texts
from flaxgan.data.own_pictures.shards import Listing, ReadOptions, RejectedShard
from flaxgan.errors import UserError

AS_FOUND = ReadOptions()


def list_pictures(path: Path, options: ReadOptions = AS_FOUND) -> Listing:
    """Finds pictures and captions without reading any picture.

    Args:
      path: a folder of picture files, of tar files (WebDataset), of Parquet files or of Arrow files
        (Hugging Face); or one such file.
      options: see ReadOptions.

    Raises:
      UserError: nothing there, no pictures, or no captions.
    """
    names = [layout.name for layout in LAYOUTS]
    if options.captions not in ("auto", *names):
        allowed = ", ".join(["auto", *names])
        raise UserError(f"data.captions must be one of: {allowed}; not {options.captions!r}")
    # file names in metadata are held to stay inside, which only an absolute path can tell
    path = Path(os.path.abspath(path))
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"data.path {path} cannot be read: {error.strerror}") from error
    if not exists:
        raise UserError(f"{path} does not exist; name your pictures with --data.path")
    if path.is_file():
        listing = _list_files(path, [path], options)
        if listing is None:
            hint = "; unpack it first" if path.name.lower().endswith(PACKED) else ""
            kinds = "a .tar, .parquet or .arrow file"
            raise UserError(f"data.path {path} is neither a folder nor {kinds}{hint}")
        return listing
    found = walk(path)
    listing = _list_found(found, options)
    if found.problems:
        shards = [*listing.shards, RejectedShard(tuple(found.problems))]
        listing = dataclasses.replace(listing, shards=shards)
    if options.need_captions and not listing.has_captions:
        raise UserError(
            f"no captions for the {_files_in(listing)} pictures in {path}"
            f"{''.join(f'; {note}' for note in listing.notes)}{hints(found, listing.unused)}; put "
            "name.txt beside name.png, or one metadata.jsonl with file_name and text, or sort them "
            'into folders; or train without prompts: --text.encoder none --data.caption-key ""'
        )
    return listing


def _files_in(listing: Listing) -> int:
    return sum(shard.size for shard in listing.shards if isinstance(shard, FileShard))


def _list_found(found: Found, options: ReadOptions) -> Listing:
    tables = [t for t in found.texts if os.path.basename(t).lower().startswith("metadata.")]
    if found.pictures or tables:
        listing = list_folder(found, options)
        # some pictures may lie beside archives, to show what is in them
        complete = listing.has_captions or not options.need_captions
        if (found.pictures and complete) or not found.archives:
            return listing
    for suffix in ARCHIVES:
        files = [found.root / name for name in found.archives if name.lower().endswith(suffix)]
        if files and (listing := _list_files(found.root, files, options)) is not None:
            return listing
    raise UserError(f"no pictures in {found.root}{hints(found, unused_texts(found))}")


def _list_files(root: Path, paths: Sequence[Path], options: ReadOptions) -> Listing | None:
    suffix = paths[0].suffix.lower()
    if suffix == ".tar":
        from flaxgan.data.own_pictures.webdataset import list_tars

        return list_tars(root, paths, options)
    if suffix == ".parquet":
        from flaxgan.data.own_pictures.parquet import list_parquet

        return list_parquet(root, paths, options)
    if suffix == ".arrow":
        from flaxgan.data.own_pictures.arrow import list_arrow

        return list_arrow(root, paths, options)
    return None
