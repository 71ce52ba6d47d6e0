"""Small random changes of bytes, text, JSON and folders; all are functions of the generator."""

import copy
import json
import os
import shutil
import sys

WORDS = (
    *("", " ", "\0", "\x1b[31m", "a\nb", "\r", "\u2028", "\x85", "\ufeff", "\ud800", "\udcff"),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "~root", "a/b", "C:\\a", "-rf", "--help"),
    *("%s%n", "{}", "{0.__class__}", "${HOME}", "$(id)", "`id`", "'; import os #", "__import__"),
    *("e\u0301" * 40, "a\u0300\u0301\u0302" * 200, "قطة", "猫", "👩‍🚀", "\u202eabc", "ﷺ" * 100),
    *("x" * 3000, "word " * 5000, "nan", "inf", "null", "None", "true", "0x10", "1e999", "-1"),
)
NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**30, -(2**63))
FLOATS = (0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"))
VALUES = (*WORDS, *NUMBERS, *FLOATS, None, True, False, [], {}, [[]], [None], {"a": 1})
# what a folder of checkpoints could hold
STEP_NAMES = ("0", "²", "٣", "-1", "99999999999999999999", "7.orbax", "a b", "25")
ITEM_NAMES = ("²", "broken-20", "20", "21", "ema", "state", "meta", "tmp.orbax-checkpoint-tmp")


def data(rng, value, most=4):
    """Bytes with one to `most` changes."""
    value = bytearray(value)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(value) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64, 1000))
        match rng.randrange(10):
            case 0 | 1 if value:
                value[at % len(value)] ^= 1 << rng.randrange(8)
            case 2 if value:
                value[at % len(value)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 3:
                del value[at : at + length]
            case 4:
                value[at:at] = value[at : at + length]
            case 5:
                value[at:at] = rng.randbytes(length)
            case 6:
                del value[at:]
            case 7:
                value += bytes(length) if rng.random() < 0.5 else rng.randbytes(length)
            case 8:
                width = rng.choice((2, 4, 8))
                number = rng.choice((0, 1, -1, 2**15, 2**31 - 1, -(2**31), 2**31)) % 256**width
                value[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))
            case _:
                other = rng.randrange(len(value) + 1)
                value[at : at + length] = value[other : other + length]
    return bytes(value)


def text(rng, value):
    """Text with something odd put into it, or in its place."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(value) + 1)
        word = rng.choice(WORDS)
        match rng.randrange(4):
            case 0:
                value = word
            case 1:
                value = value[:at] + word + value[at:]
            case 2:
                odd = rng.choice((rng.randrange(0x300), rng.randrange(0x110000)))
                value = value[:at] + chr(odd)
            case _:
                value = value[:at]
    return value


def lines(rng, value):
    """Bytes of a text file with lines removed, doubled, exchanged or changed."""
    parts = value.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        match rng.randrange(5):
            case 0 if len(parts) > 1:
                del parts[at]
            case 1:
                parts.insert(at, parts[rng.randrange(len(parts))])
            case 2:
                other = rng.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts[at] = data(rng, parts[at])
            case _:
                odd = text(rng, parts[at].decode("utf-8", "replace"))
                parts[at] = odd.encode("utf-8", rng.choice(("surrogatepass", "replace")))
    return b"\n".join(parts)


def structure(rng, value):
    """A JSON value with one to three of its parts replaced, removed, added or renamed."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        parent, key = rng.choice(places)
        match rng.randrange(6):
            case 0 | 1:
                parent[key] = copy.deepcopy(rng.choice(VALUES))
            case 2:
                del parent[key]
            case 3 if isinstance(parent, dict):
                parent[rng.choice(WORDS)] = parent.pop(key)
            case 4:
                parent[key] = [parent[key]]
            case _:
                other, name = rng.choice(places)
                if name in other if isinstance(other, dict) else name < len(other):
                    parent[key] = copy.deepcopy(other[name])
    return value


def _places(value):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def json_bytes(rng, value):
    """JSON text of a changed value, or text that is hardly JSON."""
    odd = rng.randrange(20)
    if odd == 0:
        depth = rng.choice((50, 1000, 100_000))
        return rng.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth))
    if odd == 1:
        return rng.choice((b"", b"null", b"[]", b"3", b'"a"', b"{}", b"\xff\xfe", b"\0" * 100))
    written = json.dumps(structure(rng, value) if odd < 14 else value).encode()
    if odd == 2:
        digits = b"9" * rng.choice((20, 400, 5000))
        return written.replace(b"1", digits, rng.randint(1, 3))
    return data(rng, written) if odd >= 12 else written


def tree(rng, folder):
    """A folder in which files and folders are changed, removed, renamed, exchanged or put."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files, folders = [], []
        for path, names, rest in os.walk(folder):
            files += [os.path.join(path, n) for n in sorted(rest)]
            folders += [os.path.join(path, n) for n in sorted(names)]
        files.sort()
        folders.sort()
        if not files:
            return
        file = rng.choice(files)
        match rng.randrange(13):
            case 0 | 1 | 2 | 3:
                replace(file, data(rng, read(file)))
            case 4 | 5:
                _change_json(rng, files)
            case 6:
                os.unlink(file)
            case 7:
                replace(file, b"" if rng.random() < 0.5 else rng.randbytes(50))
            case 8:
                _rename(rng, rng.choice((file, rng.choice(folders))))
            case 9:
                other = rng.choice(files)
                if other != file:
                    replace(file, read(other))
            case 10:
                os.unlink(file)
                if rng.random() < 0.5:
                    os.mkdir(file)
                else:
                    os.symlink(rng.choice(("nowhere", file, "/dev/null", "..")), file)
            case 11:
                shutil.rmtree(rng.choice(folders))
            case _:
                name = rng.choice(STEP_NAMES)
                parent = rng.choice([folder, *folders])
                path = os.path.join(parent, name)
                source = rng.choice(folders)
                if os.path.lexists(path):
                    continue
                if rng.random() < 0.5 or path.startswith(source + os.sep):
                    replace(path, rng.randbytes(9))
                else:
                    shutil.copytree(source, path, symlinks=True)


def _change_json(rng, files):
    """One of the files that hold JSON, whatever they are called."""
    found = [f for f in files if read(f)[:1] in (b"{", b"[")]
    if not found:
        return
    file = rng.choice(found)
    try:
        value = json.loads(read(file))
    except (ValueError, RecursionError):
        return
    replace(file, json_bytes(rng, value))


def _rename(rng, path):
    name = rng.choice(ITEM_NAMES)
    target = os.path.join(os.path.dirname(path), name)
    if not os.path.lexists(target):
        os.rename(path, target)


def read(path):
    """The bytes of a file; none of what is not a regular one."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read(2**24)


def replace(path, content):
    """Another file in place of one whose bytes other folders may share."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(content)


sys.set_int_max_str_digits(0)  # to write large numbers; the library is fuzzed with the default
