"""DF-GAN at 256 px on COCO captions: the published recipe.

Paper: Tao et al. 2022, COCO: batch 32, Adam (0, 0.9), lr 1e-4 / 4e-4, MA-GP k = 2, p = 6; FID 15.41
(released model).
Deviation: e5 sentence vectors for the published DAMSM encoder; an averaged generator, which the
paper lacks.
Data: TFDS coco_captions/2014, prepared once where the network and TensorFlow are.
Command: python train.py --config configs/dfgan_coco256.py
Cost and result: not measured yet.
"""

from flaxgan.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    tiny_twin,
)


def get_config() -> Config:
    return Config(
        name="dfgan_coco256",
        data=DataConfig(
            name="coco_captions/2014",
            test_split="val",
            caption_key="captions/text",
            resolution=256,
        ),
        text=TextConfig(encoder="e5"),
        model=ModelConfig(family="dfgan", g_channels=32, d_channels=32),
        loss=LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp"),
        g_opt=OptimConfig(lr=1e-4, b1=0.0, b2=0.9),
        d_opt=OptimConfig(lr=4e-4, b1=0.0, b2=0.9),
        train=TrainConfig(
            batch_size=32,
            total_kimg=24_000.0,
            ema_halflife_kimg=10.0,
            grid_every_kimg=50.0,
            save_every_kimg=50.0,
            log_every_steps=50,
        ),
    )


def tiny() -> Config:
    return tiny_twin(get_config())
