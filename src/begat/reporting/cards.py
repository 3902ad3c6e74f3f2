"""Query cards of the report: images, scores and counterfactuals of one query."""

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from begat.evaluation.statistics import q_values
from begat.reporting.extremes import extremes
from begat.reporting.report_data import ReportData
from begat.reporting.verdicts import verdict

THUMBNAIL = 64  # px; larger images are reduced to this size
FALSE_DISCOVERY_RATE = 0.1  # of the images called significant


@dataclass
class EmbeddedImages:
    """Images of the page, each embedded once as PNG and shown by reference."""

    encoded: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, pixels: UInt8[np.ndarray, "channel y x"]) -> str:
        """Embed an image under a name, unless it is embedded already; returns the name."""
        if name not in self.encoded:
            image = Image.fromarray(np.squeeze(pixels.transpose(1, 2, 0)))
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            buffer = io.BytesIO()
            image.save(buffer, "PNG", optimize=True)
            self.encoded[name] = base64.b64encode(buffer.getvalue()).decode()
        return name


def card(data: ReportData, query: int, top: int, embedded: EmbeddedImages) -> dict[str, Any]:
    """Returns one query: its image, its scores of groups and of images, its counterfactuals.

    Args:
        data: of the page.
        query: its number.
        top: most units shown at either end of a method's scores.
        embedded: the images of the page, to which those of the card are added.
    """
    groups = data.methods.ordered(data.group_methods) if data.groups else []
    images = data.methods.ordered(data.image_scores)
    return {
        "number": query,
        "title": f"query {query}: {data.query_names[query]}".rstrip(": "),
        "image": embedded.add(f"q{query}", to_bytes(data.queries[query])),
        "groups": [group_row(data, method, query) for method in groups],
        "images": [image_row(data, method, query, top, embedded) for method in images],
        "posterior_weights": weight_cells(data, query, top, embedded),
        "counterfactuals": [
            counterfactual_row(data, kind, query, embedded) for kind in data.counterfactuals
        ],
    }


def most_reliable(data: ReportData) -> str:
    """Returns the image method that agrees best with retraining; if unchecked, the first one."""
    rows, methods = data.lds_rows(), data.methods.ordered(data.image_scores)
    checked = [method for method in methods if method in rows]
    return max(checked, key=lambda method: rows[method]["value"]) if checked else methods[0]


def opened_because(data: ReportData) -> str:
    """Returns why the images of one method are visible at once, and how reliable that method is."""
    method, rows = most_reliable(data), data.lds_rows()
    label = data.methods.label(method)
    if method not in rows:
        return f"Shown open: {label}; no method was checked on images."
    words = verdict({"method": method, **rows[method]})
    words = words or "too few queries or subsets for a conclusion"
    return f"Shown open: {label}, which agrees best with retraining ({words})."


def group_row(data: ReportData, method: str, query: int) -> dict[str, Any]:
    """Returns one method's group scores of one query, with the colour and strength of each cell.

    Where the sign is meaningful it selects the colour; otherwise only scores above the row's mean
    are coloured.
    """
    row = list(data.group_methods).index(method)
    score, uncertainty = data.group_score[row, query], data.group_uncertainty[row, query]
    power = int(np.floor(np.log10(np.abs(score).max()))) if score.any() else 0
    p_value, measure = data.group_p.get(method), data.measure(method)
    shade = score if measure.signed else np.maximum(score - score.mean(), 0)
    largest = np.abs(shade).max() or 1.0
    return {
        **data.methods.row(method),
        "measure": measure,
        "power": power,
        "cells": [
            {
                "score": float(s) / 10.0**power,
                "uncertainty": float(u) / 10.0**power,
                "shade": float(c / largest),
                "best": bool(i == score.argmax()),
                "colour": "above" if not measure.signed else "helped" if c > 0 else "harmed",
                "p": None if p_value is None else float(p_value[query, i]),
            }
            for i, (s, u, c) in enumerate(zip(score, uncertainty, shade, strict=True))
        ],
    }


def image_row(
    data: ReportData, method: str, query: int, top: int, embedded: EmbeddedImages
) -> dict[str, Any]:
    """Returns the images with a method's extreme scores, and how many are significant."""
    scores, p_values = data.image_scores[method]
    score, measure = scores[query], data.measures[method]
    p = None if p_values is None else p_values[query]
    q = None if p is None else q_values(p)
    return {
        **data.methods.row(method),
        "measure": measure,
        "open": method == most_reliable(data),
        "extremes": [
            [
                {
                    **image_cell(data, int(i), embedded),
                    "score": float(score[i]),
                    "p": None if p is None else float(p[i]),
                    "q": None if q is None else float(q[i]),
                }
                for i in images
            ]
            for images in extremes(measure, score, top)
        ],
        "significant": None if q is None else int((q <= FALSE_DISCOVERY_RATE).sum()),
    }


def image_cell(data: ReportData, image: int, embedded: EmbeddedImages) -> dict[str, Any]:
    """Returns a training image, its name and its groups."""
    return {
        "image": embedded.add(f"i{image}", data.pixels[image]),
        "name": data.names[image],
        "groups": ", ".join(np.array(data.groups)[data.member_of[:, image]]),
    }


def weight_cells(
    data: ReportData, query: int, top: int, embedded: EmbeddedImages
) -> list[dict[str, Any]]:
    """Returns the images with the largest posterior weights in the group ranked first."""
    if data.posterior_weights is None:
        return []
    weights = data.posterior_weights[query]
    return [
        {**image_cell(data, int(i), embedded), "weight": float(weights[i])}
        for i in np.argsort(-weights, kind="stable")[:top]
        if weights[i]
    ]


def counterfactual_row(
    data: ReportData, kind: str, query: int, embedded: EmbeddedImages
) -> dict[str, Any]:
    """Returns the image that all members generate, and those generated without each unit.

    The one with the largest distance is marked, unless removing groups moves the image no further
    than removing codes assigned to no group.
    """
    excess = data.summary.get("groups_redrawn", {}).get("excess")
    is_group = kind == "group_member"
    marked = not is_group or excess is None or (excess["low"] or 0) > 0
    arrays, slots = data.counterfactuals[kind], data.slots[kind]
    units, distances = arrays["unit"][query], arrays["distance"][query]
    assigned = [slot for slot in range(len(slots)) if units[slot] >= 0]
    farthest = max(assigned, key=lambda slot: distances[slot])
    generated = []
    for slot in assigned:
        unit, name = int(units[slot]), f"{kind}{query}-{slot}"
        generated.append(
            {
                "image": embedded.add(name, to_bytes(arrays["pixels"][query, slot])),
                "without": data.groups[unit] if is_group else data.names[unit],
                "reason": "" if is_group else slots[slot],
                "removed": None if is_group else embedded.add(f"i{unit}", data.pixels[unit]),
                "distance": float(distances[slot]),
                "farthest": slot == farthest and marked,
            }
        )
    factual = embedded.add(f"{kind}{query}", to_bytes(arrays["factual"][query]))
    return {"groups": is_group, "factual": factual, "generated": generated, "marked": marked}


def to_bytes(pixels: Float[np.ndarray, "channel y x"]) -> UInt8[np.ndarray, "channel y x"]:
    """Returns an image in model range -1..1 as unsigned bytes."""
    return np.round((np.clip(pixels, -1, 1) + 1) * 127.5).astype(np.uint8)
