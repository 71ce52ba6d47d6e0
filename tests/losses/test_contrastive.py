import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan import collectives
from flaxgan.losses import info_nce
from flaxgan.training import parallel
from flaxgan.training.state import Batch

RNG = np.random.default_rng(0)
V, T = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
NEGATIVES = RNG.normal(0, 0.7, size=(10, 3))
IDS, NEGATIVE_IDS = np.array([4, -1, 7, 4, -1]), np.array([0, 4, 7, -1, 1, 2, 3, 4, 5, 6])
WITH_AND_WITHOUT = pytest.mark.parametrize("negatives", [None, NEGATIVES], ids=["batch", "more"])


def numpy_info_nce(v, t, negatives=None, ids=None, negative_ids=()):
    """One example at a time, by the definition: only images choose among the negatives.

    With ids an example chooses between itself and what has another id that is not negative.
    """
    texts = t if negatives is None else np.concatenate([t, negatives])
    all_ids = np.arange(len(texts)) if ids is None else np.concatenate([ids, negative_ids])
    loss, found = [], []
    for i in range(len(v)):
        choices = [i] + [
            j for j in range(len(texts)) if j != i and all_ids[j] not in (-1, all_ids[i])
        ]
        of_texts = np.array([np.exp(texts[j] @ v[i]) for j in choices])
        of_images = np.array([np.exp(v[j] @ t[i]) for j in choices if j < len(v)])
        both = -np.log(of_texts[0] / of_texts.sum()) - np.log(of_images[0] / of_images.sum())
        loss.append(0.0 if all_ids[i] == -1 else both / 2)
        found.append(float(all_ids[i] != -1 and of_texts.argmax() == 0))
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


@pytest.mark.parametrize(
    ("offset", "dtype"),
    [
        (0, jnp.float32),
        pytest.param(0, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(2**24, jnp.float32, marks=pytest.mark.slow),
        pytest.param(2**24, jnp.bfloat16, marks=pytest.mark.slow),
        (2**31 - 8, jnp.float32),
        (2**31 - 8, jnp.bfloat16),
    ],
)
@WITH_AND_WITHOUT
def test_equal_captions_are_no_wrong_choices(negatives, offset, dtype):
    """Ids that float32 and bfloat16 cannot hold are told apart all the same."""
    large, negative_large = (np.where(x < 0, x, x + offset) for x in (IDS, NEGATIVE_IDS))
    args = jax.tree.map(lambda x: jnp.asarray(x, dtype), (V + 2 * T, T, negatives))
    v, t, more = jax.tree.map(lambda x: np.asarray(x, np.float64), args)
    wanted, wanted_found = numpy_info_nce(
        v, t, more, IDS, () if negatives is None else NEGATIVE_IDS
    )
    plain, _ = numpy_info_nce(v, t, more)
    assert (wanted[[0, 2, 3]] < plain[[0, 2, 3]]).all()
    assert 0 < wanted_found.sum() < 5

    @jax.jit
    def ours(v, t, more):
        ids = None if negatives is None else jnp.asarray(negative_large, jnp.int32)
        return info_nce(
            *(v, t),
            text_ids=jnp.asarray(large, jnp.int32),
            negative_emb=more,
            negative_ids=ids,
        )

    loss, found = ours(*args)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5 if dtype == jnp.float32 else 0.1, atol=1e-6)
    np.testing.assert_array_equal(found, wanted_found)


@WITH_AND_WITHOUT
def test_ids_of_distinct_captions_change_nothing(negatives):
    ids = np.arange(15, dtype=np.int32)[::-1].copy()

    @jax.jit
    def both(v, t, negatives):
        more = None if negatives is None else ids[5:]
        with_ids = info_nce(v, t, text_ids=ids[:5], negative_emb=negatives, negative_ids=more)
        return info_nce(v, t, negative_emb=negatives), with_ids

    plain, with_ids = both(*jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (V, T, negatives)))
    np.testing.assert_array_equal(plain, with_ids)


