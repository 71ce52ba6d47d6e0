"""A text-conditional inpainter of cartoon avatars at 32 px, for one CPU core.

Paper: section 3 of Zhao et al. 2021 (CoModGAN), with the networks and the objective of Huang et al.
2024 (R3GAN) and of avatars32_cpu.py, whose weights it starts from: at first G draws in the hole
what that model would draw, and learns to look around it. docs/verbs.md says what was measured.
Command: python train.py --config configs/inpaint_avatars.py
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
        name="inpaint_avatars",
        data=DataConfig(
            name="avatars/10k",
            resolution=32,
            caption_numbers=(0, 1, 2, 3, 8, 9, 10, 11),  # sentences and prompts, two languages
            horizontal_flip="off",
        ),
        text=TextConfig(encoder="e5_tokens", max_tokens=40, dim=96, depth=1, direct=True),
        model=ModelConfig(
            family="inpainter",
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
            gamma=0.05,
            imle_weight=60.0,
            imle_noises=2,  # the picture around the hole leaves less open
        ),
        g_opt=OptimConfig(lr=4e-4, lr_end=1e-5, decay_kimg=20.0, b1=0.5, b2=0.99),
        d_opt=OptimConfig(lr=3e-4, lr_end=5e-5, decay_kimg=20.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=16,
            alone_kimg=3.0,
            total_kimg=20.0,
            ema_halflife_kimg=0.7,
            grid_rows=8,
            grid_cols=3,
            grid_every_kimg=2.5,
            save_every_kimg=5.0,
            init_from="avatars",
        ),
        eval=EvalConfig(metrics=("fd_pixels8", "attributes"), best_metric="attr_mean"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
