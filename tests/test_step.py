"""The GAN step: against a plain reference, over devices, and for every shipped config."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxgan import parallel, rng
from flaxgan.config import LossConfig, load_config
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.models import build_models
from flaxgan.state import Batch, init_state
from flaxgan.step import make_train_step
from flaxgan.text.conditioning import Text, TextFeatures, TextStats, standardise

BATCH, Z = 8, 8
MA_GP = LossConfig(adversarial="hinge", mismatch_weight=0.5, penalty="ma_gp")
R1_R2 = LossConfig(adversarial="rpgan", mismatch_weight=0.5, penalty="r1_r2", gamma=0.7)


def make_batch(config, rows=BATCH, seed=0):
    """A batch of the right shapes, without a data set."""
    draw = np.random.default_rng(seed)
    side, channels = config.data.resolution, config.data.channels
    images = draw.integers(0, 256, (rows, side, side, channels), dtype=np.uint8)

    def text():
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
    return Batch(images=images, text=text(), mismatched=text())


class Problem:
    """A step with everything that it needs."""

    def __init__(self, config, batch, g_tx=None, d_tx=None, text_stats=None, **step):
        self.generator, self.discriminator = build_models(config)
        g_tx, d_tx = g_tx or optax.sgd(0.05), d_tx or optax.sgd(0.05)
        self.batch = batch
        self.z_dim = config.model.z_dim
        parts = {"z_dim": self.z_dim, "g_tx": g_tx, "d_tx": d_tx}
        self.step = make_train_step(
            self.generator, self.discriminator, **parts, **{"loss": config.loss, **step}
        )
        self._init = functools.partial(
            init_state, self.generator, self.discriminator, batch, **parts, text_stats=text_stats
        )

    def state(self, devices=None):
        """With noise on all parameters: layers that start at zero would hide mistakes."""
        sharding = None if devices is None else parallel.replicated_sharding(devices)
        state = self._init(sharding=sharding)
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

    def setup(self):
        self.of_text, self.of_image, self.out = nn.Dense(5), nn.Dense(7), nn.Dense(1)

    def encode_text(self, text):
        return TextFeatures(sentence=jnp.sin(self.of_text(text.sentence_emb)))

    def image_features(self, images, keys=None):
        return jnp.tanh(self.of_image(images.reshape(len(images), -1)))

    def logits(self, features, text):
        padded = jnp.pad(text.sentence, ((0, 0), (0, 2)))
        return self.out(jnp.tanh(features) * padded).sum(axis=-1)

    def score(self, images, text, keys=None):
        return self.logits(self.image_features(images), self.encode_text(text))


def tiny_problem(loss):
    generator, discriminator = TinyG(), TinyD()
    draw = np.random.default_rng(0)
    batch = Batch(
        images=draw.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8),
        text=Text(sentence_emb=draw.normal(2, 3, (6, 9)).astype(np.float32)),
        mismatched=Text(sentence_emb=draw.normal(2, 3, (6, 9)).astype(np.float32)),
    )
    stats = TextStats(mean=jnp.full(9, 2.0), sd=jnp.full(9, 3.0))
    parts = {"z_dim": 3, "g_tx": optax.sgd(0.2), "d_tx": optax.sgd(0.1)}
    state = init_state(generator, discriminator, batch, **parts, text_stats=stats, seed=4)
    return (
        generator,
        discriminator,
        batch,
        state,
        make_train_step(generator, discriminator, **parts, loss=loss),
    )


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

    fake = g(state.g_params, z("z_d"))

    def d_loss(params):
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

    expected_d = jax.tree.map(
        lambda p, g: p - 0.1 * g, state.d_params, jax.grad(d_loss)(state.d_params)
    )

    def g_loss(params):
        f = d(expected_d, g(params, z("z_g")), text)
        if loss is MA_GP:
            return -jnp.mean(f)
        return jnp.mean(jnp.log1p(jnp.exp(d(expected_d, real, text) - f)))

    expected_g = jax.tree.map(
        lambda p, g: p - 0.2 * g, state.g_params, jax.grad(g_loss)(state.g_params)
    )
    new, metrics = jax.jit(step)(state, batch)
    compare = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)
    jax.tree.map(compare, new.d_params, expected_d)
    jax.tree.map(compare, new.g_params, expected_g)
    assert float(metrics["g_loss"]) == pytest.approx(float(g_loss(state.g_params)), rel=1e-4)
    total = metrics["d_loss"] + metrics["penalty"]
    assert float(total) == pytest.approx(float(d_loss(state.d_params)), rel=1e-4)
    assert int(new.step) == 1


def test_averaged_generator_follows_its_formula():
    generator, discriminator, batch, state, _ = tiny_problem(MA_GP)
    step = make_train_step(
        generator,
        discriminator,
        z_dim=3,
        g_tx=optax.sgd(0.2),
        d_tx=optax.sgd(0.1),
        loss=MA_GP,
        ema_halflife_kimg=0.02,
        ema_rampup=0.5,
    )
    jitted = jax.jit(step)
    ema = state.g_params
    for k in range(9):
        state, _ = jitted(state, batch)
        halflife = min(20.0, 0.5 * 6 * k)
        decay = 0.5 ** (6 / halflife) if halflife else 0.0
        ema = jax.tree.map(lambda e, n, d=decay: d * e + (1 - d) * n, ema, state.g_params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.ema_params, ema
    )


@pytest.mark.parametrize("loss", [MA_GP, R1_R2], ids=["hinge-ma_gp", "rpgan-r1_r2"])
def test_lazy_penalty_has_n_times_the_weight_and_nothing_between(loss):
    def d_after(every, with_penalty):
        changed = dataclasses.replace(loss, penalty_every_steps=every)
        *_, batch, state, step = tiny_problem(changed)
        new, metrics = jax.jit(functools.partial(step, with_penalty=with_penalty))(state, batch)
        return new.d_params, metrics

    once, _ = d_after(1, True)
    four, _ = d_after(4, True)
    without, metrics = d_after(4, False)
    assert float(metrics["penalty"]) == 0.0
    jax.tree.map(
        lambda one, n, none: np.testing.assert_allclose(
            n - none, 4 * (one - none), rtol=1e-3, atol=1e-6
        ),
        *(once, four, without),
    )
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), once, without))) > 0


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
            config.data.resolution,
            config.data.channels,
        )
        found.setdefault(key, (config, []))[1].append(path.stem)
    return [pytest.param(c, id="+".join(names)) for c, names in found.values()]


@pytest.mark.parametrize("config", variants_of_tiny_configs())
def test_eight_devices_agree_with_one(config):
    """pmap, shard_map and jit over 8 devices against one device: two SGD steps.

    Tolerance, of the largest change in each leaf: 0.2 % (sums in another order, through two steps).
    """
    slow = optax.sgd(2e-3)  # MA-GP is a sixth power: on random networks it explodes easily
    problem = Problem(config, make_batch(config), slow, slow)
    devices = jax.devices()
    assert len(devices) == 8
    tolerance = 2e-3

    def run(mode, devices):
        state = problem.state(devices)
        before = jax.tree.map(np.array, (state.g_params, state.d_params))
        step = parallel.compile_step(problem.step, mode, devices)
        sharded = parallel.shard_batch(problem.batch, mode, devices)
        for _ in range(2):
            state, metrics = step(state, sharded)
        after = jax.tree.map(np.array, (state.g_params, state.d_params))
        return jax.tree.map(np.subtract, after, before), jax.tree.map(float, metrics)

    expected, expected_metrics = run("jit", devices[:1])
    for path, change in jax.tree_util.tree_leaves_with_path(expected):
        # a bias of attention keys moves all scores alike: softmax does not see it
        of_key = "['key']['bias']" in jax.tree_util.keystr(path)
        assert of_key or np.abs(change).max() > 0, path
        assert np.isfinite(change).all(), path
    for mode in parallel.MODES:
        changes, metrics = run(mode, devices)
        for (path, change), reference in zip(
            jax.tree_util.tree_leaves_with_path(changes), jax.tree.leaves(expected), strict=True
        ):
            scale = np.abs(reference).max()
            assert np.abs(change - reference).max() <= tolerance * scale + 1e-6, (mode, path)
        for name, value in metrics.items():
            assert value == pytest.approx(expected_metrics[name], rel=tolerance, abs=1e-4), name


@pytest.mark.parametrize("config", variants_of_tiny_configs())
def test_check_replicated_passes(config):
    problem = Problem(config, make_batch(config))
    parallel.check_replicated(problem.step, problem.state(), problem.batch)


def test_check_replicated_finds_a_gradient_that_is_not_averaged():
    *_, batch, state, _ = tiny_problem(MA_GP)

    def careless(state, batch, *, axis_name=None):
        return state.replace(step=state.step + batch.images.sum().astype(jnp.int32)), {}

    with pytest.raises(ValueError, match="out_axes"):
        parallel.check_replicated(careless, state, batch)


def test_each_variant_is_traced_once_and_the_old_state_is_donated():
    *_, batch, state, step = tiny_problem(MA_GP)
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
    with pytest.raises(UserError, match=words):
        tiny_problem(LossConfig(**changes))


def test_batch_must_divide_by_the_devices():
    with pytest.raises(UserError, match=r"batch size 6 does not divide by 4.*--train.batch-size 4"):
        parallel.check_batch_size(6, 4)
    with pytest.raises(UserError, match=r"train\.mode"):
        parallel.compile_step(lambda *a: a, "fsdp")
