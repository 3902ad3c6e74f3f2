"""Declaration of a stage: its parameters, inputs, cost, computation and scoring methods."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from begat.config.schema import Params
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method

SCORES = "scores_*"  # among the inputs of a stage: all scoring stages but itself


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: of the stage, its module, its artifacts' folder and its rule.
        parameters: sections (``models``) and single keys (``models.random_flip``) that its jobs
            read, with spaces between, ``*`` for all sections but compute; its own section is added
            where none of its keys is listed.
        inputs: the stages whose artifacts it reads, with spaces between; ``-`` before one of those
            that ``scores_*`` stands for leaves it out.
        jobs: lists its jobs, given those of the stages before it.
        run: makes the artifact of one job.
        section: its own parameters.
        check: raises BegatError where its parameters contradict others.
        cost: what one of its jobs takes, from parameters alone.
        lower: the parameter to lower where one of its jobs needs more memory than there is.
        methods: of a scoring stage, by name.
        summary: of a scoring stage, for readers who choose a method, in Markdown.
        price: what its scores take to compute, in words.
        data: whether it reads files below ``data/``.
        each: where it makes many artifacts, the rule for one of them is ``<stage>_<each>``.
        gpu: whether its jobs compute with models, on a GPU where there is one.
        priority: of its jobs in Snakemake, so that the longest chain is not left for last.
        memory_mb: that one of its jobs asks a cluster for, if more than others.
    """

    name: str
    parameters: str
    inputs: str
    jobs: Callable[[JobTable], Iterable[Job]]
    run: Callable[[JobContext], None]
    section: type | None = None
    check: Callable[[Params], None] = lambda params: None
    cost: Callable[[JobSizes], Cost] = lambda sizes: Cost()
    lower: str = ""
    methods: Mapping[str, Method] = dataclasses.field(default_factory=dict)
    summary: str = ""
    price: str = ""
    data: bool = False
    each: str = ""
    gpu: bool = False
    priority: int = 0
    memory_mb: int = 0

    @property
    def reads(self) -> list[str]:
        """The parameters that its jobs read: sections and single keys."""
        names = self.parameters.split()
        listed = any(name.startswith(f"{self.name}.") for name in names)
        return [*names, *[self.name] * (self.section is not None and not listed)]

    def inputs_among(self, stages: Mapping[str, "Stage"]) -> list[str]:
        """Returns the stages whose artifacts it reads, out of all stages."""
        names = self.inputs.split()
        left_out = {self.name, *(name[1:] for name in names if name.startswith("-"))}
        scores = [n for n in stages if n.startswith("scores_") and n not in left_out]
        listed = [name for name in names if name != SCORES and not name.startswith("-")]
        return listed + (scores if SCORES in names else [])

    def declared_methods(self) -> dict[str, Any]:
        """Returns what its artifacts say of each method, as plain JSON values."""
        return {
            name: {**dataclasses.asdict(m.measure), "of": m.of, "headline": m.headline}
            for name, m in self.methods.items()
        }