def test_a_batch_of_one_caption_or_of_none_has_no_loss():
    """And no gradient, nor one that is not a number."""

    @jax.jit
    def ours(v, ids):
        loss, back, found = jax.vjp(lambda v: info_nce(v, T, text_ids=ids), v, has_aux=True)
        return loss, found, back(jnp.ones(5))[0]

    for ids in (np.zeros(5, np.int32), np.full(5, -1, np.int32)):
        loss, found, gradient = ours(V.astype(np.float32), ids)
        np.testing.assert_array_equal(loss, 0.0)
        np.testing.assert_array_equal(found, ids == 0)
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("ids", [None, IDS], ids=["distinct", "equal"])
@WITH_AND_WITHOUT
def test_gradients_against_finite_differences(negatives, ids):
    """Of images, captions and further captions."""
    weight = RNG.normal(size=5)
    args = (V, T) if negatives is None else (V, T, negatives)
    more = None if negatives is None or ids is None else NEGATIVE_IDS

    def total(v, t, negatives=None):
        return weight @ numpy_info_nce(v, t, negatives, ids, () if more is None else more)[0]

    def ours(v, t, negatives=None):
        loss, _ = info_nce(v, t, text_ids=ids, negative_emb=negatives, negative_ids=more)
        return jnp.asarray(weight) @ loss

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(ours, tuple(range(len(args)))))(*args)
    gradients = [np.asarray(gradient) for gradient in gradients]
    for which, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            above, below = [x.copy() for x in args], [x.copy() for x in args]
            above[which][place] += 1e-6
            below[which][place] -= 1e-6
            difference = (total(*above) - total(*below)) / 2e-6
            assert float(gradient[place]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("mode", parallel.MODES)
@pytest.mark.parametrize("devices", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_the_global_batch_is_compared_whatever_the_devices(mode, devices):
    """What one device holds is a wrong choice for all, and its gradient comes from all."""
    draw = np.random.default_rng(1)
    batch = Batch(
        images=draw.normal(size=(8, 6)).astype(np.float32),
        text=draw.normal(size=(8, 5)).astype(np.float32),
        negatives=draw.normal(0, 0.5, size=(24, 7)).astype(np.float32),
        text_ids=draw.integers(-1, 4, 8).astype(np.int32),  # equal ones on several devices
        negative_ids=draw.integers(-1, 40, 24).astype(np.int32),
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
                text_ids=batch.text_ids,
                negative_emb=batch.negatives @ params["negatives"],
                negative_ids=batch.negative_ids,
                axis_name=axis_name,
            )
            return loss.mean(), (loss.mean(), found.mean())

        return collectives.mean(jax.grad(loss, has_aux=True)(params), axis_name)

    expected = gradient, (loss, found) = jax.jit(step)(params, batch)
    wanted = numpy_info_nce(
        *(batch.images @ params["image"], batch.text @ params["text"]),
        batch.negatives @ params["negatives"],
        *(batch.text_ids, batch.negative_ids),
    )
    assert float(loss) == pytest.approx(wanted[0].mean(), rel=1e-5)
    assert float(found) == wanted[1].mean() > 0
    assert min(np.abs(g).max() for g in gradient.values()) > 1e-2
    on = jax.devices()[:devices]
    # these parameters are no train state, which mode "jit" is for: its formula without the rest
    compiled = jax.jit(step) if mode == "jit" else parallel.compile_step(step, mode, on)
    spread = compiled(
        jax.device_put(params, parallel.replicated_sharding(on)),
        parallel.shard_batch(batch, mode, on),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), spread, expected
    )


def test_extreme_scores_stay_finite():
    v = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    ours = jax.jit(lambda v, t: info_nce(v, t, negative_emb=-t)[0])
    assert np.isfinite(ours(v, -v)).all()
    np.testing.assert_allclose(ours(v, v), 0)


def test_wrong_shapes_are_refused():
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros((3, 2)), jnp.zeros((3, 4)))
    with pytest.raises(AssertionError):
        info_nce(jnp.zeros(3), jnp.zeros(3))
