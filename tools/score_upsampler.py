"""What an upsampler is worth on `avatars`: python -m tools.score_upsampler --out docs/upsample.png.

Pictures that the generator draws of the captions of `test` are judged before and after they are
enlarged, by the classifiers of `attributes`: enlarged ones reduced to the sizes that these read.
(`flaxgan evaluate --metrics psnr` compares enlarged real pictures with real ones.) Speed is that of
all devices of this process. The contact sheet shows what is enlarged, bicubic interpolation, what
the upsampler makes of it, and if there is one the real picture.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_upsampler
from flaxgan.config import DataConfig
from flaxgan.data import CaptionedImages, open_dataset
from flaxgan.data.avatars import ATTRIBUTES
from flaxgan.drawing import grids
from flaxgan.drawing.loading import load
from flaxgan.drawing.sampler import Sampler
from flaxgan.evaluate import attribute_accuracy
from flaxgan.evaluate.networks.attribute_net import load_attribute_classifier

PROMPTS = Path(__file__).parent.parent / "docs" / "prompts.txt"
BATCH = 16
COLUMNS = 8
REAL_ROWS = (
    "real pictures of the split test, reduced to 32 px",
    "bicubic interpolation",
    "upsampler",
    "the real pictures at 128 px",
)
DRAWN_ROWS = ("drawn by avatars at 32 px", "bicubic interpolation", "upsampler")


def reduce_to(images: np.ndarray, side: int) -> np.ndarray:
    """Area means: `[n, s, s, c]` uint8 to `[n, side, side, c]` uint8, s a multiple of side."""
    n, s, _, c = images.shape
    times = s // side
    means = images.reshape(n, side, times, side, times, c).mean(axis=(2, 4))
    return means.round().astype(np.uint8)


def enlarge_by(images: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    """`[n, h, w, 3]` uint8 to `[n, side, side, 3]` by Pillow."""
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), how)) for x in images])


def obedience(images: np.ndarray, test: CaptionedImages) -> dict[str, float]:
    """`attr_mean`, `binding` and every attribute of pictures of the first captions of a split."""
    classifier = load_attribute_classifier(images.shape[1])
    labels = test.labels()
    rows = [{name: labels[name][i] for name in ATTRIBUTES} for i in range(len(images))]
    captions = [test.captions(i)[0] for i in range(len(images))]
    asked = attribute_accuracy.asked(classifier.classes, rows, captions, classifier.alike)
    found = attribute_accuracy.accuracies(asked, classifier.predict(images))
    return {name: value for name, (value, _) in found.items()}


def milliseconds(upsampler: Sampler, images: np.ndarray, prompts: Sequence[str]) -> float:
    """Of one picture, in batches, once compiled; text is encoded as well."""
    upsampler.upsample(images, prompts, batch_size=BATCH)
    start = time.perf_counter()
    upsampler.upsample(images, prompts, batch_size=BATCH)
    return 1000.0 * (time.perf_counter() - start) / len(images)


def contact_sheet(upsampler: Sampler, generator: Sampler, test: CaptionedImages) -> Image.Image:
    """The rows of REAL_ROWS and DRAWN_ROWS."""
    real = np.stack([test.image(i) for i in range(COLUMNS)])
    captions = [test.captions(i)[0] for i in range(COLUMNS)]
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()[:COLUMNS]
    drawn = generator(prompts, num=1)[:, 0]
    rows = []
    for small, texts in ((reduce_to(real, 32), captions), (drawn, prompts)):
        rows += [
            enlarge_by(small, 128, Image.Resampling.NEAREST),
            enlarge_by(small, 128, Image.Resampling.BICUBIC),
            upsampler.upsample(small, texts),
        ]
    rows.insert(3, real)
    return grids.grid_png(np.stack(rows), [*REAL_ROWS, *DRAWN_ROWS], scale=1)


def main(argv: Sequence[str]) -> None:
    """Prints the scores and the speed, and writes the sheet."""
    parser = cli.Parser(
        prog="python -m tools.score_upsampler", description="Judge an upsampler of avatars."
    )
    cli.add_checkpoint_option(parser)
    parser.add_argument("--num", type=int, default=1000, help="captions of the split test")
    parser.add_argument("--out", type=Path, help="PNG file of a contact sheet")
    args = parser.parse_args(argv)
    cli.prepare_process(0)
    upsampler, generator = choose_upsampler(args.checkpoint), load("avatars")
    test = open_dataset(DataConfig(name="avatars/10k_128px", resolution=128), "test")
    if args.out is not None:
        grids.save_png(contact_sheet(upsampler, generator, test), args.out, {})
    prompts = [test.captions(i)[0] for i in range(args.num)]
    drawn = generator(prompts, num=1)[:, 0]
    print(f"{milliseconds(upsampler, drawn[:64], prompts[:64]):.1f} ms a picture, batch {BATCH}")
    larger = upsampler.upsample(drawn, prompts)
    judged = {
        "drawn, 32 px": drawn,
        "enlarged, at 32 px": reduce_to(larger, 32),
        "drawn, bicubic to 64 px": enlarge_by(drawn, 64, Image.Resampling.BICUBIC),
        "enlarged, at 64 px": reduce_to(larger, 64),
    }
    for name, images in judged.items():
        scores = obedience(images, test)
        shown = "  ".join(f"{key.removeprefix('attr/')} {x:.3f}" for key, x in scores.items())
        print(f"{name}: {shown}")


if __name__ == "__main__":
    cli.run(main)
