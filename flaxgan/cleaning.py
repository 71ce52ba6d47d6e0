"""Captions as clean Unicode."""

import unicodedata

MAX_CHARACTERS = 2000


def clean(caption: str) -> str:
    """Unicode NFC without control characters and lone surrogates, at most MAX_CHARACTERS."""
    return printable(caption[:MAX_CHARACTERS])


def printable(text: str) -> str:
    """Unicode NFC; control characters and lone surrogates become spaces."""
    text = unicodedata.normalize("NFC", text)
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text)
