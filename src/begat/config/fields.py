"""Declaration of one parameter: its help, unit, bounds and choices, as a dataclass field."""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal, get_origin

MAX_COUNT = 1_000_000  # bound of every count, so that a typing error fills no memory
REQUIRED = "???"  # OmegaConf's mark of a value that is missing


def param(
    help: str,
    *,
    default: Any = REQUIRED,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    choices: Sequence[str | int] = (),
    plans_only: bool = False,
) -> Any:
    """Returns a dataclass field: a parameter that every file must give, unless it has a default.

    Args:
        help: the comment in ``params.yaml``, without a full stop.
        default: the value where a file gives none; immutable.
        unit: of the number.
        ge, le, gt: bounds: at least, at most, more than.
        choices: the values allowed.
        plans_only: it decides only which jobs there are, and so is in no job's key: changing it
            leaves all results as they are. A job that depends on it puts it into its own key.
    """
    metadata = dict(
        help=help, unit=unit, ge=ge, le=le, gt=gt, choices=tuple(choices), plans_only=plans_only
    )
    return field(default=default, metadata=metadata)


def violated_bound(declared: dataclasses.Field[Any], value: Any) -> str | None:
    """Returns the bound or the choices that a value violates, in words, or None.

    NaN violates every bound.
    """
    rule = declared.metadata
    if rule["choices"] and value not in rule["choices"]:
        return "one of " + ", ".join(map(str, rule["choices"]))
    if rule["ge"] is not None and not value >= rule["ge"]:
        return f"at least {rule['ge']}"
    if rule["le"] is not None and not value <= rule["le"]:
        return f"at most {rule['le']}"
    if rule["gt"] is not None and not value > rule["gt"]:
        return f"more than {rule['gt']}"
    return None


def plain_type(declared: dataclasses.Field[Any]) -> Any:
    """Returns the type of a parameter's values in a file: text where it is one of some words."""
    return str if get_origin(declared.type) is Literal else declared.type
