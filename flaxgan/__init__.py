"""flaxgan: text-to-image GANs in JAX and Flax.

The names below are loaded on first use, so that `import flaxgan` stays light.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "flaxgan.training.state",
    "Config": "flaxgan.config",
    "DataConfig": "flaxgan.config",
    "LossConfig": "flaxgan.config",
    "ModelConfig": "flaxgan.config",
    "OptimConfig": "flaxgan.config",
    "Sampler": "flaxgan.drawing.sampler",
    "Text": "flaxgan.text.conditioning",
    "TextConfig": "flaxgan.config",
    "TextStats": "flaxgan.text.conditioning",
    "TrainConfig": "flaxgan.config",
    "TrainState": "flaxgan.training.state",
    "UserError": "flaxgan.errors",
    "build_models": "flaxgan.models",
    "build_optimizer": "flaxgan.training.optim",
    "compile_step": "flaxgan.training.parallel",
    "init_state": "flaxgan.training.state",
    "load": "flaxgan.drawing.loading",
    "load_config": "flaxgan.config",
    "make_train_step": "flaxgan.training.step",
    "sample": "flaxgan.drawing.drawer",
    "train": "flaxgan.run.loop",
}
__all__ = sorted([*_PUBLIC, "__version__", "losses"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name == "losses":
        return importlib.import_module("flaxgan.losses")
    raise AttributeError(f"module 'flaxgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
