"""What ``begat top`` prints: the units that helped a query most, and harmed it most."""

from dataclasses import replace
from itertools import chain, zip_longest

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from begat.errors import BegatError, brief
from begat.evaluation.group_scores import Row, group_rows
from begat.evaluation.measures import Measure
from begat.execution.contents import Contents
from begat.execution.context import JobContext
from begat.execution.results import group_p_values, group_parts, image_scores, measures, query_names
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.reporting.method_names import of_each_side, remark, sides

Scores = dict[str, tuple[np.ndarray, np.ndarray | None]]  # by method, with p-values or without


def what_is_there(plan: Plan) -> tuple[JobContext, dict[str, str]]:
    """The report's job, reading what is current alone; and why each other method is not."""
    job, contents = plan.job("report", "all"), Contents(plan.root)
    reasons = {name: why(plan, plan.job(*name), contents) for name in job.inputs}
    there = tuple(name for name, reason in reasons.items() if not reason)
    missing = {
        stage.removeprefix("scores_"): reason
        for (stage, _), reason in reasons.items()
        if reason and stage.startswith("scores_")
    }
    return JobContext(plan, replace(job, inputs=there)), missing


def scores_of(results: JobContext, groups: bool) -> tuple[list[str], Scores]:
    """The names of all images or groups, and every method's scores of them.

    Raises:
        BegatError: a result that is damaged, or, for groups, no current artifact of the images.
    """
    dataset = results.spec.dataset
    if not groups:
        both = zip(dataset.names, map(", ".join, dataset.group_names), strict=True)
        return [f"{name} ({g})" if g else name for name, g in both], image_scores(results)
    member_of, rows = results.input("images")["member_of"], dict[str, Row]()
    for part in group_parts(results):
        rows |= group_rows(*part, member_of)
    p_values = group_p_values(results)
    found = {method: (score, p_values.get(method)) for method, (score, _) in rows.items()}
    return list(dataset.groups), found


def print_query(
    console: Console, results: JobContext, query: int, groups: bool, method: str | None, count: int
) -> None:
    """Print a query's tables, of one method or of all.

    Raises:
        BegatError: no such method or query.
    """
    names, tables = scores_of(results, groups)
    if not tables:
        raise BegatError("no scores yet; make them with `begat run`")
    if method is not None and method not in tables:
        raise BegatError(f"--method {brief(method)}: expected one of {', '.join(tables)}")
    queries = len(next(iter(tables.values()))[0])
    if not 0 <= query < queries:
        raise BegatError(f"--query {query}: expected a number from 0 to {queries - 1}")
    how, called = measures(results), query_names(results)[query : query + 1]
    console.print(Text(brief(f"query {query}: {''.join(called)}".rstrip(": "))))
    for name in [method] if method else tables:
        score, p_value = tables[name]
        p_value = None if p_value is None else p_value[query]
        measure = how[name.removesuffix("_summed")]
        console.print(table_of(name, measure, names, score[query], p_value, count))


def table_of(
    method: str,
    measure: Measure,
    names: list[str],
    score: np.ndarray,
    p_value: np.ndarray | None,
    count: int,
) -> Table:
    """One method's table: at most ``count`` units on each side, names whole."""
    from begat.evaluation.statistics import q_values  # SciPy takes a second

    title = f"{method} ({remark(measure)})" if remark(measure) else method
    table = Table(title=title, title_justify="left", title_style="bold")
    columns = {"score": [f"{value:+.3g}" for value in score]}
    if p_value is not None:
        columns |= {
            "p": [f"{p:.3f}" for p in p_value],
            "q": [f"{q:.2f}" for q in q_values(p_value)],
        }
    for side in sides(measure):
        table.add_column(side, overflow="fold")
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
    rows = list(zip_longest(*of_each_side(measure, score, count))) or [(None, None)]
    for number, pair in enumerate(rows):
        empty = ["" if number else "none", *[""] * len(columns)]
        cells = [
            empty if u is None else [brief(names[u], 1000), *(c[u] for c in columns.values())]
            for u in pair
        ]
        table.add_row(*map(Text, chain.from_iterable(cells)))
    return table
