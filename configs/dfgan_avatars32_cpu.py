"""DF-GAN at 32 px on cartoon avatars, for two CPU cores.

Paper: networks of Tao et al. 2022 (DF-GAN), objective of Huang et al. 2024 (R3GAN) with wrong
captions as further fakes.
Command: python train.py --config configs/dfgan_avatars32_cpu.py
Cost: about 20 minutes on two cores (AMD EPYC, AVX-512), two of them for the data.
Result: fd_pixels8 0.29 at 100 kimg (512 captions of the split test). One caption of each picture:
two, or penalties every other step, brought nothing in the same time; half the pictures did worse.
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
        name="dfgan_avatars32_cpu",
        data=DataConfig(name="avatars/10k", resolution=32, max_captions=1, horizontal_flip="off"),
        text=TextConfig(encoder="e5"),
        model=ModelConfig(family="dfgan", g_channels=16, d_channels=16, output="linear"),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.5,
            penalty="r1_r2",
            gamma=0.3,
            gamma_end=0.05,
            gamma_decay_kimg=120.0,
        ),
        g_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=120.0, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=120.0, b1=0.0, b2=0.99),
        train=TrainConfig(batch_size=16, total_kimg=100.0, ema_halflife_kimg=2.0),
        eval=EvalConfig(metrics=("fd_pixels8", "attributes")),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
