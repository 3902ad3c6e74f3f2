"""Conclusions claim no more than intervals and permutation tests support."""

import pytest
from report_pages import NO_INTERVAL, interval

from begat.reporting.verdicts import conclusion, pixel_comparison, verdict


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.5, p=0.01)),
            "better than chance, above the pixel kernel",
        ),
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.5, p=0.1)),
            "better than chance, no clear difference from the pixel kernel",
        ),
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.0, p=0.01)),
            "better than chance, no clear difference from the pixel kernel",
        ),
        (
            interval(0.05, p=0.01, minus_pixel=interval(-0.5, p=0.01)),
            "perhaps better than chance, below the pixel kernel",
        ),
        (interval(0.6, p=0.2), "may be chance"),
        (NO_INTERVAL | {"p": 0.01, "minus_pixel": NO_INTERVAL | {"p": 0.01}}, ""),
    ],
)
def test_verdicts_claim_what_intervals_and_permutations_support(row, words):
    assert verdict({"method": "m", **row}) == words


def test_a_verdict_on_a_share_compares_it_with_the_share_by_chance():
    row = {"method": "m", **interval(0.3, p=0.01)}
    assert verdict(row, 0.1) == "better than chance"
    assert verdict(row, 0.25) == "perhaps better than chance"


def row(method, headline=True, **cells):
    return {"method": method, "label": method, "description": "", "headline": headline, **cells}


def test_conclusions_claim_no_more_than_intervals_and_permutations_support():
    unclear = [row("m", **interval(0.05, p=0.3))]
    none_clear = "No headline method is clearly better than chance."
    assert conclusion(unclear, 0.0) == none_clear
    assert conclusion([row("m", **interval(0.5, p=0.3))], 0.0) == none_clear
    clear = [row("n", **interval(0.5, p=0.01))]
    only = "The only headline method is better than chance; n is best, at 0.50."
    assert conclusion(clear, 0.0) == only
    assert conclusion([*unclear, *clear], 0.0).startswith("1 of 2 headline methods is better")
    assert conclusion([], 0.0) == "There is no method to evaluate."
    assert conclusion([row("m", **NO_INTERVAL, p=0.1)], 0.0).startswith("No conclusion")


def test_variants_pixels_and_ground_truth_do_not_count_as_methods():
    cells = interval(0.5, p=0.01)
    rows = [
        row(name, headline, **{**cells, "value": value})
        for name, headline, value in (
            ("m", True, 0.5),
            ("m_summed", False, 0.6),
            ("logo_paired", True, 0.9),
            ("pixel_rbf", True, 0.8),
        )
    ]
    words = "The only headline method is better than chance; m is best, at 0.50."
    assert conclusion(rows, 0.0) == words


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (0.2, " It is better than the baseline that is the same for every query (0.30 and 0.10"),
        (
            0.05,
            " It does not differ clearly from the baseline that is the same for every query (0.",
        ),
        (-0.2, "(-0.10 and 0.10 on the same ground truth), so it gives no evidence about single"),
    ],
)
def test_a_claim_about_single_queries_needs_more_than_the_query_independent_baseline(
    difference, words
):
    baseline = row("query_independent", headline=False, **interval(0.1))
    clear = row("m", **interval(0.5, p=0.01, minus_blind=interval(difference)))
    assert words in conclusion([clear, baseline], 0.0)
    unclear = row("m", **interval(0.5, p=0.3, minus_blind=interval(difference)))
    assert words not in conclusion([unclear, baseline], 0.0)


def test_the_group_size_is_mentioned_unless_the_best_method_is_significantly_better():
    size = row("group_size", headline=False, **interval(0.4, p=0.01))

    def text(p, difference):
        cells = interval(0.5, p=p, minus_size=interval(difference, p=0.01))
        return conclusion([row("m", **cells), size], 0.0)

    assert "number of images" not in text(0.01, 0.3)
    assert "alone is not clearly worse, at 0.40" in text(0.01, 0.05)
    assert "alone is significantly better, at 0.40" in text(0.01, -0.3)
    assert "alone is not clearly worse" in text(0.5, 0.0)


def test_a_method_is_above_the_pixel_baseline_only_if_the_interval_of_the_difference_is():
    def compared(method, difference, p=0.01):
        return row(method, **interval(0.6, p=p, minus_pixel=interval(difference, p=p)))

    above, unclear, below = compared("m", 0.3), compared("n", 0.05), compared("o", -0.3)
    others = [compared(name, 0.5) for name in ("pixel_cosine", "logo_paired", "random")]
    assert pixel_comparison([above, unclear, *others], 0.0) == (
        "1 of 2 methods is above the pixel baseline: m."
    )
    assert pixel_comparison([unclear, below, *others], 0.0) == (
        "No method is clearly above the pixel baseline. 1 of 2 methods is below it."
    )
    assert pixel_comparison([compared("m", 0.3, p=0.3)], 0.0) == (
        "No method is clearly above the pixel baseline. No method is clearly better than chance."
    )
    without = {**unclear, **NO_INTERVAL, "p": 0.01}
    assert pixel_comparison([without], 0.0).startswith("No conclusion")
    assert pixel_comparison(others, 0.0) == ""
