"""Hold all scores against retraining, and write results/metrics.json for DVC."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from begat.core.membership import groups_seen
from begat.io.artifacts import Artifact, Block
from begat.io.job import Run, main
from begat.stages import metrics

TABLES = ("lds", "group_lds", "logo_spearman")


def body(run: Run) -> None:
    summary: dict[str, Any] = {}
    methods: list[str] = []
    how = {"seed": run.seed, "resamples": run.params["metrics"]["resamples"]}

    def compute(run: Run) -> Iterator[Block]:
        images, aggregated = run.read("images"), run.read("aggregated")
        groups = dict(zip(aggregated.attributes["methods"], aggregated["score"], strict=True))
        per_query = {table: dict[str, np.ndarray]() for table in TABLES}
        for name, kind, scores in (
            ("lds", "half", {m: score for m, (score, _) in run.image_scores().items()}),
            ("group_lds", "group_half", groups),
        ):
            if halves := run.plan.of_kind(kind):
                kept = run.trains_on([half for half in halves if half.seed == 0])
                if kind == "group_half":
                    kept = groups_seen(images["member_of"], kept).T
                measured = run.losses(kind).mean(-1)
                found = metrics.subset_agreement(scores, ~kept, measured, name=name, **how)
                summary[name], per_query[name] = found
        if "logo_retrained" in groups:
            gold = groups["logo_retrained"]
            rivals = {m: s for m, s in groups.items() if m != "logo_retrained"}
            found = metrics.gold_agreement(rivals, gold, **how)
            summary["logo"], per_query["logo_spearman"] = found
        pixels = images["pixels"] / 127.5 - 1
        if run.reads("counterfactuals", "group_member-"):
            summary["groups_redrawn"] = redrawn(run, "group_member-", pixels, images)
        if run.reads("counterfactuals", "member-"):
            summary["images_redrawn"] = redrawn(run, "member-", pixels, images)
        methods.extend(dict.fromkeys(m for table in per_query.values() for m in table))
        missing = np.full(len(aggregated["score"][0]), np.nan)
        for table, rows in per_query.items():
            yield {table: np.stack([rows.get(method, missing) for method in methods])}

    def redrawn(run: Run, kind: str, pixels: np.ndarray, images: Artifact) -> dict[str, Any]:
        arrays = ("factual", "pixels", "unit", "distance")
        c = {a: run.joined("counterfactuals", a, kind) for a in arrays}
        unit = images["cluster"] if kind == "member-" else images["member_of"].argmax(0)
        blamed = metrics.nearest_unit(c["factual"], pixels, unit)
        named = c["unit"][0] >= 0 if kind != "member-" else np.ones(c["unit"].shape[1], bool)
        without = metrics.nearest_unit(c["pixels"][:, named], pixels, unit)
        far = metrics.false_attribution(blamed, without, c["unit"][:, named], **how)
        radius = metrics.radius(c["distance"][:, named], c["distance"][:, ~named], **how)
        return {"false_attribution": {"pixel_nearest": far}, **radius}

    run.finish(compute, methods=methods, summary=summary)
    stored = Artifact(run.root / run.job.path, "metrics").attributes["summary"]
    (run.root / "results" / "metrics.json").write_text(json.dumps(stored, indent=1) + "\n")


main("metrics", body)
