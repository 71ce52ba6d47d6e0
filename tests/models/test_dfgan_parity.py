"""DF-GAN's forward pass against a PyTorch one, written from the paper for this test."""

import jax
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, ModelConfig
from flaxgan.models import build_models
from flaxgan.text.conditioning import Text

pytestmark = pytest.mark.parity


def conv(torch, p, x, stride=1, padding=1):
    weight = torch.tensor(np.asarray(p["kernel"], np.float64).transpose(3, 2, 0, 1))
    bias = torch.tensor(np.asarray(p["bias"], np.float64)) if "bias" in p else None
    return torch.nn.functional.conv2d(x, weight, bias, stride=stride, padding=padding)


def dense(torch, p, x):
    kernel, bias = (np.asarray(p[k], np.float64) for k in ("kernel", "bias"))
    return x @ torch.tensor(kernel) + torch.tensor(bias)


def leaky(torch, x):
    return torch.nn.functional.leaky_relu(x, 0.2)


def fusion(torch, p, x, c):
    for name in ("affine0", "affine1"):
        a = p[name]
        scale = dense(torch, a["scale"], torch.relu(dense(torch, a["scale_hidden"], c)))
        shift = dense(torch, a["shift"], torch.relu(dense(torch, a["shift_hidden"], c)))
        x = leaky(torch, scale[:, :, None, None] * x + shift[:, :, None, None])
    return x


def generator_of_paper(torch, p, z, sentence):
    c = torch.cat([z, sentence], dim=1)
    x = dense(torch, p["from_z"], z)
    x = x.reshape(len(z), 4, 4, -1).permute(0, 3, 1, 2)
    i = 0
    while f"block{i}" in p:
        block = p[f"block{i}"]
        x = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        h = conv(torch, block["conv0"], fusion(torch, block["fusion0"], x, c))
        h = conv(torch, block["conv1"], fusion(torch, block["fusion1"], h, c))
        if "shortcut" in block:
            x = conv(torch, block["shortcut"], x, padding=0)
        x, i = x + h, i + 1
    return torch.tanh(conv(torch, p["to_image"], leaky(torch, x)))


def discriminator_of_paper(torch, p, images, sentence):
    trunk = p["trunk"]
    x = conv(torch, trunk["from_image"], images)
    i = 0
    while f"block{i}" in trunk:
        block = trunk[f"block{i}"]
        h = leaky(torch, conv(torch, block["conv0"], x, stride=2))
        h = leaky(torch, conv(torch, block["conv1"], h))
        x = conv(torch, block["shortcut"], x, padding=0)
        x = torch.nn.functional.avg_pool2d(x, 2)
        x, i = x + torch.tensor(np.asarray(block["gamma"], np.float64)) * h, i + 1
    tiled = sentence[:, :, None, None].expand(-1, -1, 4, 4)
    x = leaky(torch, conv(torch, p["joint"], torch.cat([x, tiled], dim=1)))
    return conv(torch, p["output"], x, padding=0).reshape(-1)


@pytest.mark.parametrize("resolution", [32, 64])
def test_forward_passes(resolution):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    config = Config(
        data=DataConfig(resolution=resolution),
        model=ModelConfig(z_dim=10, g_channels=4, d_channels=4),
    )
    generator, discriminator = build_models(config, sentence_dim=12)
    z, sentence = rng.normal(size=(3, 10)), rng.normal(size=(3, 12))
    images = rng.uniform(-1, 1, (3, resolution, resolution, 3))
    with jax.enable_x64(True):
        text = Text(sentence_emb=sentence)
        g = generator.init(jax.random.key(0), z, text)["params"]
        d = discriminator.init(jax.random.key(0), images, text, method="score")["params"]
        g, d = jax.tree.map(lambda p: np.asarray(p) + 0.1 * rng.normal(size=p.shape), (g, d))
        g, d = jax.tree.map(lambda p: p.astype(np.float32), (g, d))
        fake = generator.apply({"params": g}, z.astype(np.float32), text)
        logits = discriminator.apply({"params": d}, images.astype(np.float32), text, method="score")
    wanted = generator_of_paper(torch, g, torch.tensor(z), torch.tensor(sentence))
    np.testing.assert_allclose(fake, wanted.permute(0, 2, 3, 1).numpy(), atol=2e-4)
    wanted = discriminator_of_paper(
        torch, d, torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(sentence)
    )
    np.testing.assert_allclose(logits, wanted.numpy(), rtol=2e-4, atol=2e-4)
