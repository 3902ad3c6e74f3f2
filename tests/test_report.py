"""The page shows its data, is self-contained, and claims no more than intervals support."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from begat.evaluation.measures import COSINE, FIRST_ORDER, LOSS, NATS, SIMILARITY
from begat.execution.methods import Method
from begat.reporting.charts import METRICS, costs, curve_lines, dag_layout
from begat.reporting.extremes import extremes, remark
from begat.reporting.method_names import MethodNames
from begat.reporting.page import groups_with_a_class, page
from begat.reporting.report_data import ReportData
from begat.reporting.verdicts import conclusion, pixel_comparison, scale_verdict, verdict
from begat.stages import METHODS

QUERIES, IMAGES, GROUPS = 3, 12, 4
GENERATOR = np.random.default_rng(0)
NAMES = MethodNames(METHODS)


def interval(value, error=0.1, **more):
    return {"value": value, "low": value - error, "high": value + error, "error": error, **more}


NO_INTERVAL = {"value": 0.5, "error": None, "low": None, "high": None}


def report_data(**changes):
    methods = ["ensemble_matched", "ensemble_matched_summed", "pixel_rbf", "logo_retrained"]
    score = GENERATOR.normal(size=(QUERIES, IMAGES))
    counterfactuals = {
        kind: {
            "factual": GENERATOR.uniform(-1, 1, (QUERIES, 1, 8, 8)),
            "pixels": GENERATOR.uniform(-1, 1, (QUERIES, slots, 1, 8, 8)),
            "unit": np.tile(np.append(np.arange(GROUPS), [-1] * (slots - GROUPS)), (QUERIES, 1)),
            "distance": GENERATOR.random((QUERIES, slots)),
        }
        for kind, slots in (("group_member", 2 * GROUPS), ("member", GROUPS))
    }
    rows = {
        "ensemble_matched": interval(0.6, p=0.01, minus_pixel=interval(0.01, p=0.9)),
        "pixel_rbf": interval(0.5, p=0.01),
        "random": interval(0.0, p=0.5, minus_pixel=interval(-0.4, p=0.01)),
    }
    truth = {
        "methods": rows,
        "subsets": 8,
        "seeds": 2,
        "ceiling": interval(0.9),
        "seed_correlation": 0.6,
    }
    far = interval(0.4, without_it=0.3, without_another=0.8)
    distances = {"radius": interval(0.2), "published": {"value": 44.0}}
    drawn = {"false_attribution": {"pixel_nearest": far}, **distances}
    null = {"null": interval(0.1), "excess": interval(0.1, 0.05)}
    data = dict(
        pixels=GENERATOR.integers(0, 256, (IMAGES, 1, 8, 8), dtype=np.uint8),
        names=[f"<b>{i}</b>.png" for i in range(IMAGES)],
        groups=["g & co", "b", "c", "d"],
        member_of=np.arange(IMAGES) % GROUPS == np.arange(GROUPS)[:, None],
        units=IMAGES - 1,
        queries=GENERATOR.uniform(-1, 1, (QUERIES, 1, 8, 8)),
        image_scores={"ensemble_matched": (score, np.abs(score) % 1), "pixel_rbf": (score, None)},
        group_methods=methods,
        methods=NAMES,
        query_names=["a.png (g & co)", "", "c.png"],
        measures={"ensemble_matched": LOSS, "pixel_rbf": SIMILARITY, "logo_retrained": LOSS},
        packs={"full-0": ["full"]},
        group_score=GENERATOR.normal(size=(len(methods), QUERIES, GROUPS)),
        group_uncertainty=np.ones((len(methods), QUERIES, GROUPS)),
        group_p={"ensemble_matched": np.full((QUERIES, GROUPS), 0.125)},
        class_groups=[],
        counterfactuals=counterfactuals,
        slots={"group_member": ["x"] * GROUPS, "member": ["helpful 1", "nearest", *["random"] * 2]},
        summary={
            "lds": truth,
            "group_lds": truth,
            "logo": {
                "judge": "logo_retrained",
                "chance": dict.fromkeys(METRICS, 0.25),
                "logo_retrained": dict.fromkeys(METRICS, rows),
            },
            "calibration": {
                "logo_retrained": {
                    method: {"ratio": ratio, "slope": interval(0.02), "correlation": interval(0.5)}
                    for method, ratio in (("ensemble_matched", 44.0), ("another_training", 1.1))
                }
            },
            "groups_redrawn": {**drawn, **null},
            "images_redrawn": drawn,
        },
        curves={"full": np.exp(-np.arange(200) / 100)[None] + 0.1},
        params={
            "seed": 0,
            "models": {"max_train_steps": 200},
            "images": {"path": "<script>"},
            "diffusion": {"num_train_timesteps": 100},
            "measurements": {"draws": 64},
            "scores_guda": {"draws": 32},
        },
        artifacts=[
            dict(stage="images", name="all", key="a" * 64, seconds=1.0, cpu_seconds=2.0,
                 peak_memory=2**30, started="2026-01-01", device="cpu", commit="abc", torch="2"),
            dict(stage="splits", name="all", key="b" * 64, seconds=None, cpu_seconds=None,
                 peak_memory=None, started=None, device=None, commit=None, torch=None),
        ],
        edges=[("splits", "images")],
        posterior_weights=np.eye(QUERIES, IMAGES),
        weight_profile=[0.5, 0.1, 0.4],
        untracked={"full-0-0": {"uncovered": {}, "dead": ["mid.bias"]}},
    )  # fmt: skip
    return ReportData(**{**data, **changes})


class Checked(HTMLParser):
    """Collects what a page refers to and whether its elements are closed."""

    VOID = {
        "meta",
        "link",
        "br",
        "img",
        "image",
        "line",
        "circle",
        "rect",
        "path",
        "use",
        "polyline",
    }

    def __init__(self):
        super().__init__()
        self.open, self.refers, self.ids, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action"):
                self.refers.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


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


def test_no_more_queries_and_images_are_shown_than_requested(text):
    assert text.count("<article") == 2
    assert text.count("<details open><summary") == 2
    assert text.count('class="helped-row"') == 2  # the pixel kernel has no sign
    assert len(re.findall(r'<image id="q\d', text)) == 2


def test_every_picture_is_embedded_once(text):
    names = re.findall(r'<image id="([^"]+)"', text)
    assert len(names) == len(set(names))


def test_codes_of_no_group_are_not_shown_as_groups(text):
    assert text.count("without g &amp; co") >= 2
    assert "without None" not in text


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


def test_parameters_that_influence_leaves_out_are_listed():
    left = {"uncovered": {"a.weight": 0.25, "b.weight": 0.05}, "dead": []}
    text = page(report_data(untracked={"full-0-0": left}), queries=1, top=3)
    assert "2 parameters (30.00 % of all)" in text
    assert "a.weight, b.weight" in text
    assert "mid.bias" in page(report_data(), queries=1, top=3)


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


def test_groups_that_contain_a_class_are_listed_with_the_limitation():
    member_of = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 0, 1]], bool)
    assert groups_with_a_class(member_of, np.array([0, 0, 1, 1, -1])) == [0, 1]
    assert groups_with_a_class(member_of, np.full(5, -1)) == []
    limitation = "under a class that it was not trained on"
    assert "in one group: g &amp; co, b." in page(
        report_data(class_groups=["g & co", "b"]), queries=1, top=3
    )
    assert limitation not in page(report_data(), queries=1, top=3)


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


def a_card(text, number=0):
    return text.split("<article")[number + 1].split("</article>")[0]


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


def test_a_mean_without_spread_has_no_error_beside_it():
    rows = {"ensemble_matched": interval(1.0, 0.0, p=0.01)}
    summary = report_data().summary
    summary["logo"]["logo_retrained"] = dict.fromkeys(METRICS, rows)
    table = page(report_data(summary=summary), queries=1, top=3).split("All metrics of agreement")[
        1
    ]
    assert "±" not in table.split('<tr><th scope="row"')[1]


def test_pictures_can_be_enlarged_without_a_script(text):
    assert 'tabindex="0"' in a_card(text)
    assert ":focus" in text


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
