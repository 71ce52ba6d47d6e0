"""Caption features of TFDS data sets to lists of strings."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxgan.errors import UserError

Reader = Callable[[dict[str, Any], int], list[str]]
EMPTY_ID = -1  # text id of the empty caption


def caption_reader(
    features: Any,
    key: str,
    templates: Sequence[str],
    max_captions: int,
    data_name: str,
    numbers: Sequence[int] = (),
) -> Reader:
    """A function from a decoded example and its number to its captions.

    Args:
      features: the data set's FeaturesDict.
      key: feature name, nested ones with a slash ("captions/text"): Text, Sequence(Text), or
        ClassLabel.
      templates: for ClassLabel; "{}" becomes the class name.
      max_captions: at most this many; 0: all. Example i keeps those from its i-th on, around the
        end, so that every kind of caption stays in the data set.
      data_name: for errors.
      numbers: of the captions that are read at all, for data sets that order them by kind; empty:
        all. An example that has none of them keeps all of its captions.

    Raises:
      UserError: no such feature, or one that holds no text.
    """
    import tensorflow_datasets as tfds

    feature = find_feature(features, key, "data.caption_key", data_name)
    if isinstance(feature, tfds.features.ClassLabel):
        names = [readable(name) for name in feature.names]

        def read(example: dict[str, Any]) -> list[str]:
            name = names[int(nested(example, key))]
            return [template.replace("{}", name) for template in templates]

    else:
        _check_text(feature, key)

        def read(example: dict[str, Any]) -> list[str]:
            return as_strings(nested(example, key))

    def limited(example: dict[str, Any], index: int) -> list[str]:
        everything = read(example)
        chosen = [everything[k] for k in numbers if k < len(everything)] or everything
        captions = [caption for caption in chosen if caption.strip()] or [""]
        if not max_captions:
            return captions
        start = index % len(captions)
        return (captions[start:] + captions[:start])[:max_captions]

    return limited


def _check_text(feature: Any, key: str) -> None:
    leaf = getattr(feature, "feature", feature)  # of a Sequence
    if hasattr(leaf, "keys"):
        inner = ", ".join(f"{key}/{name}" for name in sorted(leaf.keys()))
        raise UserError(f"data.caption_key: feature {key!r} holds several features: {inner}")
    if np.dtype(leaf.np_dtype).kind not in "OSU":
        kind = type(leaf).__name__
        raise UserError(f"data.caption_key: feature {key!r} is {kind}, not text or a class")


def find_feature(features: Any, key: str, field: str, data_name: str) -> Any:
    """The feature at a path such as "captions/text".

    Raises:
      UserError: it is not there; the message lists what is.
    """
    feature = features
    for part in key.split("/"):
        inner = getattr(feature, "feature", feature)  # of a Sequence
        if not hasattr(inner, "keys") or part not in inner:
            names = ", ".join(sorted(features.keys()))
            raise UserError(
                f"{field}: data set {data_name} has no feature {key!r}; it has: {names}"
            )
        feature = inner[part]
    return feature


def nested(example: dict[str, Any], key: str) -> Any:
    """The value at a path such as "captions/text"."""
    value: Any = example
    for part in key.split("/"):
        if isinstance(value, dict):
            value = value[part]
        else:  # a sequence of dictionaries
            value = [item[part] for item in value]
    return value


def as_strings(value: Any) -> list[str]:
    """One string or many, as str or UTF-8 bytes, to a list of str."""
    if isinstance(value, bytes):
        return [value.decode("utf-8", errors="replace")]
    if isinstance(value, str):
        return [value]
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return as_strings(value.item())
    if isinstance(value, (list, tuple, np.ndarray)):
        return [text for item in value for text in as_strings(item)]
    raise UserError(f"data.caption_key names a feature that holds {type(value).__name__}, not text")


def text_ids(captions: Sequence[str]) -> np.ndarray:
    """Numbers in place of words: `[n]` int32, equal for equal captions, EMPTY_ID for ""."""
    numbers = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    numbers[""] = EMPTY_ID
    return np.array([numbers[caption] for caption in captions], np.int32)


def readable(name: str) -> str:
    """A class name as words: "017.Cardinal_bird" -> "Cardinal bird"."""
    return re.sub(r"^\d+\.", "", name).replace("_", " ").strip()
