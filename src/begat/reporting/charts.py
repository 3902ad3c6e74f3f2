"""Charts and tables of the report as plain numbers: intervals, curves, dependencies, costs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from begat.evaluation.intervals import Row
from begat.evaluation.measures import NATS, Measure
from begat.evaluation.ranking_metrics import METRICS
from begat.reporting.method_names import SUMMED, MethodNames
from begat.reporting.verdicts import (
    conclusion,
    joined_comparison,
    pixel_comparison,
    scale_verdict,
    verdict,
)

BOUNDS = ("ceiling", "seed_correlation", "subsets", "seeds")
CORRELATION = "rank correlation"
LOGO_CHARTS = {  # metric -> unit, short title and title of its chart
    "spearman": (
        CORRELATION,
        "Groups, leave-one-group-out",
        "Groups: do the scores rank the groups as leave-one-group-out retraining does?",
    ),
    "top1": (
        "share",
        "Group with the highest score",
        "Groups: how often do scores and retraining agree on the group with the highest score?",
    ),
}
GROUND_TRUTHS = {
    "logo_independent": "retrained from another seed than the attributed model",
    "logo_paired": "retrained from the initial weights, batches and noise of the attributed model",
    "logo_retrained": "mean over all retrained models",
}
GROUND_TRUTHS |= {
    name.replace("logo_", "logo_elbo_"): f"{title}; both in nats of the evidence lower bound"
    for name, title in GROUND_TRUTHS.items()
}


def charts(summary: Mapping[str, Any], names: MethodNames) -> Iterable[dict[str, Any]]:
    """Yields the charts of agreement with retraining: a dot and an interval per method.

    Args:
        summary: of ``evaluation.agreement.evaluate``.
        names: labels and order of the methods.
    """
    for name, units in (("lds", "Images"), ("group_lds", "Groups")):
        if name in summary:
            table = summary[name]
            title = f"{units}: do the scores predict retraining on random subsets?"
            chart = _chart(name, title, table["methods"], names)
            chart |= {bound: table.get(bound) for bound in BOUNDS}
            chart["short_title"] = f"{units}, random subsets"
            chart["query_independent"] = "query_independent" in table["methods"]
            chart["joined"] = _joined(summary, name, names)
            yield chart | {"axis": f"subsets of the {units.lower()}"}
    if "logo" in summary:
        table, chances = summary["logo"][summary["logo"]["reference"]], summary["logo"]["chance"]
        for metric, (unit, short_title, title) in LOGO_CHARTS.items():
            chart = _chart(f"logo_{metric}", title, table[metric], names, chances[metric])
            chart["joined"] = _joined(summary, "logo", names) if metric == "spearman" else ""
            yield chart | {"unit": unit, "axis": "groups", "short_title": short_title}


def _joined(summary: Mapping[str, Any], name: str, names: MethodNames) -> str:
    """The comparison of joined scores with their best part; empty if there is none."""
    table = summary.get("joined", {}).get(name)
    return joined_comparison(table, names) if table else ""


def _chart(
    name: str,
    title: str,
    methods: Mapping[str, Row],
    names: MethodNames,
    chance: float = 0.0,
) -> dict[str, Any]:
    rows: list[Row] = [
        {**names.row(method), **methods[method]} for method in names.ordered(methods)
    ]
    for row in rows:
        row["verdict"] = verdict(row, chance)
    ends = [row["value"] if row["low"] is None else row["low"] for row in rows]
    return {
        "name": name,
        "title": title,
        "conclusion": conclusion(rows, chance),
        "pixel_comparison": pixel_comparison(rows, chance),
        "unit": CORRELATION,
        "chance": chance,
        **dict.fromkeys(BOUNDS),
        "query_independent": False,
        "low": min(-0.2, *ends),
        "rows": rows,
    }


def curve_lines(
    curves: Mapping[str, Float[np.ndarray, "model step"]], points: int = 60
) -> dict[str, Any]:
    """Returns each kind's training loss, mean over models and over intervals of steps.

    Points are in 0..1 on both axes; the loss is logarithmic and points downwards, as in SVG.
    """
    if not curves:
        return {"lines": {}}
    means = {}
    for kind, losses in curves.items():
        intervals = np.array_split(losses.mean(0), min(points, losses.shape[1]))
        means[kind] = [float(part.mean()) for part in intervals]
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


def dag_layout(
    edges: Sequence[tuple[str, str]], artifacts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the stages as nodes in columns, each to the right of all stages that it reads.

    Each node has its number of artifacts and their CPU time, None if one of them has no record.
    """
    stages = list(dict.fromkeys(row["stage"] for row in artifacts))
    reads = {stage: [b for a, b in edges if a == stage] for stage in stages}
    column: dict[str, int] = {}
    for stage in stages:  # artifacts come in an order in which they can be computed
        column[stage] = 1 + max((column[r] for r in reads[stage]), default=-1)
    rows: dict[int, int] = {}
    nodes = {}
    for stage in stages:
        row = rows[column[stage]] = rows.get(column[stage], -1) + 1
        times = [artifact["cpu_seconds"] for artifact in artifacts if artifact["stage"] == stage]
        seconds = None if None in times else sum(times)
        nodes[stage] = {"x": column[stage], "y": row, "artifacts": len(times), "seconds": seconds}
    lines = [(nodes[b], nodes[a]) for a, b in edges if a in nodes and b in nodes]
    return {
        "nodes": nodes,
        "lines": lines,
        "columns": max(rows) + 1,
        "rows": max(rows.values()) + 1,
    }


