"""Imports that are interrupted, repeated, shared, changed, and those with nowhere to write."""

import errno
import itertools
import json
import os
import signal
import time
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from flaxgan.data import open_dataset
from flaxgan.data.own_pictures import builder, convert, list_pictures, shards
from flaxgan.errors import UserError
from tests.data.own_pictures.folders import (
    captioned_folder,
    config_of,
    encoded,
    expected_pixels,
    forget,
    read,
    rejected,
    write_files,
)

COUNT, SHARD = 24, 4


@pytest.fixture
def root(tmp_path, monkeypatch):
    """24 captioned pictures, which make six shards."""
    monkeypatch.setattr(shards, "SHARD_SIZE", SHARD)
    return captioned_folder(tmp_path / "pictures", COUNT)


@pytest.fixture
def decoded(monkeypatch):
    """Grows by the bytes of each picture that is decoded to be imported."""
    calls = []
    load = convert.pictures.load

    def counted(data, *args, **options):
        calls.append(data)
        return load(data, *args, **options)

    monkeypatch.setattr(convert.pictures, "load", counted)
    return calls


def importing(config, decoded):
    """The pictures that are decoded when a new process opens a data set."""
    forget()
    decoded.clear()
    with pytest.MonkeyPatch.context() as patch:
        # what is imported is read again, to be held in memory: another matter
        patch.setattr("flaxgan.data.source.CaptionedImages", lambda *args: args)
        open_dataset(config, "train")
    return list(decoded)


def assert_complete(config):
    found = read(config)
    assert sorted(found) == sorted(f"{i}.png" for i in range(COUNT))
    for i in range(COUNT):
        pixels, captions, _ = found[f"{i}.png"]
        np.testing.assert_array_equal(pixels, expected_pixels(i))
        assert captions == [f"picture {i}"]


def imports(data_dir):
    return [path.parent for path in Path(data_dir).rglob("dataset_info.json")]


def test_the_second_time_nothing_is_decoded(root, tmp_path, decoded):
    config = config_of(root, tmp_path / "tfds")
    assert len(importing(config, decoded)) == COUNT
    assert importing(config, decoded) == []
    assert len(imports(tmp_path / "tfds")) == 1
    assert not list((tmp_path / "tfds").rglob("shards"))
    assert_complete(config)


