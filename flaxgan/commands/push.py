"""`flaxgan push`: a folder of `flaxgan export --format hub` to the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan.commands import cli
from flaxgan.saving.hub import PREFIX, upload


def main(argv: Sequence[str]) -> None:
    """Parses the command line, uploads, and says what to load."""
    parser = cli.Parser(
        prog="flaxgan push", description="Upload a model to the Hugging Face Hub, under your name."
    )
    parser.add_argument("folder", type=Path, help="of flaxgan export --format hub")
    parser.add_argument("repository", metavar="user/name", help="is made if it is not there")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    args = parser.parse_args(argv)
    commit = upload(args.folder, args.repository, private=args.private)
    print(f"pushed {args.folder}: {PREFIX}{args.repository}@{commit}")
