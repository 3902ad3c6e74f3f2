"""The report as one self-contained HTML page."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from jinja2 import Environment, PackageLoader, StrictUndefined

from begat.reporting.cards import FALSE_DISCOVERY_RATE, EmbeddedImages, card, opened_because
from begat.reporting.charts import (
    charts,
    costs,
    curve_lines,
    dag_layout,
    logo_tables,
    retraining_scale,
    scale_rows,
)
from begat.reporting.extremes import extreme_labels, remark
from begat.reporting.report_data import ReportData


def page(data: ReportData, queries: int, top: int) -> str:
    """Returns the report as HTML without scripts or references to other files.

    Args:
        data: the contents.
        queries: most queries shown with their images.
        top: most images shown at either end of a method's scores.
    """
    embedded, names = EmbeddedImages(), data.methods
    counts = dict(groups=len(data.groups), queries=len(data.queries))
    return (
        _environment()
        .get_template("page.html")
        .render(
            data=data,
            kinds={kind: len(losses) for kind, losses in data.curves.items()},
            opened_because=opened_because(data),
            cards=[card(data, n, top, embedded) for n in range(min(queries, len(data.queries)))],
            agreement=list(charts(data.summary, names)),
            scales=scale_rows(data.summary, data.group_methods, data.measures, names),
            retraining_scale=retraining_scale(data.summary),
            logo_tables=list(logo_tables(data.summary.get("logo", {}), names)),
            curves=curve_lines(data.curves),
            costs=list(costs(data.artifacts, packs=data.packs, **counts)),
            dag=dag_layout(data.edges, data.artifacts),
            parameters=parameter_rows(data.params),
            embedded=embedded.encoded,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("begat.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = lambda value: f"{value:+.2g}".replace("-", "\u2212")
    environment.filters["minus"] = lambda text: str(text).replace("-", "\u2212")
    environment.globals |= dict(remark=remark, extreme_labels=extreme_labels, zip=zip)
    environment.globals["false_discovery_rate"] = FALSE_DISCOVERY_RATE
    return environment


def groups_with_a_class(
    member_of: Bool[np.ndarray, "group image"], label: Int[np.ndarray, " image"]
) -> list[int]:
    """Returns the groups that contain all images of some class.

    A model trained without such a group is evaluated under a class that it was not trained on, so
    its loss is high whatever the group's images contributed to the query.
    """
    classes = [label == one for one in np.unique(label[label >= 0])]
    return [g for g, of in enumerate(member_of) if any(of[images].all() for images in classes)]


def parameter_rows(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns every parameter and its value."""
    rows = []
    for section, values in params.items():
        for name, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            rows.append((f"{section}.{name}".rstrip("."), html.unescape(str(value))))
    return rows
