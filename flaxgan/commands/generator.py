"""Which generator a command draws with, and how it is called in what the user reads."""

from collections.abc import Callable, Mapping
from pathlib import Path

from flaxgan.drawing.bundled import (
    bundled_file,
    bundled_inpainters,
    bundled_models,
    bundled_name,
    bundled_upsamplers,
)
from flaxgan.drawing.loading import load, load_sampler
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.saving.finding import newest_run
from flaxgan.saving.generator_file import SUFFIX
from flaxgan.saving.hub import is_hub_name


def choose_sampler(
    checkpoint: Path | None,
    model: str | None,
    runs: Path,
    report: Callable[[str], None] = print,
    *,
    slow: bool = False,
) -> Sampler:
    """Loads what a command line names; without a name the newest run, else a bundled model.

    Args:
      checkpoint: a run, one of its checkpoints, or an exported file.
      model: name of a bundled model, or of one on the hub, "hub:user/name".
      runs: folder of the runs.
      report: called with one line for each broken checkpoint that is passed over.
      slow: the second average of a run.

    Raises:
      UserError: both are named, or what is named is not there or not intact, or there is nothing.
    """
    if checkpoint is not None and model is not None:
        raise UserError("use either --checkpoint or --model, not both")
    if model is not None:
        if slow:
            raise UserError("a bundled model has no slow EMA: remove --slow")
        if is_hub_name(model):
            return load(model)
        return load_sampler(bundled_file(model))
    if checkpoint is None:
        try:
            checkpoint = newest_run(runs)
        except UserError:
            if not (models := bundled_models()):
                raise
            return load_sampler(next(iter(models.values())))
    return load_sampler(checkpoint, report, slow=slow)


def choose_upsampler(checkpoint: Path | None, report: Callable[[str], None] = print) -> Sampler:
    """Loads an upsampler; without a name the first that comes with the package.

    Args:
      checkpoint: a run, one of its checkpoints, or an exported file.
      report: see `choose_sampler`.

    Raises:
      UserError: what is named is not there or not intact, or enlarges nothing.
    """
    files = bundled_upsamplers()
    sampler = _named_or_first(checkpoint, files, "upsampler", "upsample_folder.py", report)
    if not sampler.enlarges:
        raise UserError(f"{describe(sampler)} draws pictures, and enlarges none: name an upsampler")
    return sampler


def choose_inpainter(checkpoint: Path | None, report: Callable[[str], None] = print) -> Sampler:
    """Loads an inpainter; without a name the first that comes with the package.

    Args:
      checkpoint: a run, one of its checkpoints, or an exported file.
      report: see `choose_sampler`.

    Raises:
      UserError: what is named is not there or not intact, or fills no holes.
    """
    files = bundled_inpainters()
    sampler = _named_or_first(checkpoint, files, "inpainter", "inpaint_avatars.py", report)
    if not sampler.inpaints:
        raise UserError(f"{describe(sampler)} fills no holes of pictures: name an inpainter")
    return sampler


def _named_or_first(
    checkpoint: Path | None,
    files: Mapping[str, Path],
    kind: str,
    config: str,
    report: Callable[[str], None],
) -> Sampler:
    """What is named, or the first of the bundled files of its kind."""
    if checkpoint is None and not files:
        raise UserError(
            f"this installation has no {kind}: train one with --config configs/{config}, and name "
            "it with --checkpoint"
        )
    return load_sampler(checkpoint or next(iter(files.values())), report)


def upsampler_of(sampler: Sampler, upsampler: Path | None) -> Sampler:
    """What enlarges the pictures of a generator.

    Args:
      sampler: the generator.
      upsampler: a run, a checkpoint or a file; None: the bundled one of its data set.

    Raises:
      UserError: there is none, or it cannot be used.
    """
    if upsampler is None:
        data = sampler.config.data
        name = f"{data.name.partition('/')[0]}.upsampler"
        if data.path is not None or name not in bundled_upsamplers():
            raise UserError(
                f"there is no upsampler of {data.path or data.name}: train one with --config "
                "configs/upsample_folder.py, and name it with --upsampler"
            )
        upsampler = bundled_file(name)
    return choose_upsampler(upsampler)


def describe(sampler: Sampler) -> str:
    """Which weights these are, for the user's eyes: where from, and how long they were trained."""
    path = sampler.checkpoint
    if path.suffix == SUFFIX:
        name = bundled_name(path)
        source = sampler.source or (str(path) if name is None else f"the bundled model {name}")
        version = sampler.meta.get("flaxgan")
        return f"{source} ({sampler.images_seen:,} images seen, flaxgan {version})"
    run = path.parent.parent if path.parent.name == "checkpoints" else path
    return f"{run}, step {sampler.step}"


def origin(sampler: Sampler) -> str:
    """Which weights made a picture, as its file says."""
    name = bundled_name(sampler.checkpoint)
    weights = f"{sampler.config.name} step {sampler.step}"
    name = sampler.source or name
    return weights if name is None else f"{name}: {weights}"
