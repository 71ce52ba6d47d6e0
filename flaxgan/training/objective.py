"""What D and G minimise, as functions of their parameters: where networks and losses meet."""

import dataclasses
from typing import Any, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flaxgan.config import AugmentConfig, Config, LossConfig
from flaxgan.config.rules import check
from flaxgan.errors import UserError
from flaxgan.losses import ADVERSARIAL, PENALTIES, adversarial, contrastive, imle, penalties
from flaxgan.losses.contrastive import Embeddings
from flaxgan.models.frozen import frozen_features
from flaxgan.text.conditioning import TextFeatures
from flaxgan.training import optim
from flaxgan.training.augment import augment
from flaxgan.training.state import Batch, Params

Metrics = dict[str, Array]


class Draw(Protocol):
    """Random numbers and constants of one step.

    Attributes:
      images_seen: `[]` before this step.
      augment_p: `[]` probability of each augmentation.
      axis_name: replicas over which the batch is spread, or None.
    """

    images_seen: Array
    augment_p: Array
    axis_name: str | None

    def keys(self, name: str) -> Array:
        """`[b]` keys of a named stream, one for each global example."""

    def normal(self, name: str) -> Array:
        """`[b, z]` standard normal noise of a named stream."""


@dataclasses.dataclass(frozen=True)
class Others:
    """The batch of which a part is worked on, for terms that compare all of it.

    Attributes:
      embeddings: of all parts, `[parts, …]`, constants.
      batch: all parts, `[parts, …]`.
      number: `[]` of the part.
    """

    embeddings: Embeddings
    batch: Batch
    number: Array

    def with_own(self, own: Embeddings) -> Embeddings:
        """Embeddings of the whole batch, of which those of this part are not constant."""
        merged = jax.tree.map(lambda x, y: x.at[self.number].set(y), self.embeddings, own)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), merged)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The two losses of a pair of networks.

    Attributes:
      generator, discriminator: see `flaxgan.models`.
      loss: which terms, with which weights.
      augment: what D sees of images.
    """

    generator: nn.Module
    discriminator: nn.Module
    loss: LossConfig
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        """Raises UserError for an unknown loss or a weight out of range."""
        check(Config(loss=self.loss, augment=self.augment), "loss", "augment")
        if self.uses_embeddings and not getattr(self.discriminator, "embed_dim", 0):
            raise UserError("loss.contrastive_… needs a space to compare in: set model.embed_dim")

    @property
    def uses_embeddings(self) -> bool:
        """Whether a contrastive term is on."""
        return self.loss.contrastive_d_weight > 0 or self.loss.contrastive_g_weight > 0

    @property
    def uses_frozen_features(self) -> bool:
        """Whether there is a second judge."""
        return self.loss.frozen_weight > 0 and hasattr(self.discriminator, "frozen_logits")

    def draw_images(self, g_params: Params, z: Array, batch: Batch) -> Array:
        """Fakes `[b, h, w, c]` for the batch's captions."""
        return self.generator.apply({"params": g_params}, z, batch.text)

    def d_loss(
        self,
        d_params: Params,
        real: Array,
        fake: Array,
        batch: Batch,
        draw: Draw,
        penalty_weight: float,
        others: Others | None = None,
    ) -> tuple[Array, Metrics]:
        """D's loss and scalars to log; `fake` is a constant.

        `others` stand for the rest of a batch of which this is a part.
        """
        loss, judge = self.loss, _Judge(self, d_params, draw)
        text = judge.encode_text(batch.text)
        gamma = optim.cosine(loss.gamma, loss.gamma_end, loss.gamma_decay_kimg)(
            draw.images_seen / 1000.0
        )
        kind = loss.penalty if penalty_weight else "none"
        of_real, of_fake = (
            _judge_with_penalty(judge, kind, name, images, text, gamma, loss)
            for name, images in (("d_real", real), ("d_fake", fake))
        )
        (real_penalty, real_logits, real_features) = of_real
        (fake_penalty, fake_logits, fake_features) = of_fake
        penalty = real_penalty + fake_penalty

        wrong_real = wrong_fake = None
        if loss.mismatch_weight > 0 or loss.mismatch_fake_weight > 0:
            wrong = judge.encode_text(batch.mismatched)
            if loss.mismatch_weight > 0:
                wrong_real = judge.logits(real_features, wrong)
            if loss.mismatch_fake_weight > 0:
                wrong_fake = judge.logits(fake_features, wrong)
        game = adversarial.discriminator_loss(
            loss.adversarial,
            real_logits,
            fake_logits,
            mismatched_logits=wrong_real,
            mismatch_weight=loss.mismatch_weight,
            mismatched_fake_logits=wrong_fake,
            mismatch_fake_weight=loss.mismatch_fake_weight,
        )
        chex.assert_equal_shape([game, penalty])
        total = (game + penalty_weight * penalty).mean()
        frozen_metrics: Metrics = {}
        if self.uses_frozen_features:
            frozen, frozen_metrics = self._frozen_d_loss(judge, real, fake, text)
            total += loss.frozen_weight * frozen
        metrics = frozen_metrics | {
            "moments": jnp.stack([_moments(real), _moments(fake)]),
            "d_loss": game.mean(),
            "penalty": penalty.mean(),
            "gamma": gamma,
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
        }
        if self.augment.ada_target > 0:
            certainty = ADVERSARIAL[loss.adversarial].certainty(real_logits, fake_logits)
            metrics["real_sign"] = jnp.sign(certainty).mean()
        if wrong_real is not None:
            metrics["mismatched_logit"] = wrong_real.mean()
        if loss.contrastive_d_weight > 0:
            own = judge.embeddings(real_features, text, batch)
            nce, nce_metrics = _contrast(own, batch, others, draw, "real")
            total, metrics = total + loss.contrastive_d_weight * nce, metrics | nce_metrics
        return total, metrics

    def g_loss(
        self,
        g_params: Params,
        d_params: Params,
        real: Array,
        batch: Batch,
        draw: Draw,
        others: Others | None = None,
    ) -> tuple[Array, Metrics]:
        """G's loss against a fixed D, and scalars to log; `others` as in `d_loss`."""
        loss, judge = self.loss, _Judge(self, d_params, draw)
        fake = self.draw_images(g_params, draw.normal("z_g"), batch)
        text = judge.encode_text(batch.text)
        fake_logits, features = judge(fake, text, "g_fake")
        real_logits = None
        if ADVERSARIAL[loss.adversarial].g_needs_real:
            real_logits, _ = judge(real, text, "g_real")
        game = adversarial.generator_loss(loss.adversarial, real_logits, fake_logits)
        metrics = {"g_loss": game.mean()}
        if loss.g_mismatch_weight > 0:
            wrong = judge.logits(features, judge.encode_text(batch.mismatched))
            game = game + loss.g_mismatch_weight * adversarial.matching_loss(fake_logits, wrong)
        total = game.mean()
        if loss.contrastive_g_weight > 0:
            own = judge.embeddings(features, text, batch)
            nce, nce_metrics = _contrast(own, batch, others, draw, "fake")
            total, metrics = total + loss.contrastive_g_weight * nce, metrics | nce_metrics
        if self.uses_frozen_features:
            frozen = self._frozen_g_loss(judge, real, fake, text)
            total += loss.frozen_weight * frozen
            metrics["frozen_g_loss"] = frozen
        if loss.imle_weight > 0:
            only = fake if loss.imle_noises == 1 else None
            imle_loss, imle_metrics = self._imle_loss(g_params, real, batch, draw, only)
            total, metrics = total + imle_loss, metrics | imle_metrics
        return total, metrics

    def d_loss_alone(
        self,
        d_params: Params,
        real: Array,
        batch: Batch,
        draw: Draw,
        others: Others | None = None,
    ) -> tuple[Array, Metrics]:
        """D's loss without a G: InfoNCE of real images alone; `others` as in `d_loss`."""
        own = _Judge(self, d_params, draw).embeddings_of(real, "d_real", batch)
        nce, metrics = _contrast(own, batch, others, draw, "real")
        return self.loss.contrastive_d_weight * nce, metrics | {"d_loss": nce}

    def g_loss_alone(
        self, g_params: Params, real: Array, batch: Batch, draw: Draw
    ) -> tuple[Array, Metrics]:
        """G's loss without a D: its IMLE term alone, which is conditional IMLE (Li et al. 2020)."""
        loss, metrics = self._imle_loss(g_params, real, batch, draw)
        return loss, metrics | {"g_loss": loss}

    def _imle_loss(
        self, g_params: Params, real: Array, batch: Batch, draw: Draw, only: Array | None = None
    ) -> tuple[Array, Metrics]:
        """The weighted distance `[]` of the nearest fakes, and scalars to log.

        `only`: fakes that are there already, where there is nothing to choose from.
        """
        loss = self.loss
        if only is None:
            distance = self._distance_of_nearest(g_params, real, batch, draw).mean()
        else:
            distance = imle.multiscale_l1(only, real).mean()
        schedule = optim.cosine(loss.imle_weight, loss.imle_weight_end, loss.imle_decay_kimg)
        return schedule(draw.images_seen / 1000.0) * distance, {"imle": distance}

    def _frozen_d_loss(
        self, judge: "_Judge", real: Array, fake: Array, text: TextFeatures | None
    ) -> tuple[Array, Metrics]:
        """Game and penalties `[]` of the second judge; images are constants here."""
        logits, penalty = {}, jnp.zeros(())
        for name, images in (("d_real", real), ("d_fake", fake)):
            features = jax.lax.stop_gradient(frozen_features(judge.augmented(images, name)))
            found = penalties.features_penalty(
                lambda maps: judge.frozen_logits(maps, text),
                features,
                gamma=self.loss.frozen_gamma,
            )
            penalty, logits[name] = penalty + found[0].mean(), found[1]
        game = adversarial.discriminator_loss(
            self.loss.adversarial, logits["d_real"].reshape(-1), logits["d_fake"].reshape(-1)
        )
        return game.mean() + penalty, {
            "frozen_d_loss": game.mean(),
            "frozen_penalty": penalty,
            "frozen_gap": (logits["d_real"] - logits["d_fake"]).mean(),
        }

    def _frozen_g_loss(
        self, judge: "_Judge", real: Array, fake: Array, text: TextFeatures | None
    ) -> Array:
        """G's game `[]` against the second judge."""
        fake_logits, real_logits = (
            judge.frozen_logits(frozen_features(judge.augmented(images, name)), text).reshape(-1)
            for name, images in (("g_fake", fake), ("g_real", real))
        )
        return adversarial.generator_loss(self.loss.adversarial, real_logits, fake_logits).mean()

    def _distance_of_nearest(
        self, g_params: Params, real: Array, batch: Batch, draw: Draw
    ) -> Array:
        """`[b]`: how far the nearest of several fakes is from its real image."""
        noises = jnp.stack([draw.normal(f"z_imle{i}") for i in range(self.loss.imle_noises)])
        if len(noises) == 1:
            return imle.multiscale_l1(self.draw_images(g_params, noises[0], batch), real)
        constants = jax.lax.stop_gradient(g_params)
        # captions are not mapped over: they are encoded once
        candidates = jax.vmap(lambda z: self.draw_images(constants, z, batch))(noises)
        chosen, _ = imle.nearest(candidates, real)
        z = jnp.take_along_axis(noises, chosen[None, :, None], axis=0)[0]
        return imle.multiscale_l1(self.draw_images(g_params, z, batch), real)

    def real_embeddings(
        self, d_params: Params, real: Array, batch: Batch, draw: Draw
    ) -> Embeddings:
        """What `d_loss` compares, for `Others`."""
        return _Judge(self, d_params, draw).embeddings_of(real, "d_real", batch)

    def fake_embeddings(
        self, g_params: Params, d_params: Params, real: Array, batch: Batch, draw: Draw
    ) -> Embeddings:
        """What `g_loss` compares, for `Others`."""
        fake = self.draw_images(g_params, draw.normal("z_g"), batch)
        return _Judge(self, d_params, draw).embeddings_of(fake, "g_fake", batch)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """D with its parameters, looking through the augmentation."""

    objective: Objective
    params: Params
    draw: Draw

    def _apply(self, *args: Any, method: str) -> Any:
        return self.objective.discriminator.apply({"params": self.params}, *args, method=method)

    def encode_text(self, text: Any) -> TextFeatures | None:
        return self._apply(text, method="encode_text")

    def logits(self, features: Any, text: TextFeatures | None) -> Array:
        return self._apply(features, text, method="logits")

    def embeddings(self, features: Any, text: TextFeatures, batch: Batch) -> Embeddings:
        negatives = None
        if batch.negatives is not None:
            negatives = self._apply(self.encode_text(batch.negatives), method="embed_text")
        return Embeddings(
            images=self._apply(features, method="embed_image"),
            texts=self._apply(text, method="embed_text"),
            negatives=negatives,
        )

    def embeddings_of(self, images: Array, name: str, batch: Batch) -> Embeddings:
        text = self.encode_text(batch.text)
        return self.embeddings(self(images, text, name)[1], text, batch)

    def __call__(self, images: Array, text: TextFeatures | None, name: str) -> tuple[Array, Any]:
        """Logits `[b]` and the image features that they were read from.

        `name` is the stream of dropout; augmentation treats real and fake images alike.
        """
        images = self.augmented(images, name)
        picture = () if text is None or text.picture is None else (text.picture,)
        features = self._apply(images, self.draw.keys(name), *picture, method="image_features")
        return self.logits(features, text), features

    def augmented(self, images: Array, name: str) -> Array:
        """Images as D sees them in the step of the network that `name` begins with."""
        policies = self.objective.augment.policies
        if not policies:
            return images
        keys = self.draw.keys(f"augment_{name[0]}")
        return augment(images, keys, policies, self.draw.augment_p)

    def frozen_logits(self, features: tuple[Array, ...], text: TextFeatures | None) -> Array:
        return self._apply(features, text, method="frozen_logits")


