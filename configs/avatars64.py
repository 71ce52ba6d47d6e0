"""R3GAN for text at 64 px on cartoon avatars, bfloat16, for one GPU.

Paper: as configs/avatars32_cpu.py, with the batch, the residual blocks and the gamma of Huang et
al. 2024 (R3GAN) at 64 px. docs/bakeoff.md says what each part is worth.
Command: python train.py --config configs/avatars64.py
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
        data=DataConfig(
            name="avatars/100k",
            resolution=64,
            caption_numbers=(0, 2, 4, 6),  # the English ones
            horizontal_flip="off",
            in_memory_mb=2048,
        ),
        text=TextConfig(encoder="words", max_tokens=48, dim=128, depth=1),
        model=ModelConfig(
            family="r3gan",
            z_dim=64,
            g_channels=64,
            d_channels=64,
            g_blocks=1,
            d_blocks=1,
            embed_dim=256,
            attention=(8, 16),
            w_dim=128,
            output="linear",
            dtype="bfloat16",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            contrastive_d_weight=1.0,
            contrastive_g_weight=0.5,
            contrastive_negatives=2,
            contrastive_swaps=3,
            penalty="r1_r2",
            gamma=1.0,
            gamma_end=0.1,
            gamma_decay_kimg=500.0,
        ),
        g_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=1500.0, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=5e-4, lr_end=1e-4, decay_kimg=1500.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=128,
            total_kimg=1_500.0,
            ema_halflife_kimg=10.0,
            ema_slow_halflife_kimg=50.0,
            grid_every_kimg=100.0,
            save_every_kimg=100.0,
            log_every_steps=100,
        ),
        eval=EvalConfig(
            metrics=("fd_pixels8", "attributes"), best_metric="attr_mean", num_images=1000
        ),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
