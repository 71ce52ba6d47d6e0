"""What a metric is to the rest of flaxgan, and the table of them."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from flaxgan.config.fields import Config, EvalConfig
from flaxgan.config.rule import Rule
from flaxgan.data import CaptionedImages
from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import CaptionedSet, Evaluator
from flaxgan.evaluate.feature_network import FeatureNetwork
from flaxgan.registry import Table

OpenSplit = Callable[[str], CaptionedImages]  # a split with all captions


@dataclasses.dataclass(frozen=True)
class Task:
    """What an evaluator is built for.

    Attributes:
      config: of the generator; its data section says what is real.
      open_split: opens a split of that data set, with all captions.
      reference: real pictures, as many as are drawn, and the captions that are drawn.
    """

    config: Config
    open_split: OpenSplit
    reference: CaptionedSet


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric: a distance in the features of a network, or an evaluator of its own.

    Attributes:
      network: loads what pictures are compared in; metrics of one network share its features.
      distance: "fd", "kid", "prdc" or "cmmd" between sets of its features.
      evaluator: builds what judges; None for a distance.
      by_caption: whether that evaluator must know which caption each picture was drawn for.
      lower: names of its scores that are the better the lower they are.
      rules: that the config must fulfil.
      scores: names of all of its scores; empty: they are known once they are there.
    """

    network: Callable[[EvalConfig], FeatureNetwork] | None = None
    distance: str | None = None
    evaluator: Callable[[Task], Evaluator] | None = None
    by_caption: bool = True
    lower: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    scores: tuple[str, ...] = ()

    @property
    def needs_captions(self) -> bool:
        """Whether it must know which caption each picture was drawn for."""
        return self.evaluator is not None and self.by_caption


def _pixels8(options: EvalConfig) -> FeatureNetwork:
    from flaxgan.evaluate.networks.pixels import load_pixels8

    return load_pixels8()


def _efflite0(options: EvalConfig) -> FeatureNetwork:
    from flaxgan.evaluate.networks.efflite0 import load_efflite0

    return load_efflite0()


def _inception(options: EvalConfig) -> FeatureNetwork:
    from flaxgan.evaluate.networks.inception import load_inception

    return load_inception(Path(options.inception or ""), resize=options.inception_resize)


def _dinov2(options: EvalConfig) -> FeatureNetwork:
    from flaxgan.evaluate.networks.dinov2 import load_dinov2

    return load_dinov2(options.dinov2 or "")


def _clip(options: EvalConfig) -> FeatureNetwork:
    return _load_clip(options.clip).image


@functools.lru_cache(maxsize=1)  # for the metrics of one evaluation
def _load_clip(folder: str | None) -> Any:
    from flaxgan.evaluate.networks.clip import load_clip

    return load_clip(folder or "")


def _named(field: str, what: str) -> tuple[Rule, ...]:
    """The user has to name the place of the weights: `--inception`, `--eval.inception` …"""
    message = f"these metrics need the {what}: --{field} PATH (in training: --eval.{field} PATH)"
    return (Rule(f"eval.{field}", lambda place, _: place is not None, message),)


def check_best(config: Config) -> None:
    """Raises UserError where no metric gives `eval.best_metric`, as far as their scores are known.

    It cannot be told before the first scores where one of them has too many to list.
    """
    options = config.eval
    groups = [METRICS[name].scores for name in options.metrics]
    if all(groups):
        check_scored(options.best_metric, [name for group in groups for name in group])


def check_scored(best_metric: str, scores: Collection[str]) -> None:
    """Raises UserError where `eval.best_metric` is none of the scores."""
    if best_metric not in scores:
        near = difflib.get_close_matches(best_metric, scores, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"eval.best_metric {best_metric!r} is not scored; eval.metrics give: "
            f"{', '.join(scores)}{hint}"
        )


def _text_image_match(task: Task) -> Evaluator:
    from flaxgan.evaluate.caption_evaluator import CaptionEvaluator

    options = task.config.eval
    clip = _load_clip(options.clip)
    return CaptionEvaluator(
        "clip", clip.image, clip.encode_text, task.reference, with_score=True, seed=options.seed
    )


def _emoji_retrieval(task: Task) -> Evaluator:
    from flaxgan.evaluate.caption_evaluator import CaptionEvaluator
    from flaxgan.evaluate.networks.emoji_matcher import load_emoji_matcher

    matcher = load_emoji_matcher(task.config.text)
    return CaptionEvaluator(
        "emoji",
        matcher.image,
        matcher.encode_text,
        task.reference,
        with_score=False,
        seed=task.config.eval.seed,
    )


def _attributes(task: Task) -> Evaluator:
    from flaxgan.evaluate.attribute_evaluator import AttributeEvaluator
    from flaxgan.evaluate.networks.attribute_net import load_attribute_classifier

    data = task.config.data
    return AttributeEvaluator(
        load_attribute_classifier(data.resolution),
        task.open_split("test"),
        task.open_split("heldout"),
        task.open_split(data.split),
        num=len(task.reference),
    )


