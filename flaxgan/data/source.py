"""Any TFDS data set as captioned pictures of one size."""

import concurrent.futures
import dataclasses
import difflib
import errno
import functools
import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxgan.config import Config, DataConfig, check
from flaxgan.data import pictures
from flaxgan.data.captions import Reader, as_strings, caption_reader, find_feature, nested
from flaxgan.errors import UserError, first_line
from flaxgan.progress import progress_bar
from flaxgan.registry import Table

# TFDS builders that are drawn on this machine, by the first part of `data.name`
EMBEDDED: Table[type] = Table(
    "data.name",
    {
        "avatars": "flaxgan.data.avatars:Avatars",
        "emoji": "flaxgan.data.emoji_art:Emoji",
        "stacked_digits": "flaxgan.data.stacked_digits:StackedDigits",
    },
    kind="tensorflow_datasets.core:DatasetBuilder",
    group="flaxgan.embedded_data",
)
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST}
FULL = (errno.ENOSPC, errno.EDQUOT)
CHUNK = 256  # examples decoded by one task


class CaptionedImages:
    """A split of a data set.

    Attributes:
      name: of the data set.
      flat_captions: all captions of all pictures; a caption id is an index into it.
      caption_start, caption_count: `[n]` int64, the ids of picture i are
        caption_start[i] … caption_start[i] + caption_count[i] - 1.
      images: `[n, h, w, c]` uint8 when held in memory, else None.
      weights: `[n]` float32, how often each is trained on, 1 for a usual one; None: all alike.
      captions_survive_flip: whether captions stay true for a mirrored picture.
    """

    def __init__(
        self,
        name: str,
        source: Sequence[Any],
        config: DataConfig,
        captions: list[list[str]],
        captions_survive_flip: bool,
        class_names: Mapping[str, list[str]] | None = None,
        weights: np.ndarray | None = None,
    ):
        """Wraps a random-access source whose `[i][image_key]` is bytes or an array."""
        self.name = name
        self._source, self._config = source, config
        self._class_names = class_names
        self.weights = weights
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

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the number of pictures, with their captions and with their weights."""
        counted = repr((self.caption_count.tolist(), self.flat_captions))
        if self.weights is not None:
            counted += repr(self.weights.tolist())
        return hashlib.sha256(counted.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def shorter_side(self, index: int) -> int:
        """Of a picture as it is stored, pixels."""
        data = nested(_example(self._source, index, self.name), self._config.image_key)
        return min(pictures.open_image(data).size)

    def captions(self, index: int) -> list[str]:
        """Captions of a picture; empty for an unconditional data set."""
        start = self.caption_start[index]
        return self.flat_captions[start : start + self.caption_count[index]]

    def picture_name(self, index: int) -> str:
        """The file of one of a user's own pictures; else its number."""
        if self._config.path is None:
            return f"picture {index}"
        return as_strings(_example(self._source, index, self.name)["file"])[0]

    def labels(self) -> dict[str, list[str]]:
        """Class names of every picture, by name of the ClassLabel feature."""
        names = self._class_names or {}
        labels: dict[str, list[str]] = {feature: [] for feature in names}
        for index in range(len(self)):
            example = _example(self._source, index, self.name)
            for feature, values in labels.items():
                values.append(names[feature][int(example[feature])])
        return labels

    def _decode(self, index: int) -> np.ndarray:
        data = nested(_example(self._source, index, self.name), self._config.image_key)
        config = self._config
        what = f"{self.name} picture {index}"
        return pictures.decode(data, config.resolution, config.channels, what=what, fit=config.fit)

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
    check(Config(data=config), "data")
    if config.path is not None:
        config = dataclasses.replace(config, name=config.path)  # what messages call it
    builder = _open_builder(config)
    _check_split(builder, config.name, split)
    source = _open_split(builder, config, split)
    texts, weights = _read_captions(source, builder.info.features, config)
    flip = getattr(type(builder), "captions_survive_flip", False)
    class_names = _class_names(builder.info.features)
    return CaptionedImages(config.name, source, config, texts, flip, class_names, weights)


def _class_names(features: Any) -> dict[str, list[str]]:
    import tensorflow_datasets as tfds

    return {
        key: feature.names
        for key, feature in features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    }


