"""The PyTorch peers do the same work: equal pictures, losses and gradients from equal weights."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import works
from flaxgan.models import build_models
from flaxgan.text.conditioning import Text
from flaxgan.training.objective import Objective
from flaxgan.training.state import Batch

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

B, NEGATIVES, NOISES = 4, 2, 3
SMALL = {
    "mlp28": {},
    "dfgan64": {"g_channels": 4, "d_channels": 4},
    "flagship": {"g_channels": 16, "d_channels": 16, "w_dim": 12, "embed_dim": 10},
}


@dataclasses.dataclass
class Draw:
    """Noise that both sides read; no dropout."""

    noise: dict[str, np.ndarray]
    images_seen: Any = 0.0
    augment_p: Any = 0.0
    axis_name: None = None

    def keys(self, name):
        return None

    def normal(self, name):
        return jnp.asarray(self.noise[name])


@functools.cache
def case_of(work):
    """Config, objective, parameters, batch, images in [-1, 1], and noise."""
    config = works.config_of(work)
    loss = config.loss
    if work == "flagship":
        loss = dataclasses.replace(loss, contrastive_negatives=NEGATIVES, imle_noises=NOISES)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, **SMALL[work]), loss=loss
    )
    rng = np.random.default_rng(0)
    side, channels, z_dim = config.data.resolution, config.data.channels, config.model.z_dim
    real, fake = rng.uniform(-1, 1, (2, B, side, side, channels)).astype(np.float32)
    names = ("z_g", *(f"z_imle{i}" for i in range(NOISES)))
    noise = {name: rng.normal(size=(B, z_dim)).astype(np.float32) for name in names}
    batch = Batch(images=None, **texts_of(work, config, rng))
    generator, discriminator = build_models(config, sentence_dim=works.SENTENCE_DIM)
    g_params = params_of(generator.init, rng, noise["z_g"], batch.text)
    d_params = params_of(discriminator.init, rng, real, batch.text, method="score")
    objective = Objective(generator, discriminator, loss)
    return config, objective, g_params, d_params, batch, real, fake, noise


def texts_of(work, config, rng):
    if work == "mlp28":
        return {}
    if work == "dfgan64":
        own, wrong = rng.normal(size=(2, B, works.SENTENCE_DIM)).astype(np.float32)
        return {"text": Text(sentence_emb=own), "mismatched": Text(sentence_emb=wrong)}
    t = config.text.max_tokens
    rows = B * (1 + NEGATIVES)
    words = rng.normal(size=(rows, t, works.WORD_DIM)).astype(np.float32)
    mask = np.arange(t) < rng.integers(2, t, rows)[:, None]
    ids = np.arange(rows, dtype=np.int32)
    ids[1] = ids[-1] = 0  # equal captions are left out of each other's sums
    return {
        "text": Text(token_emb=words[:B], mask=mask[:B]),
        "negatives": Text(token_emb=words[B:], mask=mask[B:]),
        "text_ids": ids[:B],
        "negative_ids": ids[B:],
    }


def params_of(init, rng, *args, **kwargs):
    """Random everywhere, also where layers start at zero, of a size that keeps values near 1."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **kwargs))["params"]

    def random(x):
        size = 0.8 / np.sqrt(np.prod(x.shape[:-1])) if len(x.shape) > 1 else 0.3
        return rng.normal(0, size, x.shape).astype(np.float32)

    return jax.tree.map(random, shapes)


def nchw(images):
    return torch.from_numpy(np.asarray(images).transpose(0, 3, 1, 2).copy())


