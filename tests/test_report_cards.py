"""Query cards show scores with the labels, colours and significance that their measures allow."""

import re

import numpy as np
import pytest
from report_pages import (
    GROUPS,
    IMAGES,
    NAMES,
    NO_INTERVAL,
    QUERIES,
    a_card,
    interval,
    report_data,
)

from begat.evaluation.measures import COSINE, FIRST_ORDER, LOSS
from begat.reporting.extremes import extremes, remark
from begat.reporting.page import page


@pytest.fixture(scope="module")
def text():
    return page(report_data(), queries=2, top=3)


def test_no_more_queries_and_images_are_shown_than_requested(text):
    assert text.count("<article") == 2
    assert text.count("<details open><summary") == 2
    assert text.count('class="helped-row"') == 2  # the pixel kernel has no sign
    assert len(re.findall(r'<image id="q\d', text)) == 2


def test_codes_of_no_group_are_not_shown_as_groups(text):
    assert text.count("without g &amp; co") >= 2
    assert "without None" not in text


def test_images_of_the_top_group_are_shown_with_their_posterior_weights():
    weights = np.zeros((QUERIES, IMAGES))
    weights[:, [2, 6]] = 0.7, 0.3
    text = page(report_data(posterior_weights=weights), queries=1, top=5)
    shown = text.split("Within the group")[1].split("</div>\n<p")[0]
    assert re.findall(r"(\d+) %", shown) == ["70", "30"]
    assert "Within the group" not in page(report_data(posterior_weights=None), queries=1, top=5)


def test_the_method_that_agrees_best_with_retraining_is_shown_open():
    summary = report_data().summary
    for method in ("ensemble_matched", "pixel_rbf"):
        rows = {**summary["lds"]["methods"], method: interval(0.8, p=0.01)}
        text = page(
            report_data(summary={**summary, "lds": {**summary["lds"], "methods": rows}}), 1, top=3
        )
        (opened,) = re.findall(r"<details open><summary[^>]*>(.*?)</summary>", text)
        assert opened.partition(" <span")[0] == NAMES.label(method)


def test_p_values_of_groups_are_shown_with_the_scores_they_belong_to(text):
    row = text.split("ensemble, matched</th>")[1].split("</tr>")[0]
    assert row.count(", p 0.125") == GROUPS
    assert text.count(", p 0.125") == 2 * GROUPS  # of both queries shown, and of no other method


@pytest.mark.parametrize(
    ("measure", "present", "absent"),
    [
        (LOSS, ["harmed most", 'class="helped-row"'], ["highest</div>"]),
        (FIRST_ORDER, ["harmed most", 'class="helped-row"'], ["highest</div>"]),
        (COSINE, ["highest</div>"], ["harmed most", 'class="helped-row"']),
    ],
)
def test_a_score_claims_no_more_than_its_measure_allows(measure, present, absent):
    rows = report_data(
        image_scores={"ekfac": (np.ones((QUERIES, IMAGES)), None)},
        group_methods=["ekfac", "ekfac_summed"],
        group_score=np.ones((2, QUERIES, GROUPS)),
        group_uncertainty=np.ones((2, QUERIES, GROUPS)),
        measures={"ekfac": measure},
        summary={},
    )
    text = page(rows, queries=1, top=3)
    card = text.split("<article")[1].split("</article>")[0]
    assert all(card.count(words) for words in present)
    assert not any(words in card for words in absent)
    remarks = re.findall(r'<span class="small">([^<]*only)</span>', card)
    assert remarks == [remark(measure)] * (3 if remark(measure) else 0)
    assert card.count(measure.unit) == 3
    assert "sizes of different methods cannot be compared" in text


def test_extremes_of_signed_scores_have_the_matching_sign():
    score = np.array([3.0, -1.0, 0.0, 2.0, -5.0])
    helped, harmed = extremes(LOSS, score, 4)
    assert (helped.tolist(), harmed.tolist()) == ([0, 3], [4, 1])
    assert [side.tolist() for side in extremes(LOSS, score, 1)] == [[0], [4]]
    assert [side.tolist() for side in extremes(COSINE, score, 2)] == [[0, 3], [4, 1]]
    assert extremes(COSINE, np.abs(score), 2)[1].tolist() == [2, 1]


