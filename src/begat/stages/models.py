"""Trained models, in packs that train side by side."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from begat.config.schema import Models
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

if TYPE_CHECKING:
    from begat.diffusion.training_config import TrainingConfig


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each pack."""
    inputs: tuple[Name, ...] = (("images", "all"), ("splits", "all"))
    for pack in dict.fromkeys(m.pack for m in table.spec.models):
        models = tuple(m for m in table.spec.models if m.pack == pack)
        rows = {m.name: {"key": table.model_keys[m.name], "recipe": m.recipe} for m in models}
        keys = {"images/all": table.job("images", "all").key}
        made_from = {**table.common("models"), "name": pack, "inputs": keys, "models": rows}
        yield Job("models", pack, made_from, inputs, models)


def cost(sizes: JobSizes) -> Cost:
    """Returns what a training takes: weights, gradients, moments and averages of every model."""
    training, models = sizes.params.models, sizes.job.models
    followed = sum(model.kind == "full" for model in models) * training.snapshots
    images = len(models) * training.batch_size
    memory = sizes.rows(14 * len(models) + len(models) * training.snapshots)
    memory += sizes.backward(images)
    arrays = "weights ema_weights training_loss"
    single = sizes.stored(arrays.split(), {}, model=1, step=training.max_train_steps)
    snapshots = 0.93 * sizes.rows(followed)  # in the pack, and with the model in the store
    copies = len(models) * (single[0] + 2_000) + 2 * snapshots, len(models) * (single[1] + 3)
    work = images * training.max_train_steps
    steps = training.max_train_steps
    return sizes.cost("training", work, memory, arrays, more=copies, step=steps)


def run(context: JobContext) -> None:
    """Train the models of a pack that no earlier run has trained."""
    from begat.execution import networks
    from begat.execution.contents import PARTS

    # Models trained here are cached one by one; an external pipeline as a whole.
    digests: dict[str, str] = {}
    whole = context.spec.pipeline is not None
    attributes = {**networks.pack_attributes(context), PARTS: digests}
    context.materialise(lambda context: _trained(context, digests), keep=whole, **attributes)


def _trained(context: JobContext, digests: dict[str, str]) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.data.pipelines import pipeline_row
    from begat.diffusion.model_training import ModelRun, train
    from begat.execution import networks
    from begat.execution.contents import part_digest
    from begat.execution.results import train_masks
    from begat.storage.checkpoints import Checkpoint

    if context.spec.pipeline:
        row = pipeline_row(context.spec.pipeline)[None]
        external = {"weights": row, "ema_weights": row}
        digests[context.job.models[0].name] = part_digest(external)
        yield external
        return
    params, missing = context.params.models, networks.untrained_models(context)
    context.together = [model.name for model in missing]
    together = tuple(missing or context.job.models)
    keys = [context.table.model_keys[model.name] for model in together]
    inputs = context.contents.read_for(together)
    seconds = context.params.compute.checkpoint_seconds
    checkpoint = Checkpoint(context.root, keys, seconds, inputs)
    if missing:
        masks = train_masks(context, missing)
        states = train(
            networks.training_images(context),
            [ModelRun(m.name, m.stream, mask) for m, mask in zip(missing, masks, strict=True)],
            networks.packed_network(context),
            _config(params),
            seed=context.seed,
            resume=checkpoint.load(),
        )
        with tqdm(desc=context.job.name, total=params.max_train_steps) as bar:
            for step, state in checkpoint.saving(states):  # noqa: B007
                bar.update(step - bar.n)
        if len(missing) > 1:  # a job killed while it caches them one by one starts from here
            checkpoint.save(step, state())
        networks.cache_models(context, missing, state())
    checkpoint.remove()
    yield from networks.cached_models(context, digests)


def _config(params: Models) -> "TrainingConfig":
    from begat.diffusion.training_config import OptimiserConfig, TrainingConfig

    optimiser = OptimiserConfig(
        num_steps=params.max_train_steps,
        learning_rate=params.learning_rate,
        warmup_steps=params.warmup_steps,
        max_grad_norm=params.max_grad_norm,
        weight_decay=params.weight_decay,
        ema_decay=params.ema_decay,
    )
    return TrainingConfig(optimiser, params.batch_size, params.dropout, params.snapshots)


STAGE = Stage(
    "models",
    "seed unet diffusion.num_train_timesteps diffusion.beta_schedule diffusion.prediction_type "
    "models",
    "images splits",
    jobs,
    run,
    cost=cost,
    lower="models.models_per_job",
    data=True,
    each="pack",
    gpu=True,
    priority=1,
    memory_mb=8000,
)
