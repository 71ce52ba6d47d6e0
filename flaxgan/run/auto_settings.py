"""Settings chosen from the data and the device, for configs that name them in `Config.auto`.

A flag takes a field out of `auto`, so that the rules leave it alone and the others follow it.
docs/data.md has the rules as a table.
"""

import dataclasses
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from flaxgan.config import Config, check, from_json, set_field
from flaxgan.data.summary import DataFacts, data_facts
from flaxgan.errors import UserError
from flaxgan.evaluate.metric import check_best
from flaxgan.run import transfer
from flaxgan.run.data_report import advised_tokens
from flaxgan.text import build_text_encoder

FEW, MANY = 200, 10_000  # pictures: a warning below, no augmentation from there on
GAMMA = {32: 0.5, 64: 2.0, 128: 17.0, 256: 150.0}
BATCH = {32: 128, 64: 128, 128: 64, 256: 32}
KIMG = {32: 1000.0, 64: 1500.0, 128: 3000.0, 256: 5000.0}
CPU_KIMG = 200.0
TOKENS = 16, 128  # bounds of what is kept of a caption
MAX_EPOCHS, MIN_KIMG = 1000, 100.0


@dataclasses.dataclass(frozen=True)
class Device:
    """What training runs on.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      count: devices over all processes.
      memory_gib: of one; 0 where it is not known.
    """

    platform: str
    count: int
    memory_gib: float = 0.0

    @property
    def is_cpu(self) -> bool:
        """Whether there is no accelerator."""
        return self.platform == "cpu"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A field, its value, and why."""

    field: str
    value: Any
    why: str


def this_device() -> Device:
    """The devices of this process group."""
    devices = jax.devices()
    own = jax.local_devices()[0]
    stats = own.memory_stats() or {} if own.platform != "cpu" else {}
    return Device(devices[0].platform, len(devices), stats.get("bytes_limit", 0) / 2**30)


def settle(
    config: Config,
    workdir: Path | None,
    report: Callable[[str], None] = print,
    *,
    like: Config | None = None,
) -> Config:
    """Fills the fields of `config.auto`, prints what was chosen and why, and checks the result.

    A workdir that holds a run keeps the settings of its start, whatever has changed since.

    Args:
      config: with or without fields to fill.
      workdir: of the run; None: there is none.
      report: called with each line.
      like: of the weights that training starts from; their shapes are kept.

    Raises:
      UserError: `auto` names a field that there is no rule for, the data cannot be opened, or a
        value is wrong: see `config.check`.
    """
    check(config, "eval")  # before the data is looked at
    check_best(config)
    config = _filled(config, workdir, report, like)
    check(config)
    return config


def _filled(
    config: Config, workdir: Path | None, report: Callable[[str], None], like: Config | None
) -> Config:
    if not config.auto:
        return config
    if workdir is not None and (path := workdir / "config.json").is_file():
        old = from_json(path.read_text(errors="replace"))
        for name in config.auto:
            config = set_field(config, name, operator.attrgetter(name)(old))
        return dataclasses.replace(config, auto=())
    facts, device = data_facts(config.data), this_device()
    config, choices = recommend(config, facts, device, like)
    report(
        f"settings for {facts.pictures:,} pictures on {device.count} x {device.platform}; "
        "a flag overrides any of them:"
    )
    width = max(len(choice.field) + len(_shown(choice.value)) for choice in choices) + 3
    for choice in choices:
        flag = f"--{choice.field.replace('_', '-')} {_shown(choice.value)}"
        report(f"  {flag:<{width}}  {choice.why}")
    if facts.pictures < FEW:
        report(
            f"warning: {facts.pictures} pictures are very little data; the model will memorise "
            "them. Add pictures, or start from trained weights (--init-from)"
        )
    return config


def recommend(
    config: Config, facts: DataFacts, device: Device, like: Config | None = None
) -> tuple[Config, list[Choice]]:
    """The config with every field of `auto` filled by the rules, and the choices made.

    Args:
      config: with fields to fill.
      facts: of its data.
      device: that it runs on.
      like: of the weights that training starts from; their shapes are kept.
    """
    unknown = set(config.auto) - set(RULES)
    if unknown:
        raise UserError(
            f"auto: there is no rule for {sorted(unknown)[0]}; there are rules for: "
            f"{', '.join(RULES)}"
        )
    choices = []
    for name, rule in RULES.items():
        if name in config.auto:
            value, why = rule(config, facts, device)
            if like is not None and name in SHAPING:
                value, why = operator.attrgetter(name)(like), "same as the loaded weights"
            config = set_field(config, name, value)
            choices.append(Choice(name, value, why))
    return dataclasses.replace(config, auto=()), choices


def _resolution(config: Config, facts: DataFacts, device: Device) -> tuple[int, str]:
    if device.is_cpu:
        return 32, "what a CPU trains in an hour"
    most = 64
    if facts.pictures >= 2_000 and device.memory_gib >= 8:
        most = 128
    if facts.pictures >= 20_000 and device.memory_gib >= 24:
        most = 256
    chosen = max(s for s in (32, 64, 128, 256) if s == 32 or s <= min(most, facts.side))
    small = f"; four pictures in five have {facts.side} pixels" if facts.side < most else ""
    return chosen, f"from the number of pictures and {device.memory_gib:.0f} GiB{small}"


def _flip(config: Config, facts: DataFacts, device: Device) -> tuple[str, str]:
    if not facts.mirror_safe:
        return "off", "captions mention left, right, letters or text"
    if facts.pictures >= 5_000:
        return "off", "enough pictures without flipping"
    return "on", "few pictures, and no caption mentions left, right, letters or text"


def _channels(config: Config, facts: DataFacts, device: Device) -> tuple[int, str]:
    if device.is_cpu and config.data.resolution > 32:
        return 32, "a CPU, above 32 px"
    if not device.is_cpu and facts.pictures >= 50_000 and device.memory_gib >= 24:
        return 128, "many pictures, much memory"
    return 64, "the usual width"


def _attention(config: Config, facts: DataFacts, device: Device) -> tuple[tuple[int, ...], str]:
    if device.is_cpu or config.data.resolution < 64:
        return (8,), "sides of the maps that attend to words"
    return (8, 16), "sides of the maps that attend to words"


def _dtype(config: Config, facts: DataFacts, device: Device) -> tuple[str, str]:
    return ("float32", "a CPU") if device.is_cpu else ("bfloat16", "an accelerator")


def _batch_size(config: Config, facts: DataFacts, device: Device) -> tuple[int, str]:
    size = 16 if device.is_cpu else BATCH[_nearest(config.data.resolution)]
    few = facts.pictures // 4 < size
    size = max(1, min(size, facts.pictures // 4))
    size = max(1, size // device.count) * device.count
    why = (
        "a quarter of the pictures" if few else f"{config.data.resolution} px on {device.platform}"
    )
    return size, why + (f", a multiple of {device.count} devices" if device.count > 1 else "")


def _total_kimg(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    most = CPU_KIMG if device.is_cpu else KIMG[_nearest(config.data.resolution)]
    epochs = MAX_EPOCHS * facts.pictures / 1000.0
    if epochs < most:
        return max(MIN_KIMG, round(epochs)), f"{MAX_EPOCHS} epochs at the most"
    return most, f"{config.data.resolution} px on {device.platform}"


def _gamma(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return GAMMA[_nearest(config.data.resolution)], f"R3GAN at {config.data.resolution} px"


def _gamma_end(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return config.loss.gamma / 10.0, "a tenth of gamma, as R3GAN"


def _gamma_decay(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return config.train.total_kimg / 2.0, "half of the training"


def _policies(config: Config, facts: DataFacts, device: Device) -> tuple[tuple[str, ...], str]:
    if facts.pictures >= MANY:
        return (), f"from {MANY:,} pictures up it is not needed"
    return ("color", "translation", "cutout"), f"fewer than {MANY:,} pictures"


def _ada_target(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    if not config.augment.policies:
        return 0.0, "no augmentation"
    return 0.6, "its probability follows D's overfitting (ADA)"


def _ada_kimg(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return config.train.total_kimg / 4.0, "a quarter of the training from no augmentation to always"


def _p(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return (0.0, "where ADA starts") if config.augment.ada_target > 0 else (1.0, "always")


def _whole(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return config.train.total_kimg, "all of the training"


def _max_tokens(config: Config, facts: DataFacts, device: Device) -> tuple[int, str]:
    encoder = build_text_encoder(config.text) if facts.captions else None
    if encoder is None:
        return config.text.max_tokens, "no captions are read"
    lengths = encoder.count_tokens(facts.captions)
    low, high = TOKENS if config.text.encoder != "bytes" else (4 * TOKENS[0], 4 * TOKENS[1])
    longest = f"the longest have {max(lengths)}"
    return min(max(advised_tokens(lengths), low), high), f"19 of 20 captions fit; {longest}"


def _twentieth(config: Config, facts: DataFacts, device: Device) -> tuple[float, str]:
    return config.train.total_kimg / 20.0, "twenty times"


def _nearest(resolution: int) -> int:
    """Of the resolutions that the tables have."""
    return min(GAMMA, key=lambda side: abs(side - resolution))


Rule = Callable[[Config, DataFacts, Device], tuple[Any, str]]
# in this order: later rules read what earlier ones chose, or what a flag said
RULES: dict[str, Rule] = {
    "data.resolution": _resolution,
    "data.horizontal_flip": _flip,
    "text.max_tokens": _max_tokens,
    "model.g_channels": _channels,
    "model.d_channels": _channels,
    "model.attention": _attention,
    "model.dtype": _dtype,
    "augment.policies": _policies,
    "augment.ada_target": _ada_target,
    "augment.p": _p,
    "train.batch_size": _batch_size,
    "train.total_kimg": _total_kimg,
    "augment.ada_kimg": _ada_kimg,
    "loss.gamma": _gamma,
    "loss.gamma_end": _gamma_end,
    "loss.gamma_decay_kimg": _gamma_decay,
    "g_opt.decay_kimg": _whole,
    "d_opt.decay_kimg": _whole,
    "train.grid_every_kimg": _twentieth,
    "train.save_every_kimg": _twentieth,
}
SHAPING = tuple(name for name in RULES if name in transfer.SHAPING)  # a start's weights decide them


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "()"
    return f"{value:g}" if isinstance(value, float) else str(value)
