"""Files that are written whole or not at all."""

import pytest

from flaxgan.atomic_write import open_atomic


def test_takes_the_place_once_complete(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with open_atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644  # not that of temporary files
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error), open_atomic(path) as file:
        _write_half(file, error)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_no_folder(tmp_path):
    with pytest.raises(OSError, match="No such file"), open_atomic(tmp_path / "none" / "a"):
        pass


def _write_half(file, error):
    file.write(b"half")
    raise error
