"""Score groups by models that forgot them."""

from collections.abc import Iterator

import numpy as np

from begat.core.elbo import elbo_weights, weight_profile
from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.networks import schedule_of
from begat.stages.scores_guda import METHODS, gather, images_within, score


def body(run: Run) -> None:
    measured = run.reads("measurements", "unlearned-")
    schedule, image = schedule_of(run.plan), run.params["images"]
    weights = elbo_weights(schedule, **run.section("scores_guda", "draws")).numpy()
    draws = measured[0].attributes["draws"] if measured else []

    def compute(run: Run) -> Iterator[Block]:
        images, total = run.read("images"), run.params["measurements"]["draws"]
        packs: dict[tuple[str, ...], list[np.ndarray]] = {}
        for block in measured:
            packs.setdefault(tuple(block.attributes["models"]), []).append(block["loss"])
        found = score(
            run.losses("full")[0, 0][:, draws],
            gather(
                ((names, np.concatenate(blocks, 1)) for names, blocks in packs.items()),
                images.attributes["groups"],
            ),
            run.joined("measurements", "timestep", "unlearned-"),
            weights,
            image["channels"] * image["size"] ** 2,
            share=len(draws) / total,
        )
        named = found["group_score"][0].argmax(1)
        members = images["member_of"][named]
        queries = run.joined("queries", "pixels")
        how = dict(seed=run.seed, draws=total)
        within = images_within(queries, images["pixels"], members, schedule, **how)
        yield {**found, "within": within}

    run.finish_scores(
        compute,
        METHODS,
        ["guda_loss"],
        there=bool(measured),
        draws=draws,
        weight_profile=weight_profile(weights).tolist() if measured else [],
    )


main("scores_guda", body)
