"""Any TFDS data set as captioned pictures of one size."""

import concurrent.futures
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxgan.config import DataConfig
from flaxgan.data import pictures
from flaxgan.data.captions import caption_reader, find_feature, nested
from flaxgan.errors import UserError
from flaxgan.progress import progress_bar

EMBEDDED = ("avatars", "emoji")
CHUNK = 256  # examples decoded by one task


class CaptionedImages:
    """A split of a data set.

    Attributes:
      name: of the data set.
      flat_captions: all captions of all pictures; a caption id is an index into it.
      caption_start, caption_count: `[n]` int64, the ids of picture i are
        caption_start[i] … caption_start[i] + caption_count[i] - 1.
      images: `[n, h, w, c]` uint8 when held in memory, else None.
      captions_survive_flip: whether captions stay true for a mirrored picture.
    """

    def __init__(
        self,
        name: str,
        source: Sequence[Any],
        config: DataConfig,
        captions: list[list[str]],
        captions_survive_flip: bool,
    ):
        """Wraps a random-access source whose `[i][image_key]` is bytes or an array."""
        self.name = name
        self._source, self._config = source, config
        self.captions_survive_flip = captions_survive_flip
        self.flat_captions = [caption for group in captions for caption in group]
        self.caption_count = np.array([len(group) for group in captions], np.int64)
        self.caption_start = np.cumsum(self.caption_count) - self.caption_count
        side, channels = config.resolution, config.channels
        size = len(source) * side * side * channels
        self.images: np.ndarray | None = None
        if size <= config.in_memory_mb * 2**20:
            self.images = self._decode_all()

    def __len__(self) -> int:
        return len(self._source)

    def image(self, index: int) -> np.ndarray:
        """Picture `[h, w, c]` uint8."""
        if self.images is not None:
            return self.images[index]
        return self._decode(index)

    def captions(self, index: int) -> list[str]:
        """Captions of a picture; empty for an unconditional data set."""
        start = self.caption_start[index]
        return self.flat_captions[start : start + self.caption_count[index]]

    def _decode(self, index: int) -> np.ndarray:
        data = nested(self._source[int(index)], self._config.image_key)
        what = f"{self.name} picture {index}"
        return pictures.decode(data, self._config.resolution, self._config.channels, what=what)

    def _decode_all(self) -> np.ndarray:
        """Decodes everything, in threads: image codecs release the interpreter lock."""
        side, channels = self._config.resolution, self._config.channels
        images = np.empty((len(self), side, side, channels), np.uint8)

        def work(start: int) -> int:
            stop = min(start + CHUNK, len(self))
            for index in range(start, stop):
                images[index] = self._decode(index)
            return stop - start

        with (
            progress_bar(f"decoding {self.name}", len(self)) as advance,
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            for done in pool.map(work, range(0, len(self), CHUNK)):
                advance(done)
        return images


def open_dataset(config: DataConfig, split: str) -> CaptionedImages:
    """Opens a split, preparing the data set on first use.

    Args:
      config: see DataConfig.
      split: TFDS split, slices allowed ("train[:90%]").

    Raises:
      UserError: unknown data set, split or feature; or one that cannot be prepared here.
    """
    if config.resolution < 4:
        raise UserError(f"data.resolution must be >= 4, not {config.resolution}")
    builder = _open_builder(config)
    source, texts = _read_split(builder, config, split)
    if not len(source):
        raise UserError(f"split {split!r} of data set {config.name} is empty")
    expected = builder.info.splits[split].num_examples
    if len(source) != expected:
        raise UserError(
            f"data set {config.name} is damaged: {len(source)} of {expected} examples in "
            f"{split!r}; delete {builder.data_dir} and run again"
        )
    flip = getattr(type(builder), "captions_survive_flip", False)
    return CaptionedImages(config.name, source, config, texts, flip)


def _read_split(builder: Any, config: DataConfig, split: str) -> tuple[Any, list[list[str]]]:
    """Pictures as bytes (decoded by us), and all captions, read without decoding pictures."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    find_feature(features, config.image_key, "data.image_key", config.name)
    if split.split("[")[0] not in builder.info.splits:
        names = ", ".join(sorted(builder.info.splits))
        raise UserError(f"data set {config.name} has no split {split!r}; it has: {names}")
    skip = {config.image_key: tfds.decode.SkipDecoding()}
    source = builder.as_data_source(split, decoders=skip)
    if not config.caption_key:
        return source, [[] for _ in range(len(source))]
    read = caption_reader(
        features, config.caption_key, config.caption_templates, config.max_captions, config.name
    )
    return source, [read(source[i]) for i in range(len(source))]


def _open_builder(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()  # ours shows the rendering, which is what takes time
    name, _, variant = config.name.partition("/")
    try:
        builder = _construct(tfds, name, variant, config.data_dir)
    except UserError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, EMBEDDED, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown data set {config.name!r}{hint}") from error
    except (ImportError, AttributeError) as error:
        raise UserError(_prepare_hint(config.name, error)) from error
    except ValueError as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"data.name {config.name!r}: {first}") from error
    try:
        builder.download_and_prepare(file_format="array_record")
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"cannot write data set {config.name} to {builder.data_dir}") from error
    except Exception as error:  # TensorFlow missing, no network, a manual download missing …
        raise UserError(_prepare_hint(config.name, error)) from error
    return builder


def _construct(tfds: Any, name: str, variant: str, data_dir: str | None) -> Any:
    options = {"config": variant} if variant else {}
    if name == "avatars":
        from flaxgan.data.avatars import Avatars

        return Avatars(data_dir=data_dir, **options)
    if name == "emoji":
        from flaxgan.data.emoji_art import Emoji

        return Emoji(data_dir=data_dir, **options)
    prepared = _prepared_folder(tfds, name, variant, data_dir)
    if prepared is not None:
        return tfds.builder_from_directory(prepared)
    full_name = f"{name}/{variant}" if variant else name
    return tfds.builder(full_name, data_dir=data_dir)


def _prepared_folder(tfds: Any, name: str, variant: str, data_dir: str | None) -> Path | None:
    """The newest prepared version below the TFDS root; its own code is then not needed."""
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / name / variant
    versions = sorted(root.glob("*/dataset_info.json")) or sorted(
        root.glob("*/*/dataset_info.json")
    )
    return versions[-1].parent if versions else None


def _prepare_hint(name: str, error: Exception) -> str:
    reason = (
        str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    )
    return (
        f"data set {name} cannot be prepared here ({reason}); prepare it once where TensorFlow and "
        f"the network are: pip install tensorflow && tfds build {name} --file_format=array_record, "
        "and copy the folder to data.data_dir"
    )
