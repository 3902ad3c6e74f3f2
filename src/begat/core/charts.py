"""What the report draws, as plain numbers: intervals with their verdicts, curves, the DAG."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from begat.core.words import words

YARDSTICKS = ("random", "group_size", "query_independent", "another_training")
TRUTH = "logo_"  # how the rows begin that are the truth
LEVEL = 0.05  # of p-values in verdicts
CLEAR, UNCLEAR, UNKNOWN = "better than chance", "perhaps better than chance", "not clear of chance"
BESIDE = {1: "beats", 0: "level with", -1: "below"}
BOUNDS = ("ceiling", "seed_correlation", "subsets", "seeds")
CORRELATION = "rank correlation"
Row = dict[str, Any]
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


def charts(summary: Mapping[str, Any], leading: Sequence[str]) -> Iterable[dict[str, Any]]:
    """The agreement with retraining as rows of dots and intervals, with what bounds them.

    ``leading``: the methods to look at first; the answers leave their variants out.
    """
    for name, units, title in (
        ("lds", "images", "Images: do the scores predict retraining on random halves?"),
        ("group_lds", "groups", "Groups: do the scores predict retraining on random halves?"),
    ):
        if name in summary:
            found = summary[name]
            chart = _chart(name, title, found["methods"], leading)
            chart |= {bound: found.get(bound) for bound in BOUNDS}
            blind = "query_independent" in found["methods"]
            yield chart | {"over": f"halves of the {units}", "blind": blind}
    if "logo" in summary:
        judged, chances = summary["logo"][summary["logo"]["judge"]], summary["logo"]["chance"]
        for part, title, unit in (
            ("spearman", "Groups: do they rank as retraining without each does?", CORRELATION),
            ("top1", "Groups: is the most helpful one the right one?", "share"),
        ):
            chart = _chart(f"logo_{part}", title, judged[part], leading, chances[part])
            yield chart | {"unit": unit, "over": "groups"}


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
        "unit": CORRELATION,
        "chance": chance,
        **dict.fromkeys(BOUNDS),
        "blind": False,
        "low": min(-0.2, *ends),
        "rows": rows,
    }


def verdict(row: Row, chance: float = 0.0) -> str:
    """What the numbers allow one to say of a method, in a few words.

    Nothing without an interval. With one, a method is clear of chance or of its rival where the
    interval is and shuffled names of units would hardly do as well.
    """
    if row["method"] in YARDSTICKS:
        return "yardstick"
    if row["low"] is None:
        return ""
    said = [CLEAR if _clear(row, chance) else UNCLEAR if row["p"] <= LEVEL else UNKNOWN]
    if "minus_pixel" in row:
        said.append(f"{BESIDE[_side(row['minus_pixel'])]} the pixel kernel")
    return ", ".join(said)


def _clear(row: Row, chance: float) -> bool:
    return row["low"] is not None and row["low"] > chance and row["p"] <= LEVEL


def _side(difference: Row) -> int:
    """1 where a difference is surely positive, -1 where surely negative, 0 where unknown."""
    low, high = difference["low"], difference["high"]
    if low is None or difference.get("p", 0) > LEVEL:
        return 0
    return int(low > 0) - int(high < 0)


def answer(rows: Sequence[Row], chance: float, leading: Sequence[str]) -> str:
    """The answer to a chart's question, as far as its intervals carry one.

    Counted are the leading methods: their variants are no further evidence, and rows that are the
    truth are no methods.
    """
    methods = [r for r in rows if r["method"] in leading and not r["method"].startswith(TRUTH)]
    if not methods:
        return "No method to judge."
    if any(row["low"] is None for row in methods):
        return "Too few queries, halves or groups to say: an interval needs four of each."
    best = max(methods, key=lambda row: row["value"])
    sure = [row for row in methods if _clear(row, chance)]
    if not sure:
        said = "Not that these numbers could tell: no method is clear of chance."
    else:
        share = "Yes, all of them" if sure == methods else f"{len(sure)} of {len(methods)} do"
        said = f"{share}; {words(best['method'])[0]} best, at {best['value']:.2f}."
    yardsticks = {row["method"]: row for row in rows}
    size, blind = yardsticks.get("group_size"), yardsticks.get("query_independent")
    if size and (sure or _clear(size, chance)):
        said += _beside_size(best, size)
    if blind and sure:
        said += _beside_blind(best, blind)
    return said


def _beside_size(best: Row, size: Row) -> str:
    """What the size of groups alone reaches, unless the best method surely does better."""
    side = _side(best["minus_size"])
    if side > 0:
        return ""
    return (
        f" The size of a group, which knows no model, is {'above' if side else 'level with'} "
        f"that, at {size['value']:.2f}."
    )


def _beside_blind(best: Row, blind: Row) -> str:
    """Whether the best method knows more of a query than holds for all; on the same truth."""
    other, difference = blind["value"], best["minus_blind"]
    compared = f"({other + difference['value']:.2f} against {other:.2f} on the same truth)"
    forecast = "a forecast that is the same for every query"
    if (side := _side(difference)) > 0:
        return f" It does better than {forecast} {compared}."
    if side < 0:
        return (
            f" {forecast.capitalize()} does better still {compared}, so nothing here may be "
            "claimed of a single query."
        )
    return f" It cannot be told from {forecast} {compared}."


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
