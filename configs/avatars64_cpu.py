"""R3GAN for text at 64 px on cartoon avatars, for two CPU cores: grown from 32 px.

Paper: as configs/avatars32_cpu.py. The maps are the same, patches are twice as large, so that D
starts where it was (progressive growing, Karras et al. 2018). The gradient of a score by the pixels
shrinks as pixels get more: gamma is four times that of 32 px. G learns its last layers alone first.
Command: python train.py --config configs/avatars64_cpu.py --init-from avatars
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
        name="avatars64_cpu",
        data=DataConfig(
            name="avatars/10k",
            resolution=64,
            caption_numbers=(0, 1, 2, 3, 8, 9, 10, 11),  # sentences and prompts, two languages
            horizontal_flip="off",
        ),
        text=TextConfig(encoder="e5_tokens", max_tokens=40, dim=96, depth=1, direct=True),
        model=ModelConfig(
            family="r3gan",
            z_dim=64,
            g_channels=64,
            d_channels=64,
            embed_dim=128,
            patch=4,
            attention=(8,),
            output="linear",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            contrastive_d_weight=1.0,
            contrastive_g_weight=0.5,
            contrastive_negatives=7,
            penalty="r1_r2",
            gamma=0.8,
            gamma_end=0.2,
            gamma_decay_kimg=100.0,
            imle_weight=40.0,
        ),
        g_opt=OptimConfig(lr=4e-4, lr_end=1e-4, decay_kimg=200.0, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=4e-4, lr_end=1e-4, decay_kimg=200.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=16,
            alone_kimg=3.0,
            total_kimg=200.0,
            ema_halflife_kimg=2.0,
            ema_slow_halflife_kimg=10.0,
        ),
        eval=EvalConfig(metrics=("fd_pixels8", "attributes"), best_metric="attr_mean"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
