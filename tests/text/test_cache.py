"""The embedding cache: encodes once, whatever happens to the files or to the process."""

import re
from pathlib import Path

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.text import cache, embed_captions


class CountingEncoder:
    """Sentence vectors made from the bytes, and a record of what was encoded."""

    name, learned, params, dim, max_tokens = "counting", False, np.float32(2), 3, 8

    def __init__(self, fingerprint="a"):
        self.fingerprint = fingerprint
        self.encoded = []
        self.batches = []
        self.limit = 10**9

    def count_tokens(self, captions):
        return [len(c.encode()) for c in captions]

    def tokenize(self, captions):
        if len(self.encoded) >= self.limit:
            raise KeyboardInterrupt
        self.encoded += captions
        self.batches.append([len(c.encode()) for c in captions])
        rows = [list(c.encode()) for c in captions]
        length = max(map(len, rows))
        tokens = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
        return tokens, tokens > 0

    def encode(self, params, tokens, mask):
        total = tokens.sum(axis=1)[:, None] * params
        return None, total * np.arange(1, 4) / 1000


def vectors(captions):
    sums = np.array([sum(c.encode()) for c in captions])
    return (2 * sums[:, None] * np.arange(1, 4) / 1000).astype(np.float16)


CAPTIONS = ["red hat", "帽子", "a", "blue hat", "red hat", "a man"]


def test_values_order_and_duplicates(tmp_path):
    encoder = CountingEncoder()
    result = embed_captions(encoder, CAPTIONS, cache_dir=str(tmp_path), batch_size=2)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, vectors(CAPTIONS))
    assert sorted(encoder.encoded) == sorted(set(CAPTIONS))
    # batches of captions of like length, the last one filled up
    assert encoder.batches == [[1, 5], [6, 7], [8]]


def test_second_call_reads_the_file_in_any_order(tmp_path):
    embed_captions(CountingEncoder(), CAPTIONS, cache_dir=str(tmp_path))
    encoder = CountingEncoder()
    encoder.limit = 0
    backwards = embed_captions(encoder, CAPTIONS[::-1] * 2, cache_dir=str(tmp_path))
    np.testing.assert_array_equal(backwards, vectors(CAPTIONS[::-1] * 2))
    assert [p.suffix for p in tmp_path.iterdir()] == [".npy"]


@pytest.mark.parametrize(
    ("fingerprint", "captions"), [("b", CAPTIONS), ("a", [*CAPTIONS, "new"]), ("a", ["a", "ab"])]
)
def test_another_encoder_or_other_captions_are_encoded(tmp_path, fingerprint, captions):
    embed_captions(CountingEncoder(), CAPTIONS, cache_dir=str(tmp_path))
    encoder = CountingEncoder(fingerprint)
    result = embed_captions(encoder, captions, cache_dir=str(tmp_path))
    np.testing.assert_array_equal(result, vectors(captions))
    assert sorted(encoder.encoded) == sorted(set(captions))
    assert len(list(tmp_path.iterdir())) == 2


def test_where_captions_end_matters(tmp_path):
    embed_captions(CountingEncoder(), ["a", "bc"], cache_dir=str(tmp_path))
    result = embed_captions(CountingEncoder(), ["ab", "c"], cache_dir=str(tmp_path))
    np.testing.assert_array_equal(result, vectors(["ab", "c"]))


def save(array):
    return lambda path: np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b"\0" * 200),
        lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 200),
        save(np.zeros((2, 3), np.float16)),
        save(np.zeros((5, 3), np.float32)),
        save(np.array([{"a": 1}], object)),
    ],
    ids=["empty", "cut", "zeros", "zip", "shape", "dtype", "pickle"],
)
def test_a_broken_file_is_made_anew_with_a_warning(tmp_path, damage):
    embed_captions(CountingEncoder(), CAPTIONS, cache_dir=str(tmp_path))
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.warns(UserWarning, match=f"embedding cache {re.escape(str(path))} is broken"):
        result = embed_captions(CountingEncoder(), CAPTIONS, cache_dir=str(tmp_path))
    np.testing.assert_array_equal(result, vectors(CAPTIONS))
    encoder = CountingEncoder()
    embed_captions(encoder, CAPTIONS, cache_dir=str(tmp_path))
    assert encoder.encoded == []


def test_an_interrupted_run_keeps_its_finished_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2)
    encoder = CountingEncoder()
    encoder.limit = 3
    with pytest.raises(KeyboardInterrupt):
        embed_captions(encoder, CAPTIONS, cache_dir=str(tmp_path), batch_size=1)
    assert [p.suffix for p in tmp_path.iterdir()] == [".npy"]  # one chunk, no temporary file
    encoder = CountingEncoder()
    result = embed_captions(encoder, CAPTIONS, cache_dir=str(tmp_path), batch_size=1)
    assert sorted(encoder.encoded) == sorted(set(CAPTIONS))[2:]
    np.testing.assert_array_equal(result, vectors(CAPTIONS))


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_folder_that_cannot_be_written_is_one_clear_line_before_any_work(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    encoder = CountingEncoder()
    with pytest.raises(
        UserError, match=r"cannot write the embedding cache .*--text\.cache-dir"
    ) as e:
        embed_captions(encoder, CAPTIONS, cache_dir=str(tmp_path / "file" / below))
    assert "\n" not in str(e.value)
    assert encoder.encoded == []


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        embed_captions(CountingEncoder(), CAPTIONS, cache_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default_cache_dir() == Path("/somewhere/flaxgan/embeddings")
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # means: not set
    assert cache.default_cache_dir() == Path.home() / ".cache" / "flaxgan" / "embeddings"