def test_a_list_without_scores_of_its_sign_says_none():
    score = -1 - np.random.default_rng(0).random((QUERIES, IMAGES))
    card = a_card(page(report_data(image_scores={"ensemble_matched": (score, None)}), 1, top=3))
    assert "helped most: none<" in card
    helped, harmed = card.split('class="helped-row"')[1].split('class="harmed-row"')
    assert (helped.count("<figure"), harmed.count("<figure")) == (0, 3)


def test_one_colour_has_one_meaning():
    score = -np.ones((4, QUERIES, GROUPS)) - np.arange(GROUPS)
    cells = re.findall(
        r"var\(--(helped|harmed|above)\), ([0-9.]+)",
        a_card(page(report_data(group_score=score), 1, 3)),
    )
    colours = [colour for colour, _ in cells]
    assert colours.count("helped") == 0  # a whole row below zero has no green
    assert colours.count("above") == GROUPS  # the pixel kernel's
    assert {shade for colour, shade in cells if colour == "harmed"} > {"0.55"}
    assert [shade for colour, shade in cells if colour == "above"][-1] == "0.00"


def test_queries_and_images_are_shown_with_their_names(text):
    assert a_card(text).count("query 0: a.png (g &amp; co)") >= 3
    assert '<div class="small query">query 1</div>' in a_card(text, 1)
    assert text.count('<span class="name">&lt;b&gt;') > 3
    assert "2 of 3 queries are shown" in text
    assert "queries are shown" not in page(report_data(), queries=3, top=3)


def test_images_are_significant_by_the_false_discovery_rate():
    p_value = np.full((QUERIES, IMAGES), 0.9)
    p_value[0, :2] = 0.001, 0.01  # of 12 images: q .012 and .06
    p_value[1, 0] = 0.04  # q .48
    score = 1 - p_value
    text = page(report_data(image_scores={"ensemble_matched": (score, p_value)}), 2, top=3)
    assert "2 images are significant at a false discovery rate of 10 %" in a_card(text)
    assert re.findall(r"<b>q ([0-9.]+)</b>", a_card(text)) == ["0.01", "0.06"]
    assert "No image is significant at a false discovery rate of 10 %" in a_card(text, 1)
    assert "<b>q" not in a_card(text, 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (interval(0.9, p=0.01), "better than chance"),
        (interval(0.9, 1.0, p=0.5), "may be chance"),
        (NO_INTERVAL | {"value": 0.9, "p": 0.01}, "too few queries or subsets for a conclusion"),
    ],
)
def test_the_open_method_is_shown_with_its_verdict(row, words):
    summary = report_data().summary
    summary["lds"] = {**summary["lds"], "methods": {"pixel_rbf": row}}
    card = a_card(page(report_data(summary=summary), queries=1, top=3))
    assert f"Shown open: pixel kernel, which agrees best with retraining ({words})." in card
    unchecked = a_card(page(report_data(summary={}), queries=1, top=3))
    assert "Shown open: ensemble, matched; no method was checked on images." in unchecked


@pytest.mark.parametrize(("error", "marked"), [(0.05, 1), (0.2, 0)])
def test_no_group_is_marked_if_codes_of_no_group_change_images_as_much(error, marked):
    summary = report_data().summary
    summary["groups_redrawn"]["excess"] = interval(0.1, error)
    card = a_card(page(report_data(summary=summary), queries=1, top=3))
    groups, images = card.split("without a group</h3>")[1].split("without an image</h3>")
    assert groups.count('class="far"') == groups.count("the largest is bold") == marked
    assert ("so they do not identify a group" in groups) != marked
    assert images.count('class="far"') == 1


def test_pictures_can_be_enlarged_without_a_script(text):
    assert 'tabindex="0"' in a_card(text)
    assert ":focus" in text
