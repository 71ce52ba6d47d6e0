"""The GAN step: against a plain reference, over devices, and for every bundled config."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from flaxgan import rng
from flaxgan.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TextConfig,
    TrainConfig,
    load_config,
)
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.models import build_models
from flaxgan.text.conditioning import Text, TextFeatures, TextStats, standardise
from flaxgan.training import parallel
from flaxgan.training.augment import augment as augment_images
from flaxgan.training.parallel import check_replicated
from flaxgan.training.state import Batch, init_state
from flaxgan.training.step import make_train_step

BATCH, Z = 8, 8


MA_GP = LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp")
R1_R2 = LossConfig(adversarial="rpgan", mismatch_weight=0.5, penalty="r1_r2", gamma=0.7)
# of tests that no penalty matters to: its double backward is most of what is compiled
HINGE, RPGAN = (dataclasses.replace(loss, penalty="none") for loss in (MA_GP, R1_R2))


def make_batch(config, rows=BATCH, seed=0):
    """A batch of the right shapes, without a data set."""
    draw = np.random.default_rng(seed)
    side, channels = config.data.resolution, config.data.channels
    images = draw.integers(0, 256, (rows, side, side, channels), dtype=np.uint8)

    def text(rows=rows):
        if config.text.encoder not in ("bytes", "words"):
            return Text(sentence_emb=draw.normal(size=(rows, 10)).astype(np.float16))
        length = config.text.max_tokens
        mask = np.arange(length) < draw.integers(3, length, (rows, 1))
        if config.text.encoder == "words":
            vectors = draw.normal(size=(rows, length, 12)).astype(np.float16)
            return Text(token_emb=vectors, mask=mask)
        return Text(tokens=draw.integers(1, 256, (rows, length), dtype=np.int32), mask=mask)

    if config.text.encoder == "none":
        return Batch(images=images)
    negatives = config.loss.contrastive_negatives
    batch = Batch(
        images=images,
        text=text(),
        mismatched=text(),
        negatives=text(negatives * rows) if negatives else None,
    )
    if config.loss.contrastive_d_weight > 0:  # with equal captions, and empty ones
        ids = draw.integers(-1, rows, rows * (1 + negatives)).astype(np.int32)
        negative_ids = ids[rows:] if negatives else None
        batch = batch.replace(text_ids=ids[:rows], negative_ids=negative_ids)
    return batch


class Problem:
    """A step with everything that it needs."""

    def __init__(self, config, batch, g_tx=None, d_tx=None, text_stats=None):
        self.generator, self.discriminator = build_models(config)
        g_tx, d_tx = g_tx or optax.sgd(0.05), d_tx or optax.sgd(0.05)
        self.batch = batch
        self.z_dim = config.model.z_dim
        parts = {"z_dim": self.z_dim, "g_tx": g_tx, "d_tx": d_tx}
        slow = config.train.ema_slow_halflife_kimg
        self.step = make_train_step(
            self.generator,
            self.discriminator,
            **parts,
            loss=config.loss,
            augment=config.augment,
            ema_halflife_kimg=config.train.ema_halflife_kimg,
            ema_slow_halflife_kimg=slow,
            ema_rampup=config.train.ema_rampup,
            accumulate_steps=config.train.accumulate_steps,
        )
        self.initial = functools.partial(
            init_state,
            self.generator,
            self.discriminator,
            batch,
            **parts,
            text_stats=text_stats,
            ema_slow=slow > 0,
            augment_p=config.augment.p if config.augment.ada_target > 0 else None,
        )

    def state(self, devices=None, mode="pmap", shard_above=parallel.SHARD_ABOVE):
        """With noise on all parameters: layers that start at zero would hide mistakes."""
        sharding = devices and (
            lambda state: parallel.state_sharding(state, mode, devices, shard_above)
        )
        state = self.initial(sharding=sharding)
        draw = np.random.default_rng(3)

        def noisy(x):
            return jax.device_put(x + 0.1 * draw.normal(size=x.shape).astype(x.dtype), x.sharding)

        g_params, d_params = jax.tree.map(noisy, (state.g_params, state.d_params))
        return state.replace(g_params=g_params, d_params=d_params)


class TinyG(nn.Module):
    """A bilinear generator of 4 px images."""

    @nn.compact
    def __call__(self, z, text):
        x = nn.Dense(48)(jnp.concatenate([z, text.sentence_emb], axis=-1))
        return jnp.tanh(x).reshape(-1, 4, 4, 3)


class TinyD(nn.Module):
    """A smooth discriminator that learns its own view of the text."""

    embed_dim: int = 0

    def setup(self):
        self.of_text, self.of_image, self.out = nn.Dense(5), nn.Dense(7), nn.Dense(1)
        if self.embed_dim:
            self.image_space, self.text_space = nn.Dense(self.embed_dim), nn.Dense(self.embed_dim)

    def encode_text(self, text):
        return TextFeatures(sentence=jnp.sin(self.of_text(text.sentence_emb)))

    def image_features(self, images, keys=None):
        return jnp.tanh(self.of_image(images.reshape(len(images), -1)))

    def logits(self, features, text):
        padded = jnp.pad(text.sentence, ((0, 0), (0, 2)))
        return self.out(jnp.tanh(features) * padded).sum(axis=-1)

    def embed_image(self, features):
        return self.image_space(features)

    def embed_text(self, text):
        return self.text_space(text.sentence)

    def score(self, images, text, keys=None):
        features, words = self.image_features(images), self.encode_text(text)
        if self.embed_dim:
            self.embed_image(features), self.embed_text(words)
        return self.logits(features, words)


def tiny_problem(loss, augment=AugmentConfig(), *, rows=6, init=None, **step):
    """`init` and `step`: further arguments of init_state and make_train_step.

    Of equal arguments the step is one function, which jax compiles once; the state is a new copy.
    """
    init, step = (tuple(sorted((options or {}).items())) for options in (init, step))
    *networks, batch, state, step = _tiny_problem(loss, augment, rows, init, step)
    return *networks, batch, jax.tree.map(jnp.array, state), step


@functools.cache
def _tiny_problem(loss, augment, rows, init, step):
    generator, discriminator = TinyG(), TinyD(embed_dim=4 if loss.contrastive_d_weight else 0)
    draw, negatives = np.random.default_rng(0), loss.contrastive_negatives

    def text(rows=rows):
        return Text(sentence_emb=draw.normal(2, 3, (rows, 9)).astype(np.float32))

    batch = Batch(
        images=draw.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8),
        text=text(),
        mismatched=text(),
        negatives=text(rows * negatives) if negatives else None,
    )
    stats = TextStats(mean=jnp.full(9, 2.0), sd=jnp.full(9, 3.0))
    parts = {"z_dim": 3, "g_tx": optax.sgd(0.2), "d_tx": optax.sgd(0.1, momentum=0.9)}
    state = init_state(
        generator, discriminator, batch, **parts, text_stats=stats, seed=4, **dict(init)
    )
    step = make_train_step(
        generator, discriminator, **parts, loss=loss, augment=augment, **dict(step)
    )
    return generator, discriminator, batch, jax.tree.map(np.asarray, state), step


@pytest.mark.parametrize("loss", [MA_GP, R1_R2], ids=["hinge-ma_gp", "rpgan-r1_r2"])
def test_step_against_the_formulas_written_out(loss):
    """One SGD step equals plain gradients of the losses as papers print them, by double backward.

    D's text encoder is learned: it gets gradients from real, fake and mismatched logits and from
    the penalty.
    """
    generator, discriminator, batch, state, step = tiny_problem(loss)
    real = to_float(jnp.asarray(batch.images))
    text, wrong = (standardise(t, state.text_stats) for t in (batch.text, batch.mismatched))
    indices = jnp.arange(6)

    def z(name):
        return rng.normal(rng.example_keys(jax.random.key(4), name, jnp.int32(0), indices), 3)

    def g(params, z):
        return generator.apply({"params": params}, z, text)

    def d(params, images, text):
        return discriminator.apply({"params": params}, images, text, method="score")

    def squared_norms(params, images):
        """|grad_x D|^2 and |grad_c D|^2 at the sentence vectors that D itself encodes."""
        sentence = discriminator.apply({"params": params}, text, method="encode_text").sentence

        def total(images, sentence):
            features = discriminator.apply({"params": params}, images, method="image_features")
            words = TextFeatures(sentence=sentence)
            return discriminator.apply({"params": params}, features, words, method="logits").sum()

        gx, gc = jax.grad(total, (0, 1))(images, sentence)
        return jnp.sum(gx**2, axis=(1, 2, 3)), jnp.sum(gc**2, axis=1)

    def d_loss(params):
        fake = g(state.g_params, z("z_d"))
        r, f, m = d(params, real, text), d(params, fake, text), d(params, real, wrong)
        if loss is MA_GP:
            gx, gc = squared_norms(params, real)
            return jnp.mean(
                jnp.maximum(0, 1 - r)
                + 0.5 * jnp.maximum(0, 1 + f)
                + 0.5 * jnp.maximum(0, 1 + m)
                + 2 * (gx + gc) ** 3
            )
        r1, r2 = squared_norms(params, real)[0], squared_norms(params, fake)[0]
        game = 0.5 * jnp.log1p(jnp.exp(f - r)) + 0.5 * jnp.log1p(jnp.exp(m - r))
        return jnp.mean(game + 0.35 * (r1 + r2))

    def g_loss(params, d_params):
        f = d(d_params, g(params, z("z_g")), text)
        if loss is MA_GP:
            return -jnp.mean(f)
        return jnp.mean(jnp.log1p(jnp.exp(d(d_params, real, text) - f)))

    @jax.jit
    def expected():
        def descend(params, gradient, lr):
            return jax.tree.map(lambda p, g: p - lr * g, params, gradient)

        d_total, d_gradient = jax.value_and_grad(d_loss)(state.d_params)
        d_params = descend(state.d_params, d_gradient, 0.1)
        g_total, g_gradient = jax.value_and_grad(g_loss)(state.g_params, d_params)
        return d_params, descend(state.g_params, g_gradient, 0.2), d_total, g_total

    expected_d, expected_g, d_total, g_total = expected()
    new, metrics = jax.jit(step)(state, batch)
    compare = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)
    jax.tree.map(compare, new.d_params, expected_d)
    jax.tree.map(compare, new.g_params, expected_g)
    assert float(metrics["g_loss"]) == pytest.approx(float(g_total), rel=1e-4)
    total = float(metrics["d_loss"]) + float(metrics["penalty"])
    assert total == pytest.approx(float(d_total), rel=1e-4)
    assert int(new.step) == 1


def following_schedules():
    """With two averages, and augmentation that does not adapt."""
    return tiny_problem(
        HINGE,
        AugmentConfig(policies=("color",), p=0.1, p_end=0.9, ramp_kimg=0.012),
        init={"ema_slow": True},
        ema_halflife_kimg=0.01,
        ema_slow_halflife_kimg=0.02,
        ema_rampup=0.5,
    )


def test_averaged_generators_follow_their_formula():
    *_, batch, state, step = following_schedules()
    jitted = jax.jit(step)
    start = jax.tree.map(np.asarray, state.g_params)
    expected = {10.0: start, 20.0: start}
    for k in range(9):
        state, _ = jitted(state, batch)
        for longest, ema in expected.items():
            halflife = min(longest, 0.5 * 6 * k)
            decay = 0.5 ** (6 / halflife) if halflife else 0.0
            expected[longest] = jax.tree.map(
                lambda e, n, d=decay: d * e + (1 - d) * np.asarray(n), ema, state.g_params
            )
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(compare, state.ema_params, expected[10.0])
    jax.tree.map(compare, state.ema_slow_params, expected[20.0])
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), *expected.values())
    assert max(jax.tree.leaves(apart)) > 1e-3


def test_further_captions_are_read_as_captions_are():
    """Standardised, and through D's encoder of text; images choose among them, captions not."""
    loss = dataclasses.replace(RPGAN, contrastive_d_weight=0.5, contrastive_negatives=2)
    _, discriminator, batch, state, step = tiny_problem(loss)

    @jax.jit
    def embeddings():
        d = discriminator.bind({"params": state.d_params})
        texts = (standardise(text, state.text_stats) for text in (batch.text, batch.negatives))
        images = d.embed_image(d.image_features(to_float(jnp.asarray(batch.images))))
        return images, *(d.embed_text(d.encode_text(text)) for text in texts)

    v, t, negatives = map(np.asarray, embeddings())
    assert len(negatives) == 12
    of_texts, of_images = np.exp(v @ np.concatenate([t, negatives]).T), np.exp(t @ v.T)
    terms = [np.diag(scores) / scores.sum(axis=1) for scores in (of_texts, of_images)]
    _, metrics = jax.jit(step)(state, batch)
    assert float(metrics["contrastive_real"]) == pytest.approx(-np.log(terms).mean(), rel=1e-4)


