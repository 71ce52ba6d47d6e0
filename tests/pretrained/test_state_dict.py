import collections
import hashlib
import io
import pickle
import pickletools
import struct
import sys
import time
import zipfile

import numpy as np
import pytest

from flaxgan.errors import UserError
from flaxgan.pretrained import state_dict
from flaxgan.pretrained.state_dict import read_state_dict

MAGIC = state_dict.LEGACY_MAGIC
VALUES = np.arange(12, dtype=np.float32)


class Reference:
    """Pickles as a persistent id."""

    def __init__(self, *items):
        self.items = items


class Called:
    """Pickles as a call of a global, which may not exist here."""

    def __init__(self, name, *args):
        self.name, self.args = name, args


class Writer(pickle._Pickler):
    """Writes what torch.save writes, and what it never would, without torch."""

    def persistent_id(self, obj):
        return obj.items if isinstance(obj, Reference) else None

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, Called):
            return super().save(obj, save_persistent_id)
        self.save_name(obj.name)
        self.save(obj.args)
        self.write(pickle.REDUCE)
        return None

    def save_name(self, name):
        module, _, last = name.rpartition(".")
        if self.proto >= 4:
            self.save(module)
            self.save(last)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{last}\n".encode())


class Name:
    """Pickles as a global itself."""

    def __init__(self, name):
        self.name = name


Writer.dispatch = {**pickle._Pickler.dispatch, Name: lambda self, obj: self.save_name(obj.name)}


def dumps(obj, protocol=2):
    file = io.BytesIO()
    Writer(file, protocol).dump(obj)
    return file.getvalue()


def storage(key="0", numel=12, kind="torch.FloatStorage", extra=()):
    return Reference("storage", Name(kind), key, "cpu", numel, *extra)


def tensor(offset=0, shape=(3, 4), stride=(4, 1), **kwargs):
    rebuild = "torch._utils._rebuild_tensor_v2"
    hooks = collections.OrderedDict()
    return Called(rebuild, storage(**kwargs), offset, shape, stride, False, hooks)