def test_an_interruption_keeps_the_shards_that_are_done(root, tmp_path, decoded, monkeypatch):
    config = config_of(root, tmp_path / "tfds")
    load = convert.pictures.load

    def interrupted(*args, **options):
        if len(decoded) == 3 * SHARD + 1:
            os.kill(os.getpid(), signal.SIGINT)
        if len(decoded) > 3 * SHARD:
            time.sleep(0.1)
        return load(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(convert.pictures, "load", interrupted)
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        with pytest.raises(KeyboardInterrupt):
            importing(config, decoded)
    assert len(decoded) < COUNT  # it does not go on to the end
    done = list((tmp_path / "tfds").rglob("shards/*.parquet"))
    assert 3 <= len(done) < 6
    assert not list((tmp_path / "tfds").rglob("shards/*.tmp"))
    assert not imports(tmp_path / "tfds")
    assert len(importing(config, decoded)) == COUNT - SHARD * len(done)
    assert_complete(config)


def test_a_shard_stops_in_the_middle(root, tmp_path, decoded, monkeypatch):
    """Those of Parquet files can be large."""
    monkeypatch.setattr(shards, "SHARD_SIZE", COUNT)
    load = convert.pictures.load

    def slow(*args, **options):
        time.sleep(0.1)
        if len(decoded) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return load(*args, **options)

    monkeypatch.setattr(convert.pictures, "load", slow)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        convert.convert_shards(list_pictures(root).shards, tmp_path / "out", convert.Target(8))
    assert time.monotonic() - start < 2.0
    assert not list((tmp_path / "out").iterdir())


def test_an_error_keeps_them_too(root, tmp_path, decoded, monkeypatch):
    config = config_of(root, tmp_path / "tfds")
    load = convert.pictures.load

    def failing(*args, **options):
        if len(decoded) == 3 * SHARD + 1:
            raise SystemError("a bug of a codec")
        return load(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(convert.pictures, "load", failing)
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        with pytest.raises(SystemError):
            importing(config, decoded)
    assert len(importing(config, decoded)) <= COUNT - 2 * SHARD
    assert_complete(config)


def test_an_interruption_at_the_end_converts_nothing_again(root, tmp_path, decoded, monkeypatch):
    config = config_of(root, tmp_path / "tfds")

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.writer.Writer, "finalize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            importing(config, decoded)
    assert not imports(tmp_path / "tfds")
    assert importing(config, decoded) == []
    assert_complete(config)
    assert not list((tmp_path / "tfds").rglob("*incomplete*"))


@pytest.mark.parametrize("content", [b"", b"PAR1"])
def test_shards_that_a_loss_of_power_emptied_are_made_again(root, tmp_path, decoded, content):
    listing = list_pictures(root)
    files = convert.convert_shards(listing.shards, tmp_path / "out", convert.Target(8))
    files[2].write_bytes(content)
    decoded.clear()
    convert.convert_shards(listing.shards, tmp_path / "out", convert.Target(8))
    assert len(decoded) == SHARD
    assert len(list(convert.read_rows(files, ["name"]))) == COUNT


def test_shards_that_are_done_are_not_read(root, tmp_path, monkeypatch):
    listing = list_pictures(root)
    files = convert.convert_shards(listing.shards, tmp_path / "out", convert.Target(8))
    monkeypatch.setattr(type(listing.shards[0]), "read", None)
    assert convert.convert_shards(listing.shards, tmp_path / "out", convert.Target(8)) == files


def replace_picture(root):
    (root / "5.png").write_bytes(encoded(105))


def replace_caption(root):
    (root / "5.txt").write_text("something else")


def add_picture(root):
    write_files(root, {"100.png": encoded(100), "100.txt": "a new one"})


def remove_picture(root):
    (root / "5.png").unlink()


def rename_picture(root):
    (root / "5.png").rename(root / "55.png")
    (root / "5.txt").rename(root / "55.txt")


def add_metadata(root):
    rows = [{"file_name": f"{i}.png", "text": f"picture {i}"} for i in range(COUNT - 1)]
    rows.append({"file_name": f"{COUNT - 1}.png", "text": "another text"})
    write_files(root, {"metadata.jsonl": "\n".join(map(json.dumps, rows))})


@pytest.mark.parametrize(
    "change",
    [
        replace_picture,
        replace_caption,
        add_picture,
        remove_picture,
        rename_picture,
        add_metadata,
        {"resolution": 16},
        {"channels": 1},
        {"fit": "pad"},
        {"caption_key": ""},
    ],
    ids=lambda change: change.__name__ if callable(change) else next(iter(change)),
)
def test_a_change_leads_to_a_new_import(root, tmp_path, decoded, change):
    (tmp_path / "tfds").mkdir()
    fields = {}
    importing(config_of(root, tmp_path / "tfds"), decoded)
    if callable(change):
        change(root)
    else:
        fields = change
    config = config_of(root, tmp_path / "tfds")
    config = type(config)(**{**vars(config), **fields})
    assert importing(config, decoded)
    assert len(imports(tmp_path / "tfds")) == 2
    found = read(config)
    if change is replace_picture:
        np.testing.assert_array_equal(found["5.png"][0], expected_pixels(105))
    if change is replace_caption:
        assert found["5.png"][1] == ["something else"]
    if change is add_metadata:
        assert found[f"{COUNT - 1}.png"][1] == ["another text"]


def test_folders_that_agree_in_names_sizes_and_times_are_not_mixed_up(tmp_path):
    """As when two zip files of bitmaps are unpacked."""
    for folder, first in (("a", 0), ("b", 50)):
        root = tmp_path / folder / "pictures"
        for i in range(10):
            write_files(root, {f"{i}.bmp": encoded(first + i, "BMP"), f"{i}.txt": "some words"})
        for path in root.iterdir():
            os.utime(path, (0, 0))
    for folder, first in (("a", 0), ("b", 50)):
        found = read(config_of(tmp_path / folder / "pictures", tmp_path / "tfds"))
        for i in range(10):
            np.testing.assert_array_equal(found[f"{i}.bmp"][0], expected_pixels(first + i))


def test_names_that_print_the_same(tmp_path):
    root = captioned_folder(tmp_path / "pictures", 8)
    for i, name in enumerate((b"caf\xe9", b"caf\\xe9"), 8):
        stem = os.fsdecode(name)
        write_files(root, {f"{stem}.png": encoded(i), f"{stem}.txt": f"picture {i}"})
    sizes = [len(open_dataset(config_of(root, tmp_path / "tfds"), s)) for s in ("train", "test")]
    assert sum(sizes) == 10
    assert rejected(tmp_path / "tfds") == {}


def test_who_waited_for_another_import_reads_it(root, tmp_path, decoded, monkeypatch):
    """The other one is done between the first look and the lock."""
    config = config_of(root, tmp_path / "tfds")
    acquire = filelock.FileLock.acquire
    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)

    def slow(self, *args, **options):
        monkeypatch.undo()
        read(config)
        return acquire(self, *args, **options)

    monkeypatch.setattr(filelock.FileLock, "acquire", slow)
    assert len(open_dataset(config, "train")) == 18


def test_a_finished_import_can_lie_in_a_folder_that_is_not_writable(root, tmp_path, monkeypatch):
    config = config_of(root, tmp_path / "tfds")
    expected = read(config)

    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(args[0]))

    forget()
    for name in ("mkdir", "write_text", "unlink", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    assert read(config).keys() == expected.keys()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# as array_record's writer says it
ARRAY_RECORD_FULL = RuntimeError("write() failed: No space left on device; writing a.array_record")


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ((pq.ParquetWriter, "write_batch"), FULL, "No space left on device"),
        ((os, "replace"), FULL, "No space left on device"),
        ((tfds.core.writer.Writer, "write"), FULL, "No space left on device"),
        ((tfds.core.writer.Writer, "finalize"), FULL, "No space left on device"),
        ((tfds.core.writer.Writer, "finalize"), ARRAY_RECORD_FULL, "No space left on device"),
        (
            (filelock.FileLock, "acquire"),
            PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
            "Permission denied",
        ),
    ],
)
def test_nowhere_to_write(root, tmp_path, monkeypatch, decoded, target, error, words):
    def fail(*args, **options):
        raise error

    config = config_of(root, tmp_path / "tfds")
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(UserError) as raised:
            importing(config, decoded)
    message = str(raised.value)
    assert message.startswith(f"cannot write data set {root} to ")
    assert words in message
    assert "choose another folder with data.data_dir" in message
    assert "\n" not in message
    assert not list((tmp_path / "tfds").rglob("*.tmp"))
    importing(config, decoded)
    assert_complete(config)