def adaptive(adversarial):
    """With every term but a penalty, ADA and two averages; images are float."""
    *networks, batch, state, step = tiny_problem(
        dataclasses.replace(EVERYTHING.loss, penalty="none", adversarial=adversarial),
        AugmentConfig(policies=("color",), p=0.4, ada_target=0.3, ada_kimg=0.1),
        init={"augment_p": 0.4, "ema_slow": True},
        ema_slow_halflife_kimg=0.1,
    )
    return *networks, batch.replace(images=np.array(to_float(batch.images))), state, step


@pytest.mark.parametrize("adversarial", [pytest.param("hinge", marks=pytest.mark.slow), "rpgan"])
def test_augmentation_adapts_to_how_sure_d_is(adversarial):
    """ADA: p rises while D calls most real images real (rpgan: more real than fakes)."""
    generator, discriminator, batch, start, step = adaptive(adversarial)
    text = standardise(batch.text, start.text_stats)
    step = jax.jit(step)

    @jax.jit
    def how_sure(state, k, p):
        def keys(name):
            return rng.example_keys(jax.random.key(4), name, k, jnp.arange(6))

        def logits(images):
            images = augment_images(images, keys("augment_d"), ("color",), p)
            return discriminator.apply({"params": state.d_params}, images, text, method="score")

        sure = logits(to_float(jnp.asarray(batch.images)))
        if adversarial == "rpgan":
            z = rng.normal(keys("z_d"), 3)
            sure = sure - logits(generator.apply({"params": state.g_params}, z, text))
        return jnp.sign(sure).mean()

    for bias in (2.0, -2.0):
        out = {**start.d_params["out"], "bias": jnp.full(1, bias)}
        state = start.replace(d_params={**start.d_params, "out": out})
        p, rising = 0.4, []
        for k in range(3):
            sign = float(how_sure(state, jnp.int32(k), jnp.float32(p)))
            state, metrics = step(state, batch)
            assert float(metrics["augment_p"]) == pytest.approx(p)
            assert float(metrics["real_sign"]) == pytest.approx(sign, abs=1e-6)
            rising.append(sign > 0.3)
            p += 6 / 100 if rising[-1] else -6 / 100
            assert float(state.augment_p) == pytest.approx(p)
        if adversarial == "hinge":
            assert rising == [bias > 0] * 3


