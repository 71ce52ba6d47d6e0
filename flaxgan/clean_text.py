"""Captions as clean Unicode."""

import re
import unicodedata

UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # categories Cc and Cs
MAX_CHARACTERS = 2000


def clean(caption: str) -> str:
    """Unicode NFC without control characters and lone surrogates, at most MAX_CHARACTERS."""
    return printable(caption[:MAX_CHARACTERS])


def printable(text: str) -> str:
    """Unicode NFC; control characters and lone surrogates become spaces."""
    return UNPRINTABLE.sub(" ", unicodedata.normalize("NFC", text))


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; an ellipsis stands for the rest."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
