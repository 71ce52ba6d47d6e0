"""What is fuzzed: each kind makes its intact inputs once, and then runs mutated copies of them.

A kind's `run(rng, folder)` gives what came of each entry point that it called: None, or the
UserError. Any other exception is a failure of the library, and so is an `AssertionError`, which
says that something was read that is not what was written.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from flaxgan.errors import UserError
from tests.robustness.fuzzing import mutate

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


class DataOpened(Exception):
    """A config came as far as the data set, which fuzzing leaves alone."""


def attempt(function, *args, **kwargs):
    """(result, None), or (None, the UserError)."""
    try:
        return function(*args, **kwargs), None
    except UserError as error:
        return None, error


class Configs:
    """Config files: Python of which tokens, lines or bytes are changed, and config.json."""

    limit = 60

    def __init__(self, shared):
        from flaxgan.config import Config, load_config
        from flaxgan.run import experiment

        def opened(*args, **kwargs):
            raise DataOpened

        experiment.open_dataset = opened
        self.sources = [path.read_text() for path in CONFIGS]
        self.configs = [Config(), *(load_config(p, tiny=t) for p in CONFIGS for t in (0, 1))]
        names = [f.name for f in dataclasses.fields(Config)]
        for section in ("data", "text", "model", "loss", "augment", "g_opt", "train", "eval"):
            names += [f.name for f in dataclasses.fields(getattr(Config(), section))]
        self.names = [*names, "Config", "None", "tiny", "get_config", "lambda", "return", "def"]

    def run(self, rng, folder):
        from flaxgan.config import from_json, load_config, to_json
        from flaxgan.saving.workdir import prepare_workdir

        if rng.random() < 0.5:
            path = folder / "c.py"
            path.write_bytes(self._python(rng))
            config, error = attempt(load_config, path, tiny=rng.random() < 0.5)
            outcomes = [error]
        else:
            base = rng.choice(self.configs)
            text = mutate.json_bytes(rng, json.loads(to_json(base)))
            if rng.random() < 0.5:
                return [self._workdir(text, base, folder)]
            config, error = attempt(from_json, text.decode("utf-8", "replace"))
            outcomes = [error]
        if error is None:
            outcomes += [self._build(config), attempt(prepare_workdir, config, folder / "run")[1]]
            again = from_json(to_json(config))
            assert repr(again) == repr(config), "config.json is not the config"
        return outcomes

    @staticmethod
    def _workdir(text, config, folder):
        from flaxgan.saving.workdir import prepare_workdir

        (folder / "run").mkdir()
        (folder / "run" / "config.json").write_bytes(text)
        return attempt(prepare_workdir, config, folder / "run")[1]

    @staticmethod
    def _build(config):
        from flaxgan.run import experiment

        if config.text.encoder not in ("none", "bytes"):  # others read weights: slow, not of here
            config = dataclasses.replace(
                config, text=dataclasses.replace(config.text, encoder="bytes")
            )
        try:
            experiment.build_experiment(config)
        except DataOpened:
            return None
        except UserError as error:
            return error
        raise AssertionError("no data set was opened")

    def _python(self, rng):
        text = rng.choice(self.sources)
        if rng.random() < 0.25:
            return mutate.data(rng, text.encode())
        tokens = re.findall(r'"[^"\n]*"|#[^\n]*|\w+(?:\.\d+)?|\s+|.', text)
        values = [i for i, t in enumerate(tokens) if re.match(r'\d|"|[A-Za-z_]', t)]
        for _ in range(rng.randint(1, 3)):
            at = rng.choice(values)
            odd = rng.choice(mutate.VALUES)
            literal = repr(odd) if odd == odd and abs(hash(repr(odd))) else "None"
            literal = {"inf": "1e999", "-inf": "-1e999"}.get(literal, literal)
            tokens[at] = rng.choice((literal, literal, literal, rng.choice(self.names), ""))
        text = "".join(tokens)
        if rng.random() < 0.3:
            return mutate.lines(rng, text.encode("utf-8", "surrogatepass"))
        return text.encode("utf-8", "surrogatepass")


class Flags:
    """Command lines of `flaxgan train`."""

    limit = 60

    def __init__(self, shared):
        from flaxgan.config import Config
        from flaxgan.config.flags import field_paths

        self.fields = list(field_paths(Config))

    def run(self, rng, folder):
        from flaxgan.config import parse_args

        argv = ["--config", str(rng.choice(CONFIGS))]
        for _ in range(rng.randint(0, 4)):
            name = rng.choice(self.fields)
            if rng.random() < 0.15:
                name = mutate.text(rng, name)
            value = self._value(rng)
            argv += rng.choice(([f"--{name}={value}"], [f"--{name}", value], [f"--{name}"]))
        argv += ["--tiny"] * (rng.random() < 0.3)
        if rng.random() < 0.3:
            argv.insert(rng.randrange(len(argv) + 1), self._value(rng))
        if rng.random() < 0.1:
            rng.shuffle(argv)
        argv = [word.replace("\0", "") for word in argv]  # no process can be given one
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                parsed, error = attempt(parse_args, argv)
            except SystemExit as exit_:
                asked = {"--help", "-h"} & {*argv}
                if exit_.code or not asked:
                    raise AssertionError(f"{exit_!r}") from exit_
                return [None]
        if error is None:
            assert str(parsed[1]), "no workdir"
        return [error]

    @staticmethod
    def _value(rng):
        value = rng.choice(mutate.VALUES)
        if isinstance(value, str) and rng.random() < 0.3:
            value = mutate.text(rng, value)
        return str(value)


class Prompts:
    """Prompts, and files of them, up to the pictures that are written."""

    limit = 60

    def __init__(self, shared):
        from flaxgan.commands import sample as sample_command
        from flaxgan.config import TextConfig
        from flaxgan.text import build_text_encoder
        from flaxgan.text.learned import BytesEncoder

        self.encoders = [BytesEncoder(64, 16)]
        with contextlib.suppress(UserError):  # without the package, bytes are what there is
            self.encoders.append(build_text_encoder(TextConfig(encoder="words", max_tokens=16)))
        self.sampler = StubSampler(self.encoders[0])
        sample_command.choose_sampler = lambda *args, **kwargs: self.sampler
        self.lines = [p.read_bytes() for p in sorted((ROOT / "docs").glob("*prompts*.txt"))]

    def run(self, rng, folder):
        from flaxgan.commands.sample import read_prompts

        words, file = [], None
        for _ in range(rng.randint(0, 2)):
            words.append(mutate.text(rng, "a woman with long pink hair"))
        if rng.random() < 0.7:
            file = folder / "prompts.txt"
            content = rng.choice(self.lines)
            kind = rng.randrange(6)
            if kind == 0:
                content = rng.randbytes(rng.choice((1, 10, 1000)))
            elif kind == 1:
                content = content.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
            elif kind == 2:
                content = mutate.data(rng, content)
            else:
                content = mutate.lines(rng, content)
            file.write_bytes(content)
            if rng.random() < 0.03:
                file = rng.choice((folder, folder / "none", Path("a\0b"), folder / ("x" * 300)))
        prompts, error = attempt(read_prompts, words, file)
        if error is not None:
            return [error]
        assert all(p == " ".join(p.split()) and len(p) <= 2000 for p in prompts)
        for encoder in self.encoders:
            tokens, mask = encoder.tokenize(prompts)
            assert tokens.shape == mask.shape == (len(prompts), encoder.max_tokens)
            assert len(encoder.count_tokens(prompts)) == len(prompts)
            assert 0 <= encoder.unknown_fraction(prompts[0]) <= 1
        return [self._draw(rng, folder, prompts[:3])]

    @staticmethod
    def _draw(rng, folder, prompts):
        from flaxgan.commands.sample import draw
        from flaxgan.drawing.grids import read_png_text

        out = folder / "out" / rng.choice(("a.png", "a.PNG", "a", "a.jpg", "..png"))
        separate = rng.random() < 0.5
        options = {"num": 1, "seed": rng.choice((0, 1, -1, 2**32)), "batch_size": 1}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            paths, error = attempt(
                *(draw,),
                prompts=prompts,
                checkpoint=None,
                model=None,
                runs=folder,
                out=out,
                separate=separate,
                captions=rng.random() < 0.5,
                **options,
            )
        if error is not None:
            return error
        written = sorted(p.name for p in out.parent.iterdir())
        rows = range(len(prompts))
        names = [f"{out.stem}-{i:02d}-00{out.suffix}" for i in rows] if separate else [out.name]
        assert written == names, f"wrote {written}"
        found = "\n".join(read_png_text(path)["prompt"] for path in paths)
        assert found == "\n".join(prompts), "the text chunk is not the prompt"
        return None


class StubSampler:
    """Grey pictures at once."""

    def __init__(self, encoder):
        from flaxgan.config import Config

        self.text_encoder, self.config, self.step = encoder, Config(name="a"), 3
        self.checkpoint, self.meta, self.source = Path("runs/a/checkpoints/3"), {}, ""

    def __call__(self, prompts, *, num, **options):
        return np.full((len(prompts), num, 8, 8, 3), 128, np.uint8)


class OwnPictures:
    """What captions and archives share: pictures are surveyed, reported, sometimes imported."""

    limit = 60

    def __init__(self, shared):
        from tests.robustness.fuzzing import pictures

        self.pictures = [pictures.small(i) for i in range(4)]
        self.secret = pictures.small(99)
        (shared / "secret" / "passwd.png").write_bytes(self.secret)
        self.secret_place = str(shared / "secret" / "passwd.png")

    def read(self, rng, path, folder, often=0.08):
        """Outcomes of survey and import."""
        from flaxgan.commands import inspect
        from flaxgan.config import DataConfig
        from flaxgan.data import open_dataset
        from flaxgan.data.own_pictures import list_pictures
        from flaxgan.data.own_pictures.shards import ReadOptions
        from flaxgan.data.own_pictures.survey import sample_headers, survey

        column = rng.choice(("auto", "auto", "auto", "text", "none", "file_name", "\0"))
        options = ReadOptions(
            captions=rng.choice(("auto",) * 6 + ("folders", "table", "text files")),
            caption_column=column,
            image_column=rng.choice(("auto",) * 6 + ("jpg", "image")),
            weight_column=rng.choice(("auto",) * 6 + ("", "text")),
            need_captions=rng.random() < 0.8,
        )
        listing, error = attempt(list_pictures, path, options)
        if error is not None:
            return [error]
        for shard in listing.shards:
            for raw in shard.read():
                assert raw.data != self.secret, "read a picture outside the folder"
                lines = (raw.name, raw.reason, raw.detail, *raw.captions)
                assert not any("\n" in text or "\0" in text for text in lines), "unclean"
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            result = survey(listing, thumbnails=4)
            sample_headers(listing)
            facts = inspect.report(result)
            inspect.text(facts)
            inspect.contact_sheet(result)
            json.dumps(facts, ensure_ascii=False).encode()
            if rng.random() >= often:
                return [None]
            config = DataConfig(path=str(path), data_dir=str(folder / "tfds"), resolution=8)
            config = dataclasses.replace(config, caption_column=column, num_workers=0)
            dataset, error = attempt(open_dataset, config, "train")
            if error is None:
                assert len(dataset)
                dataset.flat_captions[0].encode()
            return [error]


class Captions(OwnPictures):
    """metadata.jsonl, metadata.csv, text files and folder names beside intact pictures."""

    def run(self, rng, folder):
        root = folder / "pictures"
        root.mkdir()
        layout = rng.choice(("jsonl", "jsonl", "csv", "txt", "folders"))
        files = [f"{i}.png" for i in range(10)]
        if layout == "folders":
            files = [f"{('red_cat', 'dog')[i % 2]}/{i}.png" for i in range(10)]
            files[0] = f"{self._name(rng)}/0.png"
        for i, name in enumerate(files):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(self.pictures[i % 4])
        rows = [{"file_name": f, "text": f"a cat no {i}"} for i, f in enumerate(files)]
        if layout == "jsonl":
            rows += [{"file_name": rng.choice(self._escapes(folder)), "text": "odd"}]
            lines = [json.dumps(row).encode() for row in rows]
            for _ in range(rng.randint(0, 2)):
                at = rng.randrange(len(lines))
                lines[at] = mutate.json_bytes(rng, rows[at])
            content = b"\n".join(lines)
            if rng.random() < 0.5:
                content = mutate.lines(rng, content)
            (root / "metadata.jsonl").write_bytes(content)
        elif layout == "csv":
            content = "file_name,text\n" + "".join(f"{r['file_name']},{r['text']}\n" for r in rows)
            content += f'"{rng.choice(self._escapes(folder))}","odd"\n'
            content = mutate.lines(rng, content.encode("utf-8", "replace"))
            (root / "metadata.csv").write_bytes(mutate.data(rng, content, 2))
        elif layout == "txt":
            for i in range(10):
                text = f"a cat no {i}"
                if i < 3:
                    text = mutate.text(rng, text)
                written = text.encode(rng.choice(("utf-8", "utf-16")), "surrogatepass")
                if rng.random() < 0.2:
                    written = mutate.data(rng, written)
                (root / f"{i}.txt").write_bytes(written)
        return self.read(rng, root, folder)

    def _escapes(self, folder):
        """Names of the picture outside, and odd names of those inside."""
        above = os.path.relpath(self.secret_place, folder / "pictures")
        return (
            above,
            self.secret_place,
            f"./{above}",
            f"0.png/../{above}",
            "./0.png",
            *mutate.WORDS,
        )

    @staticmethod
    def _name(rng):
        name = mutate.text(rng, "bird").replace("/", "_").replace("\0", "")
        name = name.encode("utf-8", "replace")[:200]
        if rng.random() >= 0.8:
            name = rng.randbytes(9).replace(b"/", b"").replace(b"\0", b"")
        return os.fsdecode(name if name not in (b"", b".", b"..") else b"x")


class Archives(OwnPictures):
    """tar files (WebDataset) and Parquet files."""

    def run(self, rng, folder):
        root = folder / "pictures"
        root.mkdir()
        if rng.random() < 0.5:
            path = root / "a.tar"
            content = self._tar(rng, folder)
        else:
            path = root / "a.parquet"
            content = self._parquet(rng, folder)
        if rng.random() < 0.7:
            content = mutate.data(rng, content)
        path.write_bytes(content)
        return self.read(rng, rng.choice((root, path)), folder)

    def _tar(self, rng, folder):
        out = io.BytesIO()
        above = os.path.relpath(self.secret_place, folder / "pictures")
        formats = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
        with tarfile.open(fileobj=out, mode="w", format=rng.choice(formats)) as archive:
            for i in range(10):
                for suffix, data in ((".png", self.pictures[i % 4]), (".txt", b"a cat")):
                    info = tarfile.TarInfo(f"{i}{suffix}")
                    info.size = len(data)
                    if rng.random() < 0.08:
                        names = (f"../{i}.png", f"/{i}.png", above, "a" * 95 + ".png", "é\n.png")
                        info.name = rng.choice(names)
                    if rng.random() < 0.06:
                        info.type = rng.choice(
                            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
                        )
                        info.linkname = rng.choice((self.secret_place, above, f"{i}.png"))
                        info.size, data = 0, b""
                    archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def _parquet(self, rng, folder):
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = [rng.choice((None, self.secret_place, "../x", "\0", "0.png")) for _ in range(10)]
        cells = [{"bytes": self.pictures[i % 4], "path": paths[i]} for i in range(10)]
        for i, path in enumerate(paths):
            if path is not None and rng.random() < 0.5:
                cells[i]["bytes"] = None
        table = pa.table({"image": cells, "text": [f"a cat no {i}" for i in range(10)]})
        out = io.BytesIO()
        compression = rng.choice(("snappy", "none", "zstd", "gzip"))
        pq.write_table(table, out, compression=compression, row_group_size=rng.choice((3, 100)))
        return out.getvalue()


class Images:
    """Picture files of every format, through training's reader and the metrics' one."""

    limit = 60

    def __init__(self, shared):
        from tests.robustness.fuzzing import pictures

        self.files = pictures.every_format()

    def run(self, rng, folder):
        from flaxgan.data import pictures

        _, data = rng.choice(self.files)
        data = mutate.data(rng, data, rng.choice((1, 2, 8)))
        if rng.random() < 0.1:
            data += rng.choice(self.files)[1]
        side, channels = rng.choice((1, 8, 64)), rng.choice((1, 3))
        fit = rng.choice(pictures.FITS)
        image, error = attempt(pictures.decode, data, side, channels, what="a.png", fit=fit)
        outcomes = [error]
        if error is None:
            assert image.shape == (side, side, channels)
            assert image.dtype == np.uint8
        if rng.random() < 0.5:
            suffix = rng.choice((".png", ".jpg", ".webp", ".bmp"))
            for i in range(2):
                (folder / f"{i}{suffix}").write_bytes(data)
            outcomes.append(attempt(self._score, folder)[1])
        return outcomes

    @staticmethod
    def _score(folder):
        from flaxgan.evaluate.picture_folder import ImageFolder

        images = ImageFolder(folder)
        assert images.side > 0
        for batch in images.draw([None] * 2, 2):
            assert batch.shape == (2, images.side, images.side, 3)


def tiny_config(encoder="bytes"):
    """Of the networks that are saved: as small as they come."""
    from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig, TrainConfig

    return Config(
        name="tiny",
        data=DataConfig(resolution=8),
        text=TextConfig(encoder=encoder, max_tokens=16, dim=16, depth=1),
        model=ModelConfig(
            family="r3gan", z_dim=4, g_channels=8, d_channels=8, attention=(), w_dim=8
        ),
        train=TrainConfig(batch_size=8),
    )


class Files:
    """Exported .safetensors files, and state dicts of PyTorch."""

    limit = 60

    def __init__(self, shared):
        from flaxgan.config import to_json
        from flaxgan.drawing import loading
        from flaxgan.models import build_models
        from flaxgan.saving.generator_file import named_leaves, write_network
        from flaxgan.text import build_text_encoder

        config = tiny_config()
        generator, _ = build_models(config)
        encoder = build_text_encoder(config.text)
        self.target = loading._abstract_ema(generator, config, encoder)
        draw = np.random.default_rng(0)
        leaves = {n: draw.normal(size=x.shape) for n, x in named_leaves(self.target).items()}
        import jax

        item = jax.tree.unflatten(
            jax.tree.structure(self.target), [x.astype(np.float16) for x in leaves.values()]
        )
        header = {"config": to_json(config), "step": 3, "images_seen": 24, "flaxgan": "0.1.0"}
        self.values = {n: x.astype(np.float16).astype(np.float32) for n, x in leaves.items()}
        folder = shared / "files"
        folder.mkdir(exist_ok=True)
        self.file = folder / "a.safetensors"
        self.beside = folder / "a.discriminator.safetensors"
        if not self.beside.exists():
            write_network(self.file, item, header, dtype="float16")
            write_network(self.beside, item, header, dtype="float16", kind="discriminator")
        self.state_dicts = [_torch_zip(), _torch_legacy()]

    def run(self, rng, folder):
        kind = rng.randrange(10)
        if kind < 3:
            return [self._state_dict(rng, folder)]
        path, beside = folder / "a.safetensors", folder / "a.discriminator.safetensors"
        data = self.file.read_bytes()
        both = kind == 9
        path.write_bytes(data if both else self._mutated(rng, data))
        if both:
            beside.write_bytes(self._mutated(rng, self.beside.read_bytes()))
        return self._read(rng, path)

    def _read(self, rng, path):
        from flaxgan.drawing.loading import load_sampler
        from flaxgan.run import transfer
        from flaxgan.saving.generator_file import named_leaves, read_generator, read_header

        outcomes = [attempt(read_header, path)[1]]
        item, error = attempt(read_generator, path, self.target)
        if error is None:
            self._check_values(named_leaves(item))
        source, other = attempt(transfer.read_source, path)
        if other is None:
            self._check_values({f"params/{name}": x for name, x in source.generator.items()})
        outcomes += [error, other]
        if rng.random() < 0.3 or error is None:
            sampler, error = attempt(load_sampler, path)
            if error is None:
                from flaxgan.commands.generator import describe

                self._check_values(named_leaves({"params": sampler.params}))
                describe(sampler)
            outcomes.append(error)
        return outcomes

    def _check_values(self, found):
        for name, value in found.items():
            assert name in self.values, f"{name} came out of nothing"
            assert np.array_equal(np.asarray(value), self.values[name]), f"{name} has changed"

    @staticmethod
    def _mutated(rng, data):
        """Bytes, or the header's JSON, or the JSON in the header."""
        kind = rng.randrange(4)
        if kind == 0:
            return mutate.data(rng, data)
        size = struct.unpack("<Q", data[:8])[0]
        if kind == 1:  # most of a small file is numbers
            head = mutate.data(rng, data[: 8 + size], 2)
            return head + data[8 + size :]
        header = json.loads(data[8 : 8 + size])
        if kind == 2:
            header = mutate.json_bytes(rng, header)
        else:
            (key,) = header["__metadata__"]
            inner = json.loads(header["__metadata__"][key])
            if rng.random() < 0.5:
                inner["config"] = mutate.json_bytes(rng, json.loads(inner["config"])).decode(
                    "utf-8", "replace"
                )
                text = json.dumps(inner)
            else:
                text = mutate.json_bytes(rng, inner).decode("utf-8", "replace")
            header["__metadata__"][key] = text
            header = json.dumps(header).encode()
        return struct.pack("<Q", len(header)) + header + data[8 + size :]

    def _state_dict(self, rng, folder):
        from flaxgan.pretrained.state_dict import read_state_dict

        path = folder / "a.pth"
        path.write_bytes(mutate.data(rng, rng.choice(self.state_dicts), rng.choice((1, 4))))
        found, error = attempt(read_state_dict, path)
        if error is None:
            for value in found[0].values():
                np.sum(value, dtype=np.float64)
        return error


