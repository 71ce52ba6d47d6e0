import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan import collectives, parallel
from flaxgan.losses import info_nce
from flaxgan.state import Batch

RNG = np.random.default_rng(0)
V, T = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
NEGATIVES = RNG.normal(0, 0.7, size=(10, 3))
WITH_AND_WITHOUT = pytest.mark.parametrize("negatives", [None, NEGATIVES], ids=["batch", "more"])


def numpy_info_nce(v, t, negatives=None):
    """One example at a time, by the definition: only images choose among the negatives."""
    texts = t if negatives is None else np.concatenate([t, negatives])
    loss, found = [], []
    for i in range(len(v)):
        of_texts, of_images = np.exp(texts @ v[i]), np.exp(v @ t[i])
        loss.append(-np.log(of_texts[i] / of_texts.sum()) / 2)
        loss[-1] -= np.log(of_images[i] / of_images.sum()) / 2
        found.append(float(of_texts.argmax() == i))
    return np.array(loss), np.array(found)


@WITH_AND_WITHOUT
def test_values_against_numpy(negatives):
    v = V + 2 * T  # near enough that some are found, fewer among more
    wanted, wanted_found = numpy_info_nce(v, T, negatives)
    assert wanted_found.sum() == (4 if negatives is None else 3)
    v, t, negatives = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (v, T, negatives))
    loss, found = jax.jit(lambda *args: info_nce(*args[:2], negative_emb=args[2]))(v, t, negatives)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_array_equal(found, wanted_found)
    assert loss.dtype == found.dtype == jnp.float32


@WITH_AND_WITHOUT
def test_gradients_against_finite_differences(negatives):
    """Of images, captions and further captions."""
    weight = RNG.normal(size=5)
    args = (V, T) if negatives is None else (V, T, negatives)

    def total(*args):
        return weight @ numpy_info_nce(*args)[0]

    def ours(v, t, negatives=None):
        return jnp.asarray(weight) @ info_nce(v, t, negative_emb=negatives)[0]

    with jax.enable_x64(True):
        gradients = jax.grad(ours, tuple(range(len(args))))(*map(jnp.asarray, args))
    for which, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            above, below = [x.copy() for x in args], [x.copy() for x in args]
            above[which][place] += 1e-6
            below[which][place] -= 1e-6
            difference = (total(*above) - total(*below)) / 2e-6
            assert float(gradient[place]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("mode", parallel.MODES)
@pytest.mark.parametrize("devices", [4, 8])
def test_the_global_batch_is_compared_whatever_the_devices(mode, devices):
    """What one device holds is a wrong choice for all, and its gradient comes from all."""
    draw = np.random.default_rng(1)
    batch = Batch(
        images=draw.normal(size=(8, 6)).astype(np.float32),
        text=draw.normal(size=(8, 5)).astype(np.float32),
        negatives=draw.normal(0, 0.5, size=(24, 7)).astype(np.float32),
    )
    # of its own, so that its gradient is that of the negatives alone
    params = {
        name: draw.normal(size=(width, 3)).astype(np.float32)
        for name, width in (("image", 6), ("text", 5), ("negatives", 7))
    }

    def step(params, batch, *, axis_name=None):
        def loss(params):
            loss, found = info_nce(
                batch.images @ params["image"],
                batch.text @ params["text"],
                negative_emb=batch.negatives @ params["negatives"],
                axis_name=axis_name,
            )
            return loss.mean(), (loss.mean(), found.mean())

        return collectives.mean(jax.grad(loss, has_aux=True)(params), axis_name)

    expected = gradient, (loss, found) = jax.jit(step)(params, batch)
    wanted = numpy_info_nce(
        *(batch.images @ params["image"], batch.text @ params["text"]),
        batch.negatives @ params["negatives"],
    )
    assert float(loss) == pytest.approx(wanted[0].mean(), rel=1e-5)
    assert float(found) == wanted[1].mean() > 0
    assert min(np.abs(g).max() for g in gradient.values()) > 1e-2
    on = jax.devices()[:devices]
    spread = parallel.compile_step(step, mode, on)(
        jax.device_put(params, parallel.replicated_sharding(on)),
        parallel.shard_batch(batch, mode, on),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), spread, expected
    )


def test_extreme_scores_stay_finite():
    v = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    assert np.isfinite(info_nce(v, -v, negative_emb=v)[0]).all()
    np.testing.assert_allclose(info_nce(v, v, negative_emb=-v)[0], 0)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros((3, 2)), jnp.zeros((3, 4)))
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros(3), jnp.zeros(3))
