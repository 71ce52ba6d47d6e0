import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan import collectives, parallel
from flaxgan.losses import Memory, info_nce
from flaxgan.state import Batch

RNG = np.random.default_rng(0)
V, T = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
MEMORY = Memory(RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)))


def numpy_info_nce(v, t, memory=None):
    """One example at a time, by the definition."""
    texts = t if memory is None else np.concatenate([t, memory.text_emb])
    images = v if memory is None else np.concatenate([v, memory.image_emb])
    loss, found = [], []
    for i in range(len(v)):
        of_texts, of_images = np.exp(texts @ v[i]), np.exp(images @ t[i])
        loss.append(-np.log(of_texts[i] / of_texts.sum()) / 2)
        loss[-1] -= np.log(of_images[i] / of_images.sum()) / 2
        found.append(float(of_texts.argmax() == i))
    return np.array(loss), np.array(found)


@pytest.mark.parametrize("memory", [None, MEMORY], ids=["batch", "memory"])
def test_values_against_numpy(memory):
    v = V + 2 * T  # near enough that some are found, fewer among more
    loss, found = numpy_info_nce(v, T, memory)
    assert found.sum() == (4 if memory is None else 1)
    v, t, memory = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (v, T, memory))
    contrast = jax.jit(lambda v, t: info_nce(v, t, memory=memory))(v, t)
    np.testing.assert_allclose(contrast.loss, loss, rtol=1e-5)
    np.testing.assert_array_equal(contrast.found, found)
    assert contrast.loss.dtype == contrast.found.dtype == jnp.float32
    np.testing.assert_array_equal(contrast.image_emb, v)
    np.testing.assert_array_equal(contrast.text_emb, t)


@pytest.mark.parametrize("memory", [None, MEMORY], ids=["batch", "memory"])
def test_gradients_against_finite_differences(memory):
    weight = RNG.normal(size=5)

    def total(v, t):
        return weight @ numpy_info_nce(v, t, memory)[0]

    with jax.enable_x64(True):
        gradients = jax.grad(
            lambda v, t: jnp.asarray(weight) @ info_nce(v, t, memory=memory).loss, (0, 1)
        )(jnp.asarray(V), jnp.asarray(T))
    for which, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            step = np.zeros((2, *V.shape))
            step[which][place] = 1e-6
            difference = (total(V + step[0], T + step[1]) - total(V - step[0], T - step[1])) / 2e-6
            assert float(gradient[place]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("mode", parallel.MODES)
@pytest.mark.parametrize("devices", [4, 8])
def test_the_global_batch_is_compared_whatever_the_devices(mode, devices):
    """Each example is a wrong choice for those of all devices, and its gradient comes from all."""
    draw = np.random.default_rng(1)
    batch = Batch(
        images=draw.normal(size=(8, 6)).astype(np.float32),
        text=draw.normal(size=(8, 5)).astype(np.float32),
    )
    memory = Memory(*draw.normal(size=(2, 4, 3)).astype(np.float32))
    params = {
        "image": draw.normal(size=(6, 3)).astype(np.float32),
        "text": draw.normal(size=(5, 3)).astype(np.float32),
    }

    def step(params, batch, *, axis_name=None):
        def loss(params):
            contrast = info_nce(
                batch.images @ params["image"],
                batch.text @ params["text"],
                memory=memory,
                axis_name=axis_name,
            )
            return contrast.loss.mean(), contrast

        gradient, contrast = jax.grad(loss, has_aux=True)(params)
        means = collectives.mean((gradient, contrast.loss.mean(), contrast.found.mean()), axis_name)
        return means, (contrast.image_emb, contrast.text_emb)

    (gradient, loss, found), embeddings = jax.jit(step)(params, batch)
    v, t = batch.images @ params["image"], batch.text @ params["text"]
    assert float(loss) == pytest.approx(numpy_info_nce(v, t, memory)[0].mean(), rel=1e-5)
    on = jax.devices()[:devices]
    spread = parallel.compile_step(step, mode, on)(
        jax.device_put(params, parallel.replicated_sharding(on)),
        parallel.shard_batch(batch, mode, on),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        spread,
        ((gradient, loss, found), embeddings),
    )


def test_memory_keeps_the_newest_in_front():
    def rows(*numbers):
        return jnp.array(numbers, jnp.float32)[:, None] * jnp.ones((1, 2))

    memory = Memory.empty(5, 2)
    for first in (1, 3, 5):
        memory = memory.push(rows(first, first + 1), -rows(first, first + 1))
        assert memory.image_emb.shape == memory.text_emb.shape == (5, 2)
    np.testing.assert_array_equal(memory.image_emb, rows(5, 6, 3, 4, 1))
    np.testing.assert_array_equal(memory.text_emb, -rows(5, 6, 3, 4, 1))
    small = Memory.empty(2, 2).push(rows(1, 2, 3), rows(4, 5, 6))
    np.testing.assert_array_equal(small.image_emb, rows(1, 2))
    np.testing.assert_array_equal(small.text_emb, rows(4, 5))
    np.testing.assert_array_equal(Memory.empty(2, 2).image_emb, 0)


def test_memory_is_constant():
    def total(v, t):
        memory = Memory.empty(4, 3).push(v, t)
        return sum(x.sum() for x in jax.tree.leaves(memory))

    for gradient in jax.grad(total, (0, 1))(jnp.asarray(V), jnp.asarray(T)):
        np.testing.assert_array_equal(gradient, 0)


def test_extreme_scores_stay_finite():
    v = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    assert np.isfinite(info_nce(v, -v).loss).all()
    np.testing.assert_allclose(info_nce(v, v).loss, 0)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros((3, 2)), jnp.zeros((3, 4)))
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros(3), jnp.zeros(3))
