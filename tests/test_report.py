"""The page shows its data, is self-contained, and claims no more than intervals support."""

import re

import numpy as np
import pytest
from report_pages import (
    GENERATOR,
    GROUPS,
    IMAGES,
    NO_INTERVAL,
    QUERIES,
    Checked,
    a_card,
    interval,
    report_data,
)

from begat.evaluation.measures import LOSS, NATS
from begat.evaluation.ranking_metrics import METRICS
from begat.execution.methods import Method
from begat.reporting.method_names import MethodNames
from begat.reporting.page import groups_with_a_class, page
from begat.reporting.verdicts import scale_verdict
from begat.stages import METHODS


@pytest.fixture(scope="module")
def text():
    return page(report_data(), queries=2, top=3)


def test_the_page_is_well_formed_and_every_reference_stays_inside(text):
    parser = Checked()
    parser.feed(text)
    assert parser.open == []
    assert "script" not in parser.tags
    assert len(parser.ids) == len(set(parser.ids))
    for reference in parser.refers:
        assert reference.startswith(("#", "data:image/png;base64,"))
        if reference.startswith("#"):
            assert reference[1:] in parser.ids
    assert not re.search(r"https?://|url\(|@import", text)


def test_images_in_no_group_make_a_page_without_group_tables():
    nothing = np.zeros((4, QUERIES, 0))
    counterfactuals = {"member": report_data().counterfactuals["member"]}
    alone = dict(groups=[], group_score=nothing, group_uncertainty=nothing, group_p={})
    alone["member_of"] = np.zeros((0, IMAGES), bool)
    text = page(report_data(**alone, counterfactuals=counterfactuals), queries=2, top=3)
    assert "Scores of groups, query 0" not in text
    assert "Counterfactuals: generated from the same noise without an image" in text


def test_names_and_values_are_escaped(text):
    assert "&lt;b&gt;0&lt;/b&gt;.png" in text
    assert "<b>0</b>" not in text
    assert "g &amp; co" in text
    assert "&lt;script&gt;" in text


def test_every_picture_is_embedded_once(text):
    names = re.findall(r'<image id="([^"]+)"', text)
    assert len(names) == len(set(names))


def test_a_run_without_groups_subsets_or_ensembles_still_has_a_page():
    bare = report_data(
        groups=[],
        member_of=np.zeros((0, IMAGES), bool),
        group_methods=[],
        group_score=np.zeros((0, QUERIES, 0)),
        group_uncertainty=np.zeros((0, QUERIES, 0)),
        group_p={},
        counterfactuals={},
        slots={},
        summary={},
        posterior_weights=None,
        weight_profile=[],
        untracked={},
        image_scores={"pixel_rbf": (np.zeros((QUERIES, IMAGES)), None)},
    )
    text = page(bare, queries=2, top=3)
    Checked().feed(text)
    assert "0 groups" in text


def test_large_pictures_are_shown_small():
    shape = (3, 256, 256)
    large = report_data(
        pixels=GENERATOR.integers(0, 256, (IMAGES, *shape), dtype=np.uint8),
        queries=GENERATOR.uniform(-1, 1, (QUERIES, *shape)),
    )
    assert len(page(large, queries=1, top=12)) < 400_000


def test_a_page_without_intervals_claims_nothing():
    def blank(value):
        if isinstance(value, dict):
            bare = {k: blank(v) for k, v in value.items()}
            return bare | dict.fromkeys({"error", "low", "high"} & set(value))
        return value

    summary = blank(report_data().summary)
    undefined = dict(NO_INTERVAL, value=None, without_it=None, without_another=None)
    summary["images_redrawn"]["false_attribution"] = {"pixel_nearest": undefined}
    text = page(report_data(summary=summary), queries=1, top=3)
    Checked().feed(text)
    assert "undefined" in text
    assert "None" not in text.split('id="agreement"')[1].split('id="training"')[0]
    for claim in ("better than chance", "the pixel kernel</text>", "moves pictures further"):
        assert claim not in text


def test_parameters_that_influence_leaves_out_are_listed():
    left = {"uncovered": {"a.weight": 0.25, "b.weight": 0.05}, "dead": []}
    text = page(report_data(untracked={"full-0-0": left}), queries=1, top=3)
    assert "2 parameters (30.00 % of all)" in text
    assert "a.weight, b.weight" in text
    assert "mid.bias" in page(report_data(), queries=1, top=3)


