"""Terminal tables of a challenge: verdict, reason and both LDS of each method."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from begat.evaluation.intervals import Row

COLOURS = {"accepted": "green", "rejected": "red", "undecided": "yellow"}


def print_needs(console: Console, needs: Mapping[str, Any]) -> None:
    """Print how many subsets are needed to accept each method."""
    rule = needs["rule"]
    console.print(
        f"An honest method is accepted with a probability of {rule['power']:.0%} if its claim is "
        f"right and a challenge has this many subsets (the run has {needs['committed_subsets']})."
    )
    columns = ("method", "claimed LDS", "subsets", "models")
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for method, row in needs["methods"].items():
        numbers = (
            ("more in the run", "") if row["needed"] is None else (row["needed"], row["models"])
        )
        table.add_row(Text(method), interval(row["claimed"]), *map(str, numbers))
    console.print(table)


def print_challenge(console: Console, outcome: Mapping[str, Any]) -> None:
    """Print the outcome of a challenge."""
    console.print(
        f"challenge {outcome['of']}-{outcome['seed']}: {outcome['subsets']} fresh subsets of "
        f"{outcome['of']}, {outcome['committed_subsets']} committed, "
        f"{outcome['seeds_per_subset']} seeds each"
    )
    columns: list[Column | str] = [Column("method", no_wrap=True), "claimed LDS", "fresh LDS"]
    columns += ["p claim", "p names", "verdict", "reason"]
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for method, row in outcome["methods"].items():
        p_values = (f"{row[name]:.3f}" for name in ("claim_p", "names_p"))
        verdict = Text(row["verdict"], COLOURS[row["verdict"]])
        rows = interval(row["claimed"]), interval(row["fresh"])
        table.add_row(Text(method), *rows, *p_values, verdict, row["reason"])
    console.print(table)
    for line in notes(outcome):
        console.print(Text(line), soft_wrap=True)


def notes(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the columns mean, the probabilities of errors, and the challenges before."""
    rule = outcome["rule"]
    yield (
        "p claim: of a fresh LDS so far below the claim, if the scores are as good on fresh "
        "subsets. p names: of a fresh LDS as high, with the names of the units exchanged."
    )
    yield (
        f"For each method, the probability is at most {rule['error']:.0%} to reject an honest "
        f"claim, and to accept an LDS below {rule['fraction']:.0%} of the claim."
    )
    earlier = len(outcome["earlier"]) + len(outcome["earlier_sizes"])
    yield (
        f"Challenges of {outcome['of']} in this folder before this one: {earlier}. These "
        "probabilities are those of the first; the best of several proves nothing."
    )


def interval(row: Row) -> str:
    """Returns an LDS with its interval, if it has one."""
    if row["low"] is None:
        return f"{row['value']:+.2f}"
    return f"{row['value']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
