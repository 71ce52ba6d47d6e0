"""Digests: any change is seen, however an array is cut into shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxgan.saving import digests as module
from flaxgan.saving.digests import digest, digests


def array(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.uint8, np.int32, np.float64])
def test_any_bit_and_any_exchange_of_two_values_is_seen(dtype):
    x = (100 * array((3, 5), np.float64)).astype(dtype)
    before = digest(x)
    assert before == digest(x.copy()) == digest(np.asfortranarray(x))
    for place in range(x.nbytes):
        changed = bytearray(x.tobytes())
        changed[place] ^= 1 << place % 8
        assert digest(np.frombuffer(bytes(changed), x.dtype).reshape(x.shape)) != before
    for order in ([1, 0, 2], [0, 2, 1]):
        assert digest(x[order]) != before
    assert digest(x[:, ::-1]) != before


def test_scalars_and_empty_arrays_have_one():
    assert digest(np.float32(3)) != digest(np.float32(4))
    assert digest(np.zeros((0, 4))) == 0


def test_large_arrays_are_read_in_pieces(monkeypatch):
    x = array((40, 6))
    whole = digest(x)
    monkeypatch.setattr(module, "BLOCK", 12)
    assert digest(x) == whole


@pytest.mark.parametrize("spec", [("a", None), (None, "a"), ("a", "b"), ("b", None), ()])
def test_shards_add_up_to_the_digest_of_the_whole(spec):
    """Along either axis or both, and where several devices have the same part."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    x = array((8, 12))
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    assert digests({"x": spread}) == {"x": digest(x)}
