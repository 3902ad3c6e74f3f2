"""One page that a person reads: queries, what made them, how far that can be believed, and why."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from begat.evaluation.measures import Measure
from begat.evaluation.statistics import q_values
from begat.reporting.charts import (
    charts,
    costs,
    curve_lines,
    drawn_dag,
    logo_tables,
    size_of_truth,
    sizes,
)
from begat.reporting.method_names import of_each_side, remark, sides, words
from begat.reporting.verdicts import verdict

THUMBNAIL = 64  # px; larger images are shown at this size
FALSE_DISCOVERIES = 0.1  # the share of false ones among images called significant


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
    ``group_p``: method -> p-values, over ``[query, group]``, of the methods that have some.
    ``unlearned_classes``: the groups that hold all images of a class of a conditional model.
    ``redrawn``: ``member`` or ``group_member`` -> arrays of the ``counterfactuals`` schema.
    ``curves``: kind of model -> training loss ``[model, step]``.
    ``made``: one line per artifact: stage, name, key, seconds, device and so on.
    ``edges``: (stage, stage it reads).
    ``measures``: what every method's scores, of images or of groups, are measured in.
    ``query_names``: name and group of each query, empty where it has none.
    ``packs``: pack of models -> the kind of each model in it.
    ``leading``: the methods to look at first; the others are their variants.
    ``within``: share of each image in the group that unlearning names first, if it was asked.
    ``weight_profile``: share of the ELBO's weight in equal stretches of time, if it was.
    ``left_out``: model -> what its influence scores leave out (``influence.factors.left_out``).
    """

    pixels: UInt8[np.ndarray, "image channel y x"]
    names: Sequence[str]
    groups: Sequence[str]
    member_of: Bool[np.ndarray, "group image"]
    units: int
    queries: Float[np.ndarray, "query channel y x"]
    query_names: Sequence[str]
    image_scores: Mapping[
        str, tuple[Float[np.ndarray, "query image"], Float[np.ndarray, "query image"] | None]
    ]
    group_methods: Sequence[str]
    measures: Mapping[str, Measure]
    leading: Sequence[str]
    group_score: Float[np.ndarray, "method query group"]
    group_uncertainty: Float[np.ndarray, "method query group"]
    group_p: Mapping[str, Float[np.ndarray, "query group"]]
    unlearned_classes: Sequence[str]
    redrawn: Mapping[str, Mapping[str, np.ndarray]]
    slots: Mapping[str, Sequence[str]]
    summary: Mapping[str, Any]
    curves: Mapping[str, Float[np.ndarray, "model step"]]
    packs: Mapping[str, Sequence[str]]
    params: Mapping[str, Any]
    made: Sequence[Mapping[str, Any]]
    edges: Sequence[tuple[str, str]]
    within: Float[np.ndarray, "query image"] | None
    weight_profile: Sequence[float]
    left_out: Mapping[str, Mapping[str, Any]]


