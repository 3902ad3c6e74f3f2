"""Small contents of a report, and a parser that checks the page."""

from html.parser import HTMLParser

import numpy as np

from begat.evaluation.measures import LOSS, SIMILARITY
from begat.reporting.charts import METRICS
from begat.reporting.method_names import MethodNames
from begat.reporting.report_data import ReportData
from begat.stages import METHODS

QUERIES, IMAGES, GROUPS = 3, 12, 4
GENERATOR = np.random.default_rng(0)
NAMES = MethodNames(METHODS)
NO_INTERVAL = {"value": 0.5, "error": None, "low": None, "high": None}


def interval(value, error=0.1, **more):
    return {"value": value, "low": value - error, "high": value + error, "error": error, **more}


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
                "reference": "logo_retrained",
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
        "params_file",
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


def a_card(text, number=0):
    return text.split("<article")[number + 1].split("</article>")[0]
