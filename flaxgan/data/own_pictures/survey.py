"""What a listing holds, measured: for the inspect command and for the automatic settings."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from flaxgan.data import pictures
from flaxgan.data.own_pictures.shards import SHARD_SIZE, Listing, RawPicture, Shard
from flaxgan.data.pictures import Fit, Unreadable
from flaxgan.machine import core_count
from flaxgan.progress import progress_bar

THUMBNAIL = 64  # pixels
HASH_SIDE = 16
# how far copies of a picture look different: in bits of the hash, and as a share of those that are
# set; in levels of colour
MAX_BITS, EDGE_SHARE, MAX_LEVELS = 10, 0.08, 4
CROWD = 8


@dataclasses.dataclass(frozen=True)
class Facts:
    """One picture.

    Attributes:
      name, captions, reason, detail: see RawPicture.
      width, height: pixels, upright; 0 where the header cannot be read.
      format, mode: as Pillow calls them.
      digest: of the file's bytes.
      look, colours: see `_look`; empty where nothing was decoded.
    """

    name: str
    captions: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    digest: str = ""
    look: bytes = b""
    colours: bytes = b""


@dataclasses.dataclass(frozen=True)
class Survey:
    """All pictures of a listing, or a sample of them.

    Attributes:
      listing: where they are.
      facts: in the order of the listing.
      thumbnails: `[k, 64, 64, 3]` uint8 of some usable pictures.
      shown: indices into `facts` of those, `[k]`.
    """

    listing: Listing
    facts: Sequence[Facts]
    thumbnails: np.ndarray
    shown: Sequence[int]

    @property
    def usable(self) -> list[Facts]:
        """Those with nothing against them."""
        return [fact for fact in self.facts if not fact.reason]

    @property
    def rejected(self) -> list[Facts]:
        """The others."""
        return [fact for fact in self.facts if fact.reason]


def survey(listing: Listing, *, thumbnails: int = 0, fit: Fit = "crop") -> Survey:
    """Decodes every picture, in threads.

    Args:
      listing: of `list_pictures`.
      thumbnails: how many are kept, spread evenly.
      fit: of the thumbnails, see `pictures.load`.
    """
    every = max(1, listing.size // max(thumbnails, 1))

    def work(first: int, shard: Shard) -> list[tuple[Facts, np.ndarray | None]]:
        results = []
        for number, raw in enumerate(shard.read(), first):
            fact, thumbnail = _examine(raw, fit)
            results.append((fact, thumbnail if number % every == 0 else None))
        return results

    firsts = itertools.accumulate((shard.size for shard in listing.shards), initial=0)
    facts: list[Facts] = []
    images, shown = [], []
    with (
        warnings.catch_warnings(),
        progress_bar("reading pictures", listing.size) as advance,
        concurrent.futures.ThreadPoolExecutor(core_count()) as pool,
    ):
        warnings.simplefilter("ignore")  # of Pillow, about odd but readable files
        for results in pool.map(work, firsts, listing.shards):
            for fact, thumbnail in results:
                if thumbnail is not None and len(images) < thumbnails:
                    images.append(thumbnail)
                    shown.append(len(facts))
                facts.append(fact)
            advance(len(results))
    stack = np.stack(images) if images else np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8)
    return Survey(listing, facts, stack, shown)


def sample_headers(listing: Listing, most: int = 1024) -> list[Facts]:
    """Sizes and captions of some pictures, spread over the listing, read from their headers."""
    step = max(1, len(listing.shards) * SHARD_SIZE // most)
    facts: list[Facts] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for shard in listing.shards[::step]:
            facts += [_header(raw)[0] for raw in itertools.islice(shard.read(), SHARD_SIZE)]
    return facts[:most]


def _header(raw: RawPicture) -> tuple[Facts, Image.Image | None]:
    fact = Facts(raw.name, raw.captions, raw.reason, raw.detail)
    if raw.reason or raw.data is None:
        return fact, None
    try:
        image = pictures.open_image(raw.data)
    except Unreadable as error:
        return dataclasses.replace(fact, reason=error.reason, detail=error.detail), None
    width, height = image.size[::-1] if _is_lying(image) else image.size
    known = {"width": width, "height": height, "format": image.format or "", "mode": image.mode}
    return dataclasses.replace(fact, **known), image


def _is_lying(image: Image.Image) -> bool:
    """Whether the header's width is the height of the upright picture."""
    if image.format == "TIFF":  # Pillow has exchanged them
        return False
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode the picture to look for EXIF behind it
    return pictures.orientation(image) in (5, 6, 7, 8)


