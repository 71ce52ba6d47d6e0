"""Folders of pictures: read exactly, in order, or refused in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import CaptionedSet
from flaxgan.evaluate.picture_folder import ImageFolder, export_captions


def captioned(count, name="test", captions=None):
    return CaptionedSet(name, None, np.arange(count), captions)


def save(path, seed, side=8, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


def drawn(folder, what, batch_size=2):
    return np.concatenate(list(folder.draw(what, batch_size)))


def test_pictures_come_in_the_order_of_their_names(tmp_path):
    pixels = {name: save(tmp_path / name, i) for i, name in enumerate(("b.png", "a.png", "c.PNG"))}
    (tmp_path / "notes.txt").write_text("not a picture")
    folder = ImageFolder(tmp_path)
    assert folder.side == 8
    assert not folder.has_captions
    expected = np.stack([pixels[name] for name in ("a.png", "b.png", "c.PNG")])
    np.testing.assert_array_equal(drawn(folder, captioned(3)), expected)
    np.testing.assert_array_equal(drawn(folder, captioned(2), batch_size=5), expected[:2])


def test_exported_captions_say_which_picture_is_which(tmp_path):
    sets = [captioned(2, "test", ["a cat", "狗"]), captioned(1, "test/open", ["a bird"])]
    count = export_captions(sets, tmp_path / "metadata.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert count == len(lines) == 3
    assert lines[1] == {"file_name": "test-000001.png", "text": "狗", "set": "test"}
    pixels = [save(tmp_path / line["file_name"], i) for i, line in enumerate(lines)]
    folder = ImageFolder(tmp_path)
    assert folder.has_captions
    np.testing.assert_array_equal(drawn(folder, sets[0]), np.stack(pixels[:2]))
    np.testing.assert_array_equal(drawn(folder, sets[1]), np.stack(pixels[2:]))
    with pytest.raises(UserError, match="holds different captions from test"):
        drawn(folder, captioned(2, "test", ["a cat", "a dog"]))
    with pytest.raises(UserError, match="no pictures of set 'heldout'"):
        drawn(folder, captioned(1, "heldout", ["a fish"]))


def test_captions_may_hold_any_space_and_files_any_mark(tmp_path):
    sets = [captioned(2, "test", ["a\u2028cat", "a\x85dog"])]
    file = tmp_path / "metadata.jsonl"
    export_captions(sets, file)
    pixels = [save(tmp_path / f"test-{i:06d}.png", i) for i in range(2)]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text(file.read_text("utf-8"), encoding=encoding)
        np.testing.assert_array_equal(drawn(ImageFolder(tmp_path), sets[0]), np.stack(pixels))
        file.write_text(file.read_text(encoding), encoding="utf-8")


BAD_LINES = {
    "not json": "line 1: needs file_name",
    "{}": "line 1: needs file_name",
    "[1]": "line 1: needs file_name",
    '{"file_name": "../x.png", "text": "", "set": "test"}': "must be a name in this folder",
    '{"file_name": 3, "text": "", "set": "test"}': "must be a name in this folder",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_broken_metadata(tmp_path, line):
    save(tmp_path / "x.png", 0)
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(UserError, match=BAD_LINES[line]):
        ImageFolder(tmp_path)


def test_no_folder_and_no_pictures(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        ImageFolder(tmp_path / "nothing")
    with pytest.raises(UserError, match="no pictures in"):
        ImageFolder(tmp_path)
    save(tmp_path / "a.png", 0)
    with pytest.raises(UserError, match="one picture in"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("mode", "what"),
    [("L", "grey"), ("RGBA", "transparent"), ("P", "a palette picture"), ("1", "not in RGB")],
)
def test_other_modes_are_refused(tmp_path, mode, what):
    save(tmp_path / "a.png", 0)
    save(tmp_path / "b.png", 1, mode=mode)
    with pytest.raises(UserError, match=rf"b\.png is {what} \(mode {mode}\)"):
        drawn(ImageFolder(tmp_path), captioned(2))


def test_other_sizes_are_refused(tmp_path):
    save(tmp_path / "a.png", 0)
    save(tmp_path / "b.png", 1, side=9)
    with pytest.raises(UserError, match=r"b\.png has 9 x 9 pixels, others 8 x 8"):
        drawn(ImageFolder(tmp_path), captioned(2))
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="has 8 x 6 pixels"):
        ImageFolder(tmp_path)


def test_broken_and_too_few(tmp_path):
    save(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    folder = ImageFolder(tmp_path)
    with pytest.raises(UserError, match=r"b\.png is not a readable picture"):
        drawn(folder, captioned(2))
    with pytest.raises(UserError, match="has 2 pictures, 3 requested"):
        drawn(folder, captioned(3))
