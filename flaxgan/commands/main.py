"""The command `flaxgan`: its subcommands and their help."""

import difflib
import importlib
import sys
from collections.abc import Sequence

import flaxgan
from flaxgan.commands import cli
from flaxgan.errors import UserError
from flaxgan.times import part

# name -> what it does; each is `flaxgan/commands/<name>.py` with `main(argv)`
COMMANDS = {
    "train": "train a text-to-image GAN, or resume a run",
    "sample": "draw pictures from prompts",
    "interpolate": "draw a film that walks from prompt to prompt",
    "vary": "draw variations of pictures",
    "edit": "edit pictures by words",
    "inpaint": "redraw parts of pictures by words",
    "outpaint": "continue pictures beyond their sides",
    "upsample": "enlarge pictures",
    "evaluate": "score a trained generator, or a folder of pictures",
    "export": "write a trained generator to a file, for other programs, or as a web page",
    "push": "upload an exported model to the Hugging Face Hub",
    "inspect": "say what a folder of captioned pictures holds, before training on it",
    "benchmark": "measure how fast a config runs on this machine",
}


def help_text() -> str:
    """What `flaxgan --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "usage: flaxgan COMMAND [options]",
            "",
            "Text-to-image GANs: a prompt goes in, one forward pass comes out as an image.",
            "",
            *(f"  {name:<{width}}{what}" for name, what in COMMANDS.items()),
            "",
            "flaxgan COMMAND --help lists the options of a command.",
            "--plugin MODULE, with any command, first imports a Python module of yours.",
        ]
    )


def run_command(argv: Sequence[str]) -> int | None:
    """Runs `argv[1:]` by the command `argv[0]`.

    Raises:
      UserError: no such command, or what the command raises.
    """
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(help_text())
        return None if argv else 2
    name, *rest = argv
    if name == "--version":
        print(f"flaxgan {flaxgan.__version__}")
        return None
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown command {name!r}; available: {', '.join(COMMANDS)}{hint}")
    with part("imports"):
        module = importlib.import_module(f"flaxgan.commands.{name}")
    return module.main(rest)


def main() -> None:
    """The entry point of the console script."""
    cli.run(run_command, sys.argv[1:])
