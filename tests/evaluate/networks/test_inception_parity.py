"""Inception against pytorch-fid and torch-fidelity with the same weights, uint8 to features."""

import numpy as np
import pytest

from flaxgan.evaluate.networks import inception
from flaxgan.evaluate.networks.inception import load_inception
from tests.evaluate.networks import test_inception as recorded

pytestmark = pytest.mark.parity

SIDES = (32, 64, 299, 400)
RELATIVE = 1e-4


def checkerboard(side):
    return 255 * (np.indices((side, side)).sum(axis=0) % 2)[..., None].repeat(3, axis=-1)


def pictures(side):
    """Noise, a smooth picture, black, white, a checkerboard: `[5, side, side, 3]` uint8."""
    draw = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side] / side
    smooth = np.stack([255 * x, 255 * y, 127 + 127 * np.sin(9 * x * y)], axis=-1)
    images = [
        draw.integers(0, 256, (side, side, 3)),
        smooth,
        np.zeros((side, side, 3)),
        np.full((side, side, 3), 255),
        checkerboard(side),
    ]
    return np.stack(images).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(torch):
    return {name: torch.from_numpy(value) for name, value in recorded.state_dict().items()}


@pytest.fixture(scope="module")
def pytorch_fid(torch, weights):
    reference = pytest.importorskip("pytorch_fid.inception")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "load_state_dict_from_url", lambda *args, **kwargs: weights)
        module = reference.InceptionV3().eval()

    def run(images):
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255
        with torch.no_grad():
            return module(x)[0][:, :, 0, 0].numpy()

    return run


@pytest.fixture(scope="module")
def torch_fidelity(torch, weights, tmp_path_factory):
    reference = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(weights, path)
    module = reference.FeatureExtractorInceptionV3(
        "inception", ["2048", "logits_unbiased", "logits"], feature_extractor_weights_path=str(path)
    )

    def run(images):
        outs = module(torch.from_numpy(images).permute(0, 3, 1, 2))
        return dict(zip(("pool3", "logits_unbiased", "logits"), map(np.asarray, outs), strict=True))

    run.path = path
    return run


@pytest.fixture(scope="module")
def networks(torch_fidelity):
    """Our networks from the very file that torch-fidelity read."""
    return {
        resize: load_inception(torch_fidelity.path, resize=resize) for resize in recorded.RESIZES
    }


def difference(found, wanted):
    """Largest difference of any picture's features in units of their root mean square."""
    return (np.abs(found - wanted).max(axis=1) / np.sqrt((wanted**2).mean(axis=1))).max()


@pytest.mark.parametrize("side", SIDES)
def test_bilinear_is_pytorch_fid(networks, pytorch_fid, side):
    images = pictures(side)
    found, wanted = networks["bilinear"](images), pytorch_fid(images)
    assert np.isfinite(wanted).all()
    assert 0.1 < wanted.mean() < 100, wanted.mean()
    assert difference(found, wanted) < RELATIVE


@pytest.mark.parametrize("side", SIDES)
def test_tf1_is_torch_fidelity(networks, torch_fidelity, side):
    images = pictures(side)
    found, wanted = networks["tf1"](images), torch_fidelity(images)["pool3"]
    assert difference(found, wanted) < RELATIVE


@pytest.mark.parametrize("layer", ["logits_unbiased", "logits"])
def test_logits_are_those_of_torch_fidelity(torch_fidelity, layer):
    images = pictures(32)
    network = load_inception(torch_fidelity.path, resize="tf1", layer=layer)
    assert difference(network(images), torch_fidelity(images)[layer]) < RELATIVE


def test_bicubic_antialias_is_that_of_pil():
    """clean-fid: PIL resizes every channel as float, clips; 299 pixels pass on as they are."""
    Image = pytest.importorskip("PIL.Image")
    for side in (64, 400):
        images = pictures(side)
        wanted = np.empty((len(images), 299, 299, 3), np.float32)
        for i, image in enumerate(images):
            for c in range(3):
                channel = Image.fromarray(image[..., c].astype(np.float32))
                wanted[i, ..., c] = channel.resize((299, 299), Image.Resampling.BICUBIC)
        wanted = (wanted.clip(0, 255) - 128) / 128
        found = inception.preprocess(images, "bicubic_antialias")
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [32, 400])
def test_another_resize_is_seen(networks, pytorch_fid, side):
    images = pictures(side)[:2]
    wanted = pytorch_fid(images)
    for resize in ("tf1", "bicubic_antialias"):
        assert difference(networks[resize](images), wanted) > 10 * RELATIVE


def test_the_recorded_features_are_the_references(pytorch_fid, torch_fidelity):
    images = recorded.pictures(3, 32)
    for resize, features in (
        ("bilinear", pytorch_fid(images)),
        ("tf1", torch_fidelity(images)["pool3"]),
    ):
        np.testing.assert_allclose(
            features[:, recorded.RECORDED_AT], recorded.RECORDED[resize], rtol=0, atol=2e-5
        )


def test_the_table_of_tensors_is_the_references(torch, pytorch_fid):
    reference = pytest.importorskip("pytorch_fid.inception")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *args: None)
        wanted = reference.fid_inception_v3().state_dict()
    assert {k: v.shape for k, v in recorded.state_dict().items()} == {
        k: tuple(v.shape) for k, v in wanted.items()
    }
