"""Train the models of a pack that no earlier run has trained."""

from collections.abc import Iterator

from tqdm import tqdm

from begat.data.pipelines import pipeline_row
from begat.diffusion.model_training import ModelRun, train
from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.training_batches import TrainingImages
from begat.diffusion.training_config import OptimiserConfig, TrainingConfig
from begat.execution import networks
from begat.execution.contents import PARTS, part_digest
from begat.execution.context import Run, main
from begat.execution.results import trains_on
from begat.storage.artifacts import Block
from begat.storage.checkpoints import Checkpoint


def compute(run: Run, digests: dict[str, str]) -> Iterator[Block]:
    if run.plan.pipeline:
        row = pipeline_row(run.plan.pipeline)[None]
        brought = {"weights": row, "ema_weights": row}
        digests[run.job.models[0].name] = part_digest(brought)
        yield brought
        return
    missing = networks.to_train(run)
    run.pack = [model.name for model in missing]
    together = tuple(missing or run.job.models)
    keys = [run.plan.model_keys[model.name] for model in together]
    read = run.contents.read_for(together)
    checkpoint = Checkpoint(run.root, keys, run.params["compute"]["checkpoint"], read)
    if missing:
        p = run.params["models"]
        names = "steps", "learning_rate", "warmup", "clip", "weight_decay", "ema"
        masks = trains_on(run, missing)
        states = train(
            TrainingImages(run.read("images")["pixels"], networks.labels_of(run), p["flip"]),
            [ModelRun(m.name, m.stream, mask) for m, mask in zip(missing, masks, strict=True)],
            PackedNetwork(
                networks.config_of(run.plan),
                networks.schedule_of(run.plan),
                run.params["diffusion"]["prediction"],
                run.device,
            ),
            TrainingConfig(
                OptimiserConfig(*(p[name] for name in names)),
                *(p[name] for name in ("batch", "dropout", "snapshots")),
            ),
            seed=run.seed,
            resume=checkpoint.load(),
        )
        with tqdm(desc=run.job.name, total=run.params["models"]["steps"]) as bar:
            for step, state in checkpoint.saving(states):  # noqa: B007
                bar.update(step - bar.n)
        if len(missing) > 1:  # killed while some are kept, the others go on from here
            checkpoint.save(step, state())
        networks.keep(run, missing, state())
    checkpoint.remove()
    yield from networks.kept(run, digests)


def body(run: Run) -> None:
    # What is trained here is kept model by model; what somebody brought, as a whole.
    digests: dict[str, str] = {}
    whole = run.plan.pipeline is not None
    attributes = {**networks.pack_attributes(run), PARTS: digests}
    run.finish(lambda run: compute(run, digests), keep=whole, **attributes)


main("models", body)
