"""Draw a block of queries again, from the same noise, by members that never saw a unit."""

from collections.abc import Iterator
from functools import partial

from tqdm import tqdm

from begat.ensembles.codes import code_blocks
from begat.ensembles.counterfactuals import (
    drawn_by_all,
    image_slots,
    redraw,
    without_groups,
    without_images,
)
from begat.ensembles.exposure import groups_seen
from begat.execution.context import Run, main
from begat.execution.results import trains_on
from begat.execution.trained import predictor_of
from begat.storage.artifacts import Block


def compute(run: Run) -> Iterator[Block]:
    images, numbers = run.read("images"), range(*run.job.queries)
    (queries,), (measured,) = run.reads("queries"), run.reads("measurements")
    in_training = trains_on(run, run.job.models)
    asked = run.params["counterfactuals"]
    draw = partial(
        redraw,
        predictor_of(run),
        queries={name: queries[name] for name in ("pixels", "noise", "label")},
        drawn=run.plan.query_dataset is None,
        strength=asked["strength"],
        watch=partial(tqdm, desc=run.job.name, unit=" pictures"),
        **{k: run.params["queries"][k] for k in ("sampler", "steps", "clip")},
    )
    names = [model.name for model in run.job.models]
    by_all = drawn_by_all(draw, queries["pixels"], queries.attributes["drawn_by"], names)
    if run.job.models[0].kind == "group_member":
        seen = groups_seen(images["member_of"], in_training)
        blocks = code_blocks(run.params["splits"]["group_code"], *seen.shape)
        yield without_groups(draw, by_all, seen, blocks, seed=run.seed)
        return
    yield without_images(
        draw,
        by_all,
        measured["gram"],
        in_training.T,
        images["cluster"],
        images["pixels"] / 127.5 - 1,
        numbers,
        seed=run.seed,
        top=asked["top"],
        random=asked["random"],
    )


def slots(run: Run) -> list[str]:
    asked, groups = run.params["counterfactuals"], list(run.plan.dataset.groups)
    of_images = run.job.models[0].kind == "member"
    return image_slots(asked["top"], asked["random"]) if of_images else groups


main("counterfactuals", lambda run: run.finish(compute, slots=slots(run)))
