"""The one exception that means "the user can mend this", and what others say."""


class UserError(Exception):
    """Bad input from outside: its message is one line that says what is wrong and what to do.

    Command-line entry points print it as `error: …` and exit with code 2, without a traceback.
    """


def first_line(error: Exception) -> str:
    """What an exception of a library says, at most 160 characters of its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
