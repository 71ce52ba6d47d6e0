"""What the automatic settings need to know of a data set, found without decoding it."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from flaxgan.config import DataConfig

SAMPLE = 1024  # pictures whose headers and captions are read
# a mirrored picture would make these wrong: sides, and what is written
SIDES = re.compile(
    r"\b(left|right|letters?|text|word|words|writing|written|logo|number|numbers|digits?"
    r"|links|rechts|linke[rns]?|rechte[rns]?|gauche|droite|izquierd[ao]|derech[ao]"
    r"|sinistra|destra|esquerd[ao]|direit[ao])\b|[左右]|слева|справа",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """About a data set.

    Attributes:
      pictures: in all splits, about.
      side: pixels that four pictures in five reach in the side that is fitted.
      mirror_safe: whether captions stay true of mirrored pictures, as far as a sample tells.
      captions: of the sample.
    """

    pictures: int
    side: int
    mirror_safe: bool
    captions: tuple[str, ...] = ()


def data_facts(config: DataConfig) -> DataFacts:
    """Reads headers and captions of some pictures.

    Raises:
      UserError: see `open_dataset`.
    """
    if config.path is None:
        return _of_tfds(config)
    from flaxgan.data.own_pictures.builder import find_pictures
    from flaxgan.data.own_pictures.survey import sample_headers

    listing = find_pictures(config)
    sample = sample_headers(listing, SAMPLE)
    usable = [fact for fact in sample if not fact.reason]
    fitted = min if config.fit == "crop" else max
    sides = [fitted(fact.width, fact.height) for fact in usable]
    captions = tuple(caption for fact in usable for caption in fact.captions)
    return DataFacts(
        pictures=round(listing.size * len(usable) / max(1, len(sample))),
        side=_reached(sides),
        mirror_safe=_mirror_safe(captions),
        captions=captions,
    )


def _of_tfds(config: DataConfig) -> DataFacts:
    from flaxgan.data.source import open_dataset

    # not decoded: what is held in memory is not looked at here
    dataset = open_dataset(dataclasses.replace(config, in_memory_mb=0, resolution=32), config.split)
    rows = np.linspace(0, len(dataset) - 1, min(SAMPLE, len(dataset))).astype(int)
    captions = tuple(caption for row in rows for caption in dataset.captions(row))
    return DataFacts(
        pictures=len(dataset),
        side=_reached([dataset.shorter_side(row) for row in rows[:64]]),
        mirror_safe=_mirror_safe(captions),
        captions=captions,
    )


def _reached(sides: Sequence[int]) -> int:
    return int(np.percentile(sides, 20)) if len(sides) else 0


def _mirror_safe(captions: Sequence[str]) -> bool:
    return not any(SIDES.search(caption) for caption in captions)
