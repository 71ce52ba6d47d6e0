"""Every option, how a config file plus flags becomes a config, and the one check of it.

A config file is plain Python with `get_config() -> Config`; any field is also a flag, spelt as its
dotted path: `--train.total-kimg 500`. A config file is code: run only those that you trust.
"""

from flaxgan.config.fields import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    set_field,
)
from flaxgan.config.files import load_config
from flaxgan.config.flags import parse_args, parse_flags, split_flag
from flaxgan.config.rules import check
from flaxgan.config.serialize import from_json, to_json
from flaxgan.config.tiny import tiny_twin

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TextConfig",
    "TrainConfig",
    "check",
    "from_json",
    "load_config",
    "parse_args",
    "parse_flags",
    "set_field",
    "split_flag",
    "tiny_twin",
    "to_json",
]
