"""An upsampler of your own pictures, 64 to 256 px, with captions or without: for one accelerator.

Paper: as configs/upsample_avatars.py. Pairs are made by shrinking: nothing but pictures is needed.
Command: python train.py --config configs/upsample_folder.py --data.path ./my_pictures
Without captions: --text.encoder none --data.caption-key "" --data.caption-dropout 0
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
        name="upsample_folder",
        data=DataConfig(
            path="my_pictures",
            resolution=256,
            caption_dropout=0.2,  # pictures are enlarged without a prompt too
        ),
        text=TextConfig(encoder="words", max_tokens=32, dim=96, depth=1),
        model=ModelConfig(
            family="upsampler",
            z_dim=64,
            g_channels=96,
            d_channels=64,
            g_blocks=4,
            patch=4,
            output="linear",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            penalty="r1_r2",
            gamma=10.0,
            gamma_end=3.0,
            gamma_decay_kimg=200.0,
            imle_weight=100.0,
            imle_noises=1,  # of one small picture there is one large one: a regression
        ),
        g_opt=OptimConfig(lr=8e-4, lr_end=5e-5, decay_kimg=400.0, b1=0.5, b2=0.99),
        d_opt=OptimConfig(lr=4e-4, lr_end=1e-4, decay_kimg=400.0, b1=0.0, b2=0.99),
        train=TrainConfig(
            batch_size=16,
            alone_kimg=100.0,
            total_kimg=400.0,
            ema_halflife_kimg=5.0,
            grid_rows=6,
            grid_cols=1,
        ),
        eval=EvalConfig(metrics=("psnr",), best_metric="psnr"),
    )


def tiny() -> Config:
    return tiny_twin(get_config(), name="avatars/tiny", path=None)
