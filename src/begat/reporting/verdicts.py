"""Conclusions in words that confidence intervals and p-values support."""

from collections.abc import Mapping, Sequence
from typing import Any

from begat.evaluation.intervals import LEVEL, Row
from begat.reporting.method_names import BASELINES, PIXELS, RETRAINED, MethodNames

BASELINE = "baseline"  # the verdict of rows that are no method
CLEAR, UNCLEAR, UNKNOWN = "better than chance", "perhaps better than chance", "may be chance"
NOT_BETTER = "No joined score is shown to be better than the best method that it joins."
COMPARED = {1: "above", 0: "no clear difference from", -1: "below"}
NO_INTERVAL = "No conclusion: an interval needs at least four queries and four subsets or groups."


def verdict(row: Row, chance: float = 0.0) -> str:
    """Returns the conclusion on one method, in a few words; empty if it has no interval.

    A method is better than chance, or differs from the pixel kernel, if the interval excludes
    equality *and* the permutation test is significant.

    Args:
        row: of ``evaluation.intervals.compared``, with the name of the method.
        chance: the value at the level of chance.
    """
    if row["method"] in BASELINES:
        return BASELINE
    if row["low"] is None:
        return ""
    words = CLEAR if _is_clear(row, chance) else UNCLEAR if row["p"] <= LEVEL else UNKNOWN
    if "minus_pixel" in row:
        words += f", {COMPARED[_sign(row['minus_pixel'])]} the pixel kernel"
    return words


def _is_method(row: Row) -> bool:
    """Whether a row is a method under evaluation: no baseline and no ground truth."""
    return row["method"] not in BASELINES and not row["method"].startswith((RETRAINED, PIXELS))


def _is_clear(row: Row, chance: float) -> bool:
    return row["low"] is not None and row["low"] > chance and row["p"] <= LEVEL


def _sign(difference: Row) -> int:
    """1 if a difference is significantly positive, -1 if significantly negative, else 0."""
    low, high = difference["low"], difference["high"]
    if low is None or difference.get("p", 0) > LEVEL:
        return 0
    return int(low > 0) - int(high < 0)


def conclusion(rows: Sequence[Row], chance: float) -> str:
    """Returns the answer to a chart's question, as far as its intervals support one.

    Only headline methods count: variants are no independent evidence, and neither the ground truth
    nor the pixel baseline is a method under evaluation.
    """
    methods = [row for row in rows if row["headline"] and _is_method(row)]
    if not methods:
        return "There is no method to evaluate."
    if any(row["low"] is None for row in methods):
        return NO_INTERVAL
    best = max(methods, key=lambda row: row["value"])
    clear = [row for row in methods if _is_clear(row, chance)]
    if not clear:
        text = "No headline method is clearly better than chance."
    else:
        share = _share(clear, methods, "headline method")
        text = f"{share} better than chance; {best['label']} is best, at {best['value']:.2f}."
    baselines = {row["method"]: row for row in rows}
    size, independent = baselines.get("group_size"), baselines.get("query_independent")
    if size and (clear or _is_clear(size, chance)):
        text += _size_comparison(best, size)
    if independent and clear:
        text += _query_independent_comparison(best, independent)
    return text


def pixel_comparison(rows: Sequence[Row], chance: float) -> str:
    """Returns which methods are above the pixel baseline, as far as intervals show.

    Variants count too, so that "no method" means none.
    """
    methods = [row for row in rows if _is_method(row) and "minus_pixel" in row]
    if not methods:
        return ""
    if any(row["low"] is None for row in methods):
        return NO_INTERVAL
    above = [r for r in methods if _is_clear(r, chance) and _sign(r["minus_pixel"]) > 0]
    below = [row for row in methods if _sign(row["minus_pixel"]) < 0]
    if above:
        labels = ", ".join(row["label"] for row in above)
        text = f"{_share(above, methods)} above the pixel baseline: {labels}."
    else:
        text = "No method is clearly above the pixel baseline."
    if below:
        text += f" {_share(below, methods)} below it."
    if not any(_is_clear(row, chance) for row in methods):
        text += " No method is clearly better than chance."
    return text


def _share(part: Sequence[Row], methods: Sequence[Row], noun: str = "method") -> str:
    if len(part) == len(methods):
        return f"All {noun}s are" if len(part) > 1 else f"The only {noun} is"
    return f"{len(part)} of {len(methods)} {noun}s {'is' if len(part) == 1 else 'are'}"


def _size_comparison(best: Row, size: Row) -> str:
    """The agreement of the group size alone, unless the best method is significantly better."""
    sign = _sign(best["minus_size"])
    if sign > 0:
        return ""
    relation = "is significantly better" if sign else "is not clearly worse"
    return f" The number of images in a group alone {relation}, at {size['value']:.2f}."


def _query_independent_comparison(best: Row, independent: Row) -> str:
    """Comparison of the best method with the query-independent baseline, on one ground truth."""
    value, difference = independent["value"], best["minus_blind"]
    numbers = f"({value + difference['value']:.2f} and {value:.2f} on the same ground truth)"
    baseline = "the baseline that is the same for every query"
    if (sign := _sign(difference)) > 0:
        return f" It is better than {baseline} {numbers}."
    if sign < 0:
        return (
            f" It is worse than {baseline} {numbers}, so it gives no evidence about single queries."
        )
    return f" It does not differ clearly from {baseline} {numbers}."


def joined_comparison(table: Mapping[str, Any], names: MethodNames) -> str:
    """Returns whether each joined score is better than its best part, in words.

    Args:
        table: of ``evaluation.joined_agreement.joined_agreement``.
        names: labels of the methods.
    """
    rows, highest = table["methods"], table["highest"]
    words = {"better": "better", "not better": "worse", "undecided": "no clear difference"}
    texts = []
    for method, result in table["verdicts"].items():
        row, difference = rows[method], rows[method]["minus_best"]
        text = f"{names.label(method)} {row['value']:.2f}, difference {difference['value']:+.2f}"
        if difference["low"] is not None:
            text += f" [{difference['low']:+.2f}, {difference['high']:+.2f}], {words[result]}"
        texts.append(text)
    end = "" if "better" in table["verdicts"].values() else f" {NOT_BETTER}"
    return (
        "Joined scores and the best of the methods that they join, on queries and retrained models "
        "with which neither this method was chosen nor weights were fitted. Best method: "
        f"{rows['best_part']['value']:.2f}; {'; '.join(texts)}.{end} In hindsight the best method "
        f"is {names.label(highest)}, at {rows[highest]['value']:.2f}."
    )


def scale_verdict(row: Row) -> str:
    """Returns the size of a method's scores relative to retraining, and the best factor.

    Args:
        row: of ``evaluation.calibration``.
    """
    text = f"{row['ratio']:.2g} times the ground truth"
    slope, agreement = row["slope"], row["correlation"]
    if agreement["low"] is not None and agreement["low"] <= 0:
        return f"{text}; the correlation is not clearly positive, so no factor is given"
    return f"{text}; best fit when multiplied by {slope['value']:.2g}"