def logo_tables(logo: Mapping[str, Any], names: MethodNames) -> Iterable[dict[str, Any]]:
    """Yields all metrics of agreement with leave-one-group-out, a table per ground truth."""
    for reference in (reference for reference in GROUND_TRUTHS if reference in logo):
        table = logo[reference]
        yield {
            "title": GROUND_TRUTHS[reference],
            "metrics": [metric.title for metric in METRICS.values()],
            "chance": [logo["chance"][metric] for metric in METRICS],
            "rows": [
                {**names.row(method), "cells": [table[metric][method] for metric in METRICS]}
                for method in names.ordered(table["spearman"])
            ],
        }


def scale_rows(
    summary: Mapping[str, Any],
    methods: Sequence[str],
    measures: Mapping[str, Measure],
    names: MethodNames,
) -> dict[str, dict[str, Any]]:
    """Returns each signed method's size of scores relative to retraining, in the same unit."""
    rows: dict[str, dict[str, Any]] = {}
    for method in names.ordered(methods):
        measure = measures[method.removesuffix(SUMMED)]
        reference = summary["logo"]["reference"] if "calibration" in summary else ""
        if measure.unit == NATS.unit:
            reference = reference.replace("logo_", "logo_elbo_")
        row = summary.get("calibration", {}).get(reference, {}).get(method)
        if row is not None and measure.signed:
            words = {"unit": measure.unit, "verdict": scale_verdict(row)}
            rows[method] = {**names.row(method), **row, **words}
    return rows


def retraining_scale(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the same comparison for a second retraining of the same groups, if there is one."""
    if "calibration" not in summary:
        return None
    rows: dict[str, Any] = summary["calibration"][summary["logo"]["reference"]]
    return rows.get("another_training")


def costs(
    artifacts: Sequence[Mapping[str, Any]],
    *,
    packs: Mapping[str, Sequence[str]],
    groups: int,
    queries: int,
) -> Iterable[dict[str, Any]]:
    """Yields the CPU time per group and per query of unlearning and of retraining, if recorded.

    Args:
        artifacts: one record per artifact.
        packs: pack of models -> the kind of each. The models of a pack are trained together, so
            each is assigned an equal share of the pack's time.
        groups, queries: their numbers.
    """
    kinds = [kind for pack in packs.values() for kind in pack]
    for title, stage, prefix, count in (
        ("unlearn a group", "unlearned", "", groups),
        ("train a model without a group", "models", "", kinds.count("logo")),
        ("evaluate all unlearned models on a query", "measurements", "unlearned-", queries),
        ("evaluate all leave-one-group-out models on a query", "measurements", "logo-", queries),
    ):
        times = [
            (row["cpu_seconds"], _logo_share(packs[row["name"]]) if stage == "models" else 1.0)
            for row in artifacts
            if row["stage"] == stage and row["name"].startswith(prefix)
        ]
        recorded = [seconds * share for seconds, share in times if share and seconds is not None]
        if count and recorded and len(recorded) == sum(share > 0 for _, share in times):
            yield {"title": title, "each": sum(recorded) / count, "total": sum(recorded)}


def _logo_share(kinds: Sequence[str]) -> float:
    """The fraction of a pack's models that are trained without a group."""
    return kinds.count("logo") / len(kinds)
