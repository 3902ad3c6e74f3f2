"""One page that a person reads: queries, what made them, how far that can be believed, and why."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

THUMBNAIL = 64  # px; larger images are shown at this size

METHODS = {
    "ensemble_naive": (
        "ensemble, naive",
        "loss of the members that never saw the unit minus loss of all members, as published; "
        "fewer members average less, so every unit seems to help a little",
    ),
    "ensemble_matched": (
        "ensemble, matched",
        "the same against random member sets of equal size, which removes that offset",
    ),
    "ensemble_mirror": (
        "ensemble, mirror",
        "members that never saw the unit against those that did, each side averaged as one model",
    ),
    "ensemble_means": (
        "ensemble, means",
        "mean loss of single members that never saw the unit minus of those that did",
    ),
    "pixel_rbf": (
        "pixel kernel",
        "how similar the images are as pixels; uses no model, so what does not beat it says little",
    ),
    "logo_retrained": (
        "retrained without",
        "the truth: a model trained anew without the group, minus the full model",
    ),
    "random": ("random", "random numbers: what no knowledge gives"),
    "query_independent": (
        "same for every query",
        "what retraining says of all other queries: right on average, blind to this one",
    ),
}


def words(method: str) -> tuple[str, str]:
    """A method's name and description in plain words."""
    if method.endswith("_summed"):
        name, says = words(method.removesuffix("_summed"))
        return f"{name}, images summed", f"{says}; image scores summed over the group"
    return METHODS.get(method, (method.replace("_", " "), ""))


@dataclass
class Gallery:
    """Pictures of a page, each embedded once and shown by reference."""

    pictures: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, pixels: UInt8[np.ndarray, "channel y x"]) -> str:
        """Keep a picture under a name; returns the name."""
        if name not in self.pictures:
            picture = Image.fromarray(np.squeeze(pixels.transpose(1, 2, 0)))
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            data = io.BytesIO()
            picture.save(data, "PNG", optimize=True)
            self.pictures[name] = base64.b64encode(data.getvalue()).decode()
        return name


@dataclass(frozen=True)
class Evidence:
    """Everything the page shows, as arrays and plain values.

    ``image_scores``: method -> (score, p-value or None), over ``[query, image]``.
    ``redrawn``: ``member`` or ``group_member`` -> arrays of the ``counterfactuals`` schema.
    ``curves``: kind of model -> training loss ``[model, step]``.
    ``made``: one line per artifact: stage, name, key, seconds, device and so on.
    ``edges``: (stage, stage it reads).
    ``leading``: the methods to look at first; the others are their variants.
    """

    pixels: UInt8[np.ndarray, "image channel y x"]
    names: Sequence[str]
    groups: Sequence[str]
    member_of: Bool[np.ndarray, "group image"]
    units: int
    queries: Float[np.ndarray, "query channel y x"]
    image_scores: Mapping[
        str, tuple[Float[np.ndarray, "query image"], Float[np.ndarray, "query image"] | None]
    ]
    group_methods: Sequence[str]
    leading: Sequence[str]
    group_score: Float[np.ndarray, "method query group"]
    group_uncertainty: Float[np.ndarray, "method query group"]
    redrawn: Mapping[str, Mapping[str, np.ndarray]]
    slots: Mapping[str, Sequence[str]]
    summary: Mapping[str, Any]
    curves: Mapping[str, Float[np.ndarray, "model step"]]
    params: Mapping[str, Any]
    made: Sequence[Mapping[str, Any]]
    edges: Sequence[tuple[str, str]]


