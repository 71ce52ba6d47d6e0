"""R3GAN for text at 32 px on emoji in two styles, English captions, for two CPU cores.

Paper: as configs/avatars32_cpu.py; translated at random before D (DiffAugment, Zhao et al. 2020),
as there are only 6,600 pictures.
Command: python train.py --config configs/emoji32_cpu.py
"""

from flaxgan.config import (
    AugmentConfig,
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
        name="emoji32_cpu",
        data=DataConfig(
            name="emoji/full",
            resolution=32,
            caption_numbers=(0, 2),  # the English ones
            horizontal_flip="off",
        ),
        text=TextConfig(encoder="words", max_tokens=32, dim=96, depth=1),
        model=ModelConfig(
            family="r3gan",
            z_dim=64,
            g_channels=64,
            d_channels=64,
            embed_dim=128,
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
            gamma=0.5,
            gamma_end=0.1,
            gamma_decay_kimg=150.0,
        ),
        augment=AugmentConfig(policies=("translation",)),
        g_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=220.0, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=220.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=16,
            total_kimg=220.0,
            ema_halflife_kimg=2.0,
            ema_slow_halflife_kimg=10.0,
            grid_every_kimg=20.0,
            save_every_kimg=20.0,
        ),
        eval=EvalConfig(metrics=("fd_pixels8", "emoji_retrieval"), best_metric="emoji_r_precision"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="emoji/tiny")
