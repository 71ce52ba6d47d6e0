"""Where module commands of earlier versions went."""

import sys
from typing import NoReturn

MOVED = {
    "flaxgan.benchmark": "flaxgan benchmark",
    "flaxgan.data.benchmark": "python -m tools.benchmark_input (in a clone)",
    "flaxgan.data.inspect": "flaxgan inspect",
    "flaxgan.evaluate": "flaxgan evaluate",
    "flaxgan.evaluate.train_attribute_net": "python -m tools.train_attribute_net (in a clone)",
    "flaxgan.evaluate.train_emoji_matcher": "python -m tools.train_emoji_matcher (in a clone)",
    "flaxgan.export": "flaxgan export",
    "flaxgan.scaling": "python -m tools.scaling (in a clone)",
}


def say_where(module: str) -> NoReturn:
    """Prints the new name of a module command in one line, and exits with code 2."""
    print(f"error: python -m {module} is now: {MOVED[module]}", file=sys.stderr)
    sys.exit(2)
