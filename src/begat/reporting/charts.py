"""What the report draws, as plain numbers: intervals with their verdicts, curves, the DAG."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from begat.evaluation.intervals import Row
from begat.evaluation.measures import NATS, Measure
from begat.evaluation.ranking_metrics import METRICS
from begat.reporting.verdicts import answer, beside_pixels, size_verdict, verdict

BOUNDS = ("ceiling", "seed_correlation", "subsets", "seeds")
CORRELATION = "rank correlation"
RANKED = "Groups: are they ranked as retraining without each ranks them?"
FIRST = "Groups: how often is the group named first the right one?"
GOLDS = {
    "logo_independent": "retrained from another seed than the model that methods look into",
    "logo_paired": "retrained from the same start, batches and noise as that model",
    "logo_retrained": "the mean over all trainings",
}
GOLDS |= {
    gold.replace("logo_", "logo_elbo_"): f"{title}; both in nats of the evidence lower bound"
    for gold, title in GOLDS.items()
}


def charts(summary: Mapping[str, Any], leading: Sequence[str]) -> Iterable[dict[str, Any]]:
    """The agreement with retraining as rows of dots and intervals, with what bounds them.

    ``leading``: the methods to look at first; the answers leave their variants out.
    """
    for name, units, title in (
        ("lds", "Images", "Images: do the scores predict retraining on random halves?"),
        ("group_lds", "Groups", "Groups: do the scores predict retraining on random halves?"),
    ):
        if name in summary:
            found = summary[name]
            chart = _chart(name, title, found["methods"], leading)
            chart |= {bound: found.get(bound) for bound in BOUNDS}
            blind = "query_independent" in found["methods"]
            brief = f"{units}, random halves"
            yield chart | {"over": f"halves of the {units.lower()}", "blind": blind, "brief": brief}
    if "logo" in summary:
        judged, chances = summary["logo"][summary["logo"]["judge"]], summary["logo"]["chance"]
        for part, title, unit, brief in (
            ("spearman", RANKED, CORRELATION, "Groups, left out one by one"),
            ("top1", FIRST, "share", "The group named first"),
        ):
            chart = _chart(f"logo_{part}", title, judged[part], leading, chances[part])
            yield chart | {"unit": unit, "over": "groups", "brief": brief}


def _chart(
    name: str,
    title: str,
    methods: Mapping[str, Any],
    leading: Sequence[str],
    chance: float = 0.0,
) -> dict[str, Any]:
    rows: list[Row] = [{"method": method, **row} for method, row in methods.items()]
    for row in rows:
        row["verdict"] = verdict(row, chance)
    ends = [row["value"] if row["low"] is None else row["low"] for row in rows]
    return {
        "name": name,
        "title": title,
        "answer": answer(rows, chance, leading),
        "beside_pixels": beside_pixels(rows, chance),
        "unit": CORRELATION,
        "chance": chance,
        **dict.fromkeys(BOUNDS),
        "blind": False,
        "low": min(-0.2, *ends),
        "rows": rows,
    }


def curve_lines(
    curves: Mapping[str, Float[np.ndarray, "model step"]], points: int = 60
) -> dict[str, Any]:
    """Each kind's mean training loss, averaged over stretches of steps, as points of 0..1."""
    if not curves:
        return {"lines": {}}
    means = {}
    for kind, losses in curves.items():
        stretches = np.array_split(losses.mean(0), min(points, losses.shape[1]))
        means[kind] = [float(s.mean()) for s in stretches]
    highest = max(max(m) for m in means.values())
    lowest = min(min(m) for m in means.values())
    span = np.log(highest / lowest) or 1.0

    def line(values: list[float]) -> str:
        across = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([1.0])
        return " ".join(
            f"{x:.4f},{np.log(highest / v) / span:.4f}" for x, v in zip(across, values, strict=True)
        )

    lines = {kind: {"points": line(m), "last": m[-1]} for kind, m in means.items()}
    return {"lines": lines, "highest": highest, "lowest": lowest}


