"""Small pictures, and what an import makes of a folder, for the tests beside."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from flaxgan.config import DataConfig
from flaxgan.data import open_dataset
from flaxgan.data.own_pictures import builder

RESOLUTION = 8


def picture(index, height=24, width=32):
    """Noise that is the picture's own, as a PIL image."""
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(index, file_format="PNG"):
    buffer = io.BytesIO()
    picture(index).save(buffer, file_format)
    return buffer.getvalue()


def expected_pixels(index, resolution=RESOLUTION):
    """What becomes of `picture(index)`, by Pillow alone."""
    size = (resolution, resolution)
    return np.asarray(ImageOps.fit(picture(index), size, Image.Resampling.BOX))


def write_files(root, files):
    """Writes path -> bytes or text, with folders as needed."""
    for name, data in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def captioned_folder(root, count=12, first=0):
    """`i.png` with "picture i" in `i.txt`."""
    for i in range(first, first + count):
        write_files(root, {f"{i}.png": encoded(i), f"{i}.txt": f"picture {i}"})
    return root


def config_of(path, data_dir, **fields):
    return DataConfig(path=str(path), data_dir=str(data_dir), resolution=RESOLUTION, **fields)


def read(config):
    """Name of file -> (pixels, captions, split) of all that was imported."""
    found = {}
    for split in ("train", "test"):
        dataset = open_dataset(config, split)
        for i in range(len(dataset)):
            name = dataset._source[i]["file"].decode()
            assert name not in found
            found[name] = (dataset.image(i), dataset.captions(i), split)
    return found


def rejected(data_dir):
    """Name -> reason of all that was not, in the only import below a folder."""
    (report,) = Path(data_dir).rglob("rejected.jsonl")
    rows = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row["reason"] for row in rows}


def forget():
    """As if the process were a new one, which walks over the files again."""
    builder._find.cache_clear()
