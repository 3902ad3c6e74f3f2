"""K-FAC and EK-FAC factors of a model's training loss, per layer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from begat.config.consistency import check_draws, check_models
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import Stage
from begat.stages.unlearned import needs_curvature
from begat.storage.artifacts import Block

PASSES = 2  # over the images: covariances, eigenvalues


@dataclass(frozen=True)
class Factors:
    """The curvature of a model's training loss, for influence functions."""

    models: int = param(
        "models to average influence over: full ones first, then members; 0 = none",
        ge=0,
        le=10_000,
        plans_only=True,
    )
    draws: int = param("draws of (timestep, noise) per image and pass; even", ge=2, le=MAX_COUNT)
    weight_sharing: str = param(
        "positions that share a weight: each by itself, or their sum", choices=("expand", "reduce")
    )
    include_norm_layers: bool = param("include normalisation layers, as small dense blocks")


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each model that influence averages over, or unlearning needs."""
    attributed = table.attributed_models(table.params.of(Factors).models)
    full = table.spec.of_kind("full")[: int(needs_curvature(table.params))]
    for model in (*(m for m in full if m not in attributed), *attributed):
        yield table.make("factors", model.name, [("images", "all")], (model,), splits=(model,))


def cost(sizes: JobSizes) -> Cost:
    """Returns what the curvature takes: two passes over the images, counted as one evaluation."""
    draws, network, groups = sizes.params.of(Factors).draws, sizes.network, sizes.groups
    values = network.covariances + (groups + 1) * network.parameters
    memory = sizes.gradients(draws) + 2 * 8.0 * network.covariances
    memory += 8.0 * (groups + 1) * network.parameters + 4.0 * values
    more = 0.93 * 4 * values + 11 * 800, 22
    return sizes.cost("covariance", sizes.images * draws, memory, "", more=more)


def check(params: Params) -> None:
    """Raise BegatError where draws do not divide, or there are fewer models."""
    check_draws(params, "factors", params.of(Factors).draws, 2, mirrored=True)
    check_models(params, "factors.models", params.of(Factors).models)


def run(context: JobContext) -> None:
    """Compute the factors of one model."""
    layers: list[dict[str, Any]] = []
    untracked: dict[str, Any] = {}
    context.materialise(
        lambda context: _factors(context, layers, untracked),
        layers=layers,
        norms=context.params.of(Factors).include_norm_layers,
        left_out=untracked,
    )


def _factors(
    context: JobContext, layers: list[dict[str, Any]], untracked: dict[str, Any]
) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.execution.factor_arrays import flat_arrays, layer_shapes
    from begat.execution.gradient_inputs import training_image_set
    from begat.execution.results import train_masks
    from begat.execution.trained import denoiser_of, row_of
    from begat.influence.factors import FactorsConfig, coverage_report, factors

    params = context.params.of(Factors)
    (model,), (own,) = context.job.models, train_masks(context, context.job.models)
    denoiser = denoiser_of(context, row_of(context, model))
    norms = params.include_norm_layers
    config = FactorsConfig(
        params.draws,
        norms,
        params.weight_sharing,  # type: ignore[arg-type]
        context.params.models.random_flip,
    )
    with tqdm(desc=context.job.name, total=PASSES * int(own.sum())) as bar:
        arrays = factors(
            denoiser,
            training_image_set(context, own, bar),
            context.input("images")["member_of"][:, own],
            config,
            seed=context.seed,
        )
    layers.extend(layer_shapes(arrays))
    untracked.update(coverage_report(denoiser, arrays, norms=norms))
    yield from flat_arrays(arrays)


STAGE = Stage(
    "factors",
    "seed unet.class_conditional diffusion models.random_flip factors unlearned.operator "
    "unlearned.init",
    "images splits models",
    jobs,
    run,
    section=Factors,
    check=check,
    cost=cost,
    each="model",
    gpu=True,
    priority=2,
)
