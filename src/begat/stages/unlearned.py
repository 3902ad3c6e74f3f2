"""Models from which one group each is unlearned, in packs of groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from begat.config.consistency import refuse
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.errors import BegatError, brief
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block
from begat.unlearning.operator_base import Operator
from begat.unlearning.operators import OPERATORS, parse_operator

if TYPE_CHECKING:
    from begat.unlearning.config import UnlearningConfig


@dataclass(frozen=True)
class Unlearned:
    """How each group is unlearned from the full model."""

    operator: dict[str, Any] = param(
        f"{{name: ...}} and its own parameters, docs/parameters.md ({', '.join(OPERATORS)})",
        plans_only=True,
    )
    init: str = param(
        "start from the full model, or a Newton step away from it",
        choices=("full", "newton"),
        plans_only=True,
    )
    init_damping: float = param(
        "for init newton: damping, a multiple of each block's mean eigenvalue", ge=0, le=1e9
    )
    retain_loss: Literal["distil", "denoise"] = param(
        "on retained images: match the full model, or train on", choices=("distil", "denoise")
    )
    forget_weight: float = param("weight of the forget loss", ge=0)
    loss_combination: str = param(
        "retain + weight forget, or (1 - weight) retain + weight forget", choices=("sum", "convex")
    )
    error_space: str = param(
        "of the forget loss: squared error of what", choices=("clean", "noise", "velocity")
    )
    stopping_rule: str = param(
        "after all steps, or when the loss of each group has drifted or risen by the threshold",
        choices=("steps", "drift", "rise"),
    )
    stopping_threshold: float = param(
        "that drift or rise", unit="squared noise error per pixel", ge=0
    )
    steps_fraction: float = param(
        "optimiser steps, at most", unit="fraction of models.max_train_steps", ge=0, le=1_000
    )
    batch_size: int = param("forget images, and retain images, per step", ge=1, le=MAX_COUNT)
    learning_rate_fraction: float = param(
        "AdamW's peak learning rate", unit="fraction of models.learning_rate", gt=0
    )
    max_grad_norm: float = param("largest gradient norm per model", gt=0)
    groups_per_job: int = param(
        "groups that are unlearned side by side in one job", ge=1, le=10_000, plans_only=True
    )


def operator_of(params: Params) -> Operator:
    """Returns the operator with its parameters.

    Raises:
        BegatError: an unknown operator or parameter, with the file and the key.
    """
    try:
        return parse_operator(params.of(Unlearned).operator)
    except BegatError as error:
        raise BegatError(f"{brief(params.params_file)}: unlearned.{error}") from None


def needs_curvature(params: Params) -> bool:
    """Returns whether unlearning takes a Newton step."""
    return operator_of(params).needs_curvature or params.of(Unlearned).init == "newton"


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each pack of groups; none for an external pipeline."""
    groups, section = table.spec.dataset.groups, table.params.of(Unlearned)
    full = () if table.spec.pipeline else table.spec.of_kind("full")[:1]
    inputs: list[Name] = [("images", "all")]
    if needs_curvature(table.params):
        inputs += table.names("factors")[:1]
    method: dict[str, Any] = {"operator": section.operator, "init": section.init}
    size = section.groups_per_job
    for i, start in enumerate(range(0, len(groups) if full else 0, size)):
        names = list(groups[start : start + size])
        yield table.make("unlearned", str(i), inputs, full, groups=names, **method)


def cost(sizes: JobSizes) -> Cost:
    """Returns what unlearning takes: per step, batches to forget and to retain of every group."""
    section, steps = sizes.params.of(Unlearned), sizes.params.models.max_train_steps
    steps, groups = round(section.steps_fraction * steps), len(sizes.job.made_from["groups"])
    images = 2 * section.batch_size * groups
    memory = sizes.rows(14 * groups) + sizes.backward(1.5 * images)
    arrays = "weights forget_loss forget_rise retain_loss retain_drift stopped_at"
    return sizes.cost("training", images * steps, memory, arrays, group=groups, step=steps)


def check(params: Params) -> None:
    """Raise BegatError for an operator that these models do not allow, or weights that do not."""
    operator, section = operator_of(params), params.of(Unlearned)
    if operator.needs_labels and not params.unet.class_conditional:
        name = section.operator["name"]
        refuse(params, "unlearned.operator", "another, as models are unconditional", name)
    if section.loss_combination == "convex" and section.forget_weight > 1:
        refuse(params, "unlearned.forget_weight", "at most 1 if convex", section.forget_weight)
    if section.stopping_rule != "steps" and section.stopping_threshold <= 0:
        expected = f"a positive {section.stopping_rule}"
        refuse(params, "unlearned.stopping_threshold", expected, section.stopping_threshold)


def run(context: JobContext) -> None:
    """Unlearn the groups of a pack from the full model."""
    context.materialise(_unlearned, groups=context.job.made_from["groups"])


def _unlearned(context: JobContext) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.execution import networks
    from begat.execution.factor_arrays import preconditioner_of
    from begat.execution.trained import row_of
    from begat.storage.checkpoints import Checkpoint
    from begat.storage.schema import schema_of
    from begat.unlearning.batches import ForgetGroup
    from begat.unlearning.unlearn import unlearn

    images, config = context.input("images"), _config(context.params)
    names, members = images.attributes["groups"], images["member_of"]
    groups = [names.index(name) for name in context.job.made_from["groups"]]
    full, damping = row_of(context, context.job.models[0]), config.curvature_damping
    seconds, inputs = context.params.compute.checkpoint_seconds, context.contents.read_by
    checkpoint = Checkpoint(context.root, [context.job.key], seconds, inputs(context.job))
    states = unlearn(
        networks.training_images(context),
        [ForgetGroup(names[g], "unlearned", members[g]) for g in groups],
        full,
        networks.packed_network(context),
        config,
        seed=context.seed,
        precondition=None if damping is None else preconditioner_of(context, full, damping),
        resume=checkpoint.load(),
    )
    with tqdm(desc=context.job.name, total=config.num_steps) as bar:
        for step, state in checkpoint.saving(states):  # noqa: B007
            bar.update(step - bar.n)
    arrays = state()
    yield {name: arrays[name] for name in schema_of("unlearned")}
    checkpoint.remove()


def _config(params: Params) -> "UnlearningConfig":
    """The settings of unlearning, as fractions of the training's."""
    from begat.diffusion.training_config import OptimiserConfig
    from begat.unlearning.config import UnlearningConfig
    from begat.unlearning.unlearn import fine_tuning

    section, training = params.of(Unlearned), params.models
    schedule = training.max_train_steps, training.learning_rate, training.warmup_steps
    return UnlearningConfig(
        fine_tuning(
            OptimiserConfig(*schedule, max_grad_norm=section.max_grad_norm),
            section.steps_fraction,
            section.learning_rate_fraction,
            section.max_grad_norm,
        ),
        section.batch_size,
        operator_of(params),
        retain_loss=section.retain_loss,
        forget_weight=section.forget_weight,
        loss_combination=section.loss_combination,
        error_space=section.error_space,
        stopping_rule=section.stopping_rule,
        stopping_threshold=section.stopping_threshold,
        init=section.init,
        init_damping=section.init_damping,
    )


STAGE = Stage(
    "unlearned",
    "seed unet.class_conditional diffusion models.random_flip models.max_train_steps "
    "models.learning_rate models.warmup_steps",
    "images models factors",
    jobs,
    run,
    section=Unlearned,
    check=check,
    cost=cost,
    lower="unlearned.groups_per_job",
    each="pack",
    gpu=True,
)