def test_augmentation_that_does_not_adapt_follows_its_cosine():
    *_, batch, state, step = following_schedules()
    jitted, used = jax.jit(step), []
    for _ in range(3):
        state, metrics = jitted(state, batch)
        used.append(float(metrics["augment_p"]))
    np.testing.assert_allclose(used, [0.1, 0.5, 0.9], rtol=1e-5)
    assert state.augment_p is None


@pytest.mark.parametrize(
    "loss",
    [pytest.param(MA_GP, marks=pytest.mark.slow), R1_R2],
    ids=["hinge-ma_gp", "rpgan-r1_r2"],
)
def test_lazy_penalty_has_n_times_the_weight_and_nothing_between(loss):
    def d_after(every, **static):
        changed = dataclasses.replace(loss, penalty_every_steps=every)
        *_, batch, state, step = tiny_problem(changed)
        new, metrics = jax.jit(functools.partial(step, **static) if static else step)(state, batch)
        return jax.tree.map(np.asarray, new.d_params), metrics

    once, _ = d_after(1)
    four, _ = d_after(4)
    without, metrics = d_after(4, with_penalty=False)
    assert float(metrics["penalty"]) == 0.0
    jax.tree.map(
        lambda one, n, none: np.testing.assert_allclose(
            n - none, 4 * (one - none), rtol=1e-3, atol=1e-6
        ),
        *(once, four, without),
    )
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), once, without))) > 0