def write_zip(path, data, storages, order=sys.byteorder, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("any/data.pkl", data)
        archive.writestr("any/byteorder", order)
        for key, values in storages.items():
            archive.writestr(f"any/data/{key}", values)
    return path


def write_legacy(path, data, storages, numel=12):
    parts = [dumps(MAGIC), dumps(1001), dumps({"little_endian": sys.byteorder == "little"}), data]
    parts.append(dumps(list(storages)))
    for values in storages.values():
        parts += [struct.pack("=q", numel), values]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(params=["zip", "legacy"])
def write(request, tmp_path):
    """Writes a pickle and the storage "0" in either format."""

    def write(data):
        writer = write_zip if request.param == "zip" else write_legacy
        return writer(tmp_path / "a.pth", data, {"0": VALUES.tobytes()})

    return write


@pytest.mark.parametrize("protocol", [2, 4])
def test_strided_views_of_one_storage(write, protocol):
    views = {
        "whole": tensor(),
        "transposed": tensor(0, (4, 3), (1, 4)),
        "part": tensor(5, (2,), (4,)),
        "scalar": tensor(7, (), ()),
        "empty": tensor(12, (0, 3), (3, 1)),
        "repeated": tensor(3, (4,), (0,)),
        "parameter": Called("torch._utils._rebuild_parameter", tensor(), True, {}),
    }
    path = write(dumps(views, protocol))
    got, sha256 = read_state_dict(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    want = {
        "whole": VALUES.reshape(3, 4),
        "transposed": VALUES.reshape(3, 4).T,
        "part": VALUES[5::4][:2],
        "scalar": VALUES[7],
        "empty": np.zeros((0, 3)),
        "repeated": np.full(4, 3.0),
        "parameter": VALUES.reshape(3, 4),
    }
    assert list(got) == list(want)
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].dtype == np.float32
        assert got[name].shape == value.shape


def test_other_byte_order_and_bfloat16(tmp_path):
    other = {"little": "big", "big": "little"}[sys.byteorder]
    bfloat16 = "torch.BFloat16Storage"
    data = dumps({"a": tensor(), "b": tensor(0, (2,), (1,), key="1", numel=2, kind=bfloat16)})
    halves = np.array([0x3FC0, 0xC000], np.uint16).byteswap().tobytes()  # 1.5 and -2
    storages = {"0": VALUES.byteswap().tobytes(), "1": halves}
    got, _ = read_state_dict(write_zip(tmp_path / "a.pt", data, storages, order=other))
    np.testing.assert_array_equal(got["a"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(got["b"], np.array([1.5, -2.0], np.float32))


def test_a_checkpoint_around_the_state_dict(write):
    inner = {"a": tensor()}
    got, _ = read_state_dict(write(dumps({"epoch": 3, "state_dict": inner, "lr": [1, 0.5, None]})))
    assert list(got) == ["a"]


def attacks(run):
    """Pickles that would call `run` (`module.name`) with the argument "x"."""
    module, _, name = run.rpartition(".")
    as_global = f"c{module}\n{name}\n".encode()
    arg = b"X\x01\x00\x00\x00x"
    stack = b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name)) + b"\x93"
    return {
        "global": b"\x80\x02" + as_global + arg + b"\x85R.",
        "stack_global": b"\x80\x04" + stack + arg + b"\x85R.",
        "inst": b"(" + arg + f"i{module}\n{name}\n.".encode(),
        "obj": b"\x80\x02(" + as_global + arg + b"o.",
        "newobj": b"\x80\x02" + as_global + arg + b"\x85\x81.",
        "in a tensor": dumps({"a": Called("torch._utils._rebuild_tensor_v2", Called(run, "x"))}),
        "as an unused name": dumps({"a": Name(run)}),
        "persistent": dumps({"a": Reference("module", Name(run), "x", "y", 1)}),
        "as a storage type": dumps({"a": storage(kind=run)}),
    }


@pytest.mark.parametrize("run", ["os.system", "builtins.eval", "builtins.getattr"])
@pytest.mark.parametrize("how", attacks("os.system"))
def test_code_is_refused_and_not_run(write, monkeypatch, run, how):
    ran = []
    monkeypatch.setattr("os.system", ran.append)
    monkeypatch.setattr("builtins.eval", ran.append)
    data = attacks(run)[how]
    pickletools.dis(data, io.StringIO())  # a well-formed pickle
    with pytest.raises(UserError, match="is not a plain state dict: it") as error:
        read_state_dict(write(data))
    assert "\n" not in str(error.value)
    if "global" in how or how.startswith("as") or how == "in a tensor":
        assert f"asks for {run}" in str(error.value)
    assert not ran


@pytest.mark.parametrize(
    "name",
    ["torch.load", "torch.storage._load_from_bytes", "torch._utils.__loader__", "FloatStorage"],
)
def test_other_names_of_torch_are_refused(write, name):
    with pytest.raises(UserError, match=f"asks for .?{name}"):
        read_state_dict(write(dumps({"a": Called(name)})))


def test_attributes_of_what_a_name_stands_for_cannot_be_set(write):
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(UserError, match="sets attributes"):
        read_state_dict(write(data))


def test_nested_pickles_end(write):
    deep = b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."
    shared = b"\x80\x02)" + b"q\x00h\x00\x86" * 200 + b"."  # 2^200 leaves if written out
    begin = time.monotonic()
    for data in (deep, shared, deep[:-1], b"\x80\x02" + b"(" * 20_000 + b"."):
        with pytest.raises(UserError):
            read_state_dict(write(data))
    assert time.monotonic() - begin < 20


def test_keys_are_not_hashed_unless_scalars(write):
    # hashing nested tuples visits every leaf: here 2^25, in a hostile file any number
    data = b"\x80\x02})" + b"q\x00h\x00\x86" * 25 + b"K\x01s."
    with pytest.raises(UserError, match="keys that are no names"):
        read_state_dict(write(data))


HUGE = 2**40


@pytest.mark.parametrize(
    "bad",
    [
        tensor(1),
        tensor(0, (4, 4)),
        tensor(0, (3, 4), (5, 1)),
        tensor(-1),
        tensor(0, (3, 4), (-4, 1)),
        tensor(0, (-3, 4)),
        tensor(0, (3, 4), (4,)),
        tensor(0, (3, 4.0)),
        tensor(0, (3, True), (4, 1)),
        tensor(0, (HUGE,), (0,)),
        tensor(0, (HUGE, HUGE), (0, 0)),
        tensor(0, (0, HUGE, HUGE), (0, 0, 0)),
        tensor(0, (1,) * 20, (1,) * 20),
        tensor(numel=11),
        tensor(numel=HUGE),
        tensor(numel=-1),
        tensor(0, "ab", "cd"),
        tensor(kind="torch.DoubleStorage"),
        tensor(extra=(("1", 0, 12),)),
        tensor(key="nowhere"),
        tensor(key="../data.pkl"),
        Called("torch._utils._rebuild_tensor_v2", 1, 0, (), ()),
        Called("torch._utils._rebuild_tensor_v2"),
        Called("torch._utils._rebuild_parameter", 1),
        Called("collections.OrderedDict", 1),
        Called("torch.Size", 1),
        3,
    ],
)
def test_tensors_that_are_not_there_are_refused(write, bad):
    with pytest.raises(UserError) as error:
        read_state_dict(write(dumps({"a": bad})))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "obj", [[1], {1: 2}, {10**9999: 2}, {"state_dict": {"a": 1}}, None, "text"]
)
def test_other_objects_are_refused(write, obj):
    with pytest.raises(UserError, match="is not a plain state dict"):
        read_state_dict(write(dumps(obj)))


