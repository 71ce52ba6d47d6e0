"""Whether prompts as people write them are obeyed: python -m tools.score_prompts --model avatars.

The captions of `avatars` are all made by one grammar, and so are the scores `attributes`. This list
is written by hand: fragments, lists, orders of their own, English and Chinese. Beside each prompt
stands what a picture of it has to show; the classifier of `attributes` judges.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxgan.commands import cli
from flaxgan.commands.generator import choose_sampler
from flaxgan.data.avatars import ATTRIBUTES
from flaxgan.errors import UserError
from flaxgan.evaluate.networks.attribute_net import (
    AttributeClassifier,
    load_attribute_classifier,
)

PROMPTS = Path(__file__).parent.parent / "docs" / "handwritten_prompts.jsonl"


class Prompt(NamedTuple):
    """One line of the list.

    Attributes:
      text: the prompt.
      shows: attribute -> the values that are right.
    """

    text: str
    shows: dict[str, tuple[str, ...]]

    @property
    def language(self) -> str:
        """ "zh" where there is a Chinese character, else "en"."""
        return "zh" if any("\u3400" <= c <= "\u9fff" for c in self.text) else "en"


def read_prompts(path: Path) -> list[Prompt]:
    """Reads lines of `{"prompt": …, "shows": {attribute: "VALUE|VALUE"}}`.

    Raises:
      UserError: a line is no such thing, or names an attribute or a value that there is not.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            prompt = Prompt(
                row["prompt"], {name: tuple(v.split("|")) for name, v in row["shows"].items()}
            )
            for name, values in prompt.shows.items():
                for value in values:
                    ATTRIBUTES[name].index(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        found.append(prompt)
    return found


def right(prompt: Prompt, classifier: AttributeClassifier, seen: np.ndarray) -> np.ndarray:
    """Which of the prompt's attributes pictures show: `[n, attributes]` bool.

    Args:
      prompt: with what it has to show; what the classifier does not tell is left out.
      classifier: whose values that look alike count as one.
      seen: `[n, classes]` of `AttributeClassifier.predict`.
    """
    names = list(classifier.classes)
    columns = []
    for name in prompt.shows.keys() & classifier.classes.keys():
        alike = classifier.alike.get(name, {})
        values = {alike.get(value, value) for value in prompt.shows[name]}
        numbers = [ATTRIBUTES[name].index(value) for value in values]
        columns.append(np.isin(seen[:, names.index(name)], numbers))
    return np.stack(columns, axis=1) if columns else np.ones((len(seen), 0), bool)


def main(argv: Sequence[str]) -> None:
    """Prints a line for each prompt, and the shares of both languages."""
    parser = cli.Parser(
        prog="python -m tools.score_prompts",
        description="Share of pictures that show everything that a hand-written prompt names.",
    )
    cli.add_generator_options(parser)
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="JSON lines")
    parser.add_argument("--num", type=int, default=8, help="pictures of each prompt")
    parser.add_argument("--best-of", type=int, default=1, help="as of flaxgan sample")
    args: argparse.Namespace = parser.parse_args(argv)
    prompts = read_prompts(args.prompts)
    sampler = choose_sampler(args.checkpoint, args.model, args.runs, slow=args.slow)
    classifier = load_attribute_classifier(sampler.config.data.resolution)
    images = sampler(
        [prompt.text for prompt in prompts], num=args.num, seed=0, best_of=args.best_of
    )
    whole: dict[str, list[float]] = {}
    single: dict[str, list[float]] = {}
    for prompt, pictures in zip(prompts, images, strict=True):
        found = right(prompt, classifier, classifier.predict(pictures))
        whole.setdefault(prompt.language, []).append(float(found.all(axis=1).mean()))
        single.setdefault(prompt.language, []).append(float(found.mean()))
        print(f"{found.all(axis=1).mean():5.2f} {found.mean():5.2f}  {prompt.text}")
    for language, shares in whole.items():
        print(
            f"{language}: {np.mean(shares):.2f} of pictures show all that is named, "
            f"{np.mean(single[language]):.2f} of what is named is shown; {len(shares)} prompts"
        )


if __name__ == "__main__":
    cli.run(main)
