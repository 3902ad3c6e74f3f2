"""The plan of a run: all jobs of all stages, from parameters, sources and the dataset's bytes.

Neither Snakemake, DVC nor the age of a file has a part in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from begat.config import consistency
from begat.config.load import load
from begat.config.schema import fields_of, sections
from begat.ensembles.model_specs import Model
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.run_spec import RunSpec
from begat.planning.code import Code
from begat.stages import METHODS, PARAMS, STAGES


def specify(root: Path, params_file: str | None = None) -> RunSpec:
    """Returns the run that a parameter file describes (see ``config.load``).

    Raises:
        BegatError: parameters or data that allow no such run.
    """
    spec = RunSpec(root, load(root, params_file, PARAMS))
    consistency.check(spec.params)
    for stage in STAGES.values():
        stage.check(spec.params)
    return spec


class Plan(JobTable):
    """All jobs of a run.

    Raises:
        BegatError: parameters or data that allow no such run.
    """

    def __init__(
        self, root: Path, params_file: str | None = None, more: Sequence[Model] = ()
    ) -> None:
        """Read the parameter file ``params_file`` (see ``config.load``), and list the jobs.

        ``more``: models of other kinds to train besides those of the parameters.
        """
        code = Code(root)
        digests = {stage: code.digests(stage) for stage in STAGES}
        super().__init__(specify(root, params_file), digests, self.declared, METHODS)
        self.spec.models.extend(more)
        for stage in STAGES.values():
            for job in stage.jobs(self):
                self.add(job)

    def again(self) -> "Plan":
        """Returns the plan as files and parameters stand now."""
        return type(self)(self.root, self.params.params_file)

    def declared(self, stage: str) -> dict[str, Any]:
        """Returns the values of a stage's declaration that its keys depend on."""
        values = {name: self.params.value(name) for name in key_parameters(stage)}
        methods = STAGES[stage].declared_methods()
        return {"parameters": values, **({"methods": methods} if methods else {})}

    def cost(self, job: Job) -> Cost:
        """Returns what a job takes, if all of it is computed."""
        return STAGES[job.stage].cost(JobSizes(self, job))


def read_sections(stage: str) -> list[str]:
    """Returns the sections and single keys that a stage reads, ``*`` written out."""
    everything = [name for name in sections(PARAMS) if name != "compute"]
    names = STAGES[stage].reads
    return list(dict.fromkeys(n for name in names for n in (everything if name == "*" else [name])))


def key_parameters(stage: str) -> list[str]:
    """Returns the parameters that the keys of a stage's jobs depend on."""
    owners, names = sections(PARAMS), list[str]()
    for name in read_sections(stage):
        section, _, key = name.partition(".")
        if section not in owners:
            names.append(section)
            continue
        fields = fields_of(owners[section]).items()
        names += [
            f"{section}.{k}"
            for k, field in fields
            if key in ("", k) and not field.metadata["plans_only"]
        ]
    return names
