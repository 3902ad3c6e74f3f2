"""What ``begat plan`` prints: the cost of a run by stage, as a table or as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from begat.errors import brief
from begat.planning.costs import GIB, JobCost, StageCost, by_stage, planned_costs, too_large
from begat.planning.plan import Plan
from begat.planning.rates import Rates, write_probe

TIMES = ("time", "left")


def print_costs(console: Console, plan: Plan, *, probe: bool, as_json: bool) -> None:
    """Print what a run takes, after timing small jobs where ``probe`` says so."""
    if probe:
        from begat.planning.probe import probe as measured

        write_probe(plan.root, measured(plan))
    costs, rates, device = planned_costs(plan)
    stages, warnings = by_stage(costs), list(too_large(costs, device))
    if as_json:
        table = {
            "parameters": plan.params.params_file,
            "device": device,
            "rates": sources(costs, rates),
            "stages": [asdict(stage) for stage in stages[:-1]],
            "total": asdict(stages[-1]),
            "too_large": warnings,
        }
        print(json.dumps(table, indent=1))
        return
    console.print(Text(f"{brief(plan.params.params_file)}: {len(plan.spec.models)} models"))
    console.print(table_of(stages))
    for line in (*notes(costs, rates, device), *warnings):
        console.print(Text(line), soft_wrap=True)


def table_of(stages: Sequence[StageCost]) -> Table:
    """Returns a table with a row for each stage, and the total."""
    is_timed = stages[-1].hours is not None
    names = ["jobs", "done", "stored", *(TIMES if is_timed else ("evaluations",))]
    columns = (Column(name, justify="right") for name in (*names, "memory", "disk", "files"))
    table = Table(Column("stage", no_wrap=True), *columns, box=SIMPLE, padding=(0, 1, 0, 0))
    for stage in stages:
        if stage is stages[-1]:
            table.add_section()
        times = [in_words(hours) for hours in (stage.hours, stage.hours_left)]
        evaluations = f"{stage.evaluations:,.0f}" if stage.evaluations else ""
        table.add_row(
            stage.name,
            *(str(number) for number in (stage.jobs, stage.current, stage.stored)),
            *(times if is_timed else [evaluations]),
            size(stage.memory),
            size(stage.disk),
            f"{stage.files:,}",
        )
    return table


def in_words(hours: float | None) -> str:
    """Returns a time in the unit in which it is easy to read."""
    if hours is None:
        return "?"
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def size(number: float) -> str:
    """Returns a number of bytes in the unit in which it is easy to read."""
    if number >= GIB:
        return f"{number / GIB:,.1f} GiB"
    return f"{number / 2**20:,.0f} MiB" if number >= 2**20 else f"{number / 2**10:,.0f} KiB"


def sources(costs: Sequence[JobCost], rates: Rates) -> dict[str, str]:
    """Returns what the rate of every stage that evaluates networks comes from."""
    kinds = {c.job.stage: c.cost.kind for c in costs if c.cost.evaluations}
    return {stage: rates.of(stage, kind).source for stage, kind in kinds.items()}


def notes(costs: Sequence[JobCost], rates: Rates, device: str) -> Iterator[str]:
    """Yields what hours are, and what they are estimated from."""
    by_stage = sources(costs, rates)
    by_source: dict[str, list[str]] = {}
    for stage, source in by_stage.items():
        by_source.setdefault(source, []).append(stage)
    where = "GPU time" if device == "cuda" else "CPU time of one run"
    if unknown := by_source.pop("", []):
        yield (
            f"Hours are unknown for {', '.join(unknown)}: no earlier run here says how long an "
            "evaluation takes. `begat plan --probe` measures it."
        )
    if by_source:
        parts = (f"{source} ({', '.join(stages)})" for source, stages in by_source.items())
        yield f"Hours are {where}, from {'; '.join(parts)}."
    yield "Memory is that of the largest job; jobs side by side add up."
