"""Let the full model forget the groups of a pack."""

from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from begat.execution import networks
from begat.execution.context import Run, main
from begat.execution.factor_arrays import preconditioner_of
from begat.execution.trained import row_of
from begat.storage.artifacts import Block
from begat.storage.checkpoints import Checkpoint
from begat.storage.schema import schema_of
from begat.unlearning.operators import Forgetting
from begat.unlearning.unlearn import PASSES, newton_step, shortened, unlearn


def body(run: Run) -> None:
    images, asked = run.read("images"), run.section("unlearned", "pack")
    names = images.attributes["groups"]
    groups = [names.index(name) for name in run.job.made_from["groups"]]

    def compute(run: Run) -> Iterator[Block]:
        common: dict[str, Any] = dict(
            pixels=images["pixels"],
            label=networks.labels_of(run),
            member_of=images["member_of"][groups],
            names=[names[g] for g in groups],
            streams=["unlearned"] * len(groups),
            full=row_of(run, run.job.models[0]),
            seed=run.seed,
            config=networks.config_of(run.plan),
            schedule=networks.schedule_of(run.plan),
            prediction=run.params["diffusion"]["prediction"],
            device=run.device,
            batch=asked.pop("batch"),
            flip=run.params["models"]["flip"],
        )
        training = shortened(
            run.params["models"], asked.pop("steps"), asked.pop("learning_rate"), asked.pop("clip")
        )
        damping, start = asked.pop("damping"), asked.pop("start")
        if asked["operator"] == "newton":  # the step and no more
            asked["operator"], training["steps"], start = "retain_only", 0, "newton"
        if start == "newton":
            inverse = preconditioner_of(run, common["full"], damping)
            training["start"] = newton_step(**common, precondition=inverse, passes=PASSES)
        seconds, read = run.params["compute"]["checkpoint"], run.contents.read_by(run.job)
        checkpoint = Checkpoint(run.root, [run.job.key], seconds, read)
        states = unlearn(**common, how=Forgetting(**asked), resume=checkpoint.load(), **training)
        with tqdm(desc=run.job.name, total=training["steps"]) as bar:
            for step, state in checkpoint.saving(states):  # noqa: B007
                bar.update(step - bar.n)
        found = state()
        yield {name: found[name] for name in schema_of("unlearned")}
        checkpoint.remove()

    run.finish(compute, groups=[names[g] for g in groups])


main("unlearned", body)
