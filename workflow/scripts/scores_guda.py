"""Score groups by models that forgot them."""

from collections.abc import Iterator

import numpy as np

from begat.core.elbo import elbo_weights
from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.networks import schedule_of
from begat.stages.scores_guda import METHODS, gather, score


def compute(run: Run) -> Iterator[Block]:
    packs: dict[tuple[str, ...], list[np.ndarray]] = {}
    for measured in run.reads("measurements", "unlearned-"):
        packs.setdefault(tuple(measured.attributes["models"]), []).append(measured["loss"])
    image = run.params["images"]
    weights = elbo_weights(schedule_of(run.plan), **run.section("scores_guda")).numpy()
    yield score(
        run.losses("full")[0, 0],
        gather(
            ((names, np.concatenate(blocks, 1)) for names, blocks in packs.items()),
            run.read("images").attributes["groups"],
        ),
        run.joined("measurements", "timestep", "full-"),
        weights,
        image["channels"] * image["size"] ** 2,
        smooth=False,
    )


main(
    "scores_guda",
    lambda run: run.finish_scores(
        compute,
        dict.fromkeys(METHODS, True),
        METHODS[:1],
        there=bool(run.reads("measurements", "unlearned-")),
    ),
)