def test_truncated_and_changed_files_are_refused_or_read(write):
    path = write(dumps({"a": tensor(), "b": tensor(0, (2,), (4,))}))
    data = path.read_bytes()
    for end in range(0, len(data) - 1, 7):
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"cannot be read|is not a plain state dict"):
            read_state_dict(path)
    rng = np.random.default_rng(0)
    for _ in range(150):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        path.write_bytes(changed.tobytes())
        try:
            read_state_dict(path)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 any other exception fails the test


def test_older_format_with_another_length(tmp_path):
    data = dumps({"a": tensor()})
    path = write_legacy(tmp_path / "a.pth", data, {"0": VALUES.tobytes()}, numel=-1)
    with pytest.raises(UserError, match="Storage 0 has -1 numbers, not 12"):
        read_state_dict(path)


def test_compressed_archives_are_refused(tmp_path):
    data = dumps({"a": tensor(numel=2**20, shape=(2**20,), stride=(1,))})
    zeros = bytes(2**22)
    path = write_zip(tmp_path / "a.pth", data, {"0": zeros}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="archive is compressed"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n", pickle.dumps(3), b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_files_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read; it may be incomplete"):
        read_state_dict(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_state_dict(tmp_path / "a.pth")


def test_safetensors(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = {"a": VALUES.reshape(3, 4), "n": np.array(3), "e": np.zeros((0, 2))}
    numpy.save_file(tensors, tmp_path / "a.safetensors")
    got, sha256 = read_state_dict(tmp_path / "a.safetensors")
    assert len(sha256) == 64
    assert got.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(got[name], value)
        assert got[name].dtype == value.dtype


def test_safetensors_of_bfloat16_and_of_unknown_types(tmp_path):
    pytest.importorskip("safetensors")
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2H", 0x3FC0, 0xC000))
    got, _ = read_state_dict(path)
    np.testing.assert_array_equal(got["a"], np.array([1.5, -2.0], np.float32))
    header = header.replace(b"BF16", b"U16 ")
    path.write_bytes(path.read_bytes().replace(b"BF16", b"U16\x22").replace(b'""', b'" '))
    with pytest.raises(UserError, match="numbers of type U16"):
        read_state_dict(path)


def test_safetensors_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="pip install safetensors"):
        read_state_dict(tmp_path / "a.safetensors")


@pytest.mark.parity
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("as_zip", [True, False])
def test_equal_to_torch(tmp_path, as_zip, protocol):
    torch = pytest.importorskip("torch")
    base = torch.randn(6, 8)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    want = module.state_dict()  # has `_metadata`, and a 0-dimensional int64
    want |= {
        "base": base,
        "transposed": base.T,
        "part": base[1:4, ::2],
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3, 2).bfloat16(),
        "float64": torch.randn(2, dtype=torch.float64),
        "bool": torch.tensor([True, False]),
        "0-dim": torch.tensor(5),
        "empty": torch.zeros(3, 0, 2),
        "repeated": torch.ones(1).expand(4),
    }
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        want[str(dtype)] = torch.arange(5, dtype=dtype)
    for saved in (want, {"state_dict": want, "epoch": 3}):
        path = tmp_path / "a.pth"
        torch.save(saved, path, _use_new_zipfile_serialization=as_zip, pickle_protocol=protocol)
        got, _ = read_state_dict(path)
        assert list(got) == list(want)
        for name, value in want.items():
            value = value.detach()
            value = value.float() if value.dtype == torch.bfloat16 else value
            np.testing.assert_array_equal(got[name], value.numpy())
            assert got[name].dtype == value.numpy().dtype
            assert got[name].shape == tuple(value.shape)
