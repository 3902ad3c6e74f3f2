"""Names and order of methods; charts and tables of the report as numbers."""

import numpy as np
from report_pages import NAMES

from begat.reporting.charts import costs, curve_lines, dag_layout


def test_a_falling_loss_spans_the_whole_chart():
    curves = curve_lines({"full": np.array([[8.0, 4.0, 2.0]])})
    points = curves["lines"]["full"]["points"]
    assert points == "0.0000,0.0000 0.5000,0.5000 1.0000,1.0000"


def test_stages_are_to_the_right_of_all_that_they_read():
    artifacts = [dict(stage=s, cpu_seconds=1.0) for s in ("a", "b", "c", "c")]
    layout = dag_layout([("b", "a"), ("c", "a"), ("c", "b")], artifacts)
    assert {s: n["x"] for s, n in layout["nodes"].items()} == {"a": 0, "b": 1, "c": 2}
    assert layout["nodes"]["c"]["artifacts"] == 2
    assert layout["nodes"]["c"]["seconds"] == 2.0
    unrecorded = dag_layout([], [dict(stage="a", cpu_seconds=None)])
    assert unrecorded["nodes"]["a"]["seconds"] is None
    assert len(layout["lines"]) == 3


def test_costs_per_group_and_query_compare_unlearning_with_retraining():
    packs = {"full-0": ["full", "logo", "logo"], "half-0": ["half"]}
    artifacts = [
        dict(stage="models", name="full-0", cpu_seconds=60.0),
        dict(stage="models", name="half-0", cpu_seconds=40.0),
        dict(stage="unlearned", name="0", cpu_seconds=8.0),
        dict(stage="measurements", name="unlearned-0", cpu_seconds=6.0),
        dict(stage="measurements", name="logo-0", cpu_seconds=None),
    ]
    rows = list(costs(artifacts, packs=packs, groups=4, queries=3))
    assert [(row["each"], row["total"]) for row in rows] == [(2, 8), (20, 40), (2, 6)]
    none = {pack: ["half"] for pack in packs}
    assert not list(costs(artifacts, packs=none, groups=0, queries=0))


def test_sums_of_image_scores_are_labelled_as_such_and_unknown_methods_by_their_names():
    assert NAMES.label("ensemble_matched_summed") == "ensemble, matched, images summed"
    assert NAMES.description("pixel_rbf_summed").endswith("; image scores summed over the group")
    assert NAMES.row("a_new_one") == {
        "method": "a_new_one",
        "label": "a new one",
        "description": "",
        "headline": False,
    }


def test_rows_are_ordered_ground_truth_headline_methods_variants_baselines():
    rows = ["random", "m", "pixel_cosine", "ekfac_summed", "kfac", "pixel_rbf", "ekfac", "trak"]
    ordered = NAMES.ordered([*rows, "logo_retrained"])
    headline = ["logo_retrained", "ekfac", "pixel_rbf", "trak"]
    assert ordered == [*headline, "ekfac_summed", "kfac", "pixel_cosine", "m", "random"]