def test_alone_d_learns_to_match_and_g_waits():
    """Gradient descent on InfoNCE, written out; the averages wait, too."""
    loss = dataclasses.replace(RPGAN, mismatch_weight=0.0, contrastive_d_weight=2.0)
    _, discriminator, batch, state, step = tiny_problem(loss)
    new, metrics = jax.jit(functools.partial(step, alone="d"))(state, batch)
    real, text = to_float(batch.images), standardise(batch.text, state.text_stats)

    def formula(params):
        def embed(module):
            words = module.encode_text(text)
            return module.embed_image(module.image_features(real)), module.embed_text(words)

        v, t = discriminator.apply({"params": params}, method=embed)
        scores = v @ t.T
        own = jnp.diagonal(scores)
        sums = [jnp.log(jnp.sum(jnp.exp(scores), axis=axis)) for axis in (0, 1)]
        return 2.0 * jnp.mean(0.5 * sum(sums) - own)

    value, gradient = jax.value_and_grad(formula)(state.d_params)
    assert 2.0 * float(metrics["d_loss"]) == pytest.approx(float(value), rel=1e-5)
    assert "g_loss" not in metrics
    jax.tree.map(
        lambda got, old, g: np.testing.assert_allclose(got, old - 0.1 * g, rtol=1e-4, atol=1e-6),
        *(new.d_params, state.d_params, gradient),
    )
    for name in ("g_params", "ema_params"):
        jax.tree.map(np.testing.assert_array_equal, getattr(new, name), getattr(state, name))


