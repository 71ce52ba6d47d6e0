"""What docs/security.md promises: input is data, stays in its place, cannot ask for too much."""

import ast
import io
import json
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from flaxgan import errors
from flaxgan.config import Config, from_json, load_config, to_json
from flaxgan.data import pictures
from flaxgan.data.own_pictures import list_pictures
from flaxgan.data.own_pictures.shards import ReadOptions
from flaxgan.errors import UserError
from flaxgan.evaluate.picture_folder import ImageFolder
from flaxgan.pretrained.state_dict import read_state_dict
from flaxgan.saving.workdir import prepare_workdir

ROOT = Path(__file__).parents[2]
MODULES = [*sorted((ROOT / "flaxgan").rglob("*.py")), ROOT / "train.py", ROOT / "sample.py"]
# modules that run what a file says, start programs, or fetch something
FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "pty"),
    *("yaml", "xml", "torch", "subprocess", "ctypes", "socket", "urllib", "http", "requests"),
}
FORBIDDEN_BUILTINS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {
    *("exec_module", "import_module", "system", "popen", "extract", "extractall"),
    *("unpack_archive", "read_pickle"),
}
# readers that would unpickle, had they not been told
NEED_NO_PICKLE = {"load": "np", "read_array": "format"}
ALLOWED = {
    ("config/files.py", "exec_module"): "a config file is code, and README says so",
    ("__init__.py", "import_module"): "names of our own modules, out of a table in the file",
    ("commands/main.py", "import_module"): "names of our own modules, out of a table in the file",
    ("commands/cli.py", "import_module"): "--plugin names a module, and its code is the user's own",
    ("text/__init__.py", "import_module"): "names of our own modules, out of a table in the file",
    ("registry.py", "import_module"): "names of our own modules, out of tables in the code",
    ("exporting/npm.py", "urllib"): "one pinned file of npm's registry, whose sha512 is compared",
    ("data/avatars.py", "__import__"): "names of packages, out of a table in the file",
    ("data/emoji_art.py", "__import__"): "names of packages, out of a table in the file",
}


