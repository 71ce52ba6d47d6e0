"""The one exception that means "the user can fix this", and what others say."""

LONGEST = 600  # characters of an error that is shown


class UserError(Exception):
    """Bad input from outside: its message is one line that says what is wrong and what to do.

    Command-line entry points print it as `error: …` and exit with code 2, without a traceback.
    """


def first_line(error: Exception) -> str:
    """What an exception of a library says, at most 160 characters of its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def one_line(error: Exception) -> str:
    """An error as the commands print it: one line, whatever text of a file it quotes.

    Control characters could move the cursor of a terminal, or colour what comes after.
    """
    words = " ".join(str(error).split()) or type(error).__name__
    line = "".join(c if c.isprintable() else "?" for c in words)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
