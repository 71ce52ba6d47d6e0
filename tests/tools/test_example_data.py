"""Example data out of Debian packages: files of their form are written and imported."""

import gzip
import struct

import numpy as np
import pytest

from flaxgan.errors import UserError
from tests.data.own_pictures.folders import encoded, write_files
from tests.data.own_pictures.test_folder_layouts import texts, understood
from tools import example_data


def idx(path, values):
    magic = 2051 if values.ndim == 3 else 2049
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">{1 + values.ndim}I", magic, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def test_clothes_get_the_names_of_their_classes(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "usr/share/datasets/fashion-mnist"
    rng = np.random.default_rng(0)
    for name, count in (("train", 20), ("t10k", 10)):
        idx(folder / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 4, 5), np.uint8))
        idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    out = tmp_path / "out"
    example_data.main(["fashion-mnist", str(out), "--unpacked", str(tmp_path)])
    assert "wrote 30 pictures" in capsys.readouterr().out
    monkeypatch.setattr("tests.data.own_pictures.test_folder_layouts.BYTES", Numbers())
    usable, rejected = understood(out)
    assert not rejected
    names = [raw.captions[0] for raw in usable.values()]
    assert sorted(names) == sorted(example_data.CLOTHES * 3)
    assert sorted(raw.split for raw in usable.values()) == ["test"] * 10 + ["train"] * 20
    with pytest.raises(UserError, match="is not empty"):
        example_data.main(["fashion-mnist", str(out)])


class Numbers(dict):
    """Numbers pictures as they come."""

    def __getitem__(self, data):
        return self.setdefault(data, len(self))


def test_a_broken_idx_file_is_named(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(struct.pack(">4I", 2051, 2, 3, 4) + bytes(23)))
    (tmp_path / "b.gz").write_bytes(b"no gzip")
    for name, words in (("a.gz", "is not an IDX file"), ("b.gz", "cannot read")):
        with pytest.raises(UserError, match=words):
            example_data.read_idx(tmp_path / name, "images")


STAMP = "A cat.\nde.utf8=Eine Katze.\nzh_cn.utf8=一只猫。\nfr.utf8=\n"


def test_stamps_with_sentences_in_the_languages_that_are_asked_for(tmp_path):
    folder = tmp_path / "usr/share/tuxpaint/stamps"
    write_files(folder, {"animals/cat.png": encoded(0), "animals/cat.txt": STAMP})
    write_files(folder, {"animals/mute.png": encoded(1)})
    write_files(folder, {"symbols/alphabets/a.png": encoded(2), "symbols/alphabets/a.txt": "A"})
    write_files(folder, {"food/nut.png": encoded(3), "food/nut.txt": "A nut.\n"})
    args = ["stamps", str(tmp_path / "out"), "--unpacked", str(tmp_path)]
    example_data.main([*args, "--languages", "zh_cn,en,fr"])
    usable, _ = understood(tmp_path / "out")
    assert texts(usable) == {0: ["一只猫。", "A cat."], 3: ["A nut."]}
