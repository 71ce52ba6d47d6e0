"""State dicts of PyTorch, from .safetensors and from both formats of torch.save, without torch.

A .pth file is a pickle, and unpickling runs whatever the file names. Here the pickle's opcodes are
interpreted instead: the few that a state dict consists of, none of which can call or import
anything. A name in the file (a "global") is looked up in a table of tensors' constructors and
storage types; any other is refused.
"""

import hashlib
import io
import math
import pickletools
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from flaxgan.errors import UserError

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
SAFETENSORS = {
    "F64": STORAGES["DoubleStorage"],
    "F32": STORAGES["FloatStorage"],
    "F16": STORAGES["HalfStorage"],
    "BF16": STORAGES["BFloat16Storage"],
    "I64": STORAGES["LongStorage"],
    "I32": STORAGES["IntStorage"],
    "I16": STORAGES["ShortStorage"],
    "I8": STORAGES["CharStorage"],
    "U8": STORAGES["ByteStorage"],
    "BOOL": STORAGES["BoolStorage"],
}
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMS = 16
SCALARS = (str, int, float, bool, type(None))


class _Malformed(Exception):
    """The file's bytes are not what its format asks for; the message says what."""


class _NotAStateDict(Exception):
    """The pickle asks for something that no state dict needs; the message names it."""


class _Global(NamedTuple):
    """A name in the pickle, `module.name`: never looked up anywhere but in our tables."""

    name: str


