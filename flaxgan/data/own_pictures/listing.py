"""Which layout a path has."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from flaxgan.data.own_pictures.image_folder import ARCHIVES, Found, list_folder, walk
from flaxgan.data.own_pictures.shards import Listing, RejectedShard
from flaxgan.errors import UserError

PACKED = (".zip", ".7z", ".rar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")


def list_pictures(
    path: Path,
    *,
    caption_column: str = "auto",
    templates: Sequence[str] = ("{}",),
    need_captions: bool = True,
) -> Listing:
    """Finds pictures and captions without reading any picture.

    Args:
      path: a folder of picture files, of tar files (WebDataset) or of Parquet files; or one tar or
        Parquet file.
      caption_column: of metadata and Parquet files, and of JSON members of tar files; "auto": the
        first of "text", "caption" …
      templates: of captions from folder names; "{}" becomes the name.
      need_captions: whether a picture without a caption is of no use.

    Raises:
      UserError: nothing there, no pictures, or no captions.
    """
    # file names in metadata are held to stay inside, which only an absolute path can tell
    path = Path(os.path.abspath(path))
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"data.path {path} cannot be read: {error.strerror}") from error
    if not exists:
        raise UserError(f"{path} does not exist; name your pictures with --data.path")
    options = {"caption_column": caption_column, "need_captions": need_captions}
    if path.is_file():
        listing = _list_files(path, [path], options)
        if listing is None:
            hint = "; unpack it first" if path.name.lower().endswith(PACKED) else ""
            raise UserError(
                f"data.path {path} is neither a folder nor a .tar or .parquet file{hint}"
            )
        return listing
    found = walk(path)
    listing = _list_found(path, found, templates, options)
    if found.problems:
        shards = [*listing.shards, RejectedShard(tuple(found.problems))]
        listing = dataclasses.replace(listing, shards=shards)
    if need_captions and not listing.has_captions:
        raise UserError(
            f"no captions for the {len(found.pictures)} pictures in {path}: put name.txt beside "
            "name.png, or one metadata.jsonl with file_name and text, or sort them into folders; "
            'or train without prompts: --text.encoder none --data.caption-key ""'
        )
    return listing


def _list_found(path: Path, found: Found, templates: Sequence[str], options: dict) -> Listing:
    if found.pictures or found.metadata:
        listing = list_folder(path, found, templates=templates, **options)
        # some pictures may lie beside archives, to show what is in them
        complete = listing.has_captions or not options["need_captions"]
        if (found.pictures and complete) or not found.archives:
            return listing
    for suffix in ARCHIVES:
        files = [path / name for name in found.archives if name.lower().endswith(suffix)]
        if files and (listing := _list_files(path, files, options)) is not None:
            return listing
    packed = next((p for p in path.iterdir() if p.name.lower().endswith(PACKED)), None)
    hint = f"; unpack {packed.name} first" if packed else ""
    raise UserError(f"no pictures in {path}{hint}")


def _list_files(root: Path, paths: Sequence[Path], options: dict) -> Listing | None:
    suffix = paths[0].suffix.lower()
    if suffix == ".tar":
        from flaxgan.data.own_pictures.webdataset import list_tars

        return list_tars(root, paths, **options)
    if suffix == ".parquet":
        from flaxgan.data.own_pictures.parquet import list_parquet

        return list_parquet(root, paths, **options)
    return None