def page(evidence: Evidence, queries: int, top: int) -> str:
    """The report as one HTML text that needs nothing else, not even a script."""
    environment = Environment(
        loader=PackageLoader("begat.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = lambda value: f"{value:+.2g}".replace("-", "\u2212")
    gallery = Gallery()
    shown = range(min(queries, len(evidence.queries)))
    kinds = {kind: len(losses) for kind, losses in evidence.curves.items()}
    number = dict(groups=len(evidence.groups), queries=len(evidence.queries))
    return environment.get_template("page.html").render(
        e=evidence,
        words=words,
        remark=remark,
        sides=sides,
        zip=zip,
        false_discoveries=FALSE_DISCOVERIES,
        opened=why_open(evidence),
        sizes=sizes(evidence.summary, evidence.group_methods, evidence.measures),
        size_of_truth=size_of_truth(evidence.summary),
        cards=[card(evidence, query, top, gallery) for query in shown],
        agreement=list(charts(evidence.summary, evidence.leading)),
        logo=list(logo_tables(evidence.summary.get("logo", {}))),
        redrawn=evidence.summary,
        curves=curve_lines(evidence.curves),
        kinds=kinds,
        costs=list(costs(evidence.made, packs=evidence.packs, **number)),
        dag=drawn_dag(evidence.edges, evidence.made),
        parameters=parameter_rows(evidence.params),
        pictures=gallery.pictures,
    )


def card(evidence: Evidence, query: int, top: int, gallery: Gallery) -> dict[str, Any]:
    """One query: its picture, its groups by method, its images by method, its counterfactuals."""
    return {
        "number": query,
        "title": f"query {query}: {evidence.query_names[query]}".rstrip(": "),
        "picture": gallery.add(f"q{query}", _bytes(evidence.queries[query])),
        "groups": [group_row(evidence, r, query) for r in in_order(evidence) if evidence.groups],
        "images": [
            image_rows(evidence, method, query, top, gallery) for method in evidence.image_scores
        ],
        "within": within_row(evidence, query, top, gallery),
        "redrawn": [redrawn_row(evidence, kind, query, gallery) for kind in evidence.redrawn],
    }


def most_trusted(evidence: Evidence) -> str:
    """The image method that agrees best with retraining; without any check, the first."""
    agreed = evidence.summary.get("lds", {}).get("methods", {})
    known = [method for method in evidence.image_scores if method in agreed]
    return (
        max(known, key=lambda m: agreed[m]["value"]) if known else next(iter(evidence.image_scores))
    )


def why_open(evidence: Evidence) -> str:
    """Why the images of one method are shown at once, and how far that one can be believed."""
    method, agreed = most_trusted(evidence), evidence.summary.get("lds", {}).get("methods", {})
    name = words(method)[0]
    if method not in agreed:
        return f"Open: {name}; no method was checked on images."
    said = verdict({"method": method, **agreed[method]})
    said = said or "too few queries or halves to tell that from chance"
    return f"Open: {name}, which agrees best with retraining: {said}."


def in_order(evidence: Evidence) -> list[int]:
    """The rows that stand for their method first, the truth before all."""
    methods, truth = evidence.group_methods, "logo_retrained"
    return sorted(
        range(len(methods)),
        key=lambda row: (methods[row] != truth, methods[row] not in evidence.leading),
    )


def group_row(evidence: Evidence, row: int, query: int) -> dict[str, Any]:
    """One method's group scores of one query, with the strength of colour each deserves.

    Where the sign means something it chooses the colour; else only scores above the mean have one.
    """
    score, spread = evidence.group_score[row, query], evidence.group_uncertainty[row, query]
    power = int(np.floor(np.log10(np.abs(score).max()))) if score.any() else 0
    method = evidence.group_methods[row]
    p_value, measure = evidence.group_p.get(method), measure_of(evidence, method)
    shade = score if measure.signed else np.maximum(score - score.mean(), 0)
    scale = np.abs(shade).max() or 1.0
    return {
        "method": method,
        "measure": measure,
        "leads": method in evidence.leading,
        "power": power,
        "cells": [
            {
                "score": float(s) / 10.0**power,
                "spread": float(u) / 10.0**power,
                "shade": float(c / scale),
                "best": bool(i == score.argmax()),
                "colour": "above" if not measure.signed else "helped" if c > 0 else "harmed",
                "p": None if p_value is None else float(p_value[query, i]),
            }
            for i, (s, u, c) in enumerate(zip(score, spread, shade, strict=True))
        ],
    }


def measure_of(evidence: Evidence, method: str) -> Measure:
    """What a row is measured in; a sum over images in what the images are."""
    return evidence.measures[method.removesuffix("_summed")]


def groups_with_a_class(
    member_of: Bool[np.ndarray, "group image"], label: Int[np.ndarray, " image"]
) -> list[int]:
    """The groups that hold all images of some class.

    A model trained without such a group is asked under a class it never learned, so it does badly
    whatever the group's images gave the query.
    """
    classes = [label == one for one in np.unique(label[label >= 0])]
    return [g for g, of in enumerate(member_of) if any(of[images].all() for images in classes)]


def image_rows(
    evidence: Evidence, method: str, query: int, top: int, gallery: Gallery
) -> dict[str, Any]:
    """The training images on both sides of a method's scores, and how many are significant."""
    scores, p_values = evidence.image_scores[method]
    score, measure = scores[query], evidence.measures[method]
    p = None if p_values is None else p_values[query]
    q = None if p is None else q_values(p)
    sides = [
        [
            {
                **image_cell(evidence, int(i), gallery),
                "score": float(score[i]),
                "p": None if p is None else float(p[i]),
                "q": None if q is None else float(q[i]),
            }
            for i in side
        ]
        for side in of_each_side(measure, score, top)
    ]
    return {
        "method": method,
        "measure": measure,
        "open": method == most_trusted(evidence),
        "sides": sides,
        "significant": None if q is None else int((q <= FALSE_DISCOVERIES).sum()),
    }


def image_cell(evidence: Evidence, image: int, gallery: Gallery) -> dict[str, Any]:
    """A training image, what it is called and the groups it is in."""
    return {
        "picture": gallery.add(f"i{image}", evidence.pixels[image]),
        "name": evidence.names[image],
        "groups": ", ".join(np.array(evidence.groups)[evidence.member_of[:, image]]),
    }


def within_row(evidence: Evidence, query: int, top: int, gallery: Gallery) -> list[dict[str, Any]]:
    """The images that speak loudest in the group that unlearning names first."""
    if evidence.within is None:
        return []
    share = evidence.within[query]
    chosen = np.argsort(-share, kind="stable")[:top]
    return [
        {**image_cell(evidence, int(i), gallery), "share": float(share[i])}
        for i in chosen
        if share[i]
    ]


def redrawn_row(evidence: Evidence, kind: str, query: int, gallery: Gallery) -> dict[str, Any]:
    """What the whole ensemble draws from the query's noise, and what it draws without each unit.

    The farthest is marked, but not where groups move it no further than codes that no group holds.
    """
    excess = evidence.summary.get("groups_redrawn", {}).get("excess")
    of_groups = kind == "group_member"
    blind = of_groups and excess is not None and not (excess["low"] or 0) > 0
    found, slots = evidence.redrawn[kind], evidence.slots[kind]
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
                "farthest": slot == farthest and not blind,
            }
        )
    factual = gallery.add(f"{kind}{query}", _bytes(found["factual"][query]))
    return {"groups": of_groups, "factual": factual, "drawn": drawn, "marked": not blind}


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
