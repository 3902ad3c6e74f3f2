"""What the report draws, as plain numbers: intervals with their verdicts, curves, the DAG."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from begat.core.words import words

YARDSTICKS = ("random", "query_independent", "another_training")
MEASURES = {  # of agreement with leave-one-group-out, in the order of their table
    "top1": "top 1",
    "top3": "top 3",
    "mrr": "MRR",
    "ndcg_exp": "NDCG@3, exponential gain",
    "ndcg_lin": "NDCG@3, linear gain",
    "rbo": "RBO",
    "wpra": "WPRA",
    "spearman": "Spearman",
}
GOLDS = {
    "logo_independent": "retrained from another seed than the model that methods look into",
    "logo_paired": "retrained from the same start, batches and noise as that model",
    "logo_retrained": "the mean over all trainings",
}
GOLDS |= {
    gold.replace("logo_", "logo_elbo_"): f"{title}; both in nats of the evidence lower bound"
    for gold, title in GOLDS.items()
}


def charts(summary: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The agreement with retraining as rows of dots and intervals, with what bounds them."""
    if "lds" in summary:
        yield _chart(
            "lds", "Images: do the scores predict retraining on random halves?", summary["lds"]
        )
    if "group_lds" in summary:
        title = "Groups: do the scores predict retraining on random halves of the groups?"
        yield _chart("group_lds", title, summary["group_lds"])
    if "logo" in summary:
        judged, chances = summary["logo"][summary["logo"]["judge"]], summary["logo"]["chance"]
        for part, title in (
            ("spearman", "Groups: do the scores rank them as retraining without each does?"),
            ("top1", "Groups: is the most helpful one the right one?"),
        ):
            chance = chances[part]
            chart = _chart(f"logo_{part}", title, {"methods": judged[part]})
            chart |= {"chance": chance, "answer": answer(chart["rows"], chance)}
            yield {**chart, "unit": "share" if part == "top1" else chart["unit"]}


def _chart(name: str, title: str, found: Mapping[str, Any]) -> dict[str, Any]:
    rows = [{"method": method, **row} for method, row in found["methods"].items()]
    for row in rows:
        row["verdict"] = verdict(row)
    return {
        "name": name,
        "title": title,
        "answer": answer(rows, 0.0),
        "unit": "rank correlation",
        "chance": 0.0,
        "ceiling": found.get("ceiling"),
        "seed_correlation": found.get("seed_correlation"),
        "subsets": found.get("subsets"),
        "seeds": found.get("seeds"),
        "low": min(-0.2, *(row["low"] for row in rows)),
        "rows": rows,
    }


def verdict(row: Mapping[str, Any]) -> str:
    """What the numbers allow one to say of a method, in a few words."""
    if row["method"] in YARDSTICKS:
        return "yardstick"
    said = []
    if "p" in row:
        shuffled, apart = row["p"] <= 0.05, row["low"] > 0
        sure = "better than chance" if apart else "perhaps better than chance"
        said.append(sure if shuffled else "no better than chance")
    if "minus_pixel" in row:
        rival = row["minus_pixel"]
        if rival["low"] > 0:
            said.append("beats the pixel kernel")
        elif rival["high"] < 0:
            said.append("below the pixel kernel")
        else:
            said.append("level with the pixel kernel")
    return ", ".join(said)


def answer(rows: Sequence[Mapping[str, Any]], chance: float) -> str:
    """The answer to a chart's question, as far as its intervals carry one."""
    methods = [row for row in rows if row["method"] not in YARDSTICKS]
    blind = next((row for row in rows if row["method"] == "query_independent"), None)
    if not methods:
        return "No method to judge."
    best = max(methods, key=lambda row: row["value"])
    sure = [row for row in methods if row["low"] > chance and row.get("p", 0) <= 0.05]
    if not sure:
        said = "Not that these numbers could tell: no method's interval is clear of chance."
    elif len(sure) == len(methods):
        said = f"Yes, all of them; {words(best['method'])[0]} best, at {best['value']:.2f}."
    else:
        said = (
            f"{len(sure)} of {len(methods)} do; {words(best['method'])[0]} best, at "
            f"{best['value']:.2f}."
        )
    if blind and blind["value"] > best["value"]:
        said += (
            " A forecast that is the same for every query does better still, so nothing here may "
            "be claimed of a single query."
        )
    return said


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
    """Stages in columns, right of all they read, with how many artifacts and seconds they took."""
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
        seconds = sum(m["cpu_seconds"] or 0 for m in mine)
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
            "measures": list(MEASURES.values()),
            "chance": [logo["chance"][measure] for measure in MEASURES],
            "rows": [
                {"method": method, "cells": [logo[gold][measure][method] for measure in MEASURES]}
                for method in methods
            ],
        }


def costs(
    made: Sequence[Mapping[str, Any]], *, models: int, groups: int, queries: int
) -> Iterable[dict[str, Any]]:
    """What a group and what a query cost by unlearning and by retraining, where it was recorded.

    A retraining costs the mean over all models trained here, however they were packed.
    """
    for what, stage, prefix, each in (
        ("forget a group", "unlearned", "", groups),
        ("train a model without a group", "models", "", models),
        ("ask all models that forgot about a query", "measurements", "unlearned-", queries),
        ("ask all models trained without a group about it", "measurements", "logo-", queries),
    ):
        spent = [
            row["cpu_seconds"]
            for row in made
            if row["stage"] == stage and row["name"].startswith(prefix)
        ]
        if each and spent and None not in spent:
            yield {"what": what, "each": sum(spent) / each, "all": sum(spent)}
