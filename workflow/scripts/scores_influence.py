"""Score images by influence functions, and groups by their down-dated curvature."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from begat.ensembles.exposure import groups_seen, mean_over_trained
from begat.execution.context import Run, main
from begat.execution.factor_arrays import by_layer
from begat.execution.gradient_inputs import draws_of, query_sample, training_sample
from begat.execution.results import trains_on
from begat.execution.trained import denoiser_of, row_of
from begat.influence.pairwise import CENTRE
from begat.influence.scores import GROUP_METHODS, METHODS, best, score, variants
from begat.storage.artifacts import Block


def body(run: Run) -> None:
    chosen: dict[str, Any] = {}

    def compute(run: Run) -> Iterator[Block]:
        asked, trained_on = run.params["scores_influence"], trains_on(run, run.job.models)
        wanted = variants(asked["damping"], asked["dampings"])
        member_of, queries = run.read("images")["member_of"], query_sample(run)
        draws = draws_of(run, asked["draws"], shared=asked["shared"])
        seen = groups_seen(member_of, trained_on).T
        sizes = trained_on.sum(1)
        total = sizes.sum() + np.minimum(sizes, CENTRE).sum()
        bar, found = tqdm(desc=run.job.stage, total=int(total)), []
        for model, own, groups in zip(run.job.models, trained_on, seen, strict=True):
            factors = run.read("factors", model.name)
            denoiser = denoiser_of(run, row_of(run, model))
            what = denoiser, by_layer(factors), training_sample(run, own, bar), queries, draws
            how = {"norms": factors.attributes["norms"], "storage": asked["storage"]}
            how |= {"share": own.mean(), "member_of": member_of[:, own]}
            best_of, arrays = best(wanted, score(*what, wanted, **how))
            chosen[model.name] = [variant.name for variant in best_of]
            of_groups = {n: v[..., groups] for n, v in arrays.items() if n.startswith("group_")}
            found.append(arrays | of_groups)
        bar.close()
        units_of = {"score": trained_on, "group_score": seen, "group_uncertainty": seen}
        for name, units in units_of.items():
            yield {name: mean_over_trained([arrays[name] for arrays in found], units)}
        yield {"reliability": np.mean([arrays["reliability"] for arrays in found], 0)}

    run.finish_scores(
        compute,
        METHODS,
        ["ekfac"],
        group_methods=GROUP_METHODS,
        there=bool(run.job.models),
        chosen=chosen,
    )


main("scores_influence", body)
