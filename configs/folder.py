"""R3GAN for text on one's own captioned pictures; most settings are chosen from them.

Paper: as configs/avatars32_cpu.py. docs/data.md has the rules of the fields in `auto`.
Command: python train.py --config configs/folder.py --data.path ./my_pictures
"""

import dataclasses

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
        name="folder",
        data=DataConfig(path="my_pictures", caption_dropout=0.1),
        text=TextConfig(encoder="words", max_tokens=32, dim=96, depth=1),
        model=ModelConfig(
            family="r3gan",
            z_dim=64,
            embed_dim=128,
            output="linear",
        ),
        loss=LossConfig(
            adversarial="rpgan",
            mismatch_weight=0.0,
            contrastive_d_weight=1.0,
            contrastive_g_weight=0.5,
            contrastive_negatives=7,
            penalty="r1_r2",
        ),
        g_opt=OptimConfig(lr=5e-4, lr_end=1e-4, b1=0.0, b2=0.99),
        d_opt=OptimConfig(lr=5e-4, lr_end=1e-4, b1=0.0, b2=0.99),
        train=TrainConfig(
            ema_halflife_kimg=2.0,
            ema_slow_halflife_kimg=10.0,
        ),
        eval=EvalConfig(metrics=("fd_pixels8",), best_metric="fd_pixels8"),
        auto=(
            "data.resolution",
            "data.horizontal_flip",
            "text.max_tokens",
            "model.g_channels",
            "model.d_channels",
            "model.attention",
            "model.dtype",
            "augment.policies",
            "augment.ada_target",
            "augment.ada_kimg",
            "augment.p",
            "train.batch_size",
            "train.total_kimg",
            "train.grid_every_kimg",
            "train.save_every_kimg",
            "loss.gamma",
            "loss.gamma_end",
            "loss.gamma_decay_kimg",
            "g_opt.decay_kimg",
            "d_opt.decay_kimg",
        ),
    )


def tiny() -> Config:
    config = dataclasses.replace(get_config(), auto=())
    return tiny_twin(config, name="avatars/tiny", path=None)
