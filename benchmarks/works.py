"""The rows of the comparison: which config, at which sizes. Imports neither jax nor torch."""

import dataclasses
from pathlib import Path

from flaxgan.config import Config, LossConfig, OptimConfig, load_config

ROOT = Path(__file__).parent.parent
PROMPT = "a man with a red beard and a blue hoodie"
MODEL = ROOT / "flaxgan" / "weights" / "avatars.safetensors"
TRAINING = ("dfgan64", "flagship", "mlp28")
SAMPLING = {"sampler1": 1, "sampler16": 16, "sampler256": 256}  # pictures a call
WORD_DIM = SENTENCE_DIM = 384  # of multilingual-e5-small


def config_of(work: str) -> Config:
    """The training work of this name, on a data set of few pictures: speed needs no more."""
    name = {"dfgan64": "dfgan_avatars32_cpu", "flagship": "avatars32_cpu", "mlp28": "mlp28"}[work]
    config = load_config(str(ROOT / "configs" / f"{name}.py"))
    data = dataclasses.replace(config.data, name="avatars/tiny")
    config = dataclasses.replace(config, name=work, data=data)
    return _dfgan64(config) if work == "dfgan64" else config


def _dfgan64(config: Config) -> Config:
    """DF-GAN as published, but for its size."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, resolution=64),
        model=dataclasses.replace(config.model, g_channels=32, d_channels=32, output="tanh"),
        loss=LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp"),
        g_opt=OptimConfig(lr=1e-4),
        d_opt=OptimConfig(lr=4e-4),
    )
