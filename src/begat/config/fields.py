"""Declaration of one parameter: its help, unit, bounds and choices, as a dataclass field."""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal, get_origin

MAX_COUNT = 1_000_000  # bound of every count, so that a typing error fills no memory


def param(
    help: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    choices: Sequence[str | int] = (),
    plans_only: bool = False,
) -> Any:
    """Returns a dataclass field without a default: a parameter that every file must give.

    Args:
        help: the comment in ``params.yaml``, without a full stop.
        unit: of the number.
        ge, le, gt: bounds: at least, at most, more than.
        choices: the values allowed.
        plans_only: it decides only which jobs there are, and so is in no job's key: changing it
            leaves all results as they are. A job that depends on it puts it into its own key.
    """
    metadata = dict(
        help=help, unit=unit, ge=ge, le=le, gt=gt, choices=tuple(choices), plans_only=plans_only
    )
    return field(default="???", metadata=metadata)


def plain_type(declared: dataclasses.Field[Any]) -> Any:
    """Returns the type of a parameter's values in a file: text where it is one of some words."""
    return str if get_origin(declared.type) is Literal else declared.type
