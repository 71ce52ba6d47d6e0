"""Small rules of English for captions that are put together."""

import re
from collections.abc import Sequence


def fix_articles(sentence: str) -> str:
    """Writes "an" before a vowel sound and "a" before others: "a auburn" -> "an auburn"."""

    def article(match: re.Match[str]) -> str:
        word = match.group(2)
        vowel = word[0].lower() in "aeiou" and not word.lower().startswith(("uni", "eu", "one"))
        return f"{'an' if vowel else 'a'} {word}"

    return re.sub(r"\b(a|an) (\w+)", article, sentence)


def join_words(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(items) < 3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]
