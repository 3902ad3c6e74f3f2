"""The one kind of error that is shown to a person as a single line, and its words."""

from collections.abc import Sequence


class BegatError(ValueError):
    """Something a person can mend.

    The message is one line: which file, key or unit; what was expected; what was found; what to do.
    Programs print it without a traceback and exit with status 1.
    """


def brief(value: object, most: int = 200) -> str:
    """A stranger's value or message as one printable line of at most ``most`` characters."""
    text = value if isinstance(value, str) else str(value)
    line = " ".join(text[: 10 * most].split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def shortened(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
