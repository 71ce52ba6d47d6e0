"""Captions as clean Unicode."""

import re
import unicodedata

UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")  # categories Cc and Cs
MAX_CHARACTERS = 2000
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def clean(caption: str) -> str:
    """Unicode NFC without control characters and lone surrogates, at most MAX_CHARACTERS."""
    return printable(caption[:MAX_CHARACTERS])


def text_lines(data: bytes) -> list[str]:
    """Lines of a text file: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises:
      ValueError: it is neither.
    """
    text = data.decode("utf-16" if data[:2] in UTF16_MARKS else "utf-8-sig")
    if "\0" in text:  # UTF-16 without a mark, UTF-32, no text at all
        raise ValueError("not UTF-8, and not UTF-16 with a byte order mark")
    return re.split(r"\r\n|\r|\n", text)


def printable(text: str) -> str:
    """Unicode NFC; control characters and lone surrogates become spaces."""
    return UNPRINTABLE.sub(" ", unicodedata.normalize("NFC", text))


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; an ellipsis stands for the rest."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
