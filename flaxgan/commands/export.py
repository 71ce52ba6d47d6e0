"""`flaxgan export`: writes a trained generator to a file, or to a folder.

A .safetensors file holds the averaged generator, the text statistics and the config, and nothing
that only training needs; the other commands read it where they read a checkpoint. With
--discriminator a second file beside it holds the discriminator, which train --init-from reads. The
other formats are for other programs: see docs/export.md.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flaxgan
from flaxgan.commands import cli
from flaxgan.config import Config, to_json
from flaxgan.errors import UserError


def export(
    checkpoint: Path,
    out: Path | None = None,
    *,
    dtype: str = "float16",
    overwrite: bool = False,
    slow: bool = False,
    discriminator: bool = False,
) -> Path:
    """Writes the averaged generator of a checkpoint, and if asked its discriminator beside it.

    Args:
      checkpoint: a run, one of its checkpoints, or a file that was exported before.
      out: the file; None: `<config name>.safetensors` in the current folder.
      dtype: of the parameters in the file: float16, bfloat16 or float32.
      overwrite: whether a file that is there may be replaced.
      slow: the second average of a run.
      discriminator: whether to write `discriminator_file(out)` too.

    Returns:
      The generator's file.

    Raises:
      UserError: no intact checkpoint, or a file exists, cannot be written, or its dtype does not
        hold the parameters, or there is no discriminator.
    """
    from flaxgan.drawing.loading import load_sampler

    return write_safetensors(
        load_sampler(checkpoint, slow=slow),
        out,
        dtype=dtype,
        overwrite=overwrite,
        discriminator=discriminator,
    )


def write_safetensors(
    sampler: Any,
    out: Path | None = None,
    *,
    dtype: str = "float16",
    overwrite: bool = False,
    discriminator: bool = False,
) -> Path:
    """As `export`, of a generator that is loaded."""
    from flaxgan.run.transfer import read_source
    from flaxgan.saving.generator_file import SUFFIX, check_free, discriminator_file, write_network

    out = out or _default(sampler, SUFFIX)
    header = header_of(sampler)
    item = {"params": sampler.params, "text_stats": sampler.text_stats}
    beside = discriminator_file(out)
    if discriminator:
        d_params = read_source(sampler.checkpoint).discriminator
        if d_params is None:
            raise UserError(f"{sampler.checkpoint} has no discriminator beside it: export a run's")
        check_free(beside, overwrite)
    write_network(out, item, header, dtype=dtype, overwrite=overwrite)
    if discriminator:
        item, kind = {"params": d_params}, "discriminator"
        write_network(beside, item, header, dtype=dtype, overwrite=overwrite, kind=kind)
    return out


def header_of(sampler: Any) -> dict[str, Any]:
    """What a file says about where its weights come from."""
    return {
        "config": to_json(_portable(sampler.config)),
        "step": sampler.step,
        "images_seen": sampler.images_seen,
        "metrics": sampler.meta.get("metrics", {}),
        "flaxgan": flaxgan.__version__,
    }


def _default(sampler: Any, suffix: str) -> Path:
    """Named as the config, in the current folder."""
    return Path(f"{Path(sampler.config.name).name}{suffix}")


def _portable(config: Config) -> Config:
    """Without the places of data, caches, judges and other runs on this machine.

    Of own pictures the folder's name stays, without its place. `text.path` stays: another encoder
    than the default is found nowhere else; so does a bundled model's name, as its licence is that
    of what was made from it.
    """
    from flaxgan.drawing.bundled import ALL

    replace, source, own = dataclasses.replace, config.train.init_from, config.data.path
    nowhere = {"cache_dir": None, "inception": None, "clip": None, "dinov2": None}
    return replace(
        config,
        data=replace(config.data, data_dir=None, path=own and Path(own).name),
        text=replace(config.text, cache_dir=None),
        train=replace(config.train, init_from=source if source in ALL else None),
        eval=replace(config.eval, **nowhere),
    )


@dataclasses.dataclass(frozen=True)
class Format:
    """One form that a generator can be written in.

    Attributes:
      write: `write(sampler, args)`: writes it, and says what; args are those of the command.
      dtypes: that parameters can be stored in, the default first.
      options: beyond those of every format, that it reads.
    """

    write: Callable[[Any, argparse.Namespace], None]
    dtypes: tuple[str, ...]
    options: tuple[str, ...] = ()


def _safetensors(sampler: Any, args: argparse.Namespace) -> None:
    from flaxgan.saving.generator_file import discriminator_file

    out = write_safetensors(
        sampler,
        args.out,
        dtype=args.dtype,
        overwrite=args.overwrite,
        discriminator=args.discriminator,
    )
    for path in [out, discriminator_file(out)][: 1 + args.discriminator]:
        print(f"wrote {path}, {path.stat().st_size:,} bytes")


def _stablehlo(sampler: Any, args: argparse.Namespace) -> None:
    from flaxgan.exporting.files import check_free
    from flaxgan.exporting.stablehlo import to_stablehlo

    out = args.out or _default(sampler, ".stablehlo")
    check_free(out, ".stablehlo", args.overwrite)
    _report(out, *to_stablehlo(sampler, args.dtype))


def _onnx(sampler: Any, args: argparse.Namespace) -> None:
    from flaxgan.exporting.files import check_free
    from flaxgan.exporting.onnx_file import check_installed, to_onnx

    out = args.out or _default(sampler, ".onnx")
    check_free(out, ".onnx", args.overwrite)
    check_installed()
    _report(out, *to_onnx(sampler, args.dtype))


def _hub(sampler: Any, args: argparse.Namespace) -> None:
    from flaxgan.exporting import hub_folder
    from flaxgan.exporting.files import check_folder
    from flaxgan.saving.hub import FILE

    folder = args.out or _default(sampler, "")
    check_folder(folder, args.overwrite)
    prompts = hub_folder.preview_prompts(sampler, args.prompt)
    write_safetensors(
        sampler,
        folder / FILE,
        dtype=args.dtype,
        overwrite=args.overwrite,
        discriminator=args.discriminator,
    )
    hub_folder.write_about(folder, sampler, header_of(sampler), prompts, args.license)
    print(f"wrote {folder}; upload it: flaxgan push {folder} user/name")


def _web(sampler: Any, args: argparse.Namespace) -> None:
    from flaxgan.exporting.files import check_folder
    from flaxgan.exporting.onnx_file import check_installed
    from flaxgan.exporting.program import describe_difference

    folder = args.out or _default(sampler, "_page")
    check_folder(folder, args.overwrite)
    check_installed()
    from flaxgan.exporting.web import LETTERS, to_web

    languages = tuple((args.languages or "en,zh").split(","))
    if not set(languages) <= set(LETTERS):
        raise UserError(f"--languages must be of {', '.join(LETTERS)}, not {args.languages}")
    difference, size = to_web(sampler, folder, languages, args.dtype, args.runtime)
    print(describe_difference(difference))
    print(f"wrote {folder}: {size:,} bytes are loaded before the first picture")
    print(f"open it: python -m http.server --directory {folder}")


def _report(path: Path, data: bytes, difference: float) -> None:
    """Writes a file that was checked, and says so."""
    from flaxgan.exporting.files import write_with_digest
    from flaxgan.exporting.program import describe_difference

    print(describe_difference(difference))
    digest = write_with_digest(path, data)
    print(f"wrote {path}, {len(data):,} bytes, sha256 {digest}")


FORMATS = {
    "safetensors": Format(
        _safetensors, ("float16", "bfloat16", "float32"), options=("discriminator",)
    ),
    "stablehlo": Format(_stablehlo, ("float32", "float16", "bfloat16")),
    "onnx": Format(_onnx, ("float32", "float16")),
    "hub": Format(
        _hub,
        ("float16", "bfloat16", "float32"),
        options=("discriminator", "prompt", "license"),
    ),
    "web": Format(_web, ("float16", "float32"), options=("languages", "runtime")),
}


def main(argv: Sequence[str]) -> None:
    """Parses the command line, writes, and says what."""
    parser = cli.Parser(
        prog="flaxgan export",
        description="Write a trained generator to a file, for other programs, or as a web page.",
    )
    add = parser.add_argument
    cli.add_generator_options(parser)
    add("--format", default="safetensors", choices=tuple(FORMATS), help="default: safetensors")
    add("--out", type=Path, metavar="PATH", help="file or folder; default: named as the config")
    dtypes = FORMATS["safetensors"].dtypes
    add("--dtype", choices=dtypes, help="of the parameters in the file")
    add("--discriminator", action="store_true", help="a second file, for train --init-from")
    add("--prompt", action="append", default=[], help="of preview.png, any number of times")
    add("--license", metavar="ID", help="of the weights, in the model card: apache-2.0 …")
    add("--languages", metavar="LIST", help="of prompts on a web page; default: en,zh")
    add("--runtime", type=Path, metavar="FILE.tgz", help="of npm pack, without a network")
    add("--overwrite", action="store_true", help="replace what is there")
    add("folder", nargs="?", type=Path, metavar="DIR", help="in place of --out")
    args = parser.parse_args(argv)
    chosen = FORMATS[args.format]
    for name in {option for each in FORMATS.values() for option in each.options}:
        if getattr(args, name) and name not in chosen.options:
            raise UserError(f"--{name} is not read with --format {args.format}: remove it")
    args.dtype = args.dtype or chosen.dtypes[0]
    if args.dtype not in chosen.dtypes:
        raise UserError(
            f"--dtype must be one of {', '.join(chosen.dtypes)} with --format {args.format}, not "
            f"{args.dtype}"
        )
    if args.checkpoint is None and args.model is None:
        raise UserError("name a generator by --checkpoint or --model; see flaxgan export --help")
    if args.folder is not None and args.out is not None:
        raise UserError(f"name either --out or {args.folder}, not both")
    args.out = args.out or args.folder
    cli.prepare_process()

    from flaxgan.commands.generator import choose_sampler, describe

    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    if args.checkpoint is None:
        print(f"exporting {describe(sampler)}", flush=True)
    chosen.write(sampler, args)