# what torch.save writes for {"weight": 3 x 4 float32}: protocol 2, by hand, as torch is not needed
_PICKLE = (
    b"\x80\x02ccollections\nOrderedDict\nq\0)Rq\x01X\x06\0\0\0weightq\x02ctorch._utils\n"
    b"_rebuild_tensor_v2\nq\x03((X\x07\0\0\0storageq\x04ctorch\nFloatStorage\nq\x05X\x01\0\0\0"
    b"0q\x06X\x03\0\0\0cpuq\x07K\x0ctq\x08QK\0K\x03K\x04\x86q\tK\x04K\x01\x86q\n\x89ccollections\n"
    b"OrderedDict\n)Rq\x0btq\x0cRq\rs."
)


def _torch_zip():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", _PICKLE)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", np.arange(12, dtype=np.float32).tobytes())
    return out.getvalue()


def _torch_legacy():
    legacy = _PICKLE.replace(b"K\x0ctq\x08Q", b"K\x0cNtq\x08Q")
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    head = magic + b"\x80\x02M\xe9\x03." + b"\x80\x02}q\0X\r\0\0\0little_endianq\x01\x88s."
    keys = b"\x80\x02]q\0X\x01\0\0\x000q\x01a."
    return head + legacy + keys + struct.pack("<q", 12) + np.arange(12, dtype=np.float32).tobytes()
