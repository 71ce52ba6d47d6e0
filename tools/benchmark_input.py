"""How fast pictures are imported, decoded and fed here: python -m tools.benchmark_input [PATH].

Without a path it makes JPEG photographs of noise in a temporary folder. How many images a second a
training step needs says `flaxgan benchmark`.
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxgan.commands import cli
from flaxgan.config import DataConfig
from flaxgan.data import pictures
from flaxgan.data.own_pictures.builder import find_pictures
from flaxgan.data.pipeline import train_batches
from flaxgan.data.source import open_dataset
from flaxgan.errors import UserError
from flaxgan.machine import core_count

BATCH_SIZE = 64
PHOTO = (1024, 768)  # pixels
PHOTO_GRAIN = 8  # pixels of a patch of one colour: about as many bytes as a photograph


@dataclasses.dataclass(frozen=True)
class Rates:
    """Images a second at one resolution.

    Attributes:
      resolution: pixels.
      decode: decoding and resizing alone, in one thread.
      imported: the whole import, in all cores.
      streamed: batches read from the imported data set, in threads.
      in_memory: batches of a data set that is held in memory.
    """

    resolution: int
    decode: float
    imported: float
    streamed: float
    in_memory: float


def measure(path: Path, resolution: int, seconds: float) -> Rates:
    """Measures with all pictures of a path.

    Args:
      path: as data.path.
      resolution: pixels.
      seconds: spent on decoding and on each kind of feeding, about.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig(path=str(path), data_dir=folder, resolution=resolution, in_memory_mb=0)
        raw = [p.data for shard in find_pictures(config).shards[:1] for p in shard.read() if p.data]

        def decode() -> Iterator[int]:
            while True:
                for data in raw:
                    pictures.decode(data, resolution, 3, what="a picture")
                    yield 1

        decoded = _rate(decode(), seconds)
        start = time.perf_counter()
        dataset = open_dataset(config, "train")
        imported = find_pictures(config).size / (time.perf_counter() - start)
        streamed = _rate(_batches(dataset), seconds)
        held = open_dataset(dataclasses.replace(config, in_memory_mb=2**20), "train")
        return Rates(resolution, decoded, imported, streamed, _rate(_batches(held), seconds))


def _batches(dataset: object) -> Iterator[int]:
    for batch in train_batches(dataset, batch_size=BATCH_SIZE, num_workers=0):
        yield len(batch["images"])


def _rate(counts: Iterator[int], seconds: float) -> float:
    """What is counted a second, after one batch or picture of warming up."""
    next(counts)
    start, total = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        total += next(counts)
    return total / (time.perf_counter() - start)


def make_photos(folder: Path, count: int, size: tuple[int, int] = PHOTO) -> None:
    """JPEG files with text files; about 200 kB each at the default size."""
    rng = np.random.default_rng(0)
    width, height = size
    for i in range(count):
        small = rng.integers(0, 256, (height // PHOTO_GRAIN, width // PHOTO_GRAIN, 3), np.uint8)
        photo = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        photo.save(folder / f"{i:05d}.jpg", quality=90)
        (folder / f"{i:05d}.txt").write_text(f"photo number {i}\n")


def table(rates: Sequence[Rates]) -> str:
    """The measurements as text, one line for each resolution."""
    names = [field.name for field in dataclasses.fields(Rates)]
    lines = ["".join(f"{name:>12}" for name in names)]
    for rate in rates:
        lines.append("".join(f"{getattr(rate, name):>12,.0f}" for name in names))
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table."""
    parser = cli.Parser(
        prog="python -m tools.benchmark_input",
        description="Images a second of import and feeding.",
    )
    add = parser.add_argument
    add("path", type=Path, nargs="?", metavar="PATH", help="own pictures; default: made for it")
    add("--resolutions", type=int, nargs="+", default=[64, 128, 256], help="pixels")
    add("--pictures", type=int, default=1000, help="made, where there is no path")
    add("--seconds", type=float, default=5.0, help="spent on each measurement, about")
    args = parser.parse_args(argv)
    if args.pictures < 2 * BATCH_SIZE:
        raise UserError(f"--pictures must be at least {2 * BATCH_SIZE}, not {args.pictures}")
    if not args.seconds > 0:
        raise UserError(f"--seconds must be > 0, not {args.seconds}")
    with tempfile.TemporaryDirectory() as folder:
        if args.path is None:
            make_photos(Path(folder), args.pictures)
        path = args.path or Path(folder)
        rates = [measure(path, resolution, args.seconds) for resolution in args.resolutions]
    print(f"images a second, {core_count()} cores, batches of {BATCH_SIZE}")
    print(table(rates))


if __name__ == "__main__":
    cli.run(main)
