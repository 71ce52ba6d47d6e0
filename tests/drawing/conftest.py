"""A tiny generator in a file, with its discriminator beside it; its parameters are random."""

import jax
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig, to_json
from flaxgan.models import build_models
from flaxgan.models.given_pictures import with_picture
from flaxgan.saving.generator_file import discriminator_file, write_network
from flaxgan.text.conditioning import Text
from tests.models.test_models import random_params

SIDE = 16


def write_tiny(
    folder, name="tiny", *, discriminator=True, family="r3gan", side=SIDE, encoder="bytes", **model
):
    """The generator's file."""
    sizes = {"z_dim": 6, "output": "linear"}
    if family == "r3gan":
        sizes |= {"g_channels": 4, "d_channels": 4, "w_dim": 8, "embed_dim": 5}
    config = Config(
        name=name,
        data=DataConfig(resolution=side, caption_dropout=0.1 if encoder != "none" else 0.0),
        text=TextConfig(encoder=encoder, max_tokens=24, dim=16, depth=1),
        model=ModelConfig(family=family, **sizes | model),
    )
    generator, judge = build_models(config)
    text = Text(tokens=np.ones((1, 24), np.int32), mask=np.ones((1, 24), bool))
    text = None if encoder == "none" else text
    images = np.zeros((1, side, side, 3), np.float32)
    text = with_picture(generator, text, images)
    params = random_params(generator.init, np.zeros((1, 6), np.float32), text)
    if family in (
        "r3gan",
        "inpainter",
    ):  # so that pictures depend on noise and text, and keep their range
        drawing = params.get("decoder", params)
        drawing["text_encoder"]["norm_out"]["scale"] = np.full(16, 2.0, np.float32)
        drawing["mapping"] = jax.tree.map(lambda x: 3 * x, drawing["mapping"])
        drawing["to_image"] = jax.tree.map(lambda x: 0.1 * x, drawing["to_image"])
    header = {"config": to_json(config), "step": 1, "images_seen": 64, "flaxgan": "0"}
    path = folder / f"{name}.safetensors"
    write_network(path, {"params": params, "text_stats": None}, header, dtype="float32")
    if discriminator:
        item = {"params": random_params(judge.init, images, text, method="score")}
        write_network(discriminator_file(path), item, header, dtype="float32", kind="discriminator")
    return path


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_file):
    from flaxgan.drawing.loading import load_sampler

    return load_sampler(tiny_file)
