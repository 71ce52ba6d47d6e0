"""DF-GAN at 64 px on Oxford flowers, class names as captions.

Paper: Tao et al. 2022.
Data: TFDS oxford_flowers102, which needs the network (and TensorFlow) once, to be prepared.
Command: python train.py --config configs/flowers64.py
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
        name="flowers64",
        data=DataConfig(
            name="oxford_flowers102",
            split="test",
            test_split="validation",
            caption_key="label",
            caption_templates=("a photo of a {}", "a {}, a flower", "a {} flower in a garden"),
            resolution=64,
            horizontal_flip="on",
        ),
        text=TextConfig(encoder="e5"),
        model=ModelConfig(family="dfgan", g_channels=32, d_channels=32),
        loss=LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp"),
        g_opt=OptimConfig(lr=1e-4, b1=0.0, b2=0.9),
        d_opt=OptimConfig(lr=4e-4, b1=0.0, b2=0.9),
        train=TrainConfig(
            batch_size=32,
            total_kimg=3_000.0,
            ema_halflife_kimg=10.0,
            grid_every_kimg=50.0,
            save_every_kimg=50.0,
            log_every_steps=50,
        ),
    )


def tiny() -> Config:
    return tiny_twin(get_config())