def test_groups_that_contain_a_class_are_listed_with_the_limitation():
    member_of = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 0, 1]], bool)
    assert groups_with_a_class(member_of, np.array([0, 0, 1, 1, -1])) == [0, 1]
    assert groups_with_a_class(member_of, np.full(5, -1)) == []
    limitation = "under a class that it was not trained on"
    assert "in one group: g &amp; co, b." in page(
        report_data(class_groups=["g & co", "b"]), queries=1, top=3
    )
    assert limitation not in page(report_data(), queries=1, top=3)


def test_the_comparison_with_the_pixel_baseline_comes_first(text):
    summary = text.split('<div class="summary">')[1].split("</div>")[0]
    assert summary.count("No method is clearly above the pixel baseline.") == 4
    assert "No method is clearly above" in text.split('id="reading"')[0]
    unchecked = page(report_data(summary={}), queries=1, top=3).split('id="reading"')[0]
    assert "No score on this page was checked against retraining" in unchecked


def test_scales_are_given_relative_to_the_ground_truth(text):
    assert "<td>44 times the ground truth; best fit when multiplied by 0.02</td>" in text
    assert "another training of the same groups is 1.1 times the ground truth" in text
    row = a_card(text).split("ensemble, matched</th>")[1].split("</tr>")[0]
    assert "44 ×" in row
    unsure = {"ratio": 44.0, "slope": interval(0.02), "correlation": interval(0.05)}
    assert scale_verdict(unsure).endswith("so no factor is given")


def test_scores_in_nats_are_compared_with_ground_truth_in_nats():
    row = {"ratio": 3.0, "slope": interval(0.02), "correlation": interval(0.5)}
    summary = report_data().summary
    summary["calibration"]["logo_elbo_retrained"] = {"ensemble_matched": row}
    measures = {**report_data().measures, "ensemble_matched": NATS}
    text = page(report_data(summary=summary, measures=measures), queries=1, top=3)
    assert "<td>3 times the ground truth; " in text


def test_the_page_omits_text_on_what_the_run_does_not_have(text):
    assert "the others are (near-)duplicates" in text
    bare = page(report_data(units=IMAGES, curves={}), queries=1, top=3)
    assert "the others" not in bare
    assert "#training" not in bare
    assert "no model trained in this run" in bare
    assert "code</b>" not in bare  # no members: no codes, no p-values
    assert "None" not in bare.split('id="provenance"')[1]
    ensembles = page(report_data(curves={"member": np.ones((2, 5))}), queries=1, top=3)
    assert "code</b>" in ensembles
    assert "digest of each training image" not in text


def test_a_mean_without_spread_has_no_error_beside_it():
    rows = {"ensemble_matched": interval(1.0, 0.0, p=0.01)}
    summary = report_data().summary
    summary["logo"]["logo_retrained"] = dict.fromkeys(METRICS, rows)
    table = page(report_data(summary=summary), queries=1, top=3).split("All metrics of agreement")[
        1
    ]
    assert "±" not in table.split('<tr><th scope="row"')[1]


def test_a_method_that_only_its_declaration_names_is_on_the_page_with_its_words():
    toy = Method("toy label", "toy description", LOSS, headline=True)
    summary, score = report_data().summary, np.ones((QUERIES, IMAGES))
    agreement = {"toy": interval(0.7, p=0.01)}
    data = report_data(
        methods=MethodNames({**METHODS, "toy": toy}),
        measures={"toy": LOSS},
        image_scores={"toy": (score, None)},
        group_methods=["toy"],
        group_score=np.ones((1, QUERIES, GROUPS)),
        group_uncertainty=np.ones((1, QUERIES, GROUPS)),
        summary={
            **summary,
            "lds": {**summary["lds"], "methods": agreement},
            "logo": {**summary["logo"], "logo_retrained": dict.fromkeys(METRICS, agreement)},
        },
    )
    text = page(data, queries=1, top=3)
    card, below = a_card(text), text.split('id="agreement"')[1]
    assert card.count('title="toy description; ') == 2  # of the groups and of the images
    assert f'title="toy description; {LOSS.unit}">toy label</' in card
    assert below.count("<title>toy description</title>") == 3  # LDS, rank correlation, top 1
    assert 'title="toy description">toy label</th>' in below  # all metrics
    assert "The only headline method is better than chance; toy label is best" in text