def test_a_file_in_place_of_the_folder(root, tmp_path):
    (tmp_path / "tfds").write_text("")
    with pytest.raises(UserError, match=r"^cannot write data set .*data_dir$"):
        open_dataset(config_of(root, tmp_path / "tfds"), "train")


def test_pictures_of_a_large_shard_are_not_in_memory_together(tmp_path, monkeypatch):
    """A row group can hold any number of them: neither read nor written at once."""
    images = [encoded(i) for i in range(200)]
    table = pa.table({"image": images, "text": [f"picture {i}" for i in range(200)]})
    pq.write_table(table, tmp_path / "a.parquet")
    converted = itertools.count(1)
    written, ahead = [0], []
    write_batch = pq.ParquetWriter.write_batch
    convert_one = convert._convert

    def count_converted(*args):
        ahead.append(next(converted) - written[0])
        return convert_one(*args)

    def count_written(self, batch, *args, **options):
        written[0] += batch.num_rows
        return write_batch(self, batch, *args, **options)

    monkeypatch.setattr(convert, "_convert", count_converted)
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", count_written)
    config = config_of(tmp_path / "a.parquet", tmp_path / "tfds")
    assert len(read(config)) == 200
    assert len(ahead) == 200
    assert max(ahead) <= convert.WRITTEN_AT_ONCE


def test_the_splits_are_written_as_a_stream(root, tmp_path, monkeypatch):
    """Pictures go from shards to the data set a few at a time."""
    open_now, most = [0], [0]
    read_rows = convert.read_rows

    def counted(files, columns):
        for row in read_rows(files, columns):
            if "image" in columns:
                open_now[0] += 1
                most[0] = max(most[0], open_now[0])
            yield row
            open_now[0] = 0

    monkeypatch.setattr(builder, "read_rows", counted)
    assert len(read(config_of(root, tmp_path / "tfds"))) == COUNT
    assert most[0] == 1


Row = builder.Row


def test_test_pictures():
    def chosen(digests, splits=None):
        splits = splits or [""] * len(digests)
        return builder.test_numbers([Row(*row) for row in zip(itertools.count(), splits, digests)])

    shuffled = [int(d) for d in np.random.default_rng(0).permutation(100_000)]
    for count, expected in ((8, 2), (12, 3), (100, 8), (1000, 50), (100_000, 2000)):
        digests = shuffled[:count]
        assert chosen(digests) == set(np.argsort(digests)[:expected])
    assert chosen(range(20), ["train", "test", "", "test"] * 5) == set(range(1, 20, 2))
    assert len(chosen(range(20), ["train", ""] * 10)) == 5
    # copies stay together
    assert chosen([3, 1, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13]) == {1, 2, 0}
    assert chosen([3, 0, 0, 0, 0, 7, 8, 9, 10, 11, 12, 13]) == {0, 5, 6}
    # a placeholder for most of the pictures is for training, also where its digest is the smallest
    assert chosen([0] * 90 + list(range(1, 11))) == set(range(90, 98))
    assert len(chosen([7] * 40)) == 8


def test_a_folder_of_nothing_but_copies_has_both_splits(tmp_path):
    for i in range(20):
        write_files(tmp_path / "p", {f"{i}.png": encoded(0), f"{i}.txt": f"text {i}"})
    found = read(config_of(tmp_path / "p", tmp_path / "tfds"))
    assert len(found) == 20
    assert sum(split == "test" for _, _, split in found.values()) == 5
