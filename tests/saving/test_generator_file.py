"""A generator in one file: what comes back, and what is refused."""

import json
import struct

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from flaxgan.errors import UserError
from flaxgan.saving.generator_file import (
    DTYPES,
    read_generator,
    read_header,
    read_params,
    write_network,
)
from flaxgan.text.conditioning import TextStats

HEADER = {"config": "{}", "step": 7}


def item(scale=1.0):
    rng = np.random.default_rng(0)

    def values(*shape):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    return {
        "params": {
            "from_z": {"kernel": values(3, 5), "bias": values(5)},
            "from_z.2": values(2),  # the tree's order is not the alphabet's: "." is before "/"
            "gamma": values(),
        },
        "text_stats": TextStats(mean=values(4), sd=values(4)),
    }


def abstract(tree):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, np.float32, sharding=device), tree)


@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_comes_back(dtype, tmp_path):
    path = tmp_path / "new" / "a.safetensors"
    write_network(path, item(), HEADER, dtype=dtype)
    assert HEADER.items() <= read_header(path).items()
    back = read_generator(path, abstract(item()))
    assert jax.tree.structure(back) == jax.tree.structure(item())
    assert {leaf.dtype for leaf in jax.tree.leaves(back)} == {np.dtype(np.float32)}
    assert {leaf.device for leaf in jax.tree.leaves(back)} == {jax.devices()[1]}
    # by what NumPy rounds to; statistics are never rounded
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), item()["params"])
    jax.tree.map(np.testing.assert_array_equal, back["params"], rounded)
    jax.tree.map(np.testing.assert_array_equal, back["text_stats"], item()["text_stats"])


def test_the_file_is_plain_safetensors(tmp_path):
    """Read by the format's definition: length, JSON, bytes."""
    path = tmp_path / "a.safetensors"
    write_network(path, item(), HEADER, dtype="bfloat16")
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert set(header) == {
        "__metadata__",
        "params/from_z/bias",
        "params/from_z/kernel",
        "params/from_z.2",
        "params/gamma",
        "text_stats/mean",
        "text_stats/sd",
    }
    entry = header["params/from_z/kernel"]
    assert (entry["dtype"], entry["shape"]) == ("BF16", [3, 5])
    start, end = (8 + length + at for at in entry["data_offsets"])
    np.testing.assert_array_equal(
        np.frombuffer(data[start:end], ml_dtypes.bfloat16).reshape(3, 5),
        item()["params"]["from_z"]["kernel"].astype(ml_dtypes.bfloat16),
    )


def test_the_same_input_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    write_network(paths[0], item(), {"config": "{}", "step": 7}, dtype="float16")
    reordered = dict(reversed(item().items()))
    write_network(paths[1], reordered, {"step": 7, "config": "{}"}, dtype="float16")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_mode & 0o777 == 0o644
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (7e4, "float16", "params/gamma is too large for float16: use --dtype bfloat16"),
        (3.4e38, "bfloat16", "params/gamma is too large for bfloat16: use --dtype float32"),
        (np.nan, "float32", "params/gamma is not finite"),
        (-np.inf, "float16", "params/gamma is not finite"),
    ],
)
def test_what_the_dtype_does_not_hold_is_refused(value, dtype, words, tmp_path):
    broken = item()
    broken["params"]["gamma"] = np.float32(value)
    with pytest.raises(UserError, match=words):
        write_network(tmp_path / "a.safetensors", broken, HEADER, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_the_largest_float16_is_kept(tmp_path):
    largest = item()
    largest["params"]["gamma"] = np.float32(65504)
    write_network(tmp_path / "a.safetensors", largest, HEADER, dtype="float16")
    back = read_generator(tmp_path / "a.safetensors", abstract(largest))
    assert back["params"]["gamma"] == 65504


def test_a_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "a.safetensors"
    write_network(path, item(), HEADER, dtype="float16")
    old = path.read_bytes()
    with pytest.raises(UserError, match=r"exists.*--overwrite"):
        write_network(path, item(2.0), HEADER, dtype="float16")
    assert path.read_bytes() == old
    write_network(path, item(2.0), HEADER, dtype="float16", overwrite=True)
    assert path.read_bytes() != old


def test_nowhere_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_network(tmp_path / "file" / "a.safetensors", item(), HEADER, dtype="float16")
    with pytest.raises(UserError, match=r"must end in \.safetensors, not a\.npz"):
        write_network(tmp_path / "a.npz", item(), HEADER, dtype="float16")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_network(
            tmp_path / "folder.safetensors", item(), HEADER, dtype="float16", overwrite=True
        )
    assert len(list(tmp_path.iterdir())) == 2


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    write_network(path, item(), HEADER, dtype="float16")
    data = path.read_bytes()
    for length in {0, 4, 8, 50, len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match="damaged"):
            read_header(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    write_network(path, item(), HEADER, dtype="float16")
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match="checksum differs"):
        read_generator(path, abstract(item()))


def test_a_name_that_has_changed_is_noticed(tmp_path):
    """train.py --init-from takes what matches by name, and would leave the rest fresh."""
    path = tmp_path / "a.safetensors"
    write_network(path, item(), HEADER, dtype="float16")
    path.write_bytes(path.read_bytes().replace(b"from_z", b"from_y"))
    with pytest.raises(UserError, match="checksum differs"):
        read_params(path)


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "a.safetensors"
    for metadata in (None, {"format": "pt"}, {"flaxgan_generator": "{}"}):
        safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, path, metadata)
        with pytest.raises(UserError, match=r"holds no generator.*flaxgan export"):
            read_header(path)
    path.write_text("hello, this is no tensor")
    with pytest.raises(UserError, match="damaged, or no safetensors file"):
        read_header(path)
    with pytest.raises(UserError, match=r"cannot read .*none\.safetensors"):
        read_header(tmp_path / "none.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match=r"folder\.safetensors"):
        read_header(tmp_path / "folder.safetensors")


def without_bias(tree):
    del tree["params"]["from_z"]["bias"]


def with_bias(tree):
    tree["params"]["bias"] = np.zeros(3, np.float32)


def wider(tree):
    tree["params"]["from_z"]["bias"] = np.zeros(6, np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_bias, "the model has no params/from_z/bias"),
        (with_bias, "params/bias is missing"),
        (wider, r"params/from_z/bias is \[5\], not \[6\]"),
    ],
)
def test_another_model_is_refused(change, words, tmp_path):
    write_network(tmp_path / "a.safetensors", item(), HEADER, dtype="float32")
    other = item()
    change(other)
    with pytest.raises(UserError, match=words):
        read_generator(tmp_path / "a.safetensors", abstract(other))