def test_alone_g_is_pulled_to_real_pictures_and_d_waits():
    """Gradient descent on the least of two distances, written out; the averages follow."""
    loss = dataclasses.replace(RPGAN, mismatch_weight=0.0, imle_weight=3.0, imle_noises=2)
    generator, _, batch, state, step = tiny_problem(loss)
    new, metrics = jax.jit(functools.partial(step, alone="g"))(state, batch)
    real = to_float(batch.images)
    text = standardise(batch.text, state.text_stats)
    keys = [
        rng.example_keys(jax.random.key(4), f"z_imle{i}", 0, jnp.arange(len(real)))
        for i in range(2)
    ]

    def formula(params):
        distances = []
        for key in keys:
            fake = generator.apply({"params": params}, rng.normal(key, 3), text)
            means = [
                (fake - real).reshape(-1, n, 4 // n, n, 4 // n, 3).mean(axis=(2, 4))
                for n in (4, 2, 1)
            ]
            distances.append(sum(jnp.abs(x).mean(axis=(1, 2, 3)) for x in means) / 3)
        return 3.0 * jnp.mean(jnp.minimum(*distances))

    value, gradient = jax.jit(jax.value_and_grad(formula))(state.g_params)
    assert float(metrics["g_loss"]) == pytest.approx(float(value), rel=1e-5)
    assert "d_loss" not in metrics
    jax.tree.map(
        lambda got, old, g: np.testing.assert_allclose(got, old - 0.2 * g, rtol=1e-4, atol=1e-6),
        *(new.g_params, state.g_params, gradient),
    )
    for name in ("d_params", "d_opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(new, name), getattr(state, name))
    assert int(new.step) == 1
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.ema_params, state.ema_params)
    assert max(jax.tree.leaves(moved)) > 0


def variants_of_tiny_configs():
    """The distinct networks, texts and losses among the tiny twins, each named by its configs.

    All in float32: the rounding of bfloat16 in every layer would hide what these tests look for.
    """
    from tests.conftest import CONFIGS

    found = {}
    for path in CONFIGS:
        config = load_config(path, tiny=True)
        model = dataclasses.replace(config.model, dtype="float32")
        config = dataclasses.replace(config, model=model)
        key = (
            config.model,
            config.text,
            config.loss,
            config.augment,
            config.data.resolution,
            config.data.channels,
        )
        found.setdefault(key, (config, []))[1].append(path.stem)
    return [pytest.param(c, id="+".join(names)) for c, names in found.values()]


# every term and every part of the state at once, which no bundled config has
EVERYTHING = Config(
    data=DataConfig(resolution=8),
    text=TextConfig(encoder="words", max_tokens=8, dim=16, depth=1),
    model=ModelConfig(
        family="r3gan",
        z_dim=Z,
        g_channels=4,
        d_channels=4,
        w_dim=8,
        embed_dim=5,
        token_match=4,
        attention=(4,),
    ),
    loss=LossConfig(
        adversarial="rpgan",
        mismatch_weight=0.25,
        mismatch_fake_weight=0.25,
        g_mismatch_weight=0.5,
        contrastive_d_weight=0.5,
        contrastive_g_weight=0.5,
        contrastive_negatives=3,
        penalty="r1_r2_fd",
        gamma=0.1,
        fd_eps=0.1,
    ),
    augment=AugmentConfig(policies=("color", "translation"), p=0.5, ada_target=0.9, ada_kimg=0.1),
    train=TrainConfig(ema_halflife_kimg=0.01, ema_slow_halflife_kimg=0.04, ema_rampup=0.0),
)
VARIANTS = [*variants_of_tiny_configs(), pytest.param(EVERYTHING, id="everything")]


def learned(state):
    """All that a step changes."""
    return {
        name: np.array(x) if isinstance(x, jax.Array) else jax.tree.map(np.array, x)
        for name, x in vars(state).items()
        if name not in ("step", "seed", "text_stats", "health")
    }


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS)
def test_eight_devices_agree_with_one(config):
    """pmap, shard_map and jit over 8 devices against one device: two SGD steps.

    Tolerance, of the largest change in each leaf: 0.2 % (sums in another order, through two steps).
    """
    slow = optax.sgd(2e-3)  # MA-GP is a sixth power: on random networks it explodes easily
    problem = Problem(config, make_batch(config), slow, slow)
    devices = jax.devices()
    assert len(devices) == 8

    expected, expected_metrics = two_steps(problem, "jit", devices[:1])
    if config is EVERYTHING:
        assert {"ema_slow_params", "augment_p"} <= set(expected)
        assert len(problem.batch.negatives.mask) == 3 * BATCH
        assert {"contrastive_real", "contrastive_fake", "real_sign"} <= set(expected_metrics)
    for path, change in jax.tree_util.tree_leaves_with_path(expected):
        name = jax.tree_util.keystr(path)
        # a bias of attention keys moves all scores alike: softmax does not see it
        if "['key']['bias']" not in name and "opt_state" not in name:
            assert np.abs(change).max() > 0, name
        assert np.isfinite(change).all(), name
    for mode in parallel.MODES:
        assert_same_learning(two_steps(problem, mode, devices), (expected, expected_metrics))


