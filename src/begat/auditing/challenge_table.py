"""Terminal tables of a challenge: verdict, reason and both LDS of each method."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from begat.evaluation.challenge_verdicts import MAX_SUBSETS
from begat.evaluation.intervals import Row

COLOURS = {"accepted": "green", "rejected": "red", "undecided": "yellow"}


def print_needs(console: Console, needs: Mapping[str, Any]) -> None:
    """Print how many subsets are needed to accept each method."""
    rule = needs["rule"]
    console.print(
        f"A method whose claim is true is accepted with a probability of {rule['power']:.0%} by "
        f"this many fresh subsets. The run has {needs['committed_subsets']}."
    )
    columns = ("method", "claimed LDS", "subsets", "models")
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for method, row in needs["methods"].items():
        numbers = (row["needed"] or f"over {MAX_SUBSETS}", row["models"] or "")
        table.add_row(Text(method), with_error(row["claimed"]), *map(str, numbers))
    console.print(table)


def print_challenge(console: Console, outcome: Mapping[str, Any]) -> None:
    """Print the outcome of a challenge."""
    console.print(
        f"challenge {outcome['of']}-{outcome['seed']}: {outcome['subsets']} fresh subsets of "
        f"{outcome['of']}, {outcome['committed_subsets']} committed, "
        f"{outcome['seeds_per_subset']} seeds each"
    )
    names = ("method", "claimed LDS", "fresh LDS", "claim p", "names p")
    columns = [*(Column(name, no_wrap=True) for name in names), Column("verdict")]
    table = Table(*columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for method, row in outcome["methods"].items():
        p_values = (f"{row[name]:.3f}" for name in ("claim_p", "names_p"))
        words = ": ".join(part for part in (row["verdict"], row["reason"]) if part)
        rows = with_error(row["claimed"]), with_error(row["fresh"])
        table.add_row(Text(method), *rows, *p_values, Text(words, COLOURS[row["verdict"]]))
    console.print(table)
    for line in notes(outcome):
        console.print(Text(line), soft_wrap=True)


def notes(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the columns mean, the probabilities of errors, and the challenges before."""
    rule = outcome["rule"]
    yield (
        "LDS with 95 % intervals over subsets. claim p: of a fresh LDS so far below the claim, if "
        "the scores are as good on fresh subsets. names p: of a fresh LDS as high, if the units "
        "had exchanged their names."
    )
    yield (
        f"For each method, the probability is at most {rule['error']:.0%} to reject an honest "
        f"claim, and to accept an LDS below {rule['fraction']:.0%} of the claim."
    )
    earlier = len(outcome["earlier"]) + len(outcome["earlier_sizes"])
    if earlier:
        yield (
            f"Challenges of {outcome['of']} before this one: {earlier}. These probabilities are "
            "those of the first; the best of several proves nothing."
        )


def with_error(row: Row) -> str:
    """Returns an LDS with half the width of its 95 % interval, if it has one."""
    if row["low"] is None:
        return f"{row['value']:+.2f}"
    return f"{row['value']:+.2f} ±{(row['high'] - row['low']) / 2:.2f}"