def calls_and_imports(tree):
    """(name, node) of what a module imports and calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0], node
        elif isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            yield name, node


def offences(source):
    """Names of what a module must not import or call."""
    found = []
    for name, node in calls_and_imports(ast.parse(source)):
        if isinstance(node, ast.Call):
            owner = getattr(node.func, "value", None)  # None: a builtin, or one of our own
            if name in (FORBIDDEN_BUILTINS if owner is None else FORBIDDEN_METHODS):
                found.append(name)
            owner = getattr(owner, "id", None) or getattr(owner, "attr", None)
            if NEED_NO_PICKLE.get(name) == owner and owner is not None:
                told = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                if told.get("allow_pickle") is not False:
                    found.append(f"{owner}.{name}")
            if any(k.arg == "allow_pickle" and k.value.value is not False for k in node.keywords):
                found.append("allow_pickle")
        elif name in FORBIDDEN_MODULES:
            found.append(name)
    return found


def test_nothing_runs_what_a_file_says():
    """In every module: mend what is found, or say in ALLOWED why it is safe."""
    found = {}
    for path in MODULES:
        inside = path.is_relative_to(ROOT / "flaxgan")
        name = str(path.relative_to(ROOT / "flaxgan")) if inside else path.name
        found[name] = [x for x in offences(path.read_text()) if (name, x) not in ALLOWED]
    assert len(found) == len(MODULES) > 100
    assert not {name: uses for name, uses in found.items() if uses}


def test_the_search_finds():
    table = [
        ("import pickle", "pickle"),
        ("from torch import load", "torch"),
        ("import xml.etree.ElementTree as e", "xml"),
        ("eval('1')", "eval"),
        ("import os\nos.system('ls')", "system"),
        ("import numpy as np\nnp.load(p)", "np.load"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle"),
        ("import numpy as np\nnp.lib.format.read_array(f)", "format.read_array"),
        ("archive.extractall(x)", "extractall"),
    ]
    assert not [source for source, offence in table if offence not in offences(source)]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_is_refused(tmp_path, protocol):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Evil(tmp_path / "run"), protocol))
    with pytest.raises(UserError):
        read_state_dict(tmp_path / "a.pth")
    assert not (tmp_path / "run").exists()


def test_a_pickle_in_the_place_of_a_cache_is_made_anew(tmp_path):
    """NumPy files of objects are pickles."""
    from flaxgan.evaluate import real_features
    from flaxgan.text import cache

    path = tmp_path / "a.npy"
    np.save(path, np.array([Evil(tmp_path / "run")]), allow_pickle=True)
    with pytest.warns(UserWarning, match="will be rebuilt"):
        assert cache.read_cached(path, (1, 1)) is None
    assert real_features._read(path, (1, 1)) is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"data": ' * 100_000,
        '{"train": {"seed": ' + "9" * 5000 + "}}",
        '{"train": {"seed": 1' + "0" * 300 + "}}",
        '{"train": {"total_kimg": NaN}}',
        '{"__class__": "os.system"}',
        '{"data": {"__reduce__": ["os.system", "id"]}}',
        '{"model": {"family": "r3gan; import os"}}',
        '{"name": {"py/object": "os.system"}}',
        '{"name": "a\\u0000b"}',
    ],
)
def test_a_hostile_config_json_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError) as error:
        prepare_workdir(Config(), tmp_path)
    assert len(errors.one_line(error.value)) <= errors.LONGEST
    assert (tmp_path / "config.json").read_text() == text


def test_code_in_a_config_json_stays_text():
    name = "__import__('os').system('id')"
    assert from_json(to_json(Config(name=name))).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.g_blocks", 2**40),
        ("model.z_dim", 2**40),
        ("model.g_channels", 2**40),
        ("text.depth", 2**40),
        ("text.max_tokens", 2**40),
        ("data.resolution", 2**40),
    ],
)
def test_a_config_that_asks_for_endless_networks_is_refused(field, value):
    """As one in a checkpoint of somebody else could."""
    from flaxgan.models import build_models
    from flaxgan.text import build_text_encoder

    values = json.loads(to_json(load_config(ROOT / "configs" / "avatars32_cpu.py", tiny=True)))
    section, name = field.split(".")
    values[section][name] = value
    config = from_json(json.dumps(values))
    build = build_text_encoder if section == "text" else build_models
    with pytest.raises(UserError, match=f"{field} must be at most"):
        build(config.text if section == "text" else config)


def test_an_error_is_one_short_line_whatever_it_quotes():
    line = errors.one_line(UserError("a\x1b[2J\nb\u202ec\ud800" + "x" * 10_000))
    assert line.startswith("a?[2J b?c?x")
    assert len(line) == errors.LONGEST
    assert line.isprintable()


def png_bytes(seed=0):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_tar_members_give_bytes_of_the_archive_and_nothing_else(tmp_path):
    """Nothing is unpacked: names are names, and links and devices lead nowhere."""
    secret, inside = png_bytes(1), png_bytes(2)
    (tmp_path / "secret.png").write_bytes(secret)
    folder = tmp_path / "pictures"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as archive:

        def add(name, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))

        for name in ("../out", "/etc/out", "a/../../out", "twice", "twice"):
            add(f"{name}.png", inside)
            add(f"{name}.txt", b"a cat")
        linked = {"linkname": "../secret.png"}
        add("symbolic.png", type=tarfile.SYMTYPE, **linked)
        add("hard.png", type=tarfile.LNKTYPE, **linked)
        add("device.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
        add("pipe.png", type=tarfile.FIFOTYPE)
        for name in ("symbolic", "hard", "device", "pipe"):
            add(f"{name}.txt", b"a cat")
    before = sorted(tmp_path.rglob("*"))
    read = [raw for shard in list_pictures(folder).shards for raw in shard.read()]
    assert {raw.data for raw in read if not raw.reason} == {inside}
    without = {raw.name.split("/")[-1]: raw.reason for raw in read if raw.reason}
    assert without == dict.fromkeys(("symbolic", "hard", "device", "pipe"), "no picture")
    assert len(read) == 8  # a name that comes twice is one picture
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tar_member_that_claims_more_than_there_is(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.size = 2**40
    good = tarfile.TarInfo("0.png")
    good.size = len(png_bytes())
    data = png_bytes() + bytes(-len(png_bytes()) % 512)
    whole = good.tobuf() + data + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(whole)
    listing = list_pictures(tmp_path / "a.tar", ReadOptions(need_captions=False))
    read = [raw for shard in listing.shards for raw in shard.read()]
    assert [raw.reason for raw in read] == ["", "damaged archive"]


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "/etc/passwd", "a\0b.png", "..", "x" * 5000, "-rf *", "a/b\nc"]
)
def test_prompts_never_name_files(tmp_path, monkeypatch, prompt):
    from flaxgan.commands import sample as sample_command
    from flaxgan.text.learned import BytesEncoder
    from tests.robustness.fuzzing.kinds import StubSampler

    stub = StubSampler(BytesEncoder(64, 16))
    monkeypatch.setattr(sample_command, "choose_sampler", lambda *args, **kwargs: stub)
    (tmp_path / "in").mkdir()
    options = {"checkpoint": None, "model": None, "runs": tmp_path, "captions": True}
    paths = sample_command.draw(
        prompts=sample_command.read_prompts([prompt], None),
        num=2,
        seed=0,
        batch_size=2,
        out=tmp_path / "in" / "out.png",
        separate=True,
        **options,
    )
    assert [p.name for p in paths] == ["out-00-00.png", "out-00-01.png"]
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(written) == sorted(paths)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bombs():
    """(name, bytes): small files that ask for much."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    yield "png of 2.5 gigapixels", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IEND", b"")
    small = png_bytes()
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9))
    yield "png with 128 MiB of text", small[:33] + text + small[33:]
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27), 9))
    yield "png with a profile of 128 MiB", small[:33] + profile + small[33:]
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\0;"
    yield "gif of 4 gigapixels", gif + frame
    tags = {256: 60_000, 257: 60_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60_000, 279: 4}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    yield "tiff of 3.6 gigapixels", head + rows + bytes(4)
    bmp = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "bmp of 3.6 gigapixels", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + bmp
    yield "ppm of 10 gigapixels", b"P6 100000 100000 255\n\0"