def peers_of(work):
    """G, D, `draw(z)`, `d_loss()` and `g_loss()` of PyTorch with flaxgan's parameters."""
    from benchmarks.peers import bundled, dfgan, mlp, r3gan
    from benchmarks.peers.from_flax import state_dict

    config, _, g_params, d_params, batch, real, fake, noise = case_of(work)
    z, real, fake = torch.from_numpy(noise["z_g"]), nchw(real), nchw(fake)
    side, model = config.data.resolution, config.model
    if work == "mlp28":
        g, d = mlp.Generator(model.z_dim, side**2), mlp.Discriminator(side**2).eval()
        real, fake = real.flatten(1), fake.flatten(1)
        draw = lambda: g(z).view(-1, 1, side, side)  # noqa: E731
        d_loss = lambda: mlp.d_loss(d, real, fake)  # noqa: E731
        g_loss = lambda: mlp.g_loss(d, g(z))  # noqa: E731
    elif work == "dfgan64":
        size = works.SENTENCE_DIM
        g = dfgan.Generator(side, model.g_channels, model.z_dim, size, model.output)
        d = dfgan.Discriminator(side, model.d_channels, size)
        own, wrong = (
            torch.from_numpy(text.sentence_emb) for text in (batch.text, batch.mismatched)
        )
        draw = lambda: g(z, own)  # noqa: E731
        d_loss = lambda: dfgan.d_loss(d, real, fake, own, wrong)  # noqa: E731
        g_loss = lambda: dfgan.g_loss(d, g(z, own), own)  # noqa: E731
    else:
        sizes = bundled.sizes_of(config)
        g, d = r3gan.Generator(sizes), r3gan.Discriminator(sizes)
        words, mask, ids = (
            torch.from_numpy(np.concatenate(pair))
            for pair in (
                (batch.text.token_emb, batch.negatives.token_emb),
                (batch.text.mask, batch.negatives.mask),
                (batch.text_ids, batch.negative_ids),
            )
        )
        captions = r3gan.Captions(words, mask, ids)
        candidates = torch.from_numpy(np.stack([noise[f"z_imle{i}"] for i in range(NOISES)]))
        loss = config.loss
        weights = (loss.contrastive_g_weight, loss.imle_weight)
        draw = lambda: g(z, words[:B], mask[:B])  # noqa: E731
        d_loss = lambda: r3gan.d_loss(d, real, fake, captions, loss.gamma)  # noqa: E731
        g_loss = lambda: r3gan.g_loss(g, d, real, z, candidates, captions, weights)  # noqa: E731
    g.load_state_dict(state_dict(g_params))
    d.load_state_dict(state_dict(d_params))
    return g, d, draw, d_loss, g_loss


@pytest.mark.parametrize("work", works.TRAINING)
def test_peer_draws_the_same(work):
    _, objective, g_params, _, batch, _, _, noise = case_of(work)
    ours = objective.draw_images(g_params, noise["z_g"], batch)
    theirs = peers_of(work)[2]().detach().numpy().transpose(0, 2, 3, 1)
    assert np.std(theirs) > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("network", ["d", "g"])
@pytest.mark.parametrize("work", works.TRAINING)
def test_peer_has_the_same_losses_and_gradients(work, network):
    from benchmarks.peers.from_flax import state_dict

    _, objective, g_params, d_params, batch, real, fake, noise = case_of(work)
    g, d, _, d_loss, g_loss = peers_of(work)
    draw = Draw(noise)
    if network == "d":
        module, theirs = d, d_loss()

        def loss(params):
            return objective.d_loss(params, real, fake, batch, draw, 1.0)[0]

        params = d_params
    else:
        module, theirs = g, g_loss()

        def loss(params):
            return objective.g_loss(params, d_params, real, batch, draw)[0]

        params = g_params
    theirs.backward()
    ours, gradients = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)
    found = state_dict(gradients)
    gaps = sum((found[k] - p.grad).square().sum() for k, p in module.named_parameters())
    size = sum(p.grad.square().sum() for p in module.parameters())
    assert size > 0
    assert gaps.sqrt() < 1e-5 * size.sqrt()


def test_peer_draws_the_bundled_model_from_prompts():
    """Tokenizer, e5, generator: one level of 255 is what rounding may move."""
    pytest.importorskip("tokenizers")
    import flaxgan
    from benchmarks.peers import bundled

    prompts = [works.PROMPT, "a bald woman"]
    sampler = flaxgan.load(works.MODEL)
    z = np.random.default_rng(0).normal(size=(2, sampler.config.model.z_dim)).astype(np.float32)
    ours = np.concatenate(list(sampler.batches(z, sampler.encode(prompts))))
    draw = bundled.load(works.MODEL)
    theirs = draw.pictures(*draw.encode(prompts), torch.from_numpy(z))
    gap = np.abs(ours.astype(int) - theirs.astype(int))
    assert gap.max() <= 1
    assert gap.mean() < 0.01
