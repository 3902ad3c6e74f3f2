"""Score images and groups by the encoded ensembles."""

from collections.abc import Iterator

import numpy as np

from begat.ensembles.ablation import CONTRASTS
from begat.ensembles.exposure import groups_seen
from begat.ensembles.scores import NULLS, score, spread_out
from begat.evaluation.measures import LOSS
from begat.execution.context import Run, main
from begat.execution.results import joined, trains_on
from begat.storage.artifacts import Block

METHODS = {f"ensemble_{contrast}": LOSS for contrast in CONTRASTS}
LEVELS = {"image": ("member", "code"), "group": ("group_member", "group_code")}


def compute(run: Run) -> Iterator[Block]:
    images, splits = run.read("images"), run.params["splits"]
    cluster = np.unique(images["cluster"])
    how = {"seed": run.seed, "nulls": run.params["scores_ensemble"]["nulls"]}
    if run.reads("measurements", "member-"):
        of_image = np.searchsorted(cluster, images["cluster"])
        seen = trains_on(run, run.plan.of_kind("member")).T[cluster]
        gram = joined(run, "measurements", "gram", "member-")
        found = score(gram, seen, splits["code"], level="image", **how)
        yield {name: values[:, :, of_image] for name, values in found.items()}
        distance = joined(run, "counterfactuals", "distance", "member-")
        unit = joined(run, "counterfactuals", "unit", "member-")
        yield {"distance": spread_out(distance, unit, len(of_image))}
    if run.reads("measurements", "group_member-"):
        seen = groups_seen(images["member_of"], trains_on(run, run.plan.of_kind("group_member")))
        gram = joined(run, "measurements", "gram", "group_member-")
        found = score(gram, seen, splits["group_code"], level="group", **how)
        yield {f"group_{name}": values for name, values in found.items()}
        distance = joined(run, "counterfactuals", "distance", "group_member-")
        yield {"group_distance": distance[:, : len(seen)]}


def body(run: Run) -> None:
    measured = {level: bool(run.reads("measurements", f"{k}-")) for level, (k, _) in LEVELS.items()}
    codes = {level: run.params["splits"][code] for level, (_, code) in LEVELS.items()}
    run.finish_scores(
        compute,
        METHODS,
        list(METHODS)[:1],
        there=any(measured.values()),
        of_clusters=True,
        null={level: NULLS[codes[level]] for level, there in measured.items() if there},
    )


main("scores_ensemble", body)
