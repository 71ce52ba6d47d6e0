"""Sizes of every model family and their cost: python -m tools.model_sizes --resolution 64."""

import dataclasses
from collections.abc import Sequence

from flaxgan.commands import cli
from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.models.variants import VARIANTS, cost


def main(argv: Sequence[str]) -> None:
    """Prints the table for words of a caption as text."""
    parser = cli.Parser(
        prog="python -m tools.model_sizes", description="Sizes of models and their cost."
    )
    parser.add_argument("--resolution", type=int, default=64, help="pixels, a side")
    args = parser.parse_args(argv)
    lines = ["| variant | G params | D params | G GFLOP/image | D GFLOP/image |", "|---" * 5 + "|"]
    for name, fields in VARIANTS.items():
        config = Config(
            data=DataConfig(resolution=args.resolution),
            text=TextConfig(encoder="words", max_tokens=48, dim=128, depth=1),
            model=dataclasses.replace(ModelConfig(z_dim=64, output="linear"), **fields),
        )
        found = cost(config)
        lines.append(
            f"| `{name}` | {found.g_params / 1e6:.1f} M | {found.d_params / 1e6:.1f} M "
            f"| {found.g_flops / 1e9:.2f} | {found.d_flops / 1e9:.2f} |"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    cli.run(main)
