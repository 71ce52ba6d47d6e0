"""From the names of metrics to evaluators."""

import difflib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flaxgan.config import Config, EvalConfig
from flaxgan.data import CaptionedImages
from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import CaptionedSet, Evaluator, captioned_set
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.evaluate.networks.clip import Clip
from flaxgan.machine import cache_dir

# metric -> (network, distance between sets of its features)
DISTANCES: dict[str, tuple[str, str]] = {
    "fd_pixels8": ("pixels8", "fd"),
    "fd_efflite0": ("efflite0", "fd"),
    "kid_efflite0": ("efflite0", "kid"),
    "prdc_efflite0": ("efflite0", "prdc"),
    "fid": ("inception", "fd"),
    "kid": ("inception", "kid"),
    "prdc": ("inception", "prdc"),
    "fd_dinov2": ("dinov2", "fd"),
    "kid_dinov2": ("dinov2", "kid"),
    "prdc_dinov2": ("dinov2", "prdc"),
    "cmmd": ("clip", "cmmd"),
}
METRICS = (*DISTANCES, "clip", "emoji_retrieval", "attributes")
OpenSplit = Callable[[str], CaptionedImages]  # a split with all captions


def check_metrics(names: Sequence[str]) -> None:
    """Raises UserError for a name that is none, or no name at all."""
    if not names:
        raise UserError(f"eval.metrics names no metric; there are: {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(METRICS)}"
            raise UserError(f"unknown metric {name!r}; {hint}")


def build_evaluators(
    config: Config,
    open_split: OpenSplit,
    *,
    split: str,
    num: int | None = None,
    which: int = 0,
    stand_in: bool = True,
) -> list[Evaluator]:
    """Evaluators for `config.eval.metrics`; those of one network share its features.

    Args:
      config: of the generator; its data section says what is real.
      open_split: opens a split of that data set, with all captions.
      split: whose pictures are the reference and whose captions are drawn.
      num: how many; None: all.
      which: number of the caption that is drawn of each picture; `attributes` choose their own.
      stand_in: whether distances are also computed for other real pictures.

    Raises:
      UserError: an unknown metric, weights that are missing, or too few pictures.
    """
    check_metrics(config.eval.metrics)
    reference = captioned_set(open_split(split), split, num, which=which)
    if len(reference) < 2:
        raise UserError(f"metrics need at least 2 pictures; {split} has {len(reference)}")
    return list(_build(config, open_split, reference, stand_in))


def _build(
    config: Config, open_split: OpenSplit, reference: CaptionedSet, stand_in: bool
) -> Iterator[Evaluator]:
    from flaxgan.evaluate.caption_evaluator import CaptionEvaluator
    from flaxgan.evaluate.feature_evaluator import FeatureEvaluator

    metrics, options = config.eval.metrics, config.eval
    other = _stand_in(config, open_split, reference) if stand_in else None
    pairs = [DISTANCES[name] for name in metrics if name in DISTANCES]
    for network in dict.fromkeys(network for network, _ in pairs):
        distances = [distance for name, distance in pairs if name == network]
        yield FeatureEvaluator(
            _load_network(network, options),
            distances,
            reference,
            other,
            cache_dir=Path(options.cache_dir) if options.cache_dir else cache_dir("features"),
            seed=options.seed,
            k=options.prdc_k,
        )
    if "clip" in metrics:
        clip = _load_clip(options)
        yield CaptionEvaluator(
            "clip", clip.image, clip.encode_text, reference, with_score=True, seed=options.seed
        )
    if "emoji_retrieval" in metrics:
        yield _emoji_retrieval(config, reference)
    if "attributes" in metrics:
        yield _attributes(config, open_split, reference)


def _load_network(name: str, options: EvalConfig) -> FeatureNetwork:
    if name == "pixels8":
        from flaxgan.evaluate.networks.pixels import load_pixels8

        return load_pixels8()
    if name == "efflite0":
        from flaxgan.evaluate.networks.efficientnet_lite import load_efflite0

        return load_efflite0()
    if name == "inception":
        from flaxgan.evaluate.networks.inception import load_inception

        path = _named(options.inception, "inception", "file pt_inception-2015-12-05-6726825d.pth")
        return load_inception(Path(path), resize=options.inception_resize)
    if name == "dinov2":
        from flaxgan.evaluate.networks.dinov2 import load_dinov2

        return load_dinov2(_named(options.dinov2, "dinov2", "folder of a DINOv2 model"))
    return _load_clip(options).image


@functools.lru_cache(maxsize=1)  # for the metrics of one evaluation
def _load_clip(options: EvalConfig) -> Clip:
    from flaxgan.evaluate.networks.clip import load_clip

    return load_clip(_named(options.clip, "clip", "folder of a CLIP model"))


def _named(value: str | None, field: str, what: str) -> str:
    if value is None:
        raise UserError(
            f"these metrics need the {what}: --{field} PATH (in training: --eval.{field} PATH)"
        )
    return value


def _stand_in(
    config: Config, open_split: OpenSplit, reference: CaptionedSet
) -> CaptionedSet | None:
    """As many real pictures that are not in the reference; None where there are not as many."""
    count = len(reference)
    for split in (config.data.split, config.data.test_split):
        if split != reference.name and len(dataset := open_split(split)) >= count:
            return captioned_set(dataset, split, count)
    if len(reference.dataset) >= 2 * count:
        rows = np.arange(count, 2 * count)
        return CaptionedSet(f"{reference.name} {count}..", reference.dataset, rows, None)
    return None


def _emoji_retrieval(config: Config, reference: CaptionedSet) -> Evaluator:
    if config.data.name.partition("/")[0] != "emoji":
        raise UserError(f"emoji_retrieval is for the data set emoji, not {config.data.name}")
    from flaxgan.evaluate.caption_evaluator import CaptionEvaluator
    from flaxgan.evaluate.networks.emoji_matcher import load_emoji_matcher

    matcher = load_emoji_matcher(config.text)
    return CaptionEvaluator(
        "emoji",
        matcher.image,
        matcher.encode_text,
        reference,
        with_score=False,
        seed=config.eval.seed,
    )


def _attributes(config: Config, open_split: OpenSplit, reference: CaptionedSet) -> Evaluator:
    from flaxgan.evaluate.attribute_evaluator import AttributeEvaluator
    from flaxgan.evaluate.networks.attribute_net import load_attribute_classifier

    if config.data.name.partition("/")[0] != "avatars" or config.data.channels != 3:
        raise UserError("attributes are known for the data set avatars in RGB only")
    if config.data.horizontal_flip != "off":  # the classifier was not trained on mirrored faces
        raise UserError("attributes need a generator trained with data.horizontal_flip off")
    return AttributeEvaluator(
        load_attribute_classifier(config.data.resolution),
        open_split("test"),
        open_split("heldout"),
        open_split(config.data.split),
        num=len(reference),
    )
