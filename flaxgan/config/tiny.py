"""The tiny twin of an experiment: the same in seconds, for tests and for a first look."""

import dataclasses
from typing import Any

from flaxgan.config.fields import Config
from flaxgan.registry import table_of

TINY_MODEL = {
    "g_channels": 8,
    "d_channels": 8,
    "embed_dim": 8,
    "group_width": 4,
    "w_dim": 16,
}


def tiny_twin(config: Config, **data: Any) -> Config:
    """The same experiment in seconds: few channels, small pictures, four steps, learned text.

    Args:
      config: the experiment.
      **data: fields of its data section to replace, for example `name="avatars/tiny"`.
    """
    replace = dataclasses.replace
    resolution = min(config.data.resolution, 32)
    return replace(
        config,
        name=f"{config.name}_tiny",
        data=replace(config.data, resolution=resolution, **data),
        text=replace(
            config.text,
            encoder="none" if config.text.encoder == "none" else "bytes",
            max_tokens=32,
            dim=16,
            depth=1,
            direct=False,
        ),
        model=replace(
            config.model,
            z_dim=8,
            **{
                name: min(getattr(config.model, name), size)
                for name, size in TINY_MODEL.items()
                if name in table_of("model.family")[config.model.family].fields
            },
        ),
        train=replace(
            config.train,
            batch_size=8,
            total_kimg=0.032,
            grid_every_kimg=0.016,
            save_every_kimg=0.016,
            log_every_steps=1,
            grid_rows=2,
            grid_cols=2,
            tensorboard=False,
            init_from=None,
        ),
    )
