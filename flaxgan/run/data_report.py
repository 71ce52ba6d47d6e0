"""What training is about to be on, in a few lines: so that wrong captions are seen before hours."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from flaxgan.clean_text import shortened
from flaxgan.config import DataConfig
from flaxgan.data import CaptionedImages
from flaxgan.text import TextEncoder

LOOKED_AT = 4096  # captions whose tokens are counted
MOST_CUT = 0.01  # share of captions above which there is a warning
CLASSES = 1000  # distinct captions up to which they can be classes
SHOWN = 2  # pictures
STEP = 8  # tokens: lengths that are advised are multiples


def describe_data(
    config: DataConfig, dataset: CaptionedImages, encoder: TextEncoder | None
) -> list[str]:
    """Lines for the start of training: layout, pictures, captions, examples, what is cut.

    Args:
      config: of the data.
      dataset: that is trained on.
      encoder: of the captions; None: they are not read.
    """
    layout, notes = _understood(config)
    lines = [f"data: {dataset.name}{layout}", *(f"  {note}" for note in notes)]
    pictures = f"  {len(dataset):,} pictures in split {config.split!r}"
    if dataset.weights is not None:
        low, high = dataset.weights.min(), dataset.weights.max()
        pictures += f", weights {low:g} to {high:g}"
    captions = dataset.flat_captions
    if not captions:
        return [*lines, f"{pictures}, no captions"]
    counts = dataset.caption_count
    each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}-{counts.max()}"
    distinct = len(set(captions))
    lines.append(f"{pictures}, {each} captions each, {distinct:,} distinct")
    lines += _balance(captions, distinct)
    for index in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset))).astype(int):
        caption = shortened(dataset.captions(index)[0], 100)
        lines.append(f"  {dataset.picture_name(index)}: {caption!r}")
    if encoder is not None:
        lines += cut_lines(captions, encoder)
    return lines


def _understood(config: DataConfig) -> tuple[str, Sequence[str]]:
    """Layout of a user's own pictures, and notes on it."""
    if config.path is None:
        return "", ()
    from flaxgan.data.own_pictures.builder import find_pictures

    listing = find_pictures(config)
    return f": {listing.layout}", listing.notes


def _balance(captions: Sequence[str], distinct: int) -> Iterator[str]:
    """How many pictures the captions have, where they are classes."""
    if distinct > min(CLASSES, len(captions) / 2):
        return
    counts = Counter(captions).most_common()
    (most, high), (least, low) = counts[0], counts[-1]
    yield (
        f"  from {low:,} of {shortened(least, 40)!r} to {high:,} of {shortened(most, 40)!r}"
        if high > low
        else f"  {high:,} of each"
    )


def cut_lines(captions: Sequence[str], encoder: TextEncoder) -> list[str]:
    """How many captions are longer than `text.max_tokens`, and whether they stay distinct.

    Args:
      captions: any.
      encoder: counts and cuts their tokens.

    Returns:
      One line; where more than 1 % are cut, or captions become equal, it is a warning that says
      which length would do.
    """
    distinct = list(dict.fromkeys(captions))
    rows = np.linspace(0, len(distinct) - 1, min(LOOKED_AT, len(distinct))).astype(int)
    sample = [distinct[row] for row in rows]
    lengths = np.array(encoder.count_tokens(sample))
    longer = lengths > encoder.max_tokens
    tokens, mask = encoder.tokenize(sample)
    left = len(np.unique(np.concatenate([tokens, mask], axis=1), axis=0))
    of = "the distinct captions" if len(sample) == len(distinct) else f"{len(sample):,} captions"
    line = (
        f"  {longer.mean():.1%} of {of} are longer than text.max_tokens, {encoder.max_tokens} "
        f"(longest {lengths.max()})"
    )
    lost = len(sample) - left
    if lost:
        line += f"; cut there, {len(sample):,} distinct captions become {left:,}"
    if longer.mean() <= MOST_CUT and not (lost and longer.any()):
        return [line]
    return [f"warning: {line.strip()}; --text.max-tokens {advised_tokens(lengths)} keeps most"]


def advised_tokens(lengths: Sequence[int] | np.ndarray) -> int:
    """A length that 95 % of the captions fit into, a multiple of 8."""
    wanted = int(np.percentile(lengths, 95, method="inverted_cdf")) if len(lengths) else STEP
    return -(-wanted // STEP) * STEP
