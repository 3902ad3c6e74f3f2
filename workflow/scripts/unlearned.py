"""Let the full model forget the groups of a pack."""

from collections.abc import Iterator
from dataclasses import fields

from tqdm import tqdm

from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.training_batches import TrainingImages
from begat.diffusion.training_config import OptimiserConfig
from begat.execution import networks
from begat.execution.context import Run, main
from begat.execution.factor_arrays import preconditioner_of
from begat.execution.trained import row_of
from begat.storage.artifacts import Block
from begat.storage.checkpoints import Checkpoint
from begat.storage.schema import schema_of
from begat.unlearning.batches import ForgetGroup
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.operators import OPERATORS, parse_operator
from begat.unlearning.unlearn import fine_tuning, unlearn

# Keys of this section that are an operator's own parameter.
OWN = {
    "min_noise_variance": "above",
    "num_neighbours": "neighbours",
    "guidance_strength": "strength",
    "max_forget_loss": "cap",
    "forget_strength": "strength",
    "mask_fraction": "share",
    "ewc_weight": "penalty",
    "damping": "damping",
}


def config_of(run: Run) -> UnlearningConfig:
    p, training = run.params["unlearned"], run.params["models"]
    full = OptimiserConfig(training["steps"], training["learning_rate"], training["warmup"], 1.0)
    own = [field.name for field in fields(OPERATORS[p["operator"]])]
    return UnlearningConfig(
        fine_tuning(full, p["steps"], p["learning_rate"], p["clip"]),
        p["batch"],
        parse_operator({"name": p["operator"], **{name: p[OWN[name]] for name in own}}),
        retain_loss=p["retain"],
        forget_weight=p["balance"],
        loss_combination={"added": "sum", "shared": "convex"}[p["mixing"]],
        error_space=p["weighting"],
        stopping_rule=p["stop"],
        stopping_threshold=p["goal"],
        init=p["start"],
        init_damping=p["damping"],
    )


def body(run: Run) -> None:
    images, config = run.read("images"), config_of(run)
    names = images.attributes["groups"]
    groups = [names.index(name) for name in run.job.made_from["groups"]]

    def compute(run: Run) -> Iterator[Block]:
        full, damping = row_of(run, run.job.models[0]), config.curvature_damping
        inverse = None if damping is None else preconditioner_of(run, full, damping)
        seconds, read = run.params["compute"]["checkpoint"], run.contents.read_by(run.job)
        checkpoint = Checkpoint(run.root, [run.job.key], seconds, read)
        members = images["member_of"]
        states = unlearn(
            TrainingImages(images["pixels"], networks.labels_of(run), run.params["models"]["flip"]),
            [ForgetGroup(names[g], "unlearned", members[g]) for g in groups],
            full,
            PackedNetwork(
                networks.config_of(run.plan),
                networks.schedule_of(run.plan),
                run.params["diffusion"]["prediction"],
                run.device,
            ),
            config,
            seed=run.seed,
            precondition=inverse,
            resume=checkpoint.load(),
        )
        with tqdm(desc=run.job.name, total=config.num_steps) as bar:
            for step, state in checkpoint.saving(states):  # noqa: B007
                bar.update(step - bar.n)
        arrays = state()
        yield {name: arrays[name] for name in schema_of("unlearned")}
        checkpoint.remove()

    run.finish(compute, groups=[names[g] for g in groups])


main("unlearned", body)
