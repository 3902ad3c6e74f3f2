"""The page shows what it was given, needs nothing from outside, and claims no more than it may."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from begat.evaluation.measures import COSINE, FIRST_ORDER, LOSS, NATS, SIMILARITY
from begat.reporting.charts import METRICS, costs, curve_lines, drawn_dag
from begat.reporting.method_names import of_each_side, remark, words
from begat.reporting.page import Evidence, groups_with_a_class, page
from begat.reporting.verdicts import answer, beside_pixels, size_verdict, verdict

QUERIES, IMAGES, GROUPS = 3, 12, 4
GENERATOR = np.random.default_rng(0)


def interval(value, error=0.1, **more):
    return {"value": value, "low": value - error, "high": value + error, "error": error, **more}


NO_INTERVAL = {"value": 0.5, "error": None, "low": None, "high": None}


def evidence(**changes):
    methods = ["ensemble_matched", "ensemble_matched_summed", "pixel_rbf", "logo_retrained"]
    score = GENERATOR.normal(size=(QUERIES, IMAGES))
    redrawn = {
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
    given = dict(
        pixels=GENERATOR.integers(0, 256, (IMAGES, 1, 8, 8), dtype=np.uint8),
        names=[f"<b>{i}</b>.png" for i in range(IMAGES)],
        groups=["g & co", "b", "c", "d"],
        member_of=np.arange(IMAGES) % GROUPS == np.arange(GROUPS)[:, None],
        units=IMAGES - 1,
        queries=GENERATOR.uniform(-1, 1, (QUERIES, 1, 8, 8)),
        image_scores={"ensemble_matched": (score, np.abs(score) % 1), "pixel_rbf": (score, None)},
        group_methods=methods,
        query_names=["a.png (g & co)", "", "c.png"],
        measures={"ensemble_matched": LOSS, "pixel_rbf": SIMILARITY, "logo_retrained": LOSS},
        packs={"full-0": ["full"]},
        leading=["ensemble_matched", "pixel_rbf", "logo_retrained"],
        group_score=GENERATOR.normal(size=(len(methods), QUERIES, GROUPS)),
        group_uncertainty=np.ones((len(methods), QUERIES, GROUPS)),
        group_p={"ensemble_matched": np.full((QUERIES, GROUPS), 0.125)},
        unlearned_classes=[],
        redrawn=redrawn,
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
            "models": {"steps": 200},
            "images": {"path": "<script>"},
            "diffusion": {"timesteps": 100},
            "measurements": {"draws": 64},
            "scores_guda": {"draws": 32},
        },
        made=[
            dict(stage="images", name="all", key="a" * 64, seconds=1.0, cpu_seconds=2.0,
                 peak_memory=2**30, started="2026-01-01", device="cpu", commit="abc", torch="2"),
            dict(stage="splits", name="all", key="b" * 64, seconds=None, cpu_seconds=None,
                 peak_memory=None, started=None, device=None, commit=None, torch=None),
        ],
        edges=[("splits", "images")],
        within=np.eye(QUERIES, IMAGES),
        weight_profile=[0.5, 0.1, 0.4],
        left_out={"full-0-0": {"uncovered": {}, "dead": ["mid.bias"]}},
    )  # fmt: skip
    return Evidence(**{**given, **changes})


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
    return page(evidence(), queries=2, top=3)


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
    redrawn = {"member": evidence().redrawn["member"]}
    alone = dict(groups=[], group_score=nothing, group_uncertainty=nothing, group_p={})
    alone["member_of"] = np.zeros((0, IMAGES), bool)
    text = page(evidence(**alone, redrawn=redrawn), queries=2, top=3)
    assert "Scores of groups, query 0" not in text
    assert "Drawn again from the same noise, without an image" in text


def test_names_and_values_are_escaped(text):
    assert "&lt;b&gt;0&lt;/b&gt;.png" in text
    assert "<b>0</b>" not in text
    assert "g &amp; co" in text
    assert "&lt;script&gt;" in text


def test_only_as_many_queries_and_images_are_shown_as_asked(text):
    assert text.count("<article") == 2
    assert text.count("<details open><summary") == 2
    assert text.count('class="helped-row"') == 2  # the pixel kernel has no sign
    assert len(re.findall(r'<image id="q\d', text)) == 2


def test_every_picture_is_embedded_once(text):
    names = re.findall(r'<image id="([^"]+)"', text)
    assert len(names) == len(set(names))


def test_codes_that_belong_to_no_group_are_not_shown_as_groups(text):
    assert text.count("without g &amp; co") >= 2
    assert "without None" not in text


def test_a_run_without_groups_halves_or_ensembles_still_has_a_page():
    bare = evidence(
        groups=[],
        member_of=np.zeros((0, IMAGES), bool),
        group_methods=[],
        leading=[],
        group_score=np.zeros((0, QUERIES, 0)),
        group_uncertainty=np.zeros((0, QUERIES, 0)),
        group_p={},
        redrawn={},
        slots={},
        summary={},
        within=None,
        weight_profile=[],
        left_out={},
        image_scores={"pixel_rbf": (np.zeros((QUERIES, IMAGES)), None)},
    )
    text = page(bare, queries=2, top=3)
    Checked().feed(text)
    assert "0 groups" in text


def test_large_pictures_are_shown_small():
    shape = (3, 256, 256)
    large = evidence(
        pixels=GENERATOR.integers(0, 256, (IMAGES, *shape), dtype=np.uint8),
        queries=GENERATOR.uniform(-1, 1, (QUERIES, *shape)),
    )
    assert len(page(large, queries=1, top=12)) < 400_000


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.5, p=0.01)),
            "better than chance, beats the pixel kernel",
        ),
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.5, p=0.1)),
            "better than chance, level with the pixel kernel",
        ),
        (
            interval(0.6, p=0.01, minus_pixel=interval(0.0, p=0.01)),
            "better than chance, level with the pixel kernel",
        ),
        (
            interval(0.05, p=0.01, minus_pixel=interval(-0.5, p=0.01)),
            "perhaps better than chance, below the pixel kernel",
        ),
        (interval(0.6, p=0.2), "not clear of chance"),
        (NO_INTERVAL | {"p": 0.01, "minus_pixel": NO_INTERVAL | {"p": 0.01}}, ""),
    ],
)
def test_verdicts_claim_what_intervals_and_shuffled_names_carry(row, said):
    assert verdict({"method": "m", **row}) == said


def test_a_verdict_on_a_share_is_against_the_share_by_chance():
    row = {"method": "m", **interval(0.3, p=0.01)}
    assert verdict(row, 0.1) == "better than chance"
    assert verdict(row, 0.25) == "perhaps better than chance"


def test_answers_admit_what_is_not_known():
    unsure = [{"method": "m", **interval(0.05, p=0.3)}]
    assert answer(unsure, 0.0, ["m"]).startswith("No leading method is clear of chance")
    by_shuffling = [{"method": "m", **interval(0.5, p=0.3)}]
    assert answer(by_shuffling, 0.0, ["m"]).startswith("No leading method is clear of chance")
    sure = [{"method": "n", **interval(0.5, p=0.01)}]
    assert (
        answer(sure, 0.0, ["n"])
        == "The one leading method is better than chance; n is best, at 0.50."
    )
    assert answer([*unsure, *sure], 0.0, ["m", "n"]).startswith("1 of 2 leading methods is better")
    assert answer([], 0.0, []) == "No method to judge."
    assert answer([{"method": "m", **NO_INTERVAL, "p": 0.1}], 0.0, ["m"]).startswith("Too few")


def test_variants_pixels_and_the_truth_are_not_counted_as_methods():
    sure = interval(0.5, p=0.01)
    rows = [
        {"method": name, **sure, "value": value}
        for name, value in (("m", 0.5), ("m_summed", 0.6), ("logo_paired", 0.9), ("pixel_rbf", 0.8))
    ]
    said = "The one leading method is better than chance; m is best, at 0.50."
    assert answer(rows, 0.0, ["m", "logo_paired", "pixel_rbf"]) == said


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.2, " It does better than a forecast that is the same for every query (0.30 against"),
        (0.05, " It cannot be told from a forecast that is the same for every query (0.15"),
        (-0.2, "better still (-0.10 against 0.10 on the same truth), so nothing here may be"),
    ],
)
def test_what_may_be_said_of_a_single_query_follows_from_the_comparison_on_one_truth(
    difference, said
):
    blind = {"method": "query_independent", **interval(0.1)}
    rows = [{"method": "m", **interval(0.5, p=0.01, minus_blind=interval(difference))}, blind]
    assert said in answer(rows, 0.0, ["m"])
    unsure = [{"method": "m", **interval(0.5, p=0.3, minus_blind=interval(difference))}, blind]
    assert said not in answer(unsure, 0.0, ["m"])


def test_the_size_of_groups_is_named_unless_a_method_surely_does_better():
    size = {"method": "group_size", **interval(0.4, p=0.01)}

    def answered(p, difference):
        row = interval(0.5, p=p, minus_size=interval(difference, p=0.01))
        return answer([{"method": "m", **row}, size], 0.0, ["m"])

    assert "size" not in answered(0.01, 0.3)
    assert "is level with that, at 0.40" in answered(0.01, 0.05)
    assert "is above that, at 0.40" in answered(0.01, -0.3)
    assert "is level with that" in answered(0.5, 0.0)


def test_a_page_without_intervals_claims_nothing():
    def blank(value):
        if isinstance(value, dict):
            bare = {k: blank(v) for k, v in value.items()}
            return bare | dict.fromkeys({"error", "low", "high"} & set(value))
        return value

    summary = blank(evidence().summary)
    undefined = dict(NO_INTERVAL, value=None, without_it=None, without_another=None)
    summary["images_redrawn"]["false_attribution"] = {"pixel_nearest": undefined}
    text = page(evidence(summary=summary), queries=1, top=3)
    Checked().feed(text)
    assert "undefined" in text
    assert "None" not in text.split('id="believe"')[1].split('id="training"')[0]
    for claim in ("better than chance", "the pixel kernel</text>", "moves pictures further"):
        assert claim not in text


def test_methods_have_words_and_unknown_ones_their_names():
    assert words("ensemble_matched_summed")[0] == "ensemble, matched, images summed"
    assert words("some_new_one") == ("some new one", "")


def test_curves_fall_from_one_corner_to_the_other():
    found = curve_lines({"full": np.array([[8.0, 4.0, 2.0]])})
    points = found["lines"]["full"]["points"]
    assert points == "0.0000,0.0000 0.5000,0.5000 1.0000,1.0000"


def test_stages_stand_right_of_all_they_read():
    made = [dict(stage=s, cpu_seconds=1.0) for s in ("a", "b", "c", "c")]
    found = drawn_dag([("b", "a"), ("c", "a"), ("c", "b")], made)
    assert {s: n["x"] for s, n in found["nodes"].items()} == {"a": 0, "b": 1, "c": 2}
    assert found["nodes"]["c"]["artifacts"] == 2
    assert found["nodes"]["c"]["seconds"] == 2.0
    assert drawn_dag([], [dict(stage="a", cpu_seconds=None)])["nodes"]["a"]["seconds"] is None
    assert len(found["lines"]) == 3


def test_what_a_group_costs_by_unlearning_stands_beside_retraining():
    packs = {"full-0": ["full", "logo", "logo"], "half-0": ["half"]}
    made = [
        dict(stage="models", name="full-0", cpu_seconds=60.0),
        dict(stage="models", name="half-0", cpu_seconds=40.0),
        dict(stage="unlearned", name="0", cpu_seconds=8.0),
        dict(stage="measurements", name="unlearned-0", cpu_seconds=6.0),
        dict(stage="measurements", name="logo-0", cpu_seconds=None),
    ]
    found = list(costs(made, packs=packs, groups=4, queries=3))
    assert [(row["each"], row["all"]) for row in found] == [(2, 8), (20, 40), (2, 6)]
    none = {pack: ["half"] for pack in packs}
    assert not list(costs(made, packs=none, groups=0, queries=0))


def test_what_influence_leaves_out_is_said():
    left = {"uncovered": {"a.weight": 0.25, "b.weight": 0.05}, "dead": []}
    text = page(evidence(left_out={"full-0-0": left}), queries=1, top=3)
    assert "2 parameters (30.00 % of all)" in text
    assert "a.weight, b.weight" in text
    assert "mid.bias" in page(evidence(), queries=1, top=3)


def test_images_of_the_group_named_first_are_shown_with_their_shares():
    within = np.zeros((QUERIES, IMAGES))
    within[:, [2, 6]] = 0.7, 0.3
    text = page(evidence(within=within), queries=1, top=5)
    shown = text.split("Within the group")[1].split("</div>\n<p")[0]
    assert re.findall(r"(\d+) %", shown) == ["70", "30"]
    assert "Within the group" not in page(evidence(within=None), queries=1, top=5)


def test_the_method_that_agrees_best_with_retraining_is_the_one_that_stands_open():
    summary = evidence().summary
    for method in ("ensemble_matched", "pixel_rbf"):
        rows = {**summary["lds"]["methods"], method: interval(0.8, p=0.01)}
        text = page(
            evidence(summary={**summary, "lds": {**summary["lds"], "methods": rows}}), 1, top=3
        )
        (opened,) = re.findall(r"<details open><summary[^>]*>(.*?)</summary>", text)
        assert opened.partition(" <span")[0] == words(method)[0]


def test_groups_p_values_are_shown_with_the_scores_they_belong_to(text):
    row = text.split("ensemble, matched</th>")[1].split("</tr>")[0]
    assert row.count(", p 0.125") == GROUPS
    assert text.count(", p 0.125") == 2 * GROUPS  # of both queries shown, and of no other method


def test_groups_that_hold_a_class_are_named_with_what_that_means():
    member_of = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 0, 1]], bool)
    assert groups_with_a_class(member_of, np.array([0, 0, 1, 1, -1])) == [0, 1]
    assert groups_with_a_class(member_of, np.full(5, -1)) == []
    caveat = "under a class it never learned"
    assert "in one group: g &amp; co, b. A model" in page(
        evidence(unlearned_classes=["g & co", "b"]), queries=1, top=3
    )
    assert caveat not in page(evidence(), queries=1, top=3)


@pytest.mark.parametrize(
    ("measure", "said", "unsaid"),
    [
        (LOSS, ["harmed most", 'class="helped-row"'], ["highest</div>"]),
        (FIRST_ORDER, ["harmed most", 'class="helped-row"'], ["highest</div>"]),
        (COSINE, ["highest</div>"], ["harmed most", 'class="helped-row"']),
    ],
)
def test_a_score_claims_no_more_than_its_artifact_says(measure, said, unsaid):
    rows = evidence(
        image_scores={"ekfac": (np.ones((QUERIES, IMAGES)), None)},
        group_methods=["ekfac", "ekfac_summed"],
        group_score=np.ones((2, QUERIES, GROUPS)),
        group_uncertainty=np.ones((2, QUERIES, GROUPS)),
        measures={"ekfac": measure},
        leading=["ekfac"],
        summary={},
    )
    text = page(rows, queries=1, top=3)
    card = text.split("<article")[1].split("</article>")[0]
    assert all(card.count(words) for words in said)
    assert not any(words in card for words in unsaid)
    remarks = re.findall(r'<span class="small">([^<]*only)</span>', card)
    assert remarks == [remark(measure)] * (3 if remark(measure) else 0)
    assert card.count(measure.unit) == 3
    assert "sizes of different methods cannot be compared" in text


def a_card(text, number=0):
    return text.split("<article")[number + 1].split("</article>")[0]


def test_a_side_holds_scores_of_its_own_sign_only():
    score = np.array([3.0, -1.0, 0.0, 2.0, -5.0])
    helped, harmed = of_each_side(LOSS, score, 4)
    assert (helped.tolist(), harmed.tolist()) == ([0, 3], [4, 1])
    assert [side.tolist() for side in of_each_side(LOSS, score, 1)] == [[0], [4]]
    assert [side.tolist() for side in of_each_side(COSINE, score, 2)] == [[0, 3], [4, 1]]
    assert of_each_side(COSINE, np.abs(score), 2)[1].tolist() == [2, 1]


def test_a_side_without_scores_of_its_sign_says_none():
    score = -1 - np.random.default_rng(0).random((QUERIES, IMAGES))
    card = a_card(page(evidence(image_scores={"ensemble_matched": (score, None)}), 1, top=3))
    assert "helped most: none<" in card
    helped, harmed = card.split('class="helped-row"')[1].split('class="harmed-row"')
    assert (helped.count("<figure"), harmed.count("<figure")) == (0, 3)


def test_one_colour_has_one_meaning():
    score = -np.ones((4, QUERIES, GROUPS)) - np.arange(GROUPS)
    cells = re.findall(
        r"var\(--(helped|harmed|above)\), ([0-9.]+)",
        a_card(page(evidence(group_score=score), 1, 3)),
    )
    colours = [colour for colour, _ in cells]
    assert colours.count("helped") == 0  # a whole row below zero has no green
    assert colours.count("above") == GROUPS  # the pixel kernel's
    assert {shade for colour, shade in cells if colour == "harmed"} > {"0.55"}
    assert [shade for colour, shade in cells if colour == "above"][-1] == "0.00"


def test_a_method_beats_the_baseline_only_where_the_interval_of_their_difference_is_above_zero():
    def row(method, difference, p=0.01, value=0.6):
        return {"method": method, **interval(value, p=p), "minus_pixel": interval(difference, p=p)}

    above, level, below = row("m", 0.3), row("n", 0.05), row("o", -0.3)
    free = [row("pixel_cosine", 0.5), row("logo_paired", 0.5), row("random", 0.5)]
    assert beside_pixels([above, level, *free], 0.0) == (
        "1 of 2 methods is above the pixel baseline: m."
    )
    assert beside_pixels([level, below, *free], 0.0) == (
        "No method beats the pixel baseline. 1 of 2 methods is below it."
    )
    lucky = row("m", 0.3, p=0.3)
    assert beside_pixels([lucky], 0.0) == (
        "No method beats the pixel baseline. No method is clear of chance."
    )
    assert beside_pixels([{**level, **NO_INTERVAL, "p": 0.01}], 0.0).startswith("Too few")
    assert beside_pixels(free, 0.0) == ""


def test_what_no_method_beats_is_said_before_anything_else(text):
    brief = text.split('<div class="brief">')[1].split("</div>")[0]
    assert brief.count("No method beats the pixel baseline.") == 4
    assert "No method beats" in text.split('id="read"')[0]
    unchecked = page(evidence(summary={}), queries=1, top=3).split('id="read"')[0]
    assert "Nothing here was checked against retraining" in unchecked


def test_sizes_of_scores_are_said_in_times_of_the_truth(text):
    assert "<td>44 times the truth; multiplied by 0.02 it fits best</td>" in text
    assert "another training of the same groups is 1.1 times the truth" in text
    row = a_card(text).split("ensemble, matched</th>")[1].split("</tr>")[0]
    assert "44 ×" in row
    unsure = {"ratio": 44.0, "slope": interval(0.02), "correlation": interval(0.05)}
    assert size_verdict(unsure).endswith("so no factor is given")


def test_scores_in_nats_are_compared_with_the_truth_in_nats():
    row = {"ratio": 3.0, "slope": interval(0.02), "correlation": interval(0.5)}
    summary = evidence().summary
    summary["calibration"]["logo_elbo_retrained"] = {"ensemble_matched": row}
    measures = {**evidence().measures, "ensemble_matched": NATS}
    text = page(evidence(summary=summary, measures=measures), queries=1, top=3)
    assert "<td>3 times the truth; " in text


def test_queries_and_images_are_called_by_their_names(text):
    assert a_card(text).count("query 0: a.png (g &amp; co)") >= 3
    assert '<div class="small query">query 1</div>' in a_card(text, 1)
    assert text.count('<span class="name">&lt;b&gt;') > 3
    assert "2 of 3 queries are shown" in text
    assert "queries are shown" not in page(evidence(), queries=3, top=3)


def test_images_are_marked_significant_by_their_share_of_false_discoveries():
    p_value = np.full((QUERIES, IMAGES), 0.9)
    p_value[0, :2] = 0.001, 0.01  # of 12 images: q .012 and .06
    p_value[1, 0] = 0.04  # q .48
    score = 1 - p_value
    text = page(evidence(image_scores={"ensemble_matched": (score, p_value)}), 2, top=3)
    assert "2 images are significant at a false discovery rate of 10 %" in a_card(text)
    assert re.findall(r"<b>q ([0-9.]+)</b>", a_card(text)) == ["0.01", "0.06"]
    assert "No image is significant at a false discovery rate of 10 %" in a_card(text, 1)
    assert "<b>q" not in a_card(text, 1)


def test_the_page_speaks_of_nothing_that_the_run_has_not(text):
    assert "the others are (near-)duplicates" in text
    given = page(evidence(units=IMAGES, curves={}), queries=1, top=3)
    assert "the others" not in given
    assert "#training" not in given
    assert "no model trained here" in given
    assert "code</b>" not in given  # no members: no codes, no p-values
    assert "None" not in given.split('id="made"')[1]
    ensembles = page(evidence(curves={"member": np.ones((2, 5))}), queries=1, top=3)
    assert "code</b>" in ensembles
    assert "digest of each training image" not in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (interval(0.9, p=0.01), "better than chance"),
        (interval(0.9, 1.0, p=0.5), "not clear of chance"),
        (NO_INTERVAL | {"value": 0.9, "p": 0.01}, "too few queries or halves to tell that"),
    ],
)
def test_the_open_method_comes_with_how_sure_its_agreement_is(row, said):
    summary = evidence().summary
    summary["lds"] = {**summary["lds"], "methods": {"pixel_rbf": row}}
    card = a_card(page(evidence(summary=summary), queries=1, top=3))
    assert f"Open: pixel kernel, which agrees best with retraining: {said}" in card
    unchecked = a_card(page(evidence(summary={}), queries=1, top=3))
    assert "Open: ensemble, matched; no method was checked on images." in unchecked


@pytest.mark.parametrize(("error", "marked"), [(0.05, 1), (0.2, 0)])
def test_no_group_is_marked_farthest_where_unused_codes_move_pictures_as_far(error, marked):
    summary = evidence().summary
    summary["groups_redrawn"]["excess"] = interval(0.1, error)
    card = a_card(page(evidence(summary=summary), queries=1, top=3))
    groups, images = card.split("without a group</h3>")[1].split("without an image</h3>")
    assert groups.count('class="far"') == groups.count("bold where farthest") == marked
    assert ("so the distances name no group" in groups) != marked
    assert images.count('class="far"') == 1


def test_a_mean_without_spread_has_no_error_beside_it():
    rows = {"ensemble_matched": interval(1.0, 0.0, p=0.01)}
    summary = evidence().summary
    summary["logo"]["logo_retrained"] = dict.fromkeys(METRICS, rows)
    table = page(evidence(summary=summary), queries=1, top=3).split("Every measure of agreement")[1]
    assert "±" not in table.split('<tr><th scope="row"')[1]


def test_pictures_can_be_enlarged_without_a_script(text):
    assert 'tabindex="0"' in a_card(text)
    assert ":focus" in text


def test_a_centred_score_is_described_as_one_that_only_compares():
    assert words("ekfac_centred")[0] == "influence, EK-FAC, centred"
    assert "average training image" in words("kfac_centred")[1]
    assert words("guda_loss_centred")[0] == "unlearned, centred"
