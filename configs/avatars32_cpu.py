"""DF-GAN at 32 px on cartoon avatars, for two CPU cores: the default of the README.

Command: python train.py --config configs/avatars32_cpu.py
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
        name="avatars32_cpu",
        data=DataConfig(name="avatars/10k", resolution=32, max_captions=4),
        text=TextConfig(encoder="e5"),
        model=ModelConfig(family="dfgan", g_channels=16, d_channels=16),
        loss=LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp"),
        g_opt=OptimConfig(lr=2e-4, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=4e-4, b1=0.0, b2=0.99),
        train=TrainConfig(batch_size=32, total_kimg=120.0, ema_halflife_kimg=2.0),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