def two_steps(problem, mode, devices):
    """What two steps change, and the metrics of the second."""
    state = problem.state(devices)
    before = learned(state)
    step = parallel.compile_step(problem.step, mode, devices)
    sharded = parallel.shard_batch(problem.batch, mode, devices)
    for _ in range(2):
        state, metrics = step(state, sharded)
    return jax.tree.map(np.subtract, learned(state), before), jax.tree.map(float, metrics)


def assert_same_learning(found, expected, tolerance=2e-3):
    (changes, metrics), (references, expected_metrics) = found, expected
    for (path, change), reference in zip(
        jax.tree_util.tree_leaves_with_path(changes), jax.tree.leaves(references), strict=True
    ):
        scale = np.abs(reference).max()
        assert np.abs(change - reference).max() <= tolerance * scale + 1e-6, path
    assert metrics.keys() == expected_metrics.keys()
    for name, value in metrics.items():
        assert value == pytest.approx(expected_metrics[name], rel=tolerance, abs=1e-4), name


CONTRASTIVE = dataclasses.replace(EVERYTHING.loss, penalty="r1")


def with_ids(batch):
    """Two captions each are equal, and some negatives to them."""
    rows, negatives = (len(text.sentence_emb) for text in (batch.text, batch.negatives))
    return batch.replace(
        text_ids=np.arange(rows) // 2, negative_ids=np.arange(negatives) % rows // 2
    )


def learn(mode, count, *, shard_above=parallel.SHARD_ABOVE, rows=16, **step):
    """Two steps with a term of every kind; also the last state."""
    *_, batch, state, step = tiny_problem(CONTRASTIVE, rows=rows, **step)
    batch = with_ids(batch)
    devices = jax.devices()[:count]
    shardings = parallel.state_sharding(state, mode, devices, shard_above)
    before, state = learned(state), jax.device_put(state, shardings)
    compiled = parallel.compile_step(step, mode, devices, shard_above)
    for _ in range(2):
        state, metrics = compiled(state, parallel.shard_batch(batch, mode, devices))
        for leaf, where in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
            assert leaf.sharding.is_equivalent_to(where, leaf.ndim)
    change = jax.tree.map(np.subtract, learned(state), before)
    return (change, jax.tree.map(float, metrics)), state


