"""The one kind of error that is shown to a person as a single line."""


class BegatError(ValueError):
    """Something a person can mend.

    The message is one line: which file, key or unit; what was expected; what was found; what to do.
    Programs print it without a traceback and exit with status 1.
    """
