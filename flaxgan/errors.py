"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input from outside: its message is one line that says what is wrong and what to do.

    Command-line entry points print it as `error: …` and exit with code 2, without a traceback.
    """
