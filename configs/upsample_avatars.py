"""A text-conditional upsampler of cartoon avatars, 32 to 128 px, for two CPU cores.

Paper: section 3.4 of Kang et al. 2023 (GigaGAN), with the networks and the objective of Huang et
al. 2024 (R3GAN). Pairs are exact: the small picture is the area reduction of the large one, with
faults like those of drawn pictures. At first G learns by the pixels alone. docs/upsample.md says
what was measured.
Command: python train.py --config configs/upsample_avatars.py
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
        name="upsample_avatars",
        data=DataConfig(
            name="avatars/10k_128px",
            resolution=128,
            caption_numbers=(0, 1, 2, 3, 8, 9, 10, 11),  # sentences and prompts, two languages
            caption_dropout=0.2,  # pictures are enlarged without a prompt too
            horizontal_flip="on",
        ),
        text=TextConfig(encoder="e5_tokens", max_tokens=40, dim=96, depth=1, direct=True),
        model=ModelConfig(
            family="upsampler",
            z_dim=64,
            g_channels=48,
            d_channels=32,
            g_blocks=2,
            patch=4,
            output="linear",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            penalty="r1_r2",
            gamma=2.0,
            gamma_end=1.0,
            gamma_decay_kimg=24.0,
            imle_weight=100.0,
            imle_noises=1,  # of one small picture there is one large one: a regression
        ),
        g_opt=OptimConfig(lr=8e-4, lr_end=5e-5, decay_kimg=24.0, b1=0.5, b2=0.99),
        d_opt=OptimConfig(lr=4e-4, lr_end=1e-4, decay_kimg=24.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=4,
            alone_kimg=16.0,
            total_kimg=24.0,
            ema_halflife_kimg=0.5,
            grid_rows=6,
            grid_cols=1,
            grid_every_kimg=2.0,
            save_every_kimg=3.0,
        ),
        eval=EvalConfig(metrics=("psnr",), best_metric="psnr"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny")
