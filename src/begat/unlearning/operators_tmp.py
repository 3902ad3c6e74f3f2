from dataclasses import dataclass
from typing import Any

OPERATORS = dict.fromkeys(
    [
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
    ]
)


@dataclass
class Operator:
    name: str
    needs_curvature: bool
    needs_labels: bool


def parse_operator(m: dict[str, Any]) -> Operator:
    return Operator(m["name"], m["name"] == "newton", m["name"] in ("anchor", "esd"))
