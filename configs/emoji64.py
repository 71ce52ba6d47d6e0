"""R3GAN for text at 64 px on emoji in two styles, named in 14 languages, bfloat16, for one GPU.

Paper: as configs/avatars64.py; translated at random before D (DiffAugment, Zhao et al. 2020), as
there are only 6,600 pictures.
Command: python train.py --config configs/emoji64.py
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
        name="emoji64",
        data=DataConfig(name="emoji/full", resolution=64, horizontal_flip="off"),
        text=TextConfig(encoder="words", max_tokens=40, dim=128, depth=1),
        model=ModelConfig(
            family="r3gan",
            z_dim=64,
            g_channels=64,
            d_channels=64,
            g_blocks=1,
            d_blocks=1,
            embed_dim=256,
            attention=(8, 16),
            output="linear",
            dtype="bfloat16",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            contrastive_d_weight=1.0,
            contrastive_g_weight=0.5,
            contrastive_negatives=2,
            contrastive_swaps=2,
            penalty="r1_r2",
            gamma=1.0,
            gamma_end=0.1,
            gamma_decay_kimg=1000.0,
        ),
        augment=AugmentConfig(policies=("translation",)),
        g_opt=OptimConfig(lr=4e-4, lr_end=5e-5, decay_kimg=2500.0, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=4e-4, lr_end=5e-5, decay_kimg=2500.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=128,
            total_kimg=2_500.0,
            ema_halflife_kimg=10.0,
            ema_slow_halflife_kimg=50.0,
            grid_every_kimg=100.0,
            save_every_kimg=250.0,
            log_every_steps=50,
        ),
        eval=EvalConfig(metrics=("fd_pixels8", "emoji_retrieval"), best_metric="emoji_r_precision"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="emoji/tiny")
