"""Trained generators that come with the package, and which weights a command draws with.

Each is `weights/<name>.safetensors`, made by `flaxgan export`, with a model card `<name>.md`
beside, and where it was exported too its discriminator, to train on from.
"""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from flaxgan.drawing.sampler import Sampler, load_sampler
from flaxgan.errors import UserError
from flaxgan.saving.finding import newest_run
from flaxgan.saving.generator_file import SUFFIX

FOLDER = Path(str(resources.files("flaxgan"))) / "weights"
NAMES = ("avatars", "emoji")  # the first that is there is the default


def shipped_models() -> dict[str, Path]:
    """Name -> file of those that this installation has."""
    files = {name: FOLDER / f"{name}{SUFFIX}" for name in NAMES}
    return {name: file for name, file in files.items() if file.is_file()}


def shipped_name(path: Path) -> str | None:
    """The name of the shipped model whose file this is; None for any other path."""
    return next((name for name, file in shipped_models().items() if file == path), None)


def load_shipped(name: str) -> Sampler:
    """Loads a shipped model.

    Raises:
      UserError: there is none of that name.
    """
    return load_sampler(shipped_file(name))


def shipped_file(name: str) -> Path:
    """The file of a shipped model.

    Raises:
      UserError: there is none of that name.
    """
    models = shipped_models()
    if name not in models:
        there = f"there are: {', '.join(models)}" if models else "this installation has none"
        raise UserError(f"no shipped model {name!r}; {there}")
    return models[name]


def choose_sampler(
    checkpoint: Path | None,
    model: str | None,
    runs: Path,
    report: Callable[[str], None] = print,
    *,
    slow: bool = False,
) -> Sampler:
    """Loads what a command line names; without a name the newest run, else a shipped model.

    Args:
      checkpoint: a run, one of its checkpoints, or an exported file.
      model: name of a shipped model.
      runs: folder of the runs.
      report: called with one line for each broken checkpoint that is passed over.
      slow: the second average of a run.

    Raises:
      UserError: both are named, or what is named is not there or not intact, or there is nothing.
    """
    if checkpoint is not None and model is not None:
        raise UserError("--checkpoint and --model name two generators: give one of them")
    if model is not None:
        if slow:
            raise UserError("a shipped model is one generator: leave out --slow")
        return load_shipped(model)
    if checkpoint is None:
        try:
            checkpoint = newest_run(runs)
        except UserError:
            if not (models := shipped_models()):
                raise
            return load_shipped(next(iter(models)))
    return load_sampler(checkpoint, report, slow=slow)


def describe(sampler: Sampler) -> str:
    """Which weights these are, for the user's eyes: where from, and how long they were trained."""
    path = sampler.checkpoint
    if path.suffix == SUFFIX:
        name = shipped_name(path)
        source = str(path) if name is None else f"the shipped model {name}"
        version = sampler.meta.get("flaxgan")
        return f"{source} ({sampler.images_seen:,} images seen, flaxgan {version})"
    run = path.parent.parent if path.parent.name == "checkpoints" else path
    return f"{run}, step {sampler.step}"
