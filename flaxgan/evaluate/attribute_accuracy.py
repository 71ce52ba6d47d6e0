"""Arithmetic of the attribute scores: predicted classes against what captions ask, on arrays."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flaxgan.data.avatar_captions import named_attributes
from flaxgan.data.avatars import HELDOUT_PAIRS

OPTIONAL = ("hat", "facial_hair", "accessory")  # what a full caption does not name is not there
BINDINGS = {
    "bind/hair_clothes": ("hair_color", "clothing_color"),
    "bind/hair_beard": ("hair_color", "facial_hair_color"),
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What captions say of `n` pictures.

    Attributes:
      classes: attribute -> its class names; the columns of the arrays below, in order.
      truth: `[n, attributes]` class numbers of the real pictures.
      named: `[n, attributes]` bool, whether the caption states the attribute.
      withheld: pair of attributes -> `[n]` bool, whether its two values never occur together in
        training pictures.
    """

    classes: Mapping[str, Sequence[str]]
    truth: np.ndarray
    named: np.ndarray
    withheld: Mapping[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

    def column(self, attribute: str) -> int:
        """Its number among `classes`."""
        return list(self.classes).index(attribute)

    def number(self, attribute: str, value: str) -> int:
        """The class number of a value."""
        return list(self.classes[attribute]).index(value)


def asked(
    classes: Mapping[str, Sequence[str]],
    attributes: Sequence[Mapping[str, str]],
    captions: Sequence[str],
    alike: Mapping[str, Mapping[str, str]] | None = None,
) -> Asked:
    """Reads captions of pictures with known attributes.

    Args:
      classes: the attributes that are scored, with their class names.
      attributes: of each picture, by name; more than those of `classes` are fine.
      captions: one for each.
      alike: attribute -> value -> the value that it counts as.
    """
    counted = {name: (alike or {}).get(name, {}) for name in classes}
    truth = [
        [values.index(counted[name].get(row[name], row[name])) for name, values in classes.items()]
        for row in attributes
    ]
    named = [
        [name in mentioned for name in classes]
        for mentioned in map(named_attributes, attributes, captions)
    ]
    withheld = {
        (first, second): np.array([(row[first], row[second]) in pairs for row in attributes], bool)
        for (first, second), pairs in HELDOUT_PAIRS.items()
    }
    return Asked(classes, np.array(truth, np.int16), np.array(named, bool), withheld)


def accuracies(asked: Asked, predicted: np.ndarray) -> dict[str, tuple[float, int]]:
    """Shares of pictures that show what full captions name.

    Args:
      asked: of full captions.
      predicted: `[n, attributes]` class numbers.

    Returns:
      name -> (share, number of pictures that it is a share of), for
      `attr/<attribute>`: the named value is seen;
      `attr_mean`: mean of those;
      `attr_unasked`: no hat, beard or glasses where the caption names none, averaged over them;
      `bind/…`: two named colours right at once, the beard's only where it is not that of the hair;
      `binding`: mean of those.
      What no caption asks for is left out.
    """
    right = predicted == asked.truth
    result = {}
    for k, name in enumerate(asked.classes):
        _put(result, f"attr/{name}", right[:, k], asked.named[:, k])
    result["attr_mean"] = _mean(result)
    unasked: dict[str, tuple[float, int]] = {}
    for name in set(OPTIONAL) & set(asked.classes):
        k = asked.column(name)
        _put(unasked, name, right[:, k], asked.truth[:, k] == asked.number(name, "NONE"))
    result |= {"attr_unasked": _mean(unasked)} if unasked else {}
    bindings: dict[str, tuple[float, int]] = {}
    for name, (first, second) in BINDINGS.items():
        if {first, second} <= set(asked.classes):
            i, j = asked.column(first), asked.column(second)
            where = asked.named[:, i] & asked.named[:, j]
            if name == "bind/hair_beard":  # one palette
                where &= asked.truth[:, i] != asked.truth[:, j]
            _put(bindings, name, right[:, i] & right[:, j], where)
    return result | bindings | ({"binding": _mean(bindings)} if bindings else {})


def withheld_accuracy(asked: Asked, predicted: np.ndarray) -> dict[str, tuple[float, int]]:
    """`binding_heldout`: share of the withheld pairs in full captions with both values seen."""
    right, parts = predicted == asked.truth, {}
    for (first, second), withheld in asked.withheld.items():
        if {first, second} <= set(asked.classes):
            i, j = asked.column(first), asked.column(second)
            where = withheld & asked.named[:, i] & asked.named[:, j]
            _put(parts, f"{first}_{second}", right[:, i] & right[:, j], where)
    if not parts:
        return {}
    total = sum(count for _, count in parts.values())
    share = sum(value * count for value, count in parts.values()) / total
    return {"binding_heldout": (share, total)}


def open_distances(prior: Asked, asked: Asked, predicted: np.ndarray) -> dict[str, float]:
    """How far what pictures show, where captions leave it open, is from the training distribution.

    Args:
      prior: training examples with captions of the same kind.
      asked: captions that leave something open.
      predicted: `[n, attributes]` class numbers of pictures of `asked`.

    Returns:
      attribute -> total-variation distance in [0, 1].
    """
    result = {}
    for k, (name, values) in enumerate(asked.classes.items()):
        if not asked.named[:, k].all() and not prior.named[:, k].all():
            shown = _histogram(predicted[~asked.named[:, k], k], len(values))
            expected = _histogram(prior.truth[~prior.named[:, k], k], len(values))
            result[name] = float(0.5 * np.abs(shown - expected).sum())
    return result


def repeats(asked: Asked, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """How often two pictures of one caption agree in what it leaves open.

    Args:
      asked: captions that leave something open.
      first, second: `[n, attributes]` class numbers of two pictures of each caption.

    Returns:
      attribute -> share in [0, 1].
    """
    equal = first == second
    return {
        name: float(equal[~asked.named[:, k], k].mean())
        for k, name in enumerate(asked.classes)
        if not asked.named[:, k].all()
    }


def chance_repeats(prior: Asked) -> dict[str, float]:
    """What `repeats` expects of draws from the training distribution that ignore their caption."""
    return {
        name: float(np.sum(_histogram(prior.truth[~prior.named[:, k], k], len(values)) ** 2))
        for k, (name, values) in enumerate(prior.classes.items())
        if not prior.named[:, k].all()
    }


def variety(classes: np.ndarray) -> tuple[float, float]:
    """What a collapse would take away.

    Args:
      classes: `[n, attributes]` class numbers that pictures show.

    Returns:
      Share of pictures whose combination of attributes no earlier one shows, and the entropy of
      what they show, in bits, averaged over the attributes.
    """
    distinct = len(np.unique(classes, axis=0)) / len(classes)
    shares = [np.unique(column, return_counts=True)[1] / len(column) for column in classes.T]
    return distinct, float(np.mean([-(p * np.log2(p)).sum() for p in shares]))


def _histogram(classes: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(classes, minlength=count) / len(classes)


def _put(
    result: dict[str, tuple[float, int]], name: str, right: np.ndarray, where: np.ndarray
) -> None:
    if where.any():
        result[name] = (float(right[where].mean()), int(where.sum()))


def _mean(parts: Mapping[str, tuple[float, int]]) -> tuple[float, int]:
    """Unweighted; the count is that of the smallest part."""
    values, counts = zip(*parts.values(), strict=True)
    return float(np.mean(values)), min(counts)
