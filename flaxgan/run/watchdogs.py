"""Watchdogs for long runs: what is going wrong, and which flag fixes it.

Thresholds and what they were measured on: docs/reliability.md.
"""

import math
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from flaxgan.config import Config
from flaxgan.losses import ADVERSARIAL, PENALTIES

SMOOTHING = 0.9  # weight of the past, per log line: one line holds the values of one batch
WARMUP_STEPS = 2000  # of the run: until then G draws grey, and D tells that from pictures easily
WARMUP_LINES = 20  # of the process: until then the averages follow single batches
MEMORY_WARMUP_STEPS = 2000  # of the process: until then compiling, buffers and scoring claim memory
MEMORY_FLOOR_MB = 1024.0  # what later compiling or scoring may add to a small process

Values = Mapping[str, float]


class Advice(NamedTuple):
    """One thing that is wrong.

    Attributes:
      key: short name, for the progress bar and metrics.jsonl.
      text: one line: what was measured, and what to do.
    """

    key: str
    text: str


class Rule(NamedTuple):
    """One watchdog.

    Attributes:
      key: of its advice.
      begins: the warning starts when the measure rises above this …
      ends: … and stops when it falls below this.
      measure: smoothed scalars -> how bad it is; a KeyError means that a scalar is missing.
      text: smoothed scalars -> the warning.
    """

    key: str
    begins: float
    ends: float
    measure: Callable[[Values], float]
    text: Callable[[Values], str]


class Watchdogs:
    """Reads every log line of one run, in order."""

    def __init__(self, config: Config):
        """Chooses the rules that mean something for the config's loss."""
        self._rules = (*_game_rules(config), *_COMMON)
        self._average: dict[str, float] = {}
        self._weight: dict[str, float] = {}  # of the values seen, which the averages lack at first
        self._active: dict[str, str] = {}  # key -> text
        self._lines = self._first_step = 0
        self._memory = 0.0  # highest of the warm-up
        self._skipped: tuple[int, float] | None = None  # step and count of the last line

    def check(self, step: int, scalars: Values) -> list[Advice]:
        """What is wrong now.

        A warning starts when a smoothed measure rises above one threshold and stops when it falls
        below another, lower one. Its text stays the same meanwhile.

        Args:
          step: updates that the run has done, including those before it was resumed.
          scalars: of the log line; what is absent or not finite is ignored. From the losses
            `d_loss`, `penalty` (0: a step without), `gamma`, `real_logit`, `fake_logit`; from the
            pictures `fake_diversity`, `real_diversity`; from the loop `skipped` (updates, in all),
            `input_wait` (share of the time), `host_memory_mb`.
        """
        if not self._lines:
            self._first_step = step
        self._lines += 1
        self._smooth(dict(scalars) | self._skipped_share(step, scalars))
        if step - self._first_step <= MEMORY_WARMUP_STEPS:
            self._memory = max(self._memory, scalars.get("host_memory_mb", 0.0))
        elif self._memory:
            self._average["memory_before"] = self._memory
        if step > WARMUP_STEPS and self._lines >= WARMUP_LINES:
            for rule in self._rules:
                self._judge(rule)
        return [Advice(key, text) for key, text in self._active.items()]

    def _skipped_share(self, step: int, scalars: Values) -> dict[str, float]:
        if "skipped" not in scalars:
            return {}
        before, self._skipped = self._skipped, (step, scalars["skipped"])
        if before is None or step <= before[0]:
            return {}
        return {"skipped_share": (scalars["skipped"] - before[1]) / (step - before[0])}

    def _smooth(self, scalars: Values) -> None:
        # a step without a penalty (loss.penalty_every_steps, or a gamma that has come to 0) says 0
        without = {"penalty", "gamma"} if scalars.get("penalty") == 0.0 else set()
        for name, value in scalars.items():
            if not math.isfinite(value) or name in without:
                continue
            old = self._weight.get(name, 0.0)
            new = self._weight[name] = SMOOTHING * old + (1 - SMOOTHING)
            total = SMOOTHING * old * self._average.get(name, 0.0) + (1 - SMOOTHING) * value
            self._average[name] = total / new

    def _judge(self, rule: Rule) -> None:
        try:
            measure = rule.measure(self._average)
        except KeyError:
            return
        if rule.key in self._active:
            if measure < rule.ends:
                del self._active[rule.key]
        elif measure > rule.begins:
            self._active[rule.key] = rule.text(self._average)


REACH_LOW, REACH_HIGH = 0.7, 50.0  # logits


def _gap(values: Values) -> float:
    return values["real_logit"] - values["fake_logit"]


