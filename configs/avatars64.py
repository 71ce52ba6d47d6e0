"""DF-GAN at 64 px on cartoon avatars, bfloat16, for one GPU.

Paper: Tao et al. 2022, with a larger batch and an averaged generator.
Command: python train.py --config configs/avatars64.py
Cost and result: not measured yet.
"""

from flaxgan.config import (
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    tiny_twin,
)


def get_config() -> Config:
    return Config(
        name="avatars64",
        data=DataConfig(name="avatars/full", resolution=64, horizontal_flip="off"),
        text=TextConfig(encoder="e5"),
        model=ModelConfig(family="dfgan", g_channels=64, d_channels=64, dtype="bfloat16"),
        loss=LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp"),
        g_opt=OptimConfig(lr=1e-4, b1=0.0, b2=0.9),
        d_opt=OptimConfig(lr=4e-4, b1=0.0, b2=0.9),
        train=TrainConfig(
            batch_size=128,
            total_kimg=5_000.0,
            ema_halflife_kimg=20.0,
            grid_every_kimg=100.0,
            save_every_kimg=100.0,
            log_every_steps=50,
        ),
        eval=EvalConfig(metrics=("fd_pixels8", "attributes"), num_images=1000),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
