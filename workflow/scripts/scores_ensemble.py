"""Score images and groups by the encoded ensembles."""

from collections.abc import Iterator

import numpy as np

from begat.core.codes import code_blocks
from begat.core.ensembles import CONTRASTS
from begat.core.membership import groups_seen
from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.results import joined, trains_on
from begat.stages.scores_ensemble import score, spread_out


def compute(run: Run) -> Iterator[Block]:
    images, splits = run.read("images"), run.params["splits"]
    cluster = np.unique(images["cluster"])
    how = {"seed": run.seed, "nulls": run.params["scores_ensemble"]["nulls"]}
    if run.reads("measurements", "member-"):
        of_image = np.searchsorted(cluster, images["cluster"])
        seen = trains_on(run, run.plan.of_kind("member")).T[cluster]
        blocks = code_blocks(splits["code"], *seen.shape)
        gram = joined(run, "measurements", "gram", "member-")
        found = score(gram, seen, blocks, level="image", **how)
        yield {name: values[:, :, of_image] for name, values in found.items()}
        distance = joined(run, "counterfactuals", "distance", "member-")
        unit = joined(run, "counterfactuals", "unit", "member-")
        yield {"distance": spread_out(distance, unit, len(of_image))}
    if run.reads("measurements", "group_member-"):
        seen = groups_seen(images["member_of"], trains_on(run, run.plan.of_kind("group_member")))
        blocks = code_blocks(splits["group_code"], *seen.shape)
        gram = joined(run, "measurements", "gram", "group_member-")
        found = score(gram, seen, blocks, level="group", **how)
        yield {f"group_{name}": values for name, values in found.items()}
        distance = joined(run, "counterfactuals", "distance", "group_member-")
        yield {"group_distance": distance[:, : len(seen)]}


METHODS = [f"ensemble_{contrast}" for contrast in CONTRASTS]
main(
    "scores_ensemble",
    lambda run: run.finish_scores(
        compute, dict.fromkeys(METHODS, True), METHODS[:1], there=bool(run.reads("measurements"))
    ),
)