def drawn_dag(
    edges: Sequence[tuple[str, str]], made: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Stages in columns, right of all they read, with how many artifacts and seconds they took.

    The seconds are None where one of the artifacts has no record.
    """
    stages = list(dict.fromkeys(row["stage"] for row in made))
    reads = {stage: [b for a, b in edges if a == stage] for stage in stages}
    column: dict[str, int] = {}
    for stage in stages:  # in an order in which they can be done
        column[stage] = 1 + max((column[r] for r in reads[stage]), default=-1)
    rows: dict[int, int] = {}
    nodes = {}
    for stage in stages:
        row = rows[column[stage]] = rows.get(column[stage], -1) + 1
        mine = [m for m in made if m["stage"] == stage]
        spent = [m["cpu_seconds"] for m in mine]
        seconds = None if None in spent else sum(spent)
        nodes[stage] = {"x": column[stage], "y": row, "artifacts": len(mine), "seconds": seconds}
    lines = [(nodes[b], nodes[a]) for a, b in edges if a in nodes and b in nodes]
    return {
        "nodes": nodes,
        "lines": lines,
        "columns": max(rows) + 1,
        "rows": max(rows.values()) + 1,
    }


def logo_tables(logo: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Every measure of agreement with leave-one-group-out, a table for each truth there is."""
    for gold in (gold for gold in GOLDS if gold in logo):
        methods = list(logo[gold]["spearman"])
        yield {
            "title": GOLDS[gold],
            "measures": [metric.title for metric in METRICS.values()],
            "chance": [logo["chance"][measure] for measure in METRICS],
            "rows": [
                {"method": method, "cells": [logo[gold][measure][method] for measure in METRICS]}
                for method in methods
            ],
        }


def sizes(
    summary: Mapping[str, Any], methods: Sequence[str], measures: Mapping[str, Measure]
) -> dict[str, dict[str, Any]]:
    """How each method whose sign means something compares in size with retraining, in its unit."""
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        measure = measures[method.removesuffix("_summed")]
        gold = summary["logo"]["judge"] if "calibration" in summary else ""
        if measure.unit == NATS.unit:
            gold = gold.replace("logo_", "logo_elbo_")
        row = summary.get("calibration", {}).get(gold, {}).get(method)
        if row is not None and measure.signed:
            found[method] = {**row, "unit": measure.unit, "said": size_verdict(row)}
    return found


def size_of_truth(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same of another training of the same groups, where there is one."""
    if "calibration" not in summary:
        return None
    found: dict[str, Any] = summary["calibration"][summary["logo"]["judge"]]
    return found.get("another_training")


def costs(
    made: Sequence[Mapping[str, Any]],
    *,
    packs: Mapping[str, Sequence[str]],
    groups: int,
    queries: int,
) -> Iterable[dict[str, Any]]:
    """What a group and what a query cost by unlearning and by retraining, where it was recorded.

    ``packs``: pack of models -> the kind of each. A pack's models are trained side by side, so each
    has an even share of what the pack took.
    """
    kinds = [kind for of in packs.values() for kind in of]
    for what, stage, prefix, each in (
        ("forget a group", "unlearned", "", groups),
        ("train a model without a group", "models", "", kinds.count("logo")),
        ("ask all models that forgot about a query", "measurements", "unlearned-", queries),
        ("ask all models trained without a group about it", "measurements", "logo-", queries),
    ):
        spent = [
            (row["cpu_seconds"], _share(packs[row["name"]]) if stage == "models" else 1.0)
            for row in made
            if row["stage"] == stage and row["name"].startswith(prefix)
        ]
        known = [seconds * share for seconds, share in spent if share and seconds is not None]
        if each and known and len(known) == sum(share > 0 for _, share in spent):
            yield {"what": what, "each": sum(known) / each, "all": sum(known)}


def _share(kinds: Sequence[str]) -> float:
    """The models without a group among those of a pack."""
    return kinds.count("logo") / len(kinds)
