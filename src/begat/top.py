"""Terminal tables of the units with the highest and the lowest scores for a query."""

from itertools import chain, zip_longest

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from begat.errors import BegatError, brief
from begat.evaluation.measures import Measure
from begat.reading import Results
from begat.reporting.extremes import extreme_labels, extremes, remark


def print_query(
    console: Console, results: Results, query: int, groups: bool, method: str | None, count: int
) -> None:
    """Print a query's tables, of one method or of all.

    Args:
        console: where to print.
        results: of the run.
        query: its number.
        groups: whether to show groups instead of images.
        method: its name; None for all methods.
        count: most units at either end of the scores.

    Raises:
        BegatError: no such method or query.
    """
    methods = results.group_methods if groups else results.methods
    if not methods:
        raise BegatError("no scores yet; run `begat run`")
    if method is not None and method not in methods:
        raise BegatError(f"--method {brief(method)}: expected one of {', '.join(methods)}")
    read, names = (
        (results.group_scores, results.group_names)
        if groups
        else (results.image_scores, results.image_names)
    )
    queries = len(read(methods[0]).values)
    if not 0 <= query < queries:
        raise BegatError(f"--query {query}: expected a number from 0 to {queries - 1}")
    title = f"query {query}: {''.join(results.query_names[query : query + 1])}"
    console.print(Text(brief(title.rstrip(": "))))
    for name in [method] if method else methods:
        scores = read(name)
        p_value = None if scores.p_values is None else scores.p_values[query]
        title = f"{name}: {results.names.label(name)}"
        row = scores.values[query]
        console.print(table_of(title, scores.measure, names, row, p_value, count))


def table_of(
    title: str,
    measure: Measure,
    names: list[str],
    score: np.ndarray,
    p_value: np.ndarray | None,
    count: int,
) -> Table:
    """Returns one method's table: at most ``count`` units at either end, with their full names."""
    from begat.evaluation.statistics import q_values  # importing SciPy takes a second

    title = f"{title} ({remark(measure)})" if remark(measure) else title
    table = Table(title=Text(title, "bold"), title_justify="left")
    columns = {"score": [f"{value:+.3g}" for value in score]}
    if p_value is not None:
        columns |= {
            "p": [f"{p:.3f}" for p in p_value],
            "q": [f"{q:.2f}" for q in q_values(p_value)],
        }
    for label in extreme_labels(measure):
        table.add_column(label, overflow="fold")
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
    rows = list(zip_longest(*extremes(measure, score, count))) or [(None, None)]
    for number, pair in enumerate(rows):
        empty = ["" if number else "none", *[""] * len(columns)]
        cells = [
            empty if u is None else [brief(names[u], 1000), *(c[u] for c in columns.values())]
            for u in pair
        ]
        table.add_row(*map(Text, chain.from_iterable(cells)))
    return table
