"""How batches reach the devices; mappings of the step are in test_step.py."""

import jax
import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.training import parallel
from flaxgan.training.state import Batch


def batches(count, asked):
    for k in range(count):
        asked.append(k)
        yield Batch(images=np.full((8, 2, 2, 1), k, np.uint8))


@pytest.mark.parametrize("mode", parallel.MODES)
def test_batches_come_in_order_one_ahead_and_spread_over_the_devices(mode):
    devices, asked = jax.devices()[:4], []
    stream = parallel.shard_ahead(batches(5, asked), mode, devices)
    assert not asked
    for k in range(5):
        images = next(stream).images
        assert asked == list(range(min(k + 2, 5)))
        assert images.shape == ((4, 2, 2, 2, 1) if mode == "pmap" else (8, 2, 2, 1))
        assert images.sharding.device_set == set(devices)
        assert images.addressable_shards[0].data.size == images.size // 4
        assert (np.asarray(images) == k).all()
    assert next(stream, None) is None


def test_mapping_a_batch_that_came_ahead_moves_nothing():
    devices = jax.devices()[:4]
    state = jax.device_put(np.float32(1), parallel.replicated_sharding(devices))
    mapped = parallel.compile_step(
        lambda state, batch, axis_name: (
            state + jax.lax.psum(batch.images.sum(dtype="float32"), axis_name),
            {},
        ),
        "pmap",
        devices,
    )
    first, second = parallel.shard_ahead(batches(2, []), "pmap", devices)
    state, _ = mapped(state, first)
    with jax.transfer_guard("disallow"):
        state, _ = mapped(state, second)
    assert float(state) == 1 + 8 * 4


def test_an_uneven_batch_is_refused():
    stream = parallel.shard_ahead(batches(1, []), "pmap", jax.devices()[:3])
    with pytest.raises(UserError, match="batch size 8 does not divide by 3 devices"):
        next(stream)