def page(evidence: Evidence, queries: int, top: int) -> str:
    """The report as one HTML text that needs nothing else, not even a script."""
    environment = Environment(
        loader=PackageLoader("begat.stages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = lambda value: f"{value:+.2g}".replace("-", "\u2212")
    gallery = Gallery()
    shown = range(min(queries, len(evidence.queries)))
    return environment.get_template("report.html").render(
        e=evidence,
        words=words,
        cards=[card(evidence, query, top, gallery) for query in shown],
        agreement=list(charts(evidence.summary)),
        redrawn=evidence.summary,
        curves=curve_lines(evidence.curves),
        kinds={kind: len(losses) for kind, losses in evidence.curves.items()},
        dag=drawn_dag(evidence.edges, evidence.made),
        parameters=parameter_rows(evidence.params),
        pictures=gallery.pictures,
    )


def card(evidence: Evidence, query: int, top: int, gallery: Gallery) -> dict[str, Any]:
    """One query: its picture, its groups by method, its images by method, its counterfactuals."""
    return {
        "number": query,
        "picture": gallery.add(f"q{query}", _bytes(evidence.queries[query])),
        "groups": [group_row(evidence, row, query) for row in in_order(evidence)],
        "images": [
            {
                "method": method,
                "helpful": image_row(evidence, method, query, top, gallery, -1),
                "harmful": image_row(evidence, method, query, top, gallery, +1),
            }
            for method in evidence.image_scores
        ],
        "redrawn": [redrawn_row(evidence, kind, query, gallery) for kind in evidence.redrawn],
    }


def in_order(evidence: Evidence) -> list[int]:
    """The rows that stand for their method first, the truth before all."""
    methods, truth = evidence.group_methods, "logo_retrained"
    return sorted(
        range(len(methods)),
        key=lambda row: (methods[row] != truth, methods[row] not in evidence.leading),
    )


def group_row(evidence: Evidence, row: int, query: int) -> dict[str, Any]:
    """One method's group scores of one query, with the strength of colour each deserves."""
    score, spread = evidence.group_score[row, query], evidence.group_uncertainty[row, query]
    centred = score - score.mean()
    scale = np.abs(centred).max() or 1.0
    power = int(np.floor(np.log10(np.abs(score).max()))) if score.any() else 0
    return {
        "method": evidence.group_methods[row],
        "leads": evidence.group_methods[row] in evidence.leading,
        "power": power,
        "cells": [
            {
                "score": float(s) / 10.0**power,
                "spread": float(u) / 10.0**power,
                "shade": float(c / scale),
                "best": bool(i == score.argmax()),
            }
            for i, (s, u, c) in enumerate(zip(score, spread, centred, strict=True))
        ],
    }


def image_row(
    evidence: Evidence, method: str, query: int, top: int, gallery: Gallery, order: int
) -> list[dict[str, Any]]:
    """The most helpful (order -1) or most harmful (+1) training images of a query."""
    score, p_value = evidence.image_scores[method]
    chosen = np.argsort(order * score[query], kind="stable")[:top]
    return [
        {
            "picture": gallery.add(f"i{i}", evidence.pixels[i]),
            "name": evidence.names[i],
            "groups": ", ".join(np.array(evidence.groups)[evidence.member_of[:, i]]),
            "score": float(score[query, i]),
            "p": None if p_value is None else float(p_value[query, i]),
        }
        for i in chosen
    ]


def redrawn_row(evidence: Evidence, kind: str, query: int, gallery: Gallery) -> dict[str, Any]:
    """What the whole ensemble draws from the query's noise, and what it draws without each unit."""
    found, slots = evidence.redrawn[kind], evidence.slots[kind]
    of_groups = kind == "group_member"
    named = [slot for slot in range(len(slots)) if found["unit"][query, slot] >= 0]
    farthest = max(named, key=lambda slot: found["distance"][query, slot])
    drawn = []
    for slot in named:
        unit = int(found["unit"][query, slot])
        drawn.append(
            {
                "picture": gallery.add(
                    f"{kind}{query}-{slot}", _bytes(found["pixels"][query, slot])
                ),
                "without": evidence.groups[unit] if of_groups else evidence.names[unit],
                "why": "" if of_groups else slots[slot],
                "removed": None if of_groups else gallery.add(f"i{unit}", evidence.pixels[unit]),
                "distance": float(found["distance"][query, slot]),
                "farthest": slot == farthest,
            }
        )
    factual = gallery.add(f"{kind}{query}", _bytes(found["factual"][query]))
    return {"groups": of_groups, "factual": factual, "drawn": drawn}


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
        for part, title, chance in (
            ("spearman", "Groups: do the scores rank them as retraining without each does?", 0.0),
            (
                "top1",
                "Groups: is the most helpful one the right one?",
                summary["logo"]["top1_chance"],
            ),
        ):
            chart = _chart(f"logo_{part}", title, {"methods": summary["logo"][part]})
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


YARDSTICKS = ("random", "query_independent")


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


def parameter_rows(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every parameter and its value."""
    rows = []
    for section, values in params.items():
        for name, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            rows.append((f"{section}.{name}".rstrip("."), html.unescape(str(value))))
    return rows


def _bytes(pixels: Float[np.ndarray, "channel y x"]) -> UInt8[np.ndarray, "channel y x"]:
    """Model range -1..1 as unsigned bytes."""
    return np.round((np.clip(pixels, -1, 1) + 1) * 127.5).astype(np.uint8)