def _check_split(builder: Any, data_name: str, split: str) -> None:
    """Raises UserError where "train", "train[:90%]" or "train+test" names no examples."""
    splits = builder.info.splits
    if any(part.split("[")[0].strip() not in splits for part in split.split("+")):
        names = ", ".join(sorted(splits))
        raise UserError(f"data set {data_name} has no split {split!r}; it has: {names}")
    try:
        size = splits[split].num_examples
    except ValueError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"split {split!r} of data set {data_name}: {reason}") from error
    if not size:
        raise UserError(f"split {split!r} of data set {data_name} is empty; choose another")


def _open_split(builder: Any, config: DataConfig, split: str) -> Any:
    """Random access to the examples, with pictures as bytes (decoded by us)."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image = find_feature(features, config.image_key, "data.image_key", config.name)
    if hasattr(image, "keys") or np.dtype(image.np_dtype) != np.uint8 or len(image.shape) < 2:
        kind = f"feature {config.image_key!r} is {type(image).__name__}"
        raise UserError(f"data.image_key: {kind}, not 8-bit pictures")
    skip: Any = tfds.decode.SkipDecoding()
    for part in reversed(config.image_key.split("/")):
        skip = {part: skip}
    # TFDS 4.9.10 reads all of the files that a slice of a Parquet split touches
    if (
        builder.info.file_format == tfds.core.FileFormat.PARQUET
        and split not in builder.info.splits
    ):
        return _open_rows(builder, config, split, skip)
    return _open_whole(builder, config, split, skip)


def _open_whole(builder: Any, config: DataConfig, split: str, decoders: Any) -> Sequence[Any]:
    """The examples of a split as TFDS gives them, all of which must be there."""
    expected = builder.info.splits[split].num_examples
    try:
        source = builder.as_data_source(split, decoders=decoders)
    except NotImplementedError as error:  # prepared as TFRecord, which only TensorFlow reads
        raise UserError(_prepare_hint(config.name, error)) from error
    except (OSError, ValueError) as error:  # of pyarrow, which opens the files at once
        reason = f"{split!r} cannot be opened ({first_line(error)})"
        raise UserError(_damaged(config.name, reason)) from error
    if len(source) != expected:
        found = f"{len(source)} of {expected} examples in {split!r}"
        raise UserError(_damaged(config.name, found))
    return source


def _open_rows(builder: Any, config: DataConfig, split: str, decoders: Any) -> "_Rows":
    """A slice or a sum of splits, cut out of whole splits."""
    starts: dict[str, tuple[str, int]] = {}  # file -> its split, number of its first example there
    for name, info in builder.info.splits.items():
        start = 0
        for file in info.file_instructions:
            starts[file.filename] = name, start
            start += file.examples_in_shard
    wholes: dict[str, Sequence[Any]] = {}
    parts: list[tuple[Sequence[Any], range]] = []
    for file in builder.info.splits[split].file_instructions:
        name, start = starts[file.filename]
        if name not in wholes:
            wholes[name] = _open_whole(builder, config, name, decoders)
        first = start + file.skip
        parts.append((wholes[name], range(first, first + file.take)))
    return _Rows(parts)


class _Rows(Sequence[Any]):
    """Some examples of one or more sources, one part after the other."""

    def __init__(self, parts: Sequence[tuple[Sequence[Any], range]]):
        self._parts = parts
        self._ends = np.cumsum([len(rows) for _, rows in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> Any:
        part = int(np.searchsorted(self._ends, index, side="right"))
        source, rows = self._parts[part]
        return source[rows[index - int(self._ends[part])]]  # counted from the part's end


def _read_captions(
    source: Sequence[Any], features: Any, config: DataConfig
) -> tuple[list[list[str]], np.ndarray | None]:
    """Captions of every picture, and weights where they are not all alike."""
    weighted = config.path is not None and "weight" in features
    if not config.caption_key:
        read: Reader = lambda example, index: []  # noqa: E731
    else:
        read = caption_reader(
            features,
            config.caption_key,
            config.caption_templates,
            config.max_captions,
            config.name,
            config.caption_numbers,
        )
    if not config.caption_key and not weighted:
        return [[] for _ in range(len(source))], None
    captions, weights = [], []
    for index in range(len(source)):
        example = _example(source, index, config.name)
        captions.append(read(example, index))
        weights.append(float(example["weight"]) if weighted else 1.0)
    alike = len(set(weights)) < 2
    return captions, None if alike else np.array(weights, np.float32)


def _example(source: Sequence[Any], index: int, data_name: str) -> dict[str, Any]:
    try:
        return source[int(index)]
    except (RuntimeError, OSError, IndexError, ValueError) as error:  # of array_record
        reason = first_line(error)
        raise UserError(_damaged(data_name, f"example {index} is unreadable ({reason})")) from error


def _damaged(data_name: str, what: str) -> str:
    return f"data set {data_name} is damaged: {what}; delete it in data.data_dir and run again"


def _open_builder(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()  # ours shows the rendering, which is what takes time
    if config.path is not None:
        return _open_own(config)
    name, _, variant = config.name.partition("/")
    try:
        builder = _construct(tfds, name, variant, config.data_dir)
    except UserError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        stock = tfds.core.registered.list_imported_builders()
        near = difflib.get_close_matches(name, [*EMBEDDED, *stock], n=1)
        hint = f"did you mean {near[0]}?" if near else f"embedded are: {', '.join(EMBEDDED)}"
        raise UserError(f"unknown data set {config.name!r}; {hint}") from error
    except ValueError as error:
        first = str(error).strip().splitlines()[0].split(" Here are")[0]
        raise UserError(f"data.name {config.name!r}: {first}") from error
    except Exception as error:  # TensorFlow missing, no network
        raise UserError(_prepare_hint(config.name, error)) from error
    if not Path(builder.data_dir).exists() and _needs_tensorflow(builder):
        raise UserError(_prepare_hint(config.name, ImportError("TensorFlow is not installed")))
    try:
        builder.download_and_prepare(file_format="array_record")
    except UserError:
        raise
    except Exception as error:  # TensorFlow missing, no network, a manual download missing …
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise UserError(_unwritable(config.name, builder.data_dir, error)) from error
        raise UserError(_prepare_hint(config.name, error)) from error
    return builder


def _open_own(config: DataConfig) -> Any:
    from flaxgan.data.own_pictures import open_builder

    try:
        return open_builder(config)
    except OSError as error:  # pictures that cannot be read are skipped: this is the target
        folder = error.filename or config.data_dir or "the TFDS root folder"
        raise UserError(_unwritable(config.name, folder, error)) from error
    except RuntimeError as error:  # array_record's writer has no OSError
        full = next((n for n in FULL if os.strerror(n) in str(error)), None)
        if full is None:
            raise
        folder = config.data_dir or "the TFDS root folder"
        reason = OSError(full, os.strerror(full))
        raise UserError(_unwritable(config.name, folder, reason)) from error


def _unwritable(name: str, folder: Any, error: OSError) -> str:
    return (
        f"cannot write data set {name} to {folder}: {error.strerror or first_line(error)}; "
        "choose another folder with data.data_dir"
    )


def _needs_tensorflow(builder: Any) -> bool:
    """Stock builders do, to prepare: better said before their download than after it."""
    stock = type(builder).__module__.startswith("tensorflow_datasets.")
    return stock and importlib.util.find_spec("tensorflow") is None


def _construct(tfds: Any, name: str, variant: str, data_dir: str | None) -> Any:
    if name in EMBEDDED:
        return _construct_embedded(name, variant, data_dir)
    prepared = _prepared_folder(tfds, name, variant, data_dir)
    if prepared is not None:
        return tfds.builder_from_directory(prepared)
    full_name = f"{name}/{variant}" if variant else name
    return tfds.builder(full_name, data_dir=data_dir)


def _construct_embedded(name: str, variant: str, data_dir: str | None) -> Any:
    builder = EMBEDDED[name]
    variants = [config.name for config in builder.BUILDER_CONFIGS]
    if variant and variant not in variants:
        allowed = ", ".join(f"{name}/{known}" for known in variants)
        raise UserError(f"unknown data set '{name}/{variant}'; there are: {allowed}")
    return builder(data_dir=data_dir, config=variant or None)


def _prepared_folder(tfds: Any, name: str, variant: str, data_dir: str | None) -> Path | None:
    """The newest prepared version below the TFDS root; its own code is then not needed."""
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / name / variant
    found = list(root.glob("*/dataset_info.json")) or list(root.glob("*/*/dataset_info.json"))
    folders = [path.parent for path in found]
    return max(folders, key=lambda f: (f.parent.name, _version(f.name)), default=None)


def _version(name: str) -> list[int]:
    """ "1.10.0" -> [1, 10, 0]."""
    return [int(part) if part.isdigit() else -1 for part in name.split(".")]


def _prepare_hint(name: str, error: Exception) -> str:
    reason = first_line(error)
    return (
        f"data set {name} cannot be prepared here ({reason}); prepare it once where TensorFlow and "
        f"the network are: pip install tensorflow && tfds build {name} --file_format=array_record, "
        "and copy the folder to data.data_dir"
    )
