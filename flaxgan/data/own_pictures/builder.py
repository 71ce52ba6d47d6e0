"""The TFDS builder over a user's own pictures."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import tensorflow_datasets as tfds

from flaxgan.config import DataConfig
from flaxgan.data.own_pictures.convert import (
    Target,
    convert_shards,
    count_reasons,
    describe,
    read_rows,
    strict_error,
)
from flaxgan.data.own_pictures.listing import list_pictures
from flaxgan.data.own_pictures.shards import Listing, ReadOptions, digest
from flaxgan.errors import UserError

RECIPE = 2  # of this importer: data sets of another one are imported anew
TEST_SHARE, TEST_LEAST, TEST_MOST = 0.05, 8, 2000
MIN_PICTURES = 8
REPORTED = ("name", "reason", "detail")


@dataclasses.dataclass(kw_only=True)
class OwnPicturesConfig(tfds.core.BuilderConfig):
    """What is imported, and how."""

    listing: Listing = dataclasses.field(repr=False)  # TFDS logs the rest
    target: Target
    strict: bool = False


class Row(NamedTuple):
    """What the choice of test pictures depends on."""

    number: int
    split: str
    digest: int


class OwnPictures(tfds.core.GeneratorBasedBuilder):
    """Pictures of one size with captions, in the splits "train" and "test".

    Where the layout names no test pictures, 5 % (at least 8, at most a quarter) are held back:
    those whose files have the smallest digests; copies of a file are never in both.
    """

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent

    def _info(self) -> tfds.core.DatasetInfo:
        target = self.builder_config.target
        side = target.resolution
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Pictures of {self.builder_config.listing.path}.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(side, side, target.channels), encoding_format="png"
                    ),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "file": tfds.features.Text(),
                    "weight": tfds.features.Scalar(np.float32),
                }
            ),
        )

    @property
    def folder(self) -> Path:
        """Of what belongs to the import: rejected.jsonl, and converted shards until it is done."""
        return Path(self.data_dir).parent

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        config = self.builder_config
        files = convert_shards(
            config.listing.shards, self.folder / "shards", config.target, strict=config.strict
        )
        rejected: list[dict] = []
        usable: list[Row] = []
        for number, row in enumerate(read_rows(files, ("name", "split", "digest", *REPORTED))):
            if row["reason"]:
                rejected.append(row)
            else:
                usable.append(Row(number, row["split"], row["digest"]))
        found = len(usable) + len(rejected)
        self._report(found, rejected)
        if len(usable) < MIN_PICTURES:
            why = f" ({count_reasons(rejected)})" if rejected else ""
            raise UserError(
                f"{len(usable)} of {found} pictures in {config.listing.path} can be used{why}; "
                f"training needs at least {MIN_PICTURES}"
            )
        tests = test_numbers(usable)
        return {split: self._examples(files, tests, split == "test") for split in ("train", "test")}

    def _report(self, found: int, rejected: Sequence[dict]) -> None:
        path = self.folder / "rejected.jsonl"
        lines = [
            json.dumps({key: row[key] for key in REPORTED}, ensure_ascii=False) for row in rejected
        ]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        print(f"{self.builder_config.listing.path}: {found - len(rejected):,} pictures imported")
        if rejected:
            print(f"{len(rejected):,} skipped: {count_reasons(rejected)}; listed in {path}")

    def _generate_examples(self) -> Iterator:
        raise NotImplementedError  # TFDS wants it; the splits bring their own

    def _examples(self, files: Sequence[Path], tests: set[int], test: bool) -> Iterator:
        rows = read_rows(files, ("name", "captions", "image", "weight", "reason"))
        for number, row in enumerate(rows):  # a key, as names of odd bytes may print the same
            if not row["reason"] and (number in tests) == test:
                kept = {key: row[key] for key in ("image", "captions", "weight")}
                yield number, {**kept, "file": row["name"]}


def test_numbers(rows: Sequence[Row]) -> set[int]:
    """Numbers of the pictures that are held back from training."""
    if {row.split for row in rows} >= {"train", "test"}:
        return {row.number for row in rows if row.split == "test"}
    count = max(round(TEST_SHARE * len(rows)), min(TEST_LEAST, len(rows) // 4))
    count = min(count, TEST_MOST)
    chosen: set[int] = set()
    by_digest = sorted(rows, key=lambda row: row.digest)
    for _, copies in itertools.groupby(by_digest, key=lambda row: row.digest):
        numbers = {row.number for row in copies}
        # a picture of which there are many, for example "no longer available", is left to training
        if len(chosen) + len(numbers) <= count:
            chosen |= numbers
    if not chosen:  # nothing but such pictures
        chosen = {row.number for row in by_digest[:count]}
    return chosen


def find_pictures(config: DataConfig) -> Listing:
    """What is at `config.path`.

    Raises:
      UserError: see `list_pictures`.
    """
    path = config.path or ""
    if not path.strip():
        raise UserError("data.path is empty; name a folder, or a .tar or .parquet file")
    try:
        path = os.path.abspath(Path(path).expanduser())
    except RuntimeError as error:  # ~somebody
        raise UserError(f"data.path {path}: {error}") from error
    return _find(path, read_options(config))


def read_options(config: DataConfig) -> ReadOptions:
    """What the config says of the layout."""
    return ReadOptions(
        captions=config.captions,
        caption_column=config.caption_column,
        image_column=config.image_column,
        weight_column=config.weight_column,
        templates=config.caption_templates,
        need_captions=bool(config.caption_key),
    )


@functools.cache  # one walk over the files for all splits
def _find(path: str, options: ReadOptions) -> Listing:
    return list_pictures(Path(path), options)


def open_builder(config: DataConfig) -> tfds.core.DatasetBuilder:
    """The prepared data set of `config.path`, imported on first use and when its files change.

    Raises:
      UserError: no path, no pictures, no captions, too few, or nowhere to write.
      OSError: the TFDS root folder cannot be written.
    """
    listing = find_pictures(config)
    target = Target(config.resolution, config.channels, config.fit)
    # the place, too: files of another folder can agree in name, size and time, out of a zip file
    place = os.path.realpath(listing.path)
    contents = digest(RECIPE, target, place, [shard.fingerprint for shard in listing.shards])
    name = listing.path.resolve().name
    slug = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40] or "pictures"
    own = OwnPicturesConfig(
        name=f"{slug}-{target.resolution}px-{contents[:12]}",
        listing=listing,
        target=target,
        strict=config.strict,
    )
    builder = _builder(config.data_dir, own)
    if not builder.info.splits:  # else it is imported, and the folder need not be writable
        with _alone(builder.folder):
            builder = _builder(config.data_dir, own)  # another process may just have made it
            builder.download_and_prepare(file_format="array_record")
            shutil.rmtree(builder.folder / "shards", ignore_errors=True)
    if config.strict:
        _check_none_rejected(builder.folder / "rejected.jsonl")
    return builder


def _builder(data_dir: str | None, config: OwnPicturesConfig) -> OwnPictures:
    with _quiet_absl():  # it warns of a config that is not among the class's own
        return OwnPictures(data_dir=data_dir, config=config)


def _check_none_rejected(report: Path) -> None:
    """Of an import that was not strict."""
    with contextlib.suppress(FileNotFoundError), report.open(encoding="utf-8") as lines:
        for line in lines:
            raise strict_error(describe(json.loads(line)))


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Other processes of this or another run wait until the import is done."""
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "import.lock"):
        yield