def _examine(raw: RawPicture, fit: Fit) -> tuple[Facts, np.ndarray | None]:
    fact, image = _header(raw)
    if image is None or raw.data is None:
        return fact, None
    try:
        thumbnail = pictures.load(raw.data, THUMBNAIL, 3, fit=fit)
    except Unreadable as error:
        return dataclasses.replace(fact, reason=error.reason, detail=error.detail), None
    digest = hashlib.blake2b(raw.data, digest_size=8).hexdigest()
    look, colours = _look(thumbnail)
    return dataclasses.replace(fact, digest=digest, look=look, colours=colours), thumbnail


def _look(thumbnail: np.ndarray) -> tuple[bytes, bytes]:
    """Difference hash (dHash), 256 bits: is each place brighter than the one left of it; colours.

    Returns:
      32 bytes; 48 bytes, the means of 4 x 4 places in RGB.
    """
    image = Image.fromarray(thumbnail)
    size = (HASH_SIDE + 1, HASH_SIDE)
    small = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.int16)
    # differences of one level are rounding, for example of JPEG
    bits = np.packbits(np.diff(small, axis=1) > 1)
    return bits.tobytes(), image.resize((4, 4), Image.Resampling.BOX).tobytes()


def copies(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Groups of two or more pictures that are the same file, or look the same.

    Copies in other formats and sizes differ in up to about 10 of 256 bits, other photos in 100;
    in drawings there are fewer bits to differ in.
    """
    leader = np.arange(len(facts))

    def find(i: int) -> int:
        while leader[i] != i:
            i = leader[i]
        return i

    def join(pairs: Iterator[tuple[int, int]]) -> None:
        for i, j in pairs:
            first, second = sorted((find(i), find(j)))
            leader[second] = first
        while (leader[leader] != leader).any():
            leader[:] = leader[leader]

    same: dict[str, int] = {}
    join((i, same.setdefault(fact.digest, i)) for i, fact in enumerate(facts))
    looks = np.frombuffer(b"".join(fact.look for fact in facts), np.uint8).reshape(-1, 32)
    colours = np.frombuffer(b"".join(fact.colours for fact in facts), np.uint8).reshape(-1, 48)
    edges = np.bitwise_count(looks).sum(axis=1, dtype=np.int64)
    for i, j in _candidates(looks):
        apart = leader[i] != leader[j]
        i, j = i[apart], j[apart]
        bits = np.bitwise_count(looks[i] ^ looks[j]).sum(axis=1, dtype=np.int64)
        alike = bits <= np.minimum(MAX_BITS, EDGE_SHARE * np.minimum(edges[i], edges[j]))
        i, j = i[alike], j[alike]
        levels = np.abs(colours[i].astype(np.int16) - colours[j]).max(axis=1, initial=0)
        near = levels <= MAX_LEVELS
        join(zip(i[near].tolist(), j[near].tolist(), strict=True))
    groups: dict[int, list[Facts]] = {}
    for number, fact in zip(leader.tolist(), facts, strict=True):
        groups.setdefault(number, []).append(fact)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(looks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows that agree in one of 11 parts: all that differ in up to 10 bits do.

    Of rows that many others agree with, only some: otherwise it would take the square of the time.
    Parts without any edge say nothing.

    Args:
      looks: `[n, 32]` uint8.
    """
    for start in range(0, 32, 3):
        part = looks[:, start : start + 3].astype(np.uint32)
        values = part @ (256 ** np.arange(part.shape[1], dtype=np.uint32))
        order = np.argsort(values, kind="stable")
        values = values[order]
        for step in range(1, CROWD):
            equal = (values[step:] == values[:-step]) & (values[step:] > 0)
            if not equal.any():
                break
            yield order[:-step][equal], order[step:][equal]
