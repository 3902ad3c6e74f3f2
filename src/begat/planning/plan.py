"""The jobs of a run, what each reads, and the key each result must carry.

Everything here follows from ``params.yaml``, the sources and the dataset's bytes; nothing is asked
of Snakemake, DVC or the age of a file. ``planning.stages`` says which parameters matter to a stage,
``planning.code`` which source files.

A key is the sha256 of ``made_from``: schema version, stage, digest of each source file of the
stage, its parameters, the keys of what it reads. What only decides which jobs there are (``count``
in ``config.schema``) is left out, unless a job says it itself. A model's key knows the recipe of its
own training set, not the table of all of them, so more members never retrain the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from begat.config.schema import SECTIONS, fields_of
from begat.data.pipelines import pipeline_digest
from begat.ensembles.model_specs import Model
from begat.errors import BegatError
from begat.execution.jobs import Job, Name, path_of
from begat.execution.run_spec import Request
from begat.planning.code import Code
from begat.planning.stages import STAGES
from begat.storage.digests import digest, file_digest
from begat.storage.schema import VERSION

STARTING = 10_000  # starting a process takes about as long as so many small evaluations


@dataclass
class Plan(Request):
    """All jobs of a run."""

    def __post_init__(self) -> None:
        """Read what is asked for, and list the jobs.

        Raises:
            BegatError: parameters or data that allow no such run.
        """
        super().__post_init__()
        self._jobs: dict[Name, Job] = {}
        for stage in STAGES:
            for job in getattr(self, f"_{stage}")():
                self._jobs[stage, job.name] = job

    def job(self, stage: str, name: str) -> Job:
        """The job that makes an artifact.

        Raises:
            BegatError: these parameters ask for no such artifact.
        """
        if (stage, name) not in self._jobs:
            raise BegatError(f"{path_of(stage, name)}: no such artifact with these parameters")
        return self._jobs[stage, name]

    def jobs(self, stage: str | None = None) -> list[Job]:
        """All jobs (of a stage), in an order in which they can be done."""
        return [job for job in self._jobs.values() if stage in (None, job.stage)]

    def edges(self) -> list[tuple[str, str]]:
        """Which stage reads which, each pair once."""
        return list(
            dict.fromkeys((job.stage, read[0]) for job in self.jobs() for read in job.inputs)
        )

    def work(self, job: Job) -> int:
        """Roughly how many network evaluations a job costs, for an estimate of the time left."""
        p, queries = self.params, job.queries[1] - job.queries[0]
        sampling = p["queries"]["steps"] * queries * max(len(job.models), 1)
        match job.stage:
            case "models":
                found = 3 * len(job.models) * p["models"]["steps"] * p["models"]["batch"]
            case "queries":
                found = 0 if self.query_dataset else sampling
            case "measurements":
                asked = len(job.models) or len(self.dataset.groups)
                found = asked * queries * p["measurements"]["draws"]
            case "factors":
                found = 10 * len(self.dataset.names) * p["factors"]["draws"]
            case "unlearned":
                each = 8 * p["unlearned"]["steps"] * p["models"]["steps"] * p["unlearned"]["batch"]
                found = each * len(job.made_from["groups"])
            case "scores_influence" | "scores_trak" | "scores_tracin":
                found = 5 * len(job.models) * len(self.dataset.names) * p[job.stage]["draws"]
            case "counterfactuals" if job.name.startswith("group_member"):
                found = sampling * (
                    1 + len(self.dataset.groups)
                )  # half the members each, and nulls
            case "counterfactuals":
                asked = p["counterfactuals"]
                found = sampling * (2 + asked["top"] + asked["random"])
            case _:
                found = 0
        return round(found) + STARTING

    # -- what each stage is made from ---------------------------------------------------------

    @cached_property
    def _code(self) -> dict[str, dict[str, str]]:
        code = Code(self.root)
        return {stage: code.digests(stage) for stage in STAGES}

    def parameters(self, stage: str) -> dict[str, Any]:
        """The parameters that matter to a stage, counts left out."""
        found: dict[str, Any] = {}
        for name in STAGES[stage].parameters.split():
            section, _, one = name.partition(".")
            if section not in SECTIONS:
                found[section] = self.params[section]
                continue
            for k, known in fields_of(section).items():
                if not known.metadata["count"] and one in ("", k):
                    found[f"{section}.{k}"] = self.params[section][k]
        return found

    @cached_property
    def _row_keys(self) -> dict[str, str]:
        common = {
            "code": self._code["splits"],
            "seed": self.params["seed"],
            "images": self.job("images", "all").key,
        }
        return {m.name: digest({**common, "recipe": dict(m.recipe)}) for m in self.models}

    @cached_property
    def model_keys(self) -> dict[str, str]:
        """The key of every single model."""
        common = self._common("models")
        brought = {"pipeline": pipeline_digest(self.pipeline)} if self.pipeline else {}
        images = self.job("images", "all").key
        return {
            m.name: digest({**common, **brought, "images": images, "split": self._row_keys[m.name]})
            for m in self.models
        }

    def _common(self, stage: str) -> dict[str, Any]:
        return {
            "schema": VERSION,
            "stage": stage,
            "code": self._code[stage],
            "parameters": self.parameters(stage),
        }

    # -- the jobs -----------------------------------------------------------------------------

    def _job(
        self,
        stage: str,
        name: str,
        reads: list[Name],
        models: tuple[Model, ...] = (),
        queries: tuple[int, int] = (0, 0),
        splits: tuple[Model, ...] = (),
        **more: Any,
    ) -> Job:
        """A job; of the table of splits only those models' rows matter to it."""
        inputs = {"/".join(r): self.job(*r).key for r in reads}
        if splits:
            inputs["splits/all"] = digest({m.name: self._row_keys[m.name] for m in splits})
            reads = [*reads, ("splits", "all")]
        inputs |= {f"models/{m.name}": self.model_keys[m.name] for m in models}
        packs = [("models", pack) for pack in dict.fromkeys(m.pack for m in models)]
        made_from = {**self._common(stage), "name": name, "inputs": inputs, **more}
        made_from |= {"queries": list(queries)} if queries[1] else {}
        return Job(stage, name, made_from, (*reads, *packs), models, queries, splits)

    def _names(self, stage: str, *kinds: str) -> list[Name]:
        """Artifacts of a stage already planned, those of some kinds of model where given."""
        made = [name for name in self._jobs if name[0] == stage]
        return [n for n in made if not kinds or n[1].rpartition("-")[0] in kinds]

    def _images(self) -> Iterator[Job]:
        yield self._job("images", "all", [], data=self.dataset.digest)

    def _splits(self) -> Iterator[Job]:
        yield self._job("splits", "all", [("images", "all")], rows=self._row_keys)

    def _models(self) -> Iterator[Job]:
        reads: list[Name] = [("images", "all"), ("splits", "all")]
        for pack in dict.fromkeys(m.pack for m in self.models):
            models = tuple(m for m in self.models if m.pack == pack)
            rows = {m.name: {"key": self.model_keys[m.name], "recipe": m.recipe} for m in models}
            inputs = {"images/all": self.job("images", "all").key}
            made_from = {**self._common("models"), "name": pack, "inputs": inputs, "models": rows}
            yield Job("models", pack, made_from, tuple(reads), models)

    def _queries(self) -> Iterator[Job]:
        own = self.query_dataset
        drawn_by = () if own else self.of_kind(self.params["queries"]["drawn_by"])
        drawn_by = drawn_by[:1] if self.params["queries"]["drawn_by"] == "full" else drawn_by
        for i, block in enumerate(self.blocks):
            data: dict[str, Any] = {}
            if own:
                data = {"data": own.digest, "label": self.query_labels[slice(*block)]}
            yield self._job("queries", str(i), [], drawn_by, block, **data)

    def _factors(self) -> Iterator[Job]:
        asked = self._asked("scores_influence")
        stepped = self.of_kind("full")[: "newton" in self._forgetting.values()]
        for model in (*(m for m in stepped if m not in asked), *asked):
            what = [("images", "all")], (model,)
            yield self._job("factors", model.name, *what, splits=(model,))

    @property
    def _forgetting(self) -> dict[str, Any]:
        """What says whether a curvature is needed to forget."""
        return {k: self.params["unlearned"][k] for k in ("operator", "start")}

    def _unlearned(self) -> Iterator[Job]:
        groups = self.dataset.groups
        # Packs are networks of our own making.
        full = () if self.pipeline else self.of_kind("full")[:1]
        size, reads = self.params["unlearned"]["pack"], [("images", "all")]
        if "newton" in self._forgetting.values():
            reads += self._names("factors")[:1]
        for i, start in enumerate(range(0, len(groups) if full else 0, size)):
            some = list(groups[start : start + size])
            yield self._job("unlearned", str(i), reads, full, groups=some, **self._forgetting)

    def _measurements(self) -> Iterator[Job]:
        for kind in self.kinds:
            for i, block in enumerate(self.blocks):
                what = [("queries", str(i))], self.of_kind(kind), block
                yield self._job("measurements", f"{kind}-{i}", *what)
        forgetful = self._names("unlearned")
        for i, block in enumerate(self.blocks if forgetful else []):
            what = [("queries", str(i)), *forgetful], (), block
            yield self._job("measurements", f"unlearned-{i}", *what)

    def _counterfactuals(self) -> Iterator[Job]:
        for kind in ("member", "group_member"):
            for i, block in enumerate(self.blocks if kind in self.kinds else []):
                reads: list[Name] = [("images", "all"), ("queries", str(i))]
                reads.append(("measurements", f"{kind}-{i}"))
                models = self.of_kind(kind)
                name = f"{kind}-{i}"
                yield self._job("counterfactuals", name, reads, models, block, splits=models)

    # A method that nothing is asked of has a job too, so that DVC finds what it expects; its
    # artifact is empty.

    def _scores_ensemble(self) -> Iterator[Job]:
        kinds = ("member", "group_member")
        reads: list[Name] = [("images", "all"), *self._names("measurements", *kinds)]
        reads += self._names("counterfactuals", *kinds)
        yield self._job("scores_ensemble", "all", reads, splits=self.of_kind(*kinds))

    def _scores_influence(self) -> Iterator[Job]:
        models = self._asked("scores_influence")
        factors = [("factors", model.name) for model in models]
        yield self._by_gradients("scores_influence", models, factors, splits=models)

    def _scores_trak(self) -> Iterator[Job]:
        models = self._asked("scores_trak")
        yield self._by_gradients("scores_trak", models, splits=models)

    def _scores_tracin(self) -> Iterator[Job]:
        yield self._by_gradients("scores_tracin", self._asked("scores_tracin"))

    def _scores_features(self) -> Iterator[Job]:
        own = self.params["scores_features"]["network"] == "full"
        file = self.vision_file
        more: dict[str, Any] = {"network": file_digest(file)} if file else {}
        yield self._by_gradients("scores_features", self.of_kind("full")[: int(own)], **more)

    def _by_gradients(
        self, stage: str, models: tuple[Model, ...], also: Sequence[Name] = (), **more: Any
    ) -> Job:
        """A job that looks into models with the training images and the queries."""
        reads: list[Name] = [("images", "all"), *self._names("queries"), *also]
        return self._job(stage, "all", reads, models, **more)

    def _asked(self, section: str) -> tuple[Model, ...]:
        """The models that a gradient method averages over: full ones first, then members."""
        return self.of_kind("full", "member")[: self.params[section]["models"]]

    def _scores_pixel(self) -> Iterator[Job]:
        reads = [("images", "all"), *self._names("queries")]
        yield self._job("scores_pixel", "all", reads)

    def _scores_guda(self) -> Iterator[Job]:
        reads: list[Name] = [("images", "all"), *self._names("queries")]
        reads += self._names("measurements", "full", "unlearned")
        yield self._job("scores_guda", "all", reads)

    def _scores_logo(self) -> Iterator[Job]:
        kinds = ("full", "logo") if "logo" in self.kinds else ()
        reads = self._names("measurements", *kinds) if kinds else []
        yield self._job("scores_logo", "all", reads)

    def _aggregated(self) -> Iterator[Job]:
        yield self._job("aggregated", "all", [("images", "all"), *self._scores()])

    def _metrics(self) -> Iterator[Job]:
        kinds = ("half", "group_half")
        reads: list[Name] = [("images", "all"), *self._scores(), ("aggregated", "all")]
        reads += [*self._names("measurements", *kinds), *self._names("counterfactuals")]
        yield self._job("metrics", "all", reads, splits=self.of_kind(*kinds))

    def _report(self) -> Iterator[Job]:
        everything = [n for n in self._jobs if n[0] not in ("models", "measurements")]
        yield self._job("report", "all", everything, tuple(self.models))

    def _scores(self) -> list[Name]:
        return [name for name in self._jobs if name[0].startswith("scores_")]
