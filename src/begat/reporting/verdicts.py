"""What intervals and p-values allow one to say of methods, in words."""

from collections.abc import Sequence

from begat.evaluation.intervals import Row
from begat.reporting.method_names import words

YARDSTICKS = ("random", "group_size", "query_independent", "another_training")
TRUTH = "logo_"  # how the rows begin that are the truth
PIXELS = "pixel_"  # how the rows begin that know no model
LEVEL = 0.05  # of p-values in verdicts
CLEAR, UNCLEAR, UNKNOWN = "better than chance", "perhaps better than chance", "not clear of chance"
BESIDE = {1: "beats", 0: "level with", -1: "below"}
NO_INTERVAL = "Too few queries, halves or groups to say: an interval needs four of each."


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


def _is_judged(row: Row) -> bool:
    return row["method"] not in YARDSTICKS and not row["method"].startswith((TRUTH, PIXELS))


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

    Counted are the leading methods: their variants are no further evidence, and neither the truth
    nor pixels are methods.
    """
    methods = [row for row in rows if row["method"] in leading and _is_judged(row)]
    if not methods:
        return "No method to judge."
    if any(row["low"] is None for row in methods):
        return NO_INTERVAL
    best = max(methods, key=lambda row: row["value"])
    sure = [row for row in methods if _clear(row, chance)]
    if not sure:
        said = "No leading method is clear of chance."
    else:
        share = _share(sure, methods, "leading method")
        said = f"{share} better than chance; {_name(best)} is best, at {best['value']:.2f}."
    yardsticks = {row["method"]: row for row in rows}
    size, blind = yardsticks.get("group_size"), yardsticks.get("query_independent")
    if size and (sure or _clear(size, chance)):
        said += _beside_size(best, size)
    if blind and sure:
        said += _beside_blind(best, blind)
    return said


def beside_pixels(rows: Sequence[Row], chance: float) -> str:
    """Whether any method beats the pixel baseline, as far as the intervals of differences say.

    Variants count too, so that "no method" means none.
    """
    methods = [row for row in rows if _is_judged(row) and "minus_pixel" in row]
    if not methods:
        return ""
    if any(row["low"] is None for row in methods):
        return NO_INTERVAL
    above = [r for r in methods if _clear(r, chance) and _side(r["minus_pixel"]) > 0]
    below = [row for row in methods if _side(row["minus_pixel"]) < 0]
    said = f"{_share(above, methods)} above the pixel baseline: " if above else ""
    said += ", ".join(map(_name, above)) + "." if above else "No method beats the pixel baseline."
    if below:
        said += f" {_share(below, methods)} below it."
    if not any(_clear(row, chance) for row in methods):
        said += " No method is clear of chance."
    return said


def _share(some: Sequence[Row], methods: Sequence[Row], what: str = "method") -> str:
    if len(some) == len(methods):
        return f"All {what}s are" if len(some) > 1 else f"The one {what} is"
    return f"{len(some)} of {len(methods)} {what}s {'is' if len(some) == 1 else 'are'}"


def _name(row: Row) -> str:
    return words(row["method"])[0]


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


def size_verdict(row: Row) -> str:
    """How large a method's scores are against retraining, and what factor would bring them there.

    ``row`` is of ``evaluation.calibration``.
    """
    said = f"{row['ratio']:.2g} times the truth"
    slope, agreement = row["slope"], row["correlation"]
    if agreement["low"] is not None and agreement["low"] <= 0:
        return f"{said}; it does not surely follow it, so no factor is given"
    return f"{said}; multiplied by {slope['value']:.2g} it fits best"
