"""`flaxgan export`: writes a trained generator to one file.

The file holds the averaged generator, the text statistics and the config, and nothing that only
training needs; the other commands read it where they read a checkpoint. With
--discriminator a second file beside it holds the discriminator, which train --init-from reads.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

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
    from flaxgan.run.transfer import read_source
    from flaxgan.saving.generator_file import SUFFIX, check_free, discriminator_file, write_network

    sampler = load_sampler(checkpoint, slow=slow)
    out = out or Path(f"{Path(sampler.config.name).name}{SUFFIX}")
    header = {
        "config": to_json(_portable(sampler.config)),
        "step": sampler.step,
        "images_seen": sampler.images_seen,
        "metrics": sampler.meta.get("metrics", {}),
        "flaxgan": flaxgan.__version__,
    }
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


def main(argv: Sequence[str]) -> None:
    """Parses the command line, writes, and says what."""
    parser = cli.Parser(prog="flaxgan export", description="Write a trained generator to one file.")
    add = parser.add_argument
    cli.add_checkpoint_option(parser, required=True)
    cli.add_slow_option(parser)
    add("--out", type=Path, metavar="FILE.safetensors", help="default: named as the config")
    dtypes = ("float16", "bfloat16", "float32")
    add("--dtype", default=dtypes[0], choices=dtypes, help="of the parameters in the file")
    add("--discriminator", action="store_true", help="a second file, for train --init-from")
    add("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args(argv)
    cli.prepare_process()
    out = export(
        args.checkpoint,
        args.out,
        dtype=args.dtype,
        overwrite=args.overwrite,
        slow=args.slow,
        discriminator=args.discriminator,
    )

    from flaxgan.saving.generator_file import discriminator_file

    for path in [out, discriminator_file(out)][: 1 + args.discriminator]:
        print(f"wrote {path}, {path.stat().st_size:,} bytes")
