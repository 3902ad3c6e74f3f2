"""Score groups by models that forgot them."""

from collections.abc import Iterator

import numpy as np

from begat.diffusion.elbo import weight_profile
from begat.execution.context import Run, main
from begat.execution.elbo_weights import elbo_weights_of
from begat.execution.networks import schedule_of
from begat.execution.results import joined, losses
from begat.storage.artifacts import Block
from begat.unlearning.scores import METHODS, gather, posterior_weights, score


def body(run: Run) -> None:
    measured = run.reads("measurements", "unlearned-")
    schedule, image = schedule_of(run.plan), run.params["images"]
    weights, draws = elbo_weights_of(run.plan), run.params["measurements"]["draws"]

    def compute(run: Run) -> Iterator[Block]:
        images = run.read("images")
        packs: dict[tuple[str, ...], list[np.ndarray]] = {}
        for block in measured:
            packs.setdefault(tuple(block.attributes["models"]), []).append(block["loss"])
        found = score(
            losses(run, "full")[0, 0],
            gather(
                ((names, np.concatenate(blocks, 1)) for names, blocks in packs.items()),
                images.attributes["groups"],
            ),
            joined(run, "measurements", "timestep", "unlearned-"),
            weights,
            image["channels"] * image["size"] ** 2,
        )
        named = found["group_score"][0].argmax(1)
        members = images["member_of"][named]
        queries = joined(run, "queries", "pixels")
        how = dict(seed=run.seed, draws=draws)
        within = posterior_weights(queries, images["pixels"], members, schedule, **how)
        yield {**found, "within": within}

    run.finish_scores(
        compute,
        METHODS,
        ["guda_loss"],
        there=bool(measured),
        weight_profile=weight_profile(weights).tolist() if measured else [],
    )


main("scores_guda", body)