@pytest.fixture(scope="module")
def on_one_device():
    """What the tests below compare with."""
    return learn("pmap", 1)[0]


@pytest.mark.parametrize(
    ("mode", "count"), [("pmap", 8), pytest.param("shard_map", 4, marks=pytest.mark.slow)]
)
def test_devices_with_a_copy_each_learn_the_same(mode, count, on_one_device):
    """Contrastive terms compare the captions and images of all devices."""
    assert_same_learning(learn(mode, count)[0], on_one_device, tolerance=1e-4)


@pytest.mark.parametrize(
    ("count", "parts"),
    [(4, 2), *(pytest.param(count, 1, marks=pytest.mark.slow) for count in (2, 8))],
)
def test_a_state_spread_over_devices_learns_the_same(count, parts, on_one_device):
    """Mode jit, every leaf that divides in parts: each device has its share of the memory."""
    found, state = learn("jit", count, shard_above=0, accumulate_steps=parts)
    assert_same_learning(found, on_one_device, tolerance=1e-4)
    for name in parallel.SPREAD:
        for leaf in jax.tree.leaves(getattr(state, name)):
            divides = any(length % count == 0 for length in leaf.shape)
            own = leaf.addressable_shards[0].data.size
            assert own == leaf.size // (count if divides else 1)
    assert state.g_params["Dense_0"]["kernel"].sharding.spec == PartitionSpec(None, "data")


def test_small_parameters_are_not_spread():
    """By number of elements, and those that nothing divides neither; a step keeps to this."""
    state = tiny_problem(CONTRASTIVE)[3]
    for shard_above, expected in ((12 * 48 - 1, [(12, 48)]), (12 * 48, [])):
        shardings = parallel.state_sharding(state, "jit", jax.devices()[:2], shard_above)
        leaves, places = (jax.tree.leaves(x.g_params) for x in (state, shardings))
        spread = [
            leaf.shape
            for leaf, place in zip(leaves, places, strict=True)
            if not place.is_fully_replicated
        ]
        assert spread == expected


@pytest.mark.slow  # by default, parts are those of the state that is spread, and of the loop below
@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_accumulated_gradients_are_those_of_the_whole_batch(mode, on_one_device):
    """Contrastive terms compare all of the batch, however many parts it is worked on in."""
    found, _ = learn(mode, 4, accumulate_steps=2)
    assert {"contrastive_real", "contrastive_fake"} <= set(found[1])
    assert_same_learning(found, on_one_device, tolerance=1e-4)