def _modes(task: Task) -> Evaluator:
    from flaxgan.evaluate.mode_evaluator import ModeEvaluator
    from flaxgan.evaluate.networks.digit_net import load_digit_classifier

    return ModeEvaluator(load_digit_classifier(), task.reference)


def _psnr(task: Task) -> Evaluator:
    from flaxgan.evaluate.psnr_evaluator import PsnrEvaluator

    return PsnrEvaluator(task.reference, task.config.model.patch)


def _is(config: Config, data_set: str) -> bool:
    """Whether the data are an embedded set, in any of its variants."""
    return config.data.path is None and config.data.name.partition("/")[0] == data_set


INCEPTION = _named("inception", "file pt_inception-2015-12-05-6726825d.pth")
DINOV2 = _named("dinov2", "folder of a DINOv2 model")
CLIP = _named("clip", "folder of a CLIP model")
MODES_OF = "modes are counted for the data set stacked_digits in RGB at 32 pixels only"


def _distance(
    network: Callable[[EvalConfig], FeatureNetwork], name: str, rules: tuple[Rule, ...] = ()
) -> Metric:
    """A distance that is its own only score, the better the lower: "fd_dinov2", "fid" …"""
    distance = {"fid": "fd"}.get(name, name.partition("_")[0])
    return Metric(network, distance, lower=(name,), rules=rules, scores=(name,))


def _prdc(
    network: Callable[[EvalConfig], FeatureNetwork], ending: str, rules: tuple[Rule, ...] = ()
) -> Metric:
    names = ("precision", "recall", "density", "coverage")
    return Metric(network, "prdc", rules=rules, scores=tuple(name + ending for name in names))


METRICS = Table(
    "eval.metrics",
    {
        "fd_pixels8": _distance(_pixels8, "fd_pixels8"),
        "fd_efflite0": _distance(_efflite0, "fd_efflite0"),
        "kid_efflite0": _distance(_efflite0, "kid_efflite0"),
        "prdc_efflite0": _prdc(_efflite0, "_efflite0"),
        "fid": _distance(_inception, "fid", INCEPTION),
        "kid": _distance(_inception, "kid", INCEPTION),
        "prdc": _prdc(_inception, "", INCEPTION),
        "fd_dinov2": _distance(_dinov2, "fd_dinov2", DINOV2),
        "kid_dinov2": _distance(_dinov2, "kid_dinov2", DINOV2),
        "prdc_dinov2": _prdc(_dinov2, "_dinov2", DINOV2),
        "cmmd": _distance(_clip, "cmmd", CLIP),
        "clip": Metric(
            evaluator=_text_image_match, rules=CLIP, scores=("clip_score", "clip_r_precision")
        ),
        "emoji_retrieval": Metric(
            evaluator=_emoji_retrieval,
            scores=("emoji_r_precision",),
            rules=(
                Rule(
                    "eval.metrics",
                    lambda _, config: _is(config, "emoji"),
                    lambda _, config: (
                        "emoji_retrieval is for the data set emoji, not "
                        f"{config.data.path or config.data.name}"
                    ),
                ),
            ),
        ),
        "attributes": Metric(
            evaluator=_attributes,
            lower=("diversity_tv", "repeat_rate", "duplicates"),
            rules=(
                Rule(
                    "eval.metrics",
                    lambda _, config: _is(config, "avatars") and config.data.channels == 3,
                    "attributes are known for the data set avatars in RGB only",
                ),
                Rule(
                    "data.horizontal_flip",
                    # the classifier was not trained on mirrored faces
                    lambda _, config: config.data.horizontal_flip == "off",
                    "attributes need a generator trained with data.horizontal_flip off",
                ),
            ),
        ),
        "modes": Metric(
            evaluator=_modes,
            by_caption=False,
            lower=("reverse_kl",),
            scores=("modes", "reverse_kl"),
            rules=(
                Rule("eval.metrics", lambda _, config: _is(config, "stacked_digits"), MODES_OF),
                Rule(
                    "data.resolution",  # which automatic settings may still have to choose
                    lambda side, config: (side, config.data.channels) == (32, 3),
                    MODES_OF,
                ),
                Rule(
                    "data.horizontal_flip",
                    lambda _, config: config.data.horizontal_flip != "on",
                    "modes need a generator trained with data.horizontal_flip off: "
                    "a mirrored digit is none",
                ),
            ),
        ),
        "psnr": Metric(
            evaluator=_psnr,
            rules=(
                Rule(
                    "eval.metrics",
                    lambda _, config: config.model.family == "upsampler",
                    "psnr is of enlarged pictures: it needs model.family upsampler",
                ),
            ),
        ),
    },
    kind=Metric,
    group="flaxgan.metrics",
)