def _game_rules(config: Config) -> list[Rule]:
    """D against G, and the penalty's weight."""
    loss = config.loss
    game, penalty = ADVERSARIAL[loss.adversarial], PENALTIES[loss.penalty]
    weight = penalty.weight_flag
    gamma = penalty.follows_gamma and penalty.squared_gradient is not None
    pixels = config.data.resolution**2 * config.data.channels
    chance = game.chance

    def reach(values: Values) -> float:
        """By how many logits D's answer can change when every value of an image changes by 1."""
        factor = values["gamma"] if gamma else 1.0
        return math.sqrt(penalty.squared_gradient(values["penalty"], factor, loss) * pixels)

    def steepness(values: Values) -> float:
        """Above 1: D is ahead because nothing keeps it smooth."""
        return min(_gap(values) / game.gap[0], reach(values) / REACH_HIGH)

    def lead(values: Values) -> float:
        """The gap; where the game saturates, also three times how sure D is of its fakes."""
        if gamma and {"penalty", "gamma"} <= set(values) and reach(values) > REACH_HIGH:
            return -math.inf  # gamma_low says more
        if game.saturates:
            return max(_gap(values), -3.0 * values["fake_logit"])
        return _gap(values)

    def win_text(values: Values) -> str:
        at = ""
        if not weight:
            cure = "add a penalty (--loss.penalty r1_r2)"
        else:
            cure = f"raise {weight}"
        if game.saturates:
            cure = f"use --loss.adversarial nonsaturating, {cure}"
            at = f", which are at {values['fake_logit']:.1f}"
        policies = " ".join(dict.fromkeys((*config.augment.policies, "translation", "color")))
        return (
            f"D wins outright: real images are {_gap(values):.1f} logits above fakes{at}; "
            f"G learns little; {cure}, lower --d-opt.lr, or, with few pictures, augment: "
            f"--augment.policies {policies}"
        )

    rules = []
    if game.gap:
        rules.append(Rule("d_wins", *game.gap, lead, win_text))
    if game.gap and gamma:
        rules.append(
            Rule(
                "gamma_low",
                1.0,
                0.7,
                steepness,
                lambda v: (
                    f"the penalty is too weak: it is {v['penalty']:.2g} beside a d_loss of "
                    f"{v['d_loss']:.2g}, D is steep (reach {reach(v):.0f}, healthy 2 to 25) and "
                    f"real images are {_gap(v):.1f} logits above fakes; raise --loss.gamma tenfold"
                ),
            )
        )
    if penalty.squared_gradient:
        rules += [
            Rule(
                "gamma_high" if gamma else "penalty_high",
                1.0 / REACH_LOW,
                0.6 / REACH_LOW,
                lambda v: 1.0 / max(reach(v), 1e-9),
                lambda v: (
                    f"the penalty is too strong: D is flat (reach {reach(v):.2g}, healthy 2 to "
                    f"25; its d_loss is {v['d_loss']:.2g}, {chance:.2g} at chance) and "
                    f"teaches G nothing; lower {weight} tenfold"
                ),
            ),
            Rule(
                "penalty_dominates",
                5.0,
                2.0,
                lambda v: v["penalty"] / max(v["d_loss"], chance),
                lambda v: (
                    f"the penalty, {v['penalty']:.2g}, dwarfs the d_loss, {v['d_loss']:.2g}: D "
                    f"does not settle; lower --d-opt.lr, or {weight}"
                ),
            ),
        ]
    return rules


_COMMON = (
    Rule(
        "collapse",
        5.0,
        10.0 / 3.0,
        lambda v: v["real_diversity"] / max(v["fake_diversity"], 1e-9),
        lambda v: (
            f"mode collapse: fakes of a batch differ by {v['fake_diversity']:.3f}, real images by "
            f"{v['real_diversity']:.3f}; start a new run from an earlier checkpoint "
            "(--init-from) with lower --g-opt.lr and --d-opt.lr or a larger --train.batch-size; "
            "collapse is common without --loss.penalty r1_r2"
        ),
    ),
    Rule(
        "input_stall",
        0.2,
        0.1,
        lambda v: v["input_wait"],
        lambda v: (
            f"devices wait for pictures {v['input_wait']:.0%} of the time; raise "
            "--data.num-workers, hold decoded pictures in memory (--data.in-memory-mb), or put the "
            "data on a faster disk"
        ),
    ),
    Rule(
        "memory_growth",
        1.0,
        0.5,
        lambda v: (
            (v["host_memory_mb"] - v["memory_before"])
            / max(0.25 * v["memory_before"], MEMORY_FLOOR_MB)
        ),
        lambda v: (
            f"the memory of this process has grown from {v['memory_before']:,.0f} MB to "
            f"{v['host_memory_mb']:,.0f} MB: before it runs out, press Ctrl-C and run the same "
            "command again to resume; fewer --data.num-workers need less memory"
        ),
    ),
    Rule(
        "skipped_updates",
        0.05,
        0.01,
        lambda v: v["skipped_share"],
        lambda v: (
            f"{v['skipped_share']:.0%} of the updates were not finite and were skipped; lower "
            "--g-opt.lr and --d-opt.lr, or use --model.dtype float32"
        ),
    ),
)


def resident_memory_mb() -> float:
    """Memory that this process holds now, MiB; on other systems than Linux the highest so far.

    Pages of mapped files are left out: the kernel takes them back when memory is short.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        _, resident, shared, *_ = map(int, statm.read_text().split())
        return (resident - shared) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes; elsewhere KiB
