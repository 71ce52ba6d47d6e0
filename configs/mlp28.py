"""The first worked example of GANs, offline: an unconditional MLP pair on grey 28 px avatars.

Paper: Goodfellow et al. 2014. G 100-256-512-1024-784, D 784-1024-512-256-1, Adam 2e-4, batch 16.
Command: python train.py --config configs/mlp28.py
Cost and result: not measured yet.
"""

from flaxgan.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    tiny_twin,
)


def get_config() -> Config:
    return Config(
        name="mlp28",
        data=DataConfig(name="avatars/10k", caption_key="", resolution=28, channels=1),
        text=TextConfig(encoder="none"),
        model=ModelConfig(family="mlp", z_dim=100),
        loss=LossConfig(adversarial="nonsaturating", mismatch_weight=0.0, penalty="none"),
        g_opt=OptimConfig(lr=2e-4, b1=0.9, b2=0.999),
        d_opt=OptimConfig(lr=2e-4, b1=0.9, b2=0.999),
        train=TrainConfig(batch_size=16, total_kimg=1_000.0, log_every_steps=100),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
