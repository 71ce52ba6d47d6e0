"""Against efficientnet-lite-pytorch, by the author of the package with the weights."""

import numpy as np
import pytest

from flaxgan.evaluate.networks.efflite0 import load_efflite0
from flaxgan.evaluate.resize import resize
from flaxgan.pretrained.efficientnet_lite import (
    PACKAGE,
    EfficientNetLite0,
    convert,
    find_weights,
)

pytestmark = pytest.mark.parity


def build(side):
    """The reference for pictures of one size, and its layers: `{layer: [b, d]}` of `[b, h, w, 3]`.

    Block 10 counts from 0.
    """
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    model = package.EfficientNet.from_name("efficientnet-lite0", image_size=side).eval()
    middle = []
    model._blocks[10].register_forward_hook(lambda _, inputs, output: middle.append(output))

    def run(x):
        with torch.no_grad():
            last = model.extract_features(torch.from_numpy(x).permute(0, 3, 1, 2))
        layers = {"block112": middle.pop(), "pool1280": last}
        return {layer: y.mean(dim=(2, 3)).numpy() for layer, y in layers.items()}

    return model, run


def relative(got, want):
    return np.abs(np.asarray(got) - want).max() / np.abs(want).max()


@pytest.mark.parametrize("side", [224, 127, 65])
def test_random_weights(side):
    model, reference = build(side)
    rng = np.random.default_rng(0)
    for name, tensor in model.state_dict().items():  # tensors share the model's memory
        if "bn" in name and tensor.dim() == 1:
            low = -0.5 if name.endswith(("bias", "mean")) else 0.5
            tensor.numpy()[:] = rng.uniform(low, 1.5, tensor.shape)
    x = rng.normal(size=(2, side, side, 3)).astype(np.float32)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for layer, want in reference(x).items():
        assert want.std() > 0.05
        got = EfficientNetLite0(layer).apply({"params": convert(tensors, layer)}, x)
        assert relative(got, want) < 1e-5


def test_imagenet_weights():
    torch = pytest.importorskip("torch")
    pytest.importorskip(PACKAGE.replace("-", "_"))
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3)).astype(np.uint8)
    images[2] = np.linspace(0, 255, 64)[None, :, None]
    images[3, 8:30, 20:50] = (200, 30, 60)
    for layer in ("block112", "pool1280"):
        network = load_efflite0(layer=layer)
        side = network.protocol["input_side"]
        model, reference = build(side)
        model.load_state_dict(torch.load(find_weights(), weights_only=True))
        x = resize(images.astype(np.float32), side, side, "bicubic_antialias").clip(0, 255)
        want = reference((np.array(x) - 127) / 128)[layer]
        assert relative(network(images), want) < 1e-5
