"""Declaration of a stage: its parameters, inputs, cost and computation; its scoring methods."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from begat.config.schema import Params
from begat.evaluation.measures import Measure
from begat.execution.jobs import Job

if TYPE_CHECKING:
    from begat.execution.context import JobContext
    from begat.execution.job_table import JobTable


@dataclass(frozen=True)
class Method:
    """One scoring method, as tables and pages name it.

    Attributes:
        label: its name for readers.
        description: what its scores are, in one sentence.
        measure: unit and sign of its scores.
        of: the units that it scores: images, groups or both.
        headline: whether tables show it first; the others are its variants.
    """

    label: str
    description: str
    measure: Measure
    of: str = "both"
    headline: bool = False


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: of the stage, its module, its artifacts' folder and its rule.
        parameters: sections (``models``) and single keys (``models.random_flip``) that its jobs
            read, with spaces between; its own section is added.
        inputs: the stages whose artifacts it reads, with spaces between.
        jobs: lists its jobs, given those of the stages before it.
        run: makes the artifact of one job.
        section: its own parameters.
        check: raises BegatError where its parameters contradict others.
        evaluations: of the network (forward passes of one image) that one job takes, roughly.
        methods: of a scoring stage, by name.
        data: whether it reads files below ``data/``.
        each: where it makes many artifacts, the rule for one of them is ``<stage>_<each>``.
        gpu: whether its jobs compute with models, on a GPU where there is one.
        priority: of its jobs in Snakemake, so that the longest chain is not left for last.
        memory_mb: that one job asks a cluster for.
    """

    name: str
    parameters: str
    inputs: str
    jobs: Callable[["JobTable"], Iterable[Job]]
    run: Callable[["JobContext"], None]
    section: type | None = None
    check: Callable[[Params], None] = lambda params: None
    evaluations: Callable[["JobTable", Job], float] = lambda table, job: 0.0
    methods: Mapping[str, Method] = dataclasses.field(default_factory=dict)
    data: bool = False
    each: str = ""
    gpu: bool = False
    priority: int = 0
    memory_mb: int = 0

    @property
    def reads(self) -> list[str]:
        """The parameters that its jobs read: sections and single keys."""
        return [*self.parameters.split(), *[self.name] * (self.section is not None)]

    def measures(self) -> dict[str, Any]:
        """Returns unit and sign of every method's scores, as plain JSON values."""
        return {name: dataclasses.asdict(m.measure) for name, m in self.methods.items()}