def test_gradients_accumulated_in_a_loop_are_the_same(monkeypatch, on_one_device):
    """What accelerators run, where XLA sees one loop; here of more parts."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = learn("shard_map", 2, accumulate_steps=4)[0]
    assert {"contrastive_real", "contrastive_fake"} <= set(found[1])
    assert_same_learning(found, on_one_device, tolerance=1e-4)


def test_an_update_that_is_not_finite_changes_nothing():
    """A NaN picture, then good ones: the bad batch is left out as a whole, and counted."""
    *_, batch, state, step = adaptive("rpgan")
    step = jax.jit(step)
    bad_images = batch.images.copy()
    bad_images[0, 0, 0, 0] = np.nan
    good, bad = batch, batch.replace(images=bad_images)
    state, metrics = step(state, good)
    before = jax.tree.map(np.array, state)
    state, metrics = step(state, bad)
    assert not np.isfinite(metrics["d_loss"])
    assert metrics["skipped"] == metrics["skipped_in_row"] == 1
    after = jax.tree.map(np.array, state)
    assert int(after.step) == 2
    same = after.replace(step=before.step, health=before.health)
    jax.tree.map(np.testing.assert_array_equal, same, before)
    state, _ = step(state, bad)
    assert int(state.health.skipped_in_row) == 2
    state, metrics = step(state, good)
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert (int(state.health.skipped), int(state.health.skipped_in_row)) == (2, 0)
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.g_params, before.g_params)
    assert any(jax.tree.leaves(changed))


def test_the_learning_rate_scale_scales_updates():
    *_, batch, state, step = tiny_problem(R1_R2)
    half = state.replace(health=state.health.replace(lr_scale=jnp.float32(0.5)))

    def change(state):
        new = jax.jit(step)(state, batch)[0]
        return jax.tree.map(lambda a, b: np.asarray(a - b), new.d_params, state.d_params)

    for x, y in zip(jax.tree.leaves(change(state)), jax.tree.leaves(change(half)), strict=True):
        np.testing.assert_allclose(y, 0.5 * x, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS)
def test_check_replicated_passes_for_all_networks(config):
    problem = Problem(config, make_batch(config))
    state = jax.eval_shape(problem.initial)
    check_replicated(problem.step, state, problem.batch)


def test_check_replicated_passes_for_every_term():
    *_, batch, state, step = tiny_problem(
        EVERYTHING.loss,
        AugmentConfig(policies=("color",), ada_target=0.3),
        init={"augment_p": 0.4, "ema_slow": True},
    )
    check_replicated(step, state, with_ids(batch))


def test_check_replicated_finds_a_gradient_that_is_not_averaged():
    *_, batch, state, _ = tiny_problem(MA_GP)

    def careless(state, batch, *, axis_name=None):
        return state.replace(step=state.step + batch.images.sum().astype(jnp.int32)), {}

    with pytest.raises(ValueError, match="out_axes"):
        check_replicated(careless, state, batch)


ALL_PARTS = "slow-average-ada"
TRACED = {
    "plain": {"loss": MA_GP},
    ALL_PARTS: {
        "loss": RPGAN,
        "augment": AugmentConfig(policies=("flip",), ada_target=0.6),
        "init": {"ema_slow": True, "augment_p": 0.5},
        "ema_slow_halflife_kimg": 9.0,
    },
}


@pytest.mark.parametrize(
    "parts", [pytest.param(TRACED["plain"], marks=pytest.mark.slow), TRACED[ALL_PARTS]], ids=TRACED
)
def test_each_variant_is_traced_once_and_the_old_state_is_donated(parts):
    *_, batch, state, step = tiny_problem(**parts)
    traces = []

    def counted(*args, **kwargs):
        traces.append(kwargs.get("with_penalty"))
        return step(*args, **kwargs)

    devices = jax.devices()[:2]
    state = jax.device_put(state, parallel.replicated_sharding(devices))
    sharded = parallel.shard_batch(batch, "pmap", devices)
    compiled = [
        parallel.compile_step(counted, "pmap", devices, with_penalty=flag) for flag in (True, False)
    ]
    for k in range(6):
        old = state
        state, _ = compiled[k % 2](state, sharded)
        if k:
            assert jax.tree.leaves(old.g_params)[0].is_deleted()
    assert sorted(traces) == [False, True]


def test_results_do_not_depend_on_the_number_of_devices_or_on_history():
    """The noise of step k, example i is a function of (seed, k, i)."""
    *_, batch, state, step = tiny_problem(R1_R2)
    one, _ = jax.jit(step)(state, batch)
    devices = jax.devices()[:3]
    spread = jax.device_put(tiny_problem(R1_R2)[3], parallel.replicated_sharding(devices))
    three, _ = parallel.compile_step(step, "pmap", devices)(
        spread, parallel.shard_batch(batch, "pmap", devices)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        one.g_params,
        three.g_params,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adversarial": "wasserstein"}, "loss.adversarial"),
        ({"penalty": "gp"}, "loss.penalty"),
        ({"mismatch_weight": 1.5}, "loss.mismatch_weight"),
        ({"penalty_every_steps": 0}, "loss.penalty_every_steps"),
    ],
)
def test_wrong_losses_name_the_field(changes, words):
    parts = {"z_dim": 3, "g_tx": optax.sgd(0.2), "d_tx": optax.sgd(0.1)}
    with pytest.raises(UserError, match=words):
        make_train_step(TinyG(), TinyD(), **parts, loss=LossConfig(**changes))


def test_batch_must_divide_by_the_devices():
    with pytest.raises(UserError, match=r"batch size 6 does not divide by 4.*--train.batch-size 4"):
        parallel.check_batch_size(6, 4)
    with pytest.raises(UserError, match=r"train\.mode"):
        parallel.compile_step(lambda *a: a, "fsdp")
