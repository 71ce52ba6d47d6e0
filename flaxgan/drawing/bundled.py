"""Trained generators that come with the package, and what enlarges and completes their pictures.

Each is `weights/<name>.safetensors`, made by `flaxgan export`, with a model card `<name>.md`
beside, and where it was exported too its discriminator, to train on from.
"""

from importlib import resources
from pathlib import Path

from flaxgan.errors import UserError

FOLDER = Path(str(resources.files("flaxgan"))) / "weights"
NAMES = ("avatars", "emoji")  # the first that is there is the default
UPSAMPLERS = ("avatars.upsampler",)  # of the model whose name comes before the dot
INPAINTERS = ("avatars.inpainter",)  # likewise
ALL = NAMES + UPSAMPLERS + INPAINTERS


def bundled_models() -> dict[str, Path]:
    """Name -> file of those that draw from prompts and that this installation has."""
    return _files(NAMES)


def bundled_upsamplers() -> dict[str, Path]:
    """Name -> file of the upsamplers that this installation has."""
    return _files(UPSAMPLERS)


def bundled_inpainters() -> dict[str, Path]:
    """Name -> file of the inpainters that this installation has."""
    return _files(INPAINTERS)


def all_bundled() -> dict[str, Path]:
    """Name -> file of all of them."""
    return _files(ALL)


def bundled_name(path: Path) -> str | None:
    """The name of the bundled model whose file this is; None for any other path."""
    return next((name for name, file in all_bundled().items() if file == path), None)


def bundled_file(name: str) -> Path:
    """The file of a bundled model.

    Raises:
      UserError: there is none of that name.
    """
    models = all_bundled()
    if name not in models:
        there = f"there are: {', '.join(models)}" if models else "this installation has none"
        raise UserError(f"no bundled model {name!r}; {there}")
    return models[name]


def _files(names: tuple[str, ...]) -> dict[str, Path]:
    files = {name: FOLDER / f"{name}.safetensors" for name in names}
    return {name: file for name, file in files.items() if file.is_file()}
