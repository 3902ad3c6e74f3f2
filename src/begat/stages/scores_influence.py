"""Influence-function scores of training images and of groups, by K-FAC and EK-FAC."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from begat.config.consistency import check_draws
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.diffusion.bounds import MAX_CENTRE_IMAGES
from begat.evaluation.measures import FIRST_ORDER, GRADIENT_PRODUCT
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

CENTRED = "less the score for an average training image: above 0 means more than that"
METHODS = {
    "ekfac": Method(
        "influence, EK-FAC",
        "a first-order estimate of the change of the loss if the image left the training sum; the "
        "curvature by Kronecker factors with corrected eigenvalues",
        FIRST_ORDER,
        "images",
        headline=True,
    ),
    "kfac": Method(
        "influence, K-FAC", "the same with the plain Kronecker factors", FIRST_ORDER, "images"
    ),
    "gradient_dot": Method(
        "gradient product",
        "the same without any curvature: no longer a loss",
        GRADIENT_PRODUCT,
        "images",
    ),
    "ekfac_centred": Method(
        "influence, EK-FAC, centred", f"EK-FAC {CENTRED}", FIRST_ORDER.centred, "images"
    ),
    "kfac_centred": Method(
        "influence, K-FAC, centred", f"K-FAC {CENTRED}", FIRST_ORDER.centred, "images"
    ),
    "gradient_dot_centred": Method(
        "gradient product, centred",
        f"the gradient product {CENTRED}",
        GRADIENT_PRODUCT.centred,
        "images",
    ),
    "ekfac_downdated": Method(
        "influence, group at once",
        "EK-FAC for the whole group, without the curvature that the group itself contributed",
        FIRST_ORDER,
        "groups",
    ),
}


@dataclass(frozen=True)
class ScoresInfluence:
    """Scores by influence functions: K-FAC, EK-FAC, gradient dot products."""

    draws: int = param(
        "draws of (timestep, noise) per gradient; a multiple of 4", ge=4, le=MAX_COUNT
    )
    shared_draws: bool = param("one list of draws for all images and queries, not one for each")
    damping_mode: str = param(
        "the damping is a multiple of each block's mean eigenvalue, or a number",
        choices=("mean_eigenvalue", "absolute"),
    )
    damping_grid: list[float] = param(
        "dampings; the one with the highest split-half reliability is used", ge=0
    )
    query_gradient_dtype: str = param(
        "of the query gradients in memory", choices=("float32", "float16", "int8")
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    factors = [name for name in table.names("factors") if name[1] in _attributed(table)]
    models = tuple(table.spec.model(name) for _, name in factors)
    yield table.by_gradients("scores_influence", models, factors, splits=models)


def _attributed(table: JobTable) -> set[str]:
    """The models that influence averages over; unlearning may need the factors of one more."""
    return {m.name for m in table.attributed_models(table.params.value("factors.models"))}


def cost(sizes: JobSizes) -> Cost:
    """Returns what influence takes: gradients of images, of queries, and stored query rows."""
    section, queries = sizes.params.of(ScoresInfluence), sizes.all_queries + 1
    variants = 2 * len(section.damping_grid) + 1
    size = {"float32": 4, "float16": 2, "int8": 1}[section.query_gradient_dtype]
    memory = sizes.gradients(section.draws, 2) + 4.0 * sizes.network.covariances
    memory += sizes.rows(2 * queries * variants * size / 4 + 4 * queries + 6 * sizes.groups)
    products = 4 * 4.0 * variants * queries * sizes.images
    images = sizes.images + min(sizes.images, MAX_CENTRE_IMAGES) + queries
    work = sizes.models * images * section.draws
    arrays, memory = "score reliability group_score group_uncertainty", memory + 2 * products
    return sizes.cost("gradient", work, memory, arrays, host=2 * products, methods=METHODS)


def check(params: Params) -> None:
    """Raise BegatError where draws do not divide into halves of antithetic pairs."""
    check_draws(params, "scores_influence", params.of(ScoresInfluence).draws, 4, mirrored=True)


def run(context: JobContext) -> None:
    """Score all images and groups."""
    chosen: dict[str, Any] = {}
    context.materialise_scores(
        lambda context: _scores(context, chosen), enabled=bool(context.job.models), chosen=chosen
    )


def _scores(context: JobContext, chosen: dict[str, Any]) -> Iterator[Block]:
    import numpy as np
    from tqdm import tqdm

    from begat.ensembles.exposure import group_exposure, mean_over_trained
    from begat.execution.factor_arrays import arrays_by_layer
    from begat.execution.gradient_inputs import draws_of, query_image_set, training_image_set
    from begat.execution.results import train_masks
    from begat.execution.trained import denoiser_of, row_of
    from begat.influence.gradient_source import gradient_source
    from begat.influence.pairwise import MAX_CENTRE_IMAGES
    from begat.influence.scores import ScoreOptions, score
    from begat.influence.variants import best, variants

    params, models = context.params.of(ScoresInfluence), context.job.models
    train_mask = train_masks(context, models)
    grid = variants(params.damping_mode, params.damping_grid)
    member_of, queries = context.input("images")["member_of"], query_image_set(context)
    draws = draws_of(context, params.draws, shared=params.shared_draws)
    exposure, sizes = group_exposure(member_of, train_mask).T, train_mask.sum(1)
    by_model = []
    with tqdm(
        desc=context.job.stage, total=int((sizes + np.minimum(sizes, MAX_CENTRE_IMAGES)).sum())
    ) as bar:
        for model, own, groups in zip(models, train_mask, exposure, strict=True):
            factors = context.input("factors", model.name)
            denoiser = denoiser_of(context, row_of(context, model))
            dtype = params.query_gradient_dtype
            scores = score(
                gradient_source(denoiser, draws, norms=factors.attributes["norms"]),
                arrays_by_layer(factors),
                training_image_set(context, own, bar),
                queries,
                grid,
                member_of=member_of[:, own],
                options=ScoreOptions(query_gradient_dtype=dtype, share=own.mean()),  # type: ignore[arg-type]
            )
            best_of, arrays = best(grid, scores)
            chosen[model.name] = [variant.name for variant in best_of]
            group_arrays = {n: v[..., groups] for n, v in arrays.items() if n.startswith("group_")}
            by_model.append(arrays | group_arrays)
    masks = {"score": train_mask, "group_score": exposure, "group_uncertainty": exposure}
    for name, mask in masks.items():
        yield {name: mean_over_trained([arrays[name] for arrays in by_model], mask)}
    yield {"reliability": np.mean([arrays["reliability"] for arrays in by_model], 0)}


STAGE = Stage(
    "scores_influence",
    "seed unet.class_conditional images.size images.channels diffusion models.random_flip "
    "scores_influence factors.models",
    "images splits models queries factors",
    jobs,
    run,
    section=ScoresInfluence,
    check=check,
    cost=cost,
    lower="queries.count",
    methods=METHODS,
    summary=(
        "the change of the loss, to first order, if an image left the training sum: EK-FAC, "
        "K-FAC, gradient products, each also centred, to rank by; whole groups by down-dated "
        "curvature ([2410.13850](https://arxiv.org/abs/2410.13850))"
    ),
    price="two passes for the curvature, one for gradients",
    gpu=True,
    priority=2,
)
