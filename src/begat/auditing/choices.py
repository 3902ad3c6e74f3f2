"""Which choices were made before any retrained model was measured, by the history."""

from collections.abc import Collection
from typing import Any

from begat.execution.history import History, Line
from begat.execution.jobs import Job
from begat.planning.plan import read_sections

GROUND_TRUTH = ("logo", "subset", "group_subset")  # kinds of models that scores are compared with


def choices(log: History, job: Job, line: int | None, ancestors: Collection[str]) -> dict[str, Any]:
    """Returns when a score and the choices behind it were written down, by line of the history.

    Args:
        log: the history.
        job: of the artifact with the score.
        line: on which the score's artifact was made.
        ancestors: the stages that the score comes from, its own included.

    Returns:
        ``truth``: the first line on which losses of a retrained model were measured (None: never);
        ``planned``: the line on which this key was first planned; ``scored``: ``line``; ``late``:
        parameters behind the score that got their value after ``truth``, with that line and the
        value before.
    """
    plans = [entry for entry in log.lines if entry["event"] == "planned"]
    truth = next((n for n, entry in enumerate(log.lines) if _measures_truth(entry)), None)
    name = f"{job.stage}/{job.name}"
    planned = next((p["line"] for p in plans if p["keys"].get(name) == job.key), None)
    sections = {section for stage in ancestors for section in read_sections(stage)}
    late = [] if truth is None else list(_late(plans, truth, sections))
    return {"truth": truth, "planned": planned, "scored": line, "late": late}


def _measures_truth(line: Line) -> bool:
    kind = str(line.get("name", "")).rpartition("-")[0]
    return line.get("stage") == "measurements" and kind in GROUND_TRUTH


def _late(plans: list[Line], truth: int, sections: Collection[str]) -> Any:
    """Yields the parameters whose present value was planned after line ``truth`` for good."""
    values = plans[-1]["parameters"] if plans else {}
    for name, value in values.items():
        if not {name, name.partition(".")[0]} & {*sections}:
            continue
        others = [plan for plan in plans if plan["parameters"].get(name) != value]
        if others and (since := _next(plans, others[-1])) > truth:
            before = others[-1]["parameters"].get(name)
            yield {"parameter": name, "value": value, "before": before, "line": since}


def _next(plans: list[Line], plan: Line) -> int:
    return plans[plans.index(plan) + 1]["line"]
