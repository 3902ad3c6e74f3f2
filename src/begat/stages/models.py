"""Trained models, in packs that train side by side."""

from collections.abc import Iterator

from begat.execution.context import JobContext
from begat.execution.job_table import JobTable
from begat.execution.jobs import Job, Name
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each pack."""
    inputs: tuple[Name, ...] = (("images", "all"), ("splits", "all"))
    for pack in dict.fromkeys(m.pack for m in table.spec.models):
        models = tuple(m for m in table.spec.models if m.pack == pack)
        rows = {m.name: {"key": table.model_keys[m.name], "recipe": m.recipe} for m in models}
        keys = {"images/all": table.job("images", "all").key}
        made_from = {**table.common("models"), "name": pack, "inputs": keys, "models": rows}
        yield Job("models", pack, made_from, inputs, models)


def evaluations(table: JobTable, job: Job) -> float:
    """Returns forward passes: a backward pass counts as two."""
    training = table.params.models
    return 3.0 * len(job.models) * training.max_train_steps * training.batch_size


def run(context: JobContext) -> None:
    """Train the models of a pack that no earlier run has trained."""
    from begat.execution import networks
    from begat.execution.contents import PARTS

    # Models trained here are stored one by one; an external pipeline as a whole.
    digests: dict[str, str] = {}
    whole = context.spec.pipeline is not None
    attributes = {**networks.pack_attributes(context), PARTS: digests}
    context.materialise(lambda context: _trained(context, digests), keep=whole, **attributes)


def _trained(context: JobContext, digests: dict[str, str]) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.data.pipelines import pipeline_row
    from begat.diffusion.model_training import train
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
    params, missing = context.params.models, networks.to_train(context)
    context.together = [model.name for model in missing]
    together = tuple(missing or context.job.models)
    keys = [context.table.model_keys[model.name] for model in together]
    inputs = context.contents.read_for(together)
    seconds = context.params.compute.checkpoint_seconds
    checkpoint = Checkpoint(context.root, keys, seconds, inputs)
    if missing:
        states = train(
            context.input("images")["pixels"],
            networks.labels_of(context),
            train_masks(context, missing),
            [model.name for model in missing],
            [model.stream for model in missing],
            seed=context.seed,
            config=networks.config_of(context.spec),
            schedule=networks.schedule_of(context.spec),
            prediction=context.params.diffusion.prediction_type,
            device=context.device,
            steps=params.max_train_steps,
            batch=params.batch_size,
            learning_rate=params.learning_rate,
            warmup=params.warmup_steps,
            weight_decay=params.weight_decay,
            clip=params.max_grad_norm,
            ema=params.ema_decay,
            dropout=params.dropout,
            flip=params.random_flip,
            snapshots=params.snapshots,
            resume=checkpoint.load(),
        )
        with tqdm(desc=context.job.name, total=params.max_train_steps) as bar:
            for step, state in checkpoint.saving(states):  # noqa: B007
                bar.update(step - bar.n)
        if len(missing) > 1:  # a job killed while it stores them one by one starts from here
            checkpoint.save(step, state())
        networks.keep(context, missing, state())
    checkpoint.remove()
    yield from networks.kept(context, digests)


STAGE = Stage(
    "models",
    "seed unet diffusion.num_train_timesteps diffusion.beta_schedule diffusion.prediction_type "
    "models",
    "images splits",
    jobs,
    run,
    evaluations=evaluations,
    data=True,
    each="pack",
    gpu=True,
    priority=1,
    memory_mb=8000,
)
