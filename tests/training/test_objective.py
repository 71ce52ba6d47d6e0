"""Each term of the objective, with its gradient, against its formula written out in float64."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan import rng
from flaxgan.config import AugmentConfig, LossConfig
from flaxgan.errors import UserError
from flaxgan.text.conditioning import Text, TextFeatures
from flaxgan.training.augment import augment
from flaxgan.training.objective import Objective
from flaxgan.training.state import Batch

BATCH = 5
POLICIES = ("color", "translation", "cutout")

# compiling is most of the time here, and nothing runs for long
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class G(nn.Module):
    """Images of 4 px."""

    @nn.compact
    def __call__(self, z, text):
        x = nn.Dense(48)(jnp.concatenate([z, text.sentence_emb], axis=-1))
        return jnp.tanh(x).reshape(-1, 4, 4, 3)


class D(nn.Module):
    """Smooth, and learns its own view of the text."""

    embed_dim: int = 4

    def setup(self):
        self.of_text, self.of_image, self.out = nn.Dense(5), nn.Dense(7), nn.Dense(1)
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

    def everything(self, images, text):
        features, words = self.image_features(images), self.encode_text(text)
        return self.logits(features, words), self.embed_image(features), self.embed_text(words)


@dataclasses.dataclass
class FixedDraw:
    """Random numbers of one seed."""

    seed: int = 3
    images_seen: float = 500.0  # half of the way of gamma
    augment_p: float = 0.6
    axis_name: str | None = None

    def keys(self, name):
        return rng.example_keys(jax.random.key(self.seed), name, 0, jnp.arange(BATCH))

    def normal(self, name):
        return rng.normal(self.keys(name), 3)


class Problem:
    """Networks with random parameters, and a batch; everything in float64."""

    def __init__(self):
        draw = np.random.default_rng(0)

        def text(rows=BATCH):
            return Text(sentence_emb=jnp.asarray(draw.normal(size=(rows, 6))))

        def randomised(variables):
            return jax.tree.map(lambda x: jnp.asarray(draw.normal(0, 0.5, x.shape)), variables)

        self.batch = Batch(images=None, text=text(), mismatched=text())
        self.real, self.fake = jnp.asarray(draw.uniform(-1, 1, (2, BATCH, 4, 4, 3)))
        key, z = jax.random.key(0), jnp.zeros((1, 3))
        init = functools.partial(D().init, method="everything")
        g_shapes = jax.eval_shape(G().init, key, z, Text(jnp.zeros((1, 6))))
        d_shapes = jax.eval_shape(init, key, self.real, self.batch.text)
        self.g_params, self.d_params = randomised((g_shapes["params"], d_shapes["params"]))
        self.with_negatives = self.batch.replace(negatives=text(2 * BATCH))
        # two equal captions, an empty one, and negatives that are captions of the batch
        ids = np.arange(3 * BATCH, dtype=np.int32)
        ids[[1, 2, BATCH, BATCH + 1]] = [0, -1, 0, 3]
        self.with_equal = self.with_negatives.replace(
            text_ids=ids[:BATCH], negative_ids=ids[BATCH:]
        )

    def check_d(
        self, loss, formula, *, augment=AugmentConfig(), weight=1.0, batch=None, cases=(({}, {}),)
    ):
        """`formula(d, real, fake)` is the mean loss; `d` has the parameters.

        `cases` give what else the random numbers and the formula are made of.
        """
        objective, batch = Objective(G(), D(), loss, augment), batch or self.batch

        def ours(params, draw):
            args = (self.real, self.fake, batch, FixedDraw(**draw), weight)
            return objective.d_loss(params, *args)

        def wanted(params, known):
            return formula(Judge(params, batch), self.real, self.fake, **known)

        return compare(ours, wanted, self.d_params, cases)

    def check_g(self, loss, formula, *, augment=AugmentConfig(), batch=None):
        objective, draw = Objective(G(), D(), loss, augment), FixedDraw()
        batch = batch or self.batch

        def ours(params, _):
            return objective.g_loss(params, self.d_params, self.real, batch, draw)

        def wanted(params, _):
            fake = G().apply({"params": params}, draw.normal("z_g"), batch.text)
            return formula(Judge(self.d_params, batch), self.real, fake)

        return compare(ours, wanted, self.g_params)


class Judge:
    """D(x, c) and D(x, c~) of images, and what else formulas name."""

    def __init__(self, params, batch):
        self.params, self.batch = params, batch

    def _both(self, images, text):
        return D().apply({"params": self.params}, images, text, method="everything")

    def right(self, images):
        return self._both(images, self.batch.text)[0]

    def wrong(self, images):
        return self._both(images, self.batch.mismatched)[0]

    def squared_gradient(self, images, view=lambda x: x):
        """|grad_x D(view(x), c)|^2."""
        g = jax.grad(lambda x: self.right(view(x)).sum())(images)
        return jnp.sum(g**2, axis=(1, 2, 3))

    def embeddings(self, images):
        """Of the images, and of all captions that they are compared with, their own first."""
        _, v, texts = self._both(images, self.batch.text)
        if self.batch.negatives is not None:
            negatives = self._both(jnp.repeat(images, 2, axis=0), self.batch.negatives)[2]
            texts = jnp.concatenate([texts, negatives])
        return v, texts

    def info_nce(self, images):
        """Written out with sums of exponentials, one example at a time."""
        v, texts = self.embeddings(images)
        counts, counted = self.choices(len(texts))
        losses = [
            0.5 * jnp.log((counts[i] * jnp.exp(texts @ v[i])).sum() / jnp.exp(texts[i] @ v[i]))
            + 0.5
            * jnp.log((counts[i, :BATCH] * jnp.exp(v @ texts[i])).sum() / jnp.exp(texts[i] @ v[i]))
            for i in range(BATCH)
        ]
        return jnp.stack(losses) * counted

    def choices(self, n):
        """`[b, n]` which captions each image chooses among, `[b]` which images choose, 0 or 1."""
        if self.batch.text_ids is None:
            return np.ones((BATCH, n)), np.ones(BATCH)
        own, ids = self.batch.text_ids, np.append(self.batch.text_ids, self.batch.negative_ids)
        wrong = (own[:, None] != ids) & (ids >= 0)
        return 1.0 * (wrong | np.eye(BATCH, n, dtype=bool)), 1.0 * (own >= 0)


def compare(ours, wanted, params, cases=(((), ()),)):
    """Value and gradient of `ours` are those of `wanted`; returns what else `ours` gives.

    `cases` are pairs of what the two take besides the parameters.
    """
    ours, wanted = jit(jax.value_and_grad(ours, has_aux=True)), jit(jax.value_and_grad(wanted))
    for of_ours, of_wanted in cases:
        (value, rest), gradient = ours(params, of_ours)
        wanted_value, wanted_gradient = wanted(params, of_wanted)
        assert float(value) == pytest.approx(float(wanted_value), rel=1e-6)  # gamma is float32
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            gradient,
            wanted_gradient,
        )
        assert max(np.abs(g).max() for g in jax.tree.leaves(wanted_gradient)) > 1e-3
    return rest


def log1pexp(x):
    return jnp.log(1 + jnp.exp(x))


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        yield Problem()


NO_TEXT_TERMS = LossConfig(mismatch_weight=0.0, penalty="none")


def test_r1_is_on_real_images_alone(problem):
    loss = dataclasses.replace(NO_TEXT_TERMS, adversarial="rpgan", penalty="r1", gamma=0.7)

    def formula(d, real, fake):
        game = log1pexp(d.right(fake) - d.right(real))
        return jnp.mean(game + 0.35 * d.squared_gradient(real))

    metrics = problem.check_d(loss, formula)
    assert set(metrics) == {
        "d_loss",
        "penalty",
        "gamma",
        "real_logit",
        "fake_logit",
        "moments",
    }

    @jit
    def wanted(real, fake):
        d = Judge(problem.d_params, problem.batch)
        return {
            "d_loss": log1pexp(d.right(fake) - d.right(real)),
            "penalty": 0.35 * d.squared_gradient(real),
            "real_logit": d.right(real),
            "fake_logit": d.right(fake),
        }

    for name, value in wanted(problem.real, problem.fake).items():
        assert float(metrics[name]) == pytest.approx(float(value.mean()), rel=1e-6), name


def test_gamma_follows_its_cosine_and_the_weight_of_the_step(problem):
    loss = dataclasses.replace(
        NO_TEXT_TERMS,
        adversarial="nonsaturating",
        penalty="r1_r2",
        gamma=1.0,
        gamma_end=0.2,
        gamma_decay_kimg=1.0,
    )

    def game(d, real, fake):
        return jnp.mean(log1pexp(-d.right(real)) + log1pexp(d.right(fake)))

    def formula(d, real, fake, gamma):
        penalty = d.squared_gradient(real) + d.squared_gradient(fake)
        return game(d, real, fake) + jnp.mean(4.0 * gamma / 2 * penalty)

    cases = [({"images_seen": 500.0}, {"gamma": 0.6}), ({"images_seen": 1e6}, {"gamma": 0.2})]
    problem.check_d(loss, formula, weight=4.0, cases=cases)
    metrics = problem.check_d(loss, game, weight=0.0)
    assert float(metrics["penalty"]) == 0


def test_differences_estimate_r1_and_r2(problem):
    """Over many draws the loss and its gradient are those of the exact penalties."""
    loss = dataclasses.replace(
        NO_TEXT_TERMS, adversarial="rpgan", penalty="r1_r2_fd", gamma=2.0, fd_eps=1e-4
    )
    objective = Objective(G(), D(), loss)

    def one(seed):
        args = (problem.real, problem.fake, problem.batch, FixedDraw(seed=seed), 1.0)
        return jax.value_and_grad(lambda p: objective.d_loss(p, *args)[0])(problem.d_params)

    def formula(params):
        d = Judge(params, problem.batch)
        game = log1pexp(d.right(problem.fake) - d.right(problem.real))
        penalty = d.squared_gradient(problem.real) + d.squared_gradient(problem.fake)
        return jnp.mean(game + penalty)

    estimates = jit(jax.vmap(one))(jnp.arange(2000))
    value, gradient = jax.tree.map(lambda x: x.mean(axis=0), estimates)
    wanted_value, wanted = jit(jax.value_and_grad(formula))(problem.d_params)
    assert float(value) == pytest.approx(float(wanted_value), rel=0.03)
    a, b = (np.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (gradient, wanted))
    assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


@pytest.mark.parametrize("penalty", ["none", "r1"])
def test_wrong_captions_of_real_and_fake_images_are_shares(problem, penalty):
    loss = LossConfig(
        adversarial="hinge",
        mismatch_weight=0.25,
        mismatch_fake_weight=0.125,
        penalty=penalty,
        gamma=2.0,
    )

    def formula(d, real, fake):
        return jnp.mean(
            jnp.maximum(0, 1 - d.right(real))
            + 0.625 * jnp.maximum(0, 1 + d.right(fake))
            + 0.25 * jnp.maximum(0, 1 + d.wrong(real))
            + 0.125 * jnp.maximum(0, 1 + d.wrong(fake))
            + (d.squared_gradient(real) if penalty == "r1" else 0)
        )

    metrics = problem.check_d(loss, formula)
    wrong = Judge(problem.d_params, problem.batch).wrong(problem.real).mean()
    assert float(metrics["mismatched_logit"]) == pytest.approx(float(wrong), rel=1e-6)


CONTRASTS = [  # the batch alone is what tests of augmentation compare
    pytest.param("batch", "none", marks=pytest.mark.slow),
    pytest.param("batch", "r1_r2", marks=pytest.mark.slow),
    ("with_negatives", "none"),
    pytest.param("with_negatives", "r1_r2", marks=pytest.mark.slow),
    pytest.param("with_equal", "none", marks=pytest.mark.slow),
    ("with_equal", "r1_r2"),
]


@pytest.mark.parametrize(("kind", "penalty"), CONTRASTS)
def test_d_learns_to_compare_real_images_with_captions(problem, kind, penalty):
    loss = dataclasses.replace(
        NO_TEXT_TERMS,
        adversarial="rpgan",
        contrastive_d_weight=0.3,
        contrastive_g_weight=9.0,
        penalty=penalty,
        gamma=0.2,
    )
    batch = getattr(problem, kind)

    def formula(d, real, fake):
        total = log1pexp(d.right(fake) - d.right(real)) + 0.3 * d.info_nce(real)
        if penalty == "r1_r2":
            total = total + 0.1 * (d.squared_gradient(real) + d.squared_gradient(fake))
        return jnp.mean(total)

    metrics = problem.check_d(loss, formula, batch=batch)
    d = Judge(problem.d_params, batch)
    wanted, (v, texts) = jit(lambda x: (d.info_nce(x).mean(), d.embeddings(x)))(problem.real)
    assert float(metrics["contrastive_real"]) == pytest.approx(float(wanted), rel=1e-6)
    assert len(texts) == (BATCH if kind == "batch" else 3 * BATCH)
    counts, counted = d.choices(len(texts))
    first = np.argmax(np.where(counts, np.asarray(v) @ np.asarray(texts).T, -np.inf), axis=1)
    found = np.mean(counted * (first == np.arange(BATCH)))
    assert float(metrics["found_real"]) == pytest.approx(found)


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("batch", "with_negatives")),
        "with_equal",
    ],
)
def test_g_learns_from_d_to_follow_captions(problem, kind):
    loss = LossConfig(
        adversarial="nonsaturating",
        g_mismatch_weight=0.5,
        contrastive_d_weight=9.0,
        contrastive_g_weight=0.3,
    )
    batch = getattr(problem, kind)

    def formula(d, real, fake):
        game = log1pexp(-d.right(fake))
        matching = log1pexp(d.wrong(fake) - d.right(fake))
        return jnp.mean(game + 0.5 * matching + 0.3 * d.info_nce(fake))

    metrics = problem.check_g(loss, formula, batch=batch)
    assert set(metrics) == {"g_loss", "contrastive_fake", "found_fake"}


def test_only_the_nearest_of_several_fakes_is_pulled_to_the_real_image(problem):
    """The minimum over fakes, of differences of means of 1, 4 and 16 pixels, written out."""
    loss = LossConfig(
        adversarial="nonsaturating",
        imle_weight=8.0,
        imle_weight_end=2.0,
        imle_decay_kimg=1.0,  # half of which is over
        imle_noises=3,
    )
    objective, draw, batch = Objective(G(), D(), loss), FixedDraw(), problem.batch

    def ours(params, _):
        return objective.g_loss(params, problem.d_params, problem.real, batch, draw)

    def wanted(params, _):
        fake = G().apply({"params": params}, draw.normal("z_g"), batch.text)
        game = log1pexp(-Judge(problem.d_params, batch).right(fake))
        distances = []
        for i in range(3):
            fake = G().apply({"params": params}, draw.normal(f"z_imle{i}"), batch.text)
            means = [
                (fake - problem.real).reshape(BATCH, n, 4 // n, n, 4 // n, 3).mean(axis=(2, 4))
                for n in (4, 2, 1)
            ]
            distances.append(sum(jnp.abs(x).mean(axis=(1, 2, 3)) for x in means) / 3)
        first = jnp.argmin(jnp.stack(distances), axis=0)
        least = sum(jnp.where(first == i, x, 0.0) for i, x in enumerate(distances))
        return jnp.mean(game + 5.0 * least)

    metrics = compare(ours, wanted, problem.g_params)
    assert set(metrics) == {"g_loss", "imle"}
    assert 0.1 < float(metrics["imle"]) < 2.0


def test_of_one_noise_the_fake_that_d_judges_is_pulled_itself(problem):
    loss = LossConfig(adversarial="nonsaturating", imle_weight=8.0, imle_noises=1)
    objective, draw, batch = Objective(G(), D(), loss), FixedDraw(), problem.batch

    def distance(params, name):
        fake = G().apply({"params": params}, draw.normal(name), batch.text)
        means = [
            (fake - problem.real).reshape(BATCH, n, 4 // n, n, 4 // n, 3).mean(axis=(2, 4))
            for n in (4, 2, 1)
        ]
        return 8.0 * sum(jnp.abs(x).mean() for x in means) / 3

    def ours(params, _):
        return objective.g_loss(params, problem.d_params, problem.real, batch, draw)

    def wanted(params, _):
        fake = G().apply({"params": params}, draw.normal("z_g"), batch.text)
        game = log1pexp(-Judge(problem.d_params, batch).right(fake))
        return jnp.mean(game) + distance(params, "z_g")

    compare(ours, wanted, problem.g_params)
    compare(
        lambda params, _: objective.g_loss_alone(params, problem.real, batch, draw),
        lambda params, _: distance(params, "z_imle0"),
        problem.g_params,
    )


def test_g_plays_alone_where_nothing_else_is_asked(problem):
    def formula(d, real, fake):
        return jnp.mean(log1pexp(d.right(real) - d.right(fake)))

    metrics = problem.check_g(LossConfig(adversarial="rpgan"), formula)
    assert set(metrics) == {"g_loss"}


@pytest.mark.parametrize(
    "adversarial", ["rpgan", pytest.param("nonsaturating", marks=pytest.mark.slow)]
)
def test_d_sees_augmented_images_and_its_penalty_the_images_behind(problem, adversarial):
    loss = LossConfig(
        adversarial=adversarial,
        mismatch_weight=0.25,
        penalty="r1_r2",
        gamma=0.4,
        contrastive_d_weight=0.3,
    )
    keys = FixedDraw().keys("augment_d")

    def view(images):
        return augment(images, keys, POLICIES, 0.6)

    def formula(d, real, fake):
        r, f, wrong = d.right(view(real)), d.right(view(fake)), d.wrong(view(real))
        if adversarial == "rpgan":
            game = 0.75 * log1pexp(f - r) + 0.25 * log1pexp(wrong - r)
        else:
            game = log1pexp(-r) + 0.75 * log1pexp(f) + 0.25 * log1pexp(wrong)
        penalty = d.squared_gradient(real, view) + d.squared_gradient(fake, view)
        return jnp.mean(game + 0.2 * penalty + 0.3 * d.info_nce(view(real)))

    seen = AugmentConfig(policies=POLICIES, ada_target=0.5)
    metrics = problem.check_d(loss, formula, augment=seen)
    d = Judge(problem.d_params, problem.batch)
    sure, of_fake = (
        np.asarray(jit(lambda x: d.right(view(x)))(x)) for x in (problem.real, problem.fake)
    )
    if adversarial == "rpgan":  # there D's logits have no zero: real ones are above fakes
        sure = sure - of_fake
    assert float(metrics["real_sign"]) == pytest.approx(float(np.sign(sure).mean()))


def test_ma_gp_sees_the_images_behind_the_augmentation(problem):
    loss = LossConfig(adversarial="hinge", mismatch_weight=0.0, ma_gp_weight=0.1, ma_gp_power=2.0)
    keys = FixedDraw().keys("augment_d")

    def formula(d, real, fake):
        def view(images):
            return augment(images, keys, POLICIES, 0.6)

        def total(real, sentence):
            def parts(module):
                features = module.image_features(view(real))
                return module.logits(features, TextFeatures(sentence=sentence)).sum()

            return D().apply({"params": d.params}, method=parts)

        sentence = D().apply({"params": d.params}, d.batch.text, method="encode_text").sentence
        gx, gc = jax.grad(total, (0, 1))(real, sentence)
        penalty = jnp.sum(gx**2, axis=(1, 2, 3)) + jnp.sum(gc**2, axis=1)
        game = jnp.maximum(0, 1 - d.right(view(real))) + jnp.maximum(0, 1 + d.right(view(fake)))
        return jnp.mean(game + 0.1 * penalty)

    problem.check_d(loss, formula, augment=AugmentConfig(policies=POLICIES))


def test_g_is_judged_through_the_augmentation(problem):
    keys = FixedDraw().keys("augment_g")

    def view(images):
        return augment(images, keys, POLICIES, 0.6)

    def formula(d, real, fake):
        game = log1pexp(d.right(view(real)) - d.right(view(fake)))
        matching = log1pexp(d.wrong(view(fake)) - d.right(view(fake)))
        return jnp.mean(game + 0.5 * matching + 0.3 * d.info_nce(view(fake)))

    loss = LossConfig(adversarial="rpgan", g_mismatch_weight=0.5, contrastive_g_weight=0.3)
    problem.check_g(loss, formula, augment=AugmentConfig(policies=POLICIES))


def test_how_sure_d_is_without_a_comparison(problem):
    """Of losses whose logits have a zero, it is how real the real images are."""
    loss = dataclasses.replace(NO_TEXT_TERMS, adversarial="nonsaturating")
    objective = Objective(G(), D(), loss, AugmentConfig(policies=("color",), ada_target=0.5))

    @jit
    def ours_and_logits(params):
        args = (problem.real, problem.fake, problem.batch, FixedDraw(), 1.0)
        seen = augment(problem.real, FixedDraw().keys("augment_d"), ("color",), 0.6)
        metrics = objective.d_loss(params, *args)[1]
        return metrics["real_sign"], Judge(params, problem.batch).right(seen)

    real_sign, logits = ours_and_logits(problem.d_params)
    assert float(real_sign) == pytest.approx(np.sign(np.asarray(logits)).mean())


@pytest.mark.parametrize("penalty", ["none", pytest.param("r1_r2", marks=pytest.mark.slow)])
def test_real_and_fake_images_are_moved_alike(problem, penalty):
    """Where fakes are the real images, D cannot tell them apart, however they are augmented."""
    loss = dataclasses.replace(NO_TEXT_TERMS, adversarial="rpgan", penalty=penalty)
    objective = Objective(G(), D(), loss, AugmentConfig(policies=POLICIES, ada_target=0.5))
    args = (problem.real, problem.real, problem.batch, FixedDraw(), 1.0)
    metrics = jit(lambda params: objective.d_loss(params, *args)[1])(problem.d_params)
    assert float(metrics["d_loss"]) == pytest.approx(np.log(2), rel=1e-12)
    assert float(metrics["real_sign"]) == 0


def test_p_is_that_of_the_step(problem):
    """Augmentation that never happens changes nothing."""
    loss = dataclasses.replace(NO_TEXT_TERMS, adversarial="rpgan")

    def formula(d, real, fake):
        return jnp.mean(log1pexp(d.right(fake) - d.right(real)))

    never = AugmentConfig(policies=POLICIES, p=1.0)
    metrics = problem.check_d(loss, formula, augment=never, cases=[({"augment_p": 0.0}, {})])
    assert "real_sign" not in metrics


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adversarial": "wasserstein"}, "loss.adversarial must be one of minimax"),
        ({"penalty": "gp"}, "loss.penalty must be one of none"),
        ({"mismatch_weight": -0.1}, "loss.mismatch_weight must be in"),
        ({"mismatch_fake_weight": 1.5}, "loss.mismatch_fake_weight must be in"),
        ({"mismatch_weight": 0.7, "mismatch_fake_weight": 0.5}, "sum must be at most 1, not 1.2"),
        ({"penalty_every_steps": 0}, "loss.penalty_every_steps"),
        ({"contrastive_negatives": -1}, "loss.contrastive_negatives must be >= 0, not -1"),
        ({"fd_eps": 0.0}, "loss.fd_eps must be > 0"),
        ({"g_mismatch_weight": -1.0}, "loss.g_mismatch_weight must be >= 0"),
        ({"contrastive_g_weight": -1.0}, "loss.contrastive_g_weight must be >= 0"),
        ({"gamma_end": -1.0}, "loss.gamma_end must be >= 0"),
    ],
)
def test_wrong_losses_name_the_field(changes, words):
    with pytest.raises(UserError, match=words):
        Objective(G(), D(), LossConfig(**changes))


def test_whole_shares_are_allowed():
    Objective(G(), D(), LossConfig(mismatch_weight=0.75, mismatch_fake_weight=0.25))


@pytest.mark.parametrize("which", ["d", "g"])
def test_contrast_needs_a_space(which):
    class Without(nn.Module):
        """A family that has no embeddings at all."""

    loss = LossConfig(**{f"contrastive_{which}_weight": 1.0})
    Objective(G(), D(), loss)
    for discriminator in (D(embed_dim=0), Without()):
        with pytest.raises(UserError, match=r"set model\.embed_dim"):
            Objective(G(), discriminator, loss)
        Objective(G(), discriminator, LossConfig())


def test_unknown_policies_are_refused():
    with pytest.raises(UserError, match=r"augment\.policies must be one of .* not 'blur'"):
        Objective(G(), D(), LossConfig(), AugmentConfig(policies=("color", "blur")))
