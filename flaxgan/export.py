"""Puts a trained generator into one file: python -m flaxgan.export --checkpoint runs/X.

The file holds the averaged generator, the text statistics and the config, and nothing that only
training needs; sample.py and flaxgan.evaluate read it where they read a checkpoint.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import flaxgan
from flaxgan import cli
from flaxgan.config import Config, to_json


def export(
    checkpoint: Path,
    out: Path | None = None,
    *,
    dtype: str = "float16",
    overwrite: bool = False,
    slow: bool = False,
) -> Path:
    """Writes the averaged generator of a checkpoint.

    Args:
      checkpoint: a run, one of its checkpoints, or a file that was exported before.
      out: the file; None: `<config name>.safetensors` in the current folder.
      dtype: of the parameters in the file: float16, bfloat16 or float32.
      overwrite: whether a file that is there may be replaced.
      slow: the second average of a run.

    Returns:
      The file.

    Raises:
      UserError: no intact checkpoint, or the file exists, cannot be written, or its dtype does not
        hold the parameters.
    """
    from flaxgan.generator_file import SUFFIX, write_network
    from flaxgan.sampling import load_sampler

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
    write_network(out, item, header, dtype=dtype, overwrite=overwrite)
    return out


def _portable(config: Config) -> Config:
    """Without the places of data, caches and judges on this machine.

    `text.path` stays: another encoder than the default is found nowhere else.
    """
    replace = dataclasses.replace
    nowhere = {"cache_dir": None, "inception": None, "clip": None, "dinov2": None}
    return replace(
        config,
        data=replace(config.data, data_dir=None),
        text=replace(config.text, cache_dir=None),
        eval=replace(config.eval, **nowhere),
    )


def main(argv: Sequence[str]) -> None:
    """Parses the command line, writes, and says what."""
    parser = cli.Parser(
        prog="python -m flaxgan.export", description="Put a trained generator into one file."
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a run, or one of its checkpoints")
    add("--out", type=Path, metavar="FILE.safetensors", help="default: named as the config")
    dtypes = ("float16", "bfloat16", "float32")
    add("--dtype", default=dtypes[0], choices=dtypes, help="of the parameters in the file")
    add("--slow", action="store_true", help="the second average, of ema_slow_halflife_kimg")
    add("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args(argv)
    cli.prepare_process()
    out = export(
        args.checkpoint, args.out, dtype=args.dtype, overwrite=args.overwrite, slow=args.slow
    )
    print(f"wrote {out}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    cli.run(main)
