"""The jobs of a run, the artifacts that each reads, and the key of each.

A key is the sha256 of ``made_from``: schema version, stage, digest of each source file of the
stage, its parameters, the keys of its inputs. Parameters that only decide which jobs there are
(``plans_only``) are left out, unless a job adds them itself. A model's key has the recipe of its
own training set, not the table of all of them, so more members never retrain the others.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from begat.data.pipelines import pipeline_digest
from begat.ensembles.model_specs import Model
from begat.errors import BegatError
from begat.execution.jobs import Cost, Job, Name, path_of
from begat.execution.methods import Method
from begat.execution.run_spec import RunSpec
from begat.storage.digests import digest
from begat.storage.schema import VERSION


class JobTable:
    """Jobs by stage and name.

    Attributes:
        spec: the run.
        params: its parameters.
        root: of the project.
        methods: all scoring methods, by name.
    """

    def __init__(
        self,
        spec: RunSpec,
        code: Mapping[str, Mapping[str, str]],
        declared: Callable[[str], dict[str, Any]],
        methods: Mapping[str, Method],
    ) -> None:
        """An empty table.

        Args:
            spec: the run.
            code: digests of each stage's source files.
            declared: values of a stage that its keys depend on: its parameters, its methods.
            methods: all scoring methods.
        """
        self.spec, self.params, self.root = spec, spec.params, spec.root
        self._code, self._declared, self.methods = code, declared, methods
        self._jobs: dict[Name, Job] = {}

    def again(self) -> "JobTable":
        """Returns the table as files and parameters stand now."""
        raise NotImplementedError

    def cost(self, job: Job) -> Cost:
        """Returns what a job takes, if all of it is computed."""
        raise NotImplementedError

    def add(self, job: Job) -> None:
        """Add a job, after those whose artifacts it reads."""
        self._jobs[job.stage, job.name] = job

    def job(self, stage: str, name: str) -> Job:
        """Returns the job that makes an artifact.

        Raises:
            BegatError: these parameters need no such artifact.
        """
        if (stage, name) not in self._jobs:
            raise BegatError(f"{path_of(stage, name)}: no such artifact with these parameters")
        return self._jobs[stage, name]

    def jobs(self, stage: str | None = None) -> list[Job]:
        """Returns all jobs (of a stage), in an order in which they can be done."""
        return [job for job in self._jobs.values() if stage in (None, job.stage)]

    def edges(self) -> list[tuple[str, str]]:
        """Returns the pairs of stages of which the first reads the second."""
        return list(
            dict.fromkeys((job.stage, name[0]) for job in self.jobs() for name in job.inputs)
        )

    def names(self, stage: str, *kinds: str) -> list[Name]:
        """Returns a stage's artifacts, those of certain kinds of model if any are given."""
        names = [name for name in self._jobs if name[0] == stage]
        return [n for n in names if not kinds or n[1].rpartition("-")[0] in kinds]

    def scores(self, *without: str) -> list[Name]:
        """Returns the artifacts of all scoring stages but certain ones."""
        scores = [name for name in self._jobs if name[0].startswith("scores_")]
        return [name for name in scores if name[0] not in without]

    def make(
        self,
        stage: str,
        name: str,
        inputs: Sequence[Name] = (),
        models: tuple[Model, ...] = (),
        queries: tuple[int, int] = (0, 0),
        splits: tuple[Model, ...] = (),
        **more: Any,
    ) -> Job:
        """Returns a job.

        Args:
            stage, name: of its artifact.
            inputs: the artifacts that it reads, besides models and splits.
            models: the models whose weights it reads.
            queries: first and past-the-last query of its block.
            splits: the models whose rows of the table of splits it reads.
            more: further values that its key depends on.
        """
        keys = {"/".join(read): self.job(*read).key for read in inputs}
        if splits:
            keys["splits/all"] = digest({m.name: self.row_keys[m.name] for m in splits})
            inputs = [*inputs, ("splits", "all")]
        keys |= {f"models/{m.name}": self.model_keys[m.name] for m in models}
        packs = [("models", pack) for pack in dict.fromkeys(m.pack for m in models)]
        made_from = {**self.common(stage), "name": name, "inputs": keys, **more}
        made_from |= {"queries": list(queries)} if queries[1] else {}
        return Job(stage, name, made_from, (*inputs, *packs), models, queries, splits)

    def by_gradients(
        self, stage: str, models: tuple[Model, ...], inputs: Sequence[Name] = (), **more: Any
    ) -> Job:
        """Returns the job of a scoring method that evaluates models on all images and queries."""
        reads: list[Name] = [("images", "all"), *self.names("queries"), *inputs]
        return self.make(stage, "all", reads, models, **more)

    def attributed_models(self, count: int) -> tuple[Model, ...]:
        """Returns the models that a gradient method averages over: full ones, then members."""
        return self.spec.of_kind("full", "member")[:count]

    def common(self, stage: str) -> dict[str, Any]:
        """Returns what the keys of all of a stage's jobs depend on."""
        return {
            "schema": VERSION,
            "stage": stage,
            "code": self._code[stage],
            **self._declared(stage),
        }

    @cached_property
    def row_keys(self) -> dict[str, str]:
        """The key of each model's row of the table of splits."""
        common = {
            "code": self._code["splits"],
            "seed": self.params.seed,
            "images": self.job("images", "all").key,
        }
        return {m.name: digest({**common, "recipe": dict(m.recipe)}) for m in self.spec.models}

    @cached_property
    def model_keys(self) -> dict[str, str]:
        """The key of every single model."""
        common = self.common("models")
        pipeline = self.spec.pipeline
        common |= {"pipeline": pipeline_digest(pipeline)} if pipeline else {}
        common["images"] = self.job("images", "all").key
        return {
            m.name: digest({**common, "split": self.row_keys[m.name]}) for m in self.spec.models
        }