class _Storage(NamedTuple):
    """A reference to a run of `numel` numbers, which the file holds under `key`."""

    key: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    """A strided view of a storage; offset and stride count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(dict):
    """What stands for OrderedDict; not a plain dict, since BUILD may follow (`_metadata`)."""


def read_state_dict(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Reads the tensors of a state dict.

    Args:
      path: a .safetensors file, or what `torch.save(module.state_dict(), path)` wrote, as zip
        (torch >= 1.6) or in the older format; `{"state_dict": ...}` around it is accepted.

    Returns:
      Name to array, of the file's dtype (bfloat16 becomes float32) and read-only, and the sha256 of
      the file in hexadecimal.

    Raises:
      UserError: the file is missing, truncated or malformed, or asks for more than tensors.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror}") from error
    try:
        if Path(path).suffix == ".safetensors":
            tensors = _read_safetensors(data)
        elif data.startswith(b"PK\x03\x04"):
            tensors = _read_zip(data)
        else:
            tensors = _read_legacy(data)
    except _NotAStateDict as error:
        raise UserError(f"{path} is not a plain state dict: it {_line(error)}") from error
    except _Malformed as error:
        raise UserError(f"{path} cannot be read; it may be incomplete {_line(error)}") from error
    return tensors, hashlib.sha256(data).hexdigest()


def _line(error: Exception) -> str:
    """The message as one line, whatever names of the file it quotes."""
    return "".join(c if c.isprintable() else "?" for c in str(error)[:200])


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        import safetensors
    except ImportError as error:
        raise UserError(
            "reading .safetensors weights needs safetensors: pip install safetensors"
        ) from error
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise _Malformed(f"safetensors says: {error}") from error
    tensors = {}
    for name, entry in found:
        if entry["dtype"] not in SAFETENSORS:
            raise _NotAStateDict(f"holds numbers of type {entry['dtype']}")
        values = _numbers(entry["data"], SAFETENSORS[entry["dtype"]], "little")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    """The format since torch 1.6: `<top>/data.pkl`, `<top>/data/<key>`, `<top>/byteorder`."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = {entry.filename: entry for entry in archive.infolist()}
        # torch stores and never compresses: what is read cannot exceed what is there
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise _Malformed("The zip archive is compressed, which torch.save never does.")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise _Malformed("Its entries claim to be larger than the file.")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Malformed("It is a zip archive, but torch.save did not write it.")
        top = pickles[0].removesuffix("data.pkl")
        order = sys.byteorder
        if top + "byteorder" in entries:
            order = archive.read(top + "byteorder").decode("ascii", "replace")
        root = _unpickle(io.BytesIO(archive.read(pickles[0])))
        tensors = _find_state_dict(root)
        storages = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            if f"{top}data/{storage.key}" not in entries:
                raise _Malformed(f"Storage {storage.key} is missing.")
            values = _numbers(archive.read(f"{top}data/{storage.key}"), storage.dtype, order)
            storages[storage] = values
    except (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise _Malformed(f"The zip archive is damaged: {error}") from error
    return _place(tensors, storages, len(data))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """The format before torch 1.6: five pickles, then each storage's length and numbers."""
    file = io.BytesIO(data)
    try:
        magic = _unpickle(file)
    except (_Malformed, _NotAStateDict):
        magic = None
    if magic != LEGACY_MAGIC:
        raise _Malformed("It is not a file that torch.save wrote.")
    if _unpickle(file) != LEGACY_PROTOCOL:
        raise _Malformed("torch.save wrote it in an unknown version of its format.")
    system = _unpickle(file)
    if not isinstance(system, dict):
        raise _Malformed("Its header is damaged.")
    order = "little" if system.get("little_endian", True) else "big"
    tensors = _find_state_dict(_unpickle(file, found := {}))
    keys = _unpickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _Malformed("Its list of storages is damaged.")
    storages = {}
    for key in keys:
        storage = found.get(key)
        if storage is None:
            raise _Malformed("It holds a storage that no tensor uses.")
        numel = int.from_bytes(file.read(8), order, signed=True)
        if numel != storage.numel:
            raise _Malformed(f"Storage {key} has {numel} numbers, not {storage.numel}.")
        content = file.read(numel * storage.dtype.itemsize)
        storages[storage] = _numbers(content, storage.dtype, order)
    return _place(tensors, storages, len(data))


def _numbers(content: bytes, dtype: np.dtype, order: str) -> np.ndarray:
    """Bytes to a flat array in this machine's byte order; bfloat16 to float32, which is exact."""
    if order not in ("little", "big"):
        raise _Malformed("Its byte order is neither little nor big.")
    if len(content) % dtype.itemsize:
        raise _Malformed("A storage ends within a number.")
    values = np.frombuffer(content, dtype)
    if order != sys.byteorder:
        values = values.view(f"u{dtype.itemsize}").byteswap().view(dtype)
    return values.astype(np.float32) if dtype == ml_dtypes.bfloat16 else values


def _find_state_dict(root: Any) -> dict[str, _Tensor]:
    """The tensors of the pickled object: itself, or its entry "state_dict"."""
    if isinstance(root, dict) and isinstance(root.get("state_dict"), dict):
        root = root["state_dict"]
    if not isinstance(root, dict):
        raise _NotAStateDict(f"holds a {type(root).__name__.strip('_').lower()}")
    for name, value in root.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            entry = name if isinstance(name, str) else "without a name"
            raise _NotAStateDict(f"has an entry {entry} that is no tensor")
    return root


def _place(
    tensors: dict[str, _Tensor], storages: dict[_Storage, np.ndarray], file_size: int
) -> dict[str, np.ndarray]:
    """Views of the storages, checked to lie within them; nothing is copied."""
    placed = {}
    for name, (storage, offset, shape, stride) in tensors.items():
        values = storages.get(storage)
        if values is None or len(values) != storage.numel:
            raise _Malformed(f"The numbers of {name} are not all there.")
        numel = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        # strides of 0 repeat numbers: a tensor larger than the file is refused
        if numel and (last >= storage.numel or numel * values.itemsize > max(file_size, 1)):
            raise _Malformed(f"{name} reaches beyond its storage.")
        try:
            placed[name] = np.lib.stride_tricks.as_strided(
                values[offset:] if numel else values[:0],
                shape,
                [step * values.itemsize for step in stride],
                writeable=False,
            )
        except ValueError as error:
            raise _Malformed(f"{name} has an impossible shape.") from error
    return placed


def _unpickle(file: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Interprets one pickle, up to its STOP.

    Args:
      file: at the pickle's beginning; left behind its end.
      storages: gets every storage that the pickle refers to, by key.

    Raises:
      _Malformed: it is no pickle.
      _NotAStateDict: it asks for anything but containers, scalars and tensors.
    """
    storages = {} if storages is None else storages
    machine = _Machine(storages)
    try:
        with warnings.catch_warnings(action="ignore"):  # pickletools', of escapes in protocol 0
            for opcode, arg, _ in pickletools.genops(file):
                machine.run(opcode.name, arg)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise _Malformed("Its pickle is damaged.") from error
    return machine.stack[-1]


class _Machine:
    """The pickle's stack, marks and memo, and what each opcode does to them."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self, name: str, arg: Any) -> None:
        """One opcode of protocols 2 to 5, as torch writes them."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                if len(stack) != 1 or self.marks:
                    raise ValueError("values are left on the stack")
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "BINPUT" | "LONG_BINPUT":
                self.memo[arg] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "BINFLOAT":
                stack.append(arg)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(arg)
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append(_Dict())
            case "TUPLE":
                self._push_over_mark(tuple(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                items = tuple(stack.pop() for _ in range(count))
                stack.append(items[::-1])
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self.stack = self.marks.pop()
                self._extend(stack)
            case "SETITEM":
                value = stack.pop()
                self._set_items([stack.pop(), value])
            case "SETITEMS":
                self.stack = self.marks.pop()
                self._set_items(stack)
            case "GLOBAL":
                stack.append(_allowed(arg.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                if not isinstance(last, str) or not isinstance(module, str):
                    raise ValueError("a global's name is no text")
                stack.append(_allowed(f"{module}.{last}"))
            case "REDUCE":
                args = stack.pop()
                stack.append(_construct(stack.pop(), args))
            case "BUILD":  # attributes of a state dict: `_metadata`, which nothing here needs
                stack.pop()
                if not isinstance(stack[-1], _Dict):
                    raise _NotAStateDict("sets attributes of an object")
            case "BINPERSID":
                stack.append(self._refer_to_storage(stack.pop()))
            case _:
                raise _NotAStateDict(f"uses the pickle opcode {name}")

    def _push_over_mark(self, value: Any) -> None:
        self.stack = self.marks.pop()
        self.stack.append(value)

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("only lists are appended to")
        self.stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Dict) or len(items) % 2:
            raise ValueError("only dicts have items")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # hashing a tuple of tuples can take exponential time, so keys are scalars
            if not isinstance(key, SCALARS):
                raise _NotAStateDict("has keys that are no names")
            target[key] = value

    def _refer_to_storage(self, reference: Any) -> _Storage:
        """('storage', type, key, location, numel), the older format with a sixth item: a view."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise _NotAStateDict("refers to something other than numbers")
        _, kind, key, _, numel, *view = reference
        dtype = isinstance(kind, _Global) and STORAGES.get(kind.name.removeprefix("torch."))
        if not dtype or not isinstance(key, str) or view not in ([], [None]):
            raise _NotAStateDict("refers to a storage of an unknown kind")
        storage = _Storage(key, dtype, _count(numel))
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("one storage is described in two ways")
        return storage


def _allowed(name: str) -> _Global:
    """A global of the table.

    Raises:
      _NotAStateDict: of any other name.
    """
    tensors = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
    known = name.removeprefix("torch.") in STORAGES and name.startswith("torch.")
    if not known and name not in (*tensors, "collections.OrderedDict", "torch.Size"):
        raise _NotAStateDict(f"asks for {name}")
    return _Global(name)


def _construct(function: Any, args: Any) -> Any:
    """What calling a global of the table means."""
    if not isinstance(function, _Global) or not isinstance(args, tuple):
        raise _NotAStateDict("calls something that is no constructor")
    match function.name:
        case "torch._utils._rebuild_tensor_v2":
            storage, offset, shape, stride = args[:4]
            if not isinstance(storage, _Storage) or len(shape) != len(stride):
                raise ValueError("a tensor needs a storage, a shape and a stride")
            if len(shape) > MAX_DIMS:
                raise ValueError("a tensor has too many dimensions")
            shape, stride = (tuple(_count(n) for n in numbers) for numbers in (shape, stride))
            return _Tensor(storage, _count(offset), shape, stride)
        case "torch._utils._rebuild_parameter" if args and isinstance(args[0], _Tensor):
            return args[0]
        case "torch.Size" if len(args) == 1 and isinstance(args[0], tuple | list):
            return tuple(_count(n) for n in args[0])
        case "collections.OrderedDict" if not args:
            return _Dict()
    raise _NotAStateDict(f"calls {function.name} in an unknown way")


def _count(number: Any) -> int:
    """A non-negative number of elements that an address can hold."""
    if type(number) is not int or not 0 <= number < 2**48:
        raise ValueError("a size is no count")
    return number
