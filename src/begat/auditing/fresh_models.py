"""Models on the fresh subsets of a challenge: training sets, jobs and losses.

They are trained and measured by the run's own stages, as one more kind of model, below
``.begat/challenges/<name>``. So a killed challenge goes on where it was, and a larger one with the
same seed trains only the models that it adds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from begat.ensembles.fresh_subsets import fresh_rows, rows_of_groups, rows_of_images
from begat.ensembles.model_specs import Model
from begat.evaluation.statistics import Measured
from begat.execution.contents import PARTS, Contents, part_digest
from begat.execution.context import JobContext
from begat.execution.jobs import Job
from begat.planning.plan import Plan
from begat.rng.seeds import numpy_generator
from begat.stages import STAGES
from begat.storage.artifacts import Artifact, publish
from begat.storage.cache import link_tree

Of = Literal["images", "groups"]
KIND = "challenge"  # of the models, beside "subset" and so on
FOLDER = Path(".begat") / "challenges"


@dataclass(frozen=True)
class Request:
    """The fresh subsets of a challenge.

    Attributes:
        seed: of the verifier.
        of: the units in a subset.
        subsets: their number.
        commitment: digest of the scores; subsets depend on it, so that nobody who knows the seed
            can fit scores to them.
    """

    seed: int
    of: Of
    subsets: int
    commitment: str

    @property
    def name(self) -> str:
        """The name of the challenge's files."""
        return f"{self.of}-{self.seed}"

    def generators(self) -> Iterator[np.random.Generator]:
        """Yields the generator of each subset."""
        for index in range(self.subsets):
            yield numpy_generator(self.seed, KIND, self.of, self.commitment, index)


def models_of(request: Request, seeds: int, fraction: float, models_per_job: int) -> list[Model]:
    """Returns the models of a challenge, in packs, with recipes that no other model has."""
    models: list[Model] = []
    for index in range(request.subsets):
        for seed in range(seeds):
            stream = f"{KIND}-{request.name}-{index}-{seed}"
            recipe = {"kind": KIND, "index": index, "seed": seed, "stream": stream}
            recipe |= {"fraction": fraction, "commitment": request.commitment}
            pack = f"{KIND}-{len(models) // models_per_job}"
            name = f"{KIND}-{index}-{seed}"
            models.append(Model(name, KIND, index, seed, stream, pack, recipe))
    return models


class ChallengePlan(Plan):
    """The plan of a run with the models of a challenge, whose artifacts lie in its own folder."""

    def __init__(
        self, root: Path, params_file: str | None, models: Sequence[Model], folder: Path
    ) -> None:
        """Add ``models`` to the plan of a parameter file, and put artifacts below ``folder``."""
        super().__init__(root, params_file, models)
        self.challenge_models, self.root = tuple(models), folder

    def again(self) -> "ChallengePlan":
        """Returns the plan as files and parameters stand now."""
        models, file = self.challenge_models, self.params.params_file
        return type(self)(self.spec.root, file, models, self.root)

    def fresh_jobs(self, stage: str) -> list[Job]:
        """Returns the jobs of a stage that train or measure models of the challenge."""
        return [job for job in self.jobs(stage) if job.name.startswith(f"{KIND}-")]


def training_rows(
    plan: Plan, request: Request, committed: Bool[np.ndarray, "subset image"]
) -> Bool[np.ndarray, "fresh image"]:
    """Returns the images that the models on each fresh subset train on.

    Raises:
        BegatError: there are not so many subsets unlike the ``committed`` ones.
    """
    images = JobContext(plan, plan.job("metrics", "all")).input("images")
    units, row = (
        rows_of_images(images["cluster"])
        if request.of == "images"
        else rows_of_groups(images["member_of"])
    )
    fraction = plan.params.splits.subset_fraction
    return fresh_rows(committed, row, units, fraction, request.generators())


def losses_of_fresh(
    plan: Plan, request: Request, rows: Bool[np.ndarray, "fresh image"]
) -> Measured:
    """Trains models on these images, where they are not trained yet, and returns their losses."""
    splits, root = plan.params.splits, plan.root
    per_job, seeds = plan.params.models.models_per_job, splits.seeds_per_subset
    models = models_of(request, seeds, splits.subset_fraction, per_job)
    fresh = ChallengePlan(root, plan.params.params_file, models, root / FOLDER / request.name)
    for job in (plan.job("images", "all"), *plan.jobs("queries")):
        _link(root / job.path, fresh.root / job.path)
    _encode(fresh, {m.name: rows[m.index] for m in models})
    for stage in ("models", "measurements"):
        for job in fresh.fresh_jobs(stage):
            if not Contents(fresh.root).current(job):
                STAGES[stage].run(JobContext(fresh, job))
    blocks = [Artifact(fresh.root / j.path, j.stage) for j in fresh.fresh_jobs("measurements")]
    loss = np.concatenate([block["loss"] for block in blocks], axis=1).mean(-1)
    return loss.reshape(len(rows), seeds, -1)


def _link(source: Path, target: Path) -> None:
    publish(target, lambda scratch: link_tree(source, scratch))


def _encode(plan: ChallengePlan, rows: dict[str, np.ndarray]) -> None:
    """Write the table of training sets of the challenge's models, if it is not there."""
    context = JobContext(plan, plan.job("splits", "all"))
    if context.contents.current(context.job):
        return
    digests = {name: part_digest({"trains_on": row}) for name, row in rows.items()}
    attributes: dict[str, Any] = {PARTS: digests}
    context.materialise(
        lambda context: [{"trains_on": np.stack(list(rows.values()))}],
        models=[model.attributes() for model in plan.challenge_models],
        **attributes,
    )