@pytest.mark.parametrize(
    ("name", "data"), [*bombs()], ids=lambda x: x if isinstance(x, str) else ""
)
def test_picture_bombs_are_refused_before_they_are_decoded(tmp_path, name, data):
    assert len(data) < 200_000
    with pytest.raises(pictures.Unreadable) as refused:
        pictures.load(data, 8, 3)
    reason = "damaged picture" if name.startswith("png with") else "too many pixels"
    assert refused.value.reason == reason, refused.value
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(data)
    with pytest.raises(UserError, match="not a readable picture"):
        ImageFolder(tmp_path)


def test_of_many_frames_one_is_decoded():
    out = io.BytesIO()
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    first, last = out.getvalue().split(b"!\xf9", 1)
    many = first + (b"!\xf9" + last.rstrip(b";")) * 20_000 + b";"
    assert not pictures.load(many, 8, 3).any()


def test_metrics_read_no_format_that_starts_a_program(tmp_path):
    """Pillow would hand EPS to Ghostscript, whatever the file is called."""
    for i in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png", "EPS")
    with pytest.raises(UserError, match="not a readable picture: not a picture"):
        ImageFolder(tmp_path)


def safetensors_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


META = {"flaxgan_generator": json.dumps({"config": to_json(Config()), "step": 1, "crc32": 0})}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        safetensors_file(b"[" * 100_000),
        safetensors_file({"a": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 4]}}),
        safetensors_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        safetensors_file(
            {
                "__metadata__": META,
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            bytes(12),
        ),
        safetensors_file({"__metadata__": {"flaxgan_generator": "[" * 100_000}}),
        safetensors_file({"__metadata__": {"flaxgan_generator": '["config"]'}}),
    ],
    ids=map(str, range(8)),
)
def test_hostile_safetensors_are_refused(tmp_path, data):
    from flaxgan.saving.generator_file import read_header

    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.safetensors"):
        read_header(path)


@pytest.mark.parametrize(("key", "value"), [("step", "many"), ("step", -1), ("config", 3)])
def test_headers_of_wrong_types_are_refused(tmp_path, key, value):
    from flaxgan.drawing.loading import load_sampler

    header = json.dumps({**json.loads(META["flaxgan_generator"]), key: value})
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(2)}, path, {"flaxgan_generator": header})
    with pytest.raises(UserError, match=f"lacks {key}|has no {key}"):
        load_sampler(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tests.robustness.fuzzing.checkpoints import Checkpoints

    root = tmp_path_factory.mktemp("security")
    return Checkpoints(root)


def claim(folder, side):
    """Rewrites what a checkpoint says about the shapes of its arrays; their chunks are missing."""
    import tensorstore

    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    for key in store.list().result():
        if key.endswith(b".zarray") and not key.startswith(b"seed"):
            described = json.loads(store.read(key).result().value)
            described["shape"] = [side] * len(described["shape"])
            store.write(key, json.dumps(described).encode()).result()


def test_a_checkpoint_that_claims_huge_arrays_is_refused_before_they_are_allocated(run, tmp_path):
    """Missing chunks are zeros: a few hundred bytes could ask for all memory there is."""
    from flaxgan.saving.restore import restore_ema, restore_networks
    from tests.robustness.fuzzing.checkpoints import copy_of_links

    copy_of_links(run.run_folder, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "20"
    for item in ("state", "ema"):
        claim(folder / item, 60_000)
    with pytest.raises(UserError, match=r"claim .* bytes, its files hold"):
        restore_networks(folder)
    with pytest.raises(UserError, match="is not intact"):
        restore_ema(folder, run.ema_target)


def test_a_target_out_of_a_hostile_config_is_refused_before_it_is_allocated(run):
    import jax

    from flaxgan.saving.restore import restore_ema

    huge = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2**40,), x.dtype, sharding=x.sharding), run.ema_target
    )
    with pytest.raises(UserError, match=r"claim .* bytes, its files hold"):
        restore_ema(run.run_folder / "checkpoints" / "20", huge)
