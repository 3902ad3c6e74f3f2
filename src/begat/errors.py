"""The one kind of error that is shown to a person as a single line."""


class BegatError(ValueError):
    """Something a person can mend.

    The message is one line: which file, key or unit; what was expected; what was found; what to do.
    Programs print it without a traceback and exit with status 1.
    """


def one_line(text: str, letters: int = 80) -> str:
    """A text for an error message: printable, on one line, at most so many letters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= letters else f"{words[: letters - 3]}..."