def _contrast(
    own: Embeddings, batch: Batch, others: Others | None, draw: Draw, name: str
) -> tuple[Array, Metrics]:
    """InfoNCE `[]` and scalars to log.

    Of a part of a batch it is that of the whole batch, times the number of parts: the gradients
    with respect to the parts' embeddings add up, where those of means over parts are averaged.
    """
    ids, parts = (batch.text_ids, batch.negative_ids), 1
    if others is not None:
        parts = len(others.embeddings.images)
        ids = (others.batch.text_ids, others.batch.negative_ids)
        own, ids = others.with_own(own), jax.tree.map(lambda x: x.reshape(-1), ids)
    nce, found = contrastive.info_nce(
        own.images,
        own.texts,
        text_ids=ids[0],
        negative_emb=own.negatives,
        negative_ids=ids[1],
        axis_name=draw.axis_name,
    )
    return parts * nce.mean(), {f"contrastive_{name}": nce.mean(), f"found_{name}": found.mean()}


def with_diversity(metrics: Metrics) -> Metrics:
    """Replaces averaged `moments` by how much real images, and fakes, differ from one another.

    That is the standard deviation over the batch of each pixel of small copies, averaged over
    pixels, in units of the images' range [-1, 1].
    """
    first, second = jnp.moveaxis(metrics.pop("moments"), 1, 0)
    sd = jnp.sqrt(jnp.maximum(second - first**2, 0.0)).mean(axis=(1, 2, 3))
    return metrics | {"real_diversity": sd[0], "fake_diversity": sd[1]}


def _moments(images: Array) -> Array:
    """`[2, s, s, c]` means of pixels and of their squares, of copies of at most 8 x 8 pixels."""
    b, h, w, c = images.shape
    rows, cols = (max(n for n in range(1, 9) if size % n == 0) for size in (h, w))
    small = images.reshape(b, rows, h // rows, cols, w // cols, c).mean(axis=(2, 4))
    return jnp.stack([small.mean(axis=0), (small**2).mean(axis=0)])


def _judge_with_penalty(
    judge: _Judge,
    kind: str,
    name: str,
    images: Array,
    text: TextFeatures | None,
    gamma: Array,
    loss: LossConfig,
) -> penalties.Penalty:
    """Penalty `[b]`, logits `[b]` and features of real ("d_real") or fake images."""

    def d_fn(images: Array, sentence: Array | None) -> tuple[Array, Any]:
        return judge(images, text and text.replace(sentence=sentence), name)

    return PENALTIES[kind](
        d_fn,
        images,
        text and text.sentence,
        real=name == "d_real",
        options=loss,
        gamma=gamma,
        keys=lambda: judge.draw.keys(f"fd_{name}"),
    )
