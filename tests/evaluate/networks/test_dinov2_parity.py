"""DINOv2 against transformers: random weights that it saved, every block."""

import jax
import numpy as np
import pytest

from flaxgan.evaluate.networks import dinov2, vit
from flaxgan.evaluate.networks.hf_weights import Weights

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers themselves
]
SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def reference(torch):
    """(torch, transformers)."""
    return torch, pytest.importorskip("transformers")


def save_random(reference, folder, **config):
    """A model with all parameters random, saved by transformers."""
    torch, transformers = reference
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                around = 1.0 if "norm" in name and "weight" in name else 0.0
                parameter.normal_(0.7 if "lambda" in name else around, 0.3)
            elif parameter.ndim == 2:
                parameter.normal_(0.0, 1.0 / parameter.shape[1] ** 0.5)
            else:
                parameter.normal_(0.0, 0.05 if parameter.ndim == 4 else 0.5)
    model.save_pretrained(folder)
    return model


def relative(ours, theirs):
    theirs = theirs.detach().numpy()
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


CASES = {
    "same grid": (SMALL | {"image_size": 56}, 56),
    "larger table": (SMALL | {"image_size": 518}, 224),
    "smaller table": (SMALL | {"image_size": 70}, 98),
    "swiglu": (SMALL | {"image_size": 70, "use_swiglu_ffn": True}, 56),
    "no qkv bias": (SMALL | {"image_size": 56, "qkv_bias": False}, 56),
    "ViT-S/14": ({"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}, 224),
}


@pytest.mark.parametrize("case", CASES)
def test_every_block(reference, tmp_path, case):
    torch, _ = reference
    config, side = CASES[case]
    model = save_random(reference, tmp_path, **config)
    module = dinov2.read_config(tmp_path / "config.json")
    weights = Weights(tmp_path)
    params = dinov2.convert(weights, module, side)
    pixels = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    weights.check(module, params, pixels)
    mine, state = jax.jit(
        lambda p, x: module.apply(
            {"params": p}, x, capture_intermediates=lambda m, _: isinstance(m, vit.Block)
        )
    )(params, pixels)
    inner = [state["intermediates"][f"block{i}"]["__call__"][0] for i in range(module.layers)]
    with torch.no_grad():
        out = model(
            torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), output_hidden_states=True
        )
    blocks = list(map(relative, inner, out.hidden_states[1:]))
    final = relative(mine, out.last_hidden_state)
    print(f"{case}: blocks {max(blocks):.1e}, tokens {final:.1e}")
    assert len(blocks) == module.layers
    assert max(*blocks, final) < 5e-5
    assert relative(mine[:, 0], out.pooler_output) < 5e-5


@pytest.mark.parametrize(("old", "side"), [(37, 16), (5, 16), (16, 15)])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_positions(reference, old, side, offset):
    """torch's interpolate, by size as transformers calls it and by scale as DINOv2's own code."""
    torch, _ = reference
    table = np.random.default_rng(0).normal(size=(1 + old * old, 7)).astype(np.float32)
    grid = torch.from_numpy(table[1:].reshape(1, old, old, 7).transpose(0, 3, 1, 2).copy())
    target = {"scale_factor": (side + offset) / old} if offset else {"size": (side, side)}
    theirs = torch.nn.functional.interpolate(grid, mode="bicubic", **target)
    ours = dinov2.interpolate_positions(table, side, offset)
    np.testing.assert_array_equal(ours[0], table[0])
    patches = ours[1:].reshape(side, side, 7)
    assert relative(patches, theirs[0].permute(1, 2, 0)) < 3e-6


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (256, 256), (300, 451), (97, 65)], ids=str)
def test_preprocessing(size):
    """Levels of torchvision's Resize of a PIL picture, which is PIL's: as dgm-eval."""
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    ours = jax.jit(lambda x: vit.pil_bicubic(x, 224, 224))(image[None])[0]
    difference = np.abs(np.asarray(ours) - theirs)
    print(f"levels: largest {difference.max():.0f}, other than 0: {np.mean(difference > 0):.1e}")
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3  # halves, which PIL rounds in fixed point
