"""Names of unlearning operators, until their parser takes their own parameters."""

from dataclasses import dataclass
from typing import Any

from begat.errors import BegatError, brief

OPERATORS = (
    "posterior_mean",
    "retrack",
    "anchor",
    "esd",
    "swap",
    "noise",
    "ascent",
    "siss",
    "salun",
    "ewc",
    "retain_only",
    "newton",
)


@dataclass(frozen=True)
class Operator:
    """An operator's name and what it needs."""

    name: str
    needs_curvature: bool
    needs_labels: bool


def parse_operator(mapping: dict[str, Any]) -> Operator:
    """Returns the operator of a mapping.

    Raises:
        BegatError: an unknown name.
    """
    if (name := mapping.get("name")) not in OPERATORS:
        raise BegatError(f"name: expected one of {', '.join(OPERATORS)}, found {brief(name, 80)}")
    return Operator(name, name == "newton", name in ("anchor", "esd"))
