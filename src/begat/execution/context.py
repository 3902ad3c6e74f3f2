"""One job in progress: its parameters, inputs and device, and the writing of its artifact."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from begat.errors import BegatError
from begat.execution.contents import Contents
from begat.execution.history import append, result
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, path_of
from begat.execution.machine import forbid_tf32
from begat.execution.methods import Method
from begat.execution.records import mend, record, unsound
from begat.storage.artifacts import Artifact, Block, write
from begat.storage.cache import Store, locked
from begat.storage.manifests import Verified, content_digest

if TYPE_CHECKING:
    import torch

CHANGED = "parameters, code or data changed during the run; run again"
Compute = Callable[["JobContext"], Iterable[Block]]


class JobContext:
    """A job in progress: its parameters, its inputs, its device.

    Attributes:
        table: all jobs of the run.
        job: this one.
        spec, params, root, seed: of the run.
        methods: the scoring methods that the job's stage declares.
        together: names of the models or groups that it computes side by side, for the record.
    """

    def __init__(
        self, table: JobTable, job: Job, methods: Mapping[str, Method] | None = None
    ) -> None:
        self.table, self.job, self.spec, self.params = table, job, table.spec, table.params
        self.root, self.seed, self.methods = table.root, table.params.seed, methods or {}
        self.cache, self.contents = Store(table.root), Contents(table.root)
        self.together: list[str] = job.made_from.get("groups") or [m.name for m in job.models]

    def input(self, stage: str, name: str = "all") -> Artifact:
        """An artifact this job reads.

        Raises:
            BegatError: it is missing, or was made from something else than is asked for now.
        """
        artifact = Artifact(self.root / path_of(stage, name), stage)
        if artifact.attributes["key"] != self.table.job(stage, name).key:
            raise BegatError(f"{artifact.path}: out of date; run `begat run`")
        return artifact

    def inputs(self, stage: str, prefix: str = "") -> list[Artifact]:
        """All artifacts of a stage that this job reads, whose names begin with ``prefix``."""
        names = [n for n in self.job.inputs if n[0] == stage and n[1].startswith(prefix)]
        return [self.input(*name) for name in names]

    def scores(self) -> list[Artifact]:
        """The scores of all methods that this job reads."""
        return [self.input(*n) for n in self.job.inputs if n[0].startswith("scores_")]

    @cached_property
    def device(self) -> "torch.device":
        """The device asked for; ``auto`` takes a GPU where there is one, without TF32.

        Raises:
            BegatError: ``cuda`` asked for where there is none.
        """
        import torch

        torch.set_num_threads(self.params.compute.threads)
        forbid_tf32()
        device = self.params.compute.device
        if device == "cuda" and not torch.cuda.is_available():
            raise BegatError(
                "compute.device: expected a CUDA device for cuda, found none; use auto"
            )
        return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")

    def attributes(self, **more: Any) -> dict[str, Any]:
        """What an artifact says of itself; equal runs say the same."""
        job = self.job
        return {
            "name": job.name,
            "seed": self.seed,
            **more,
            "made_from": job.made_from,
            "read": self.contents.read_by(job),
            "key": job.key,
        }

    def materialise(
        self,
        compute: Compute,
        keep: bool = True,
        files: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        """Put the artifact in place: from the store if it was computed before, else computed.

        ``files`` and ``attributes`` as for ``artifacts.write``. With ``keep`` false the store gets
        no copy of the whole (``compute`` keeps the parts itself).
        """
        path, key = self.root / self.job.path, self.job.key
        with locked(self.root / ".begat" / "locks" / key, "another process is at this; waiting"):
            if self.cache.restore(key, path, self._read()):
                if unsound(self.root, key):
                    mend(self.root, self.job, content_digest(path))
                print(f"{self.job.path}: taken from the store")
            else:
                started, spent = time.time(), time.process_time()

                def sealed(content: str) -> None:
                    device = str(self.__dict__.get("device", "cpu"))
                    used = time.process_time() - spent
                    details = self.together, content, self._cost()
                    record(self.root, self.job, started, used, device, *details)
                    append(self.root, result("made", self.job, content))

                stored = self.attributes(**attributes)
                write(path, self.job.stage, stored, self._unless_outlived(compute), files, sealed)
                if keep:
                    self.cache.keep(key, path)
            Verified(self.root).note(path)

    def _cost(self) -> Cost:
        """What the job was expected to take, for those of its models that were not in the store."""
        cost, models = self.table.cost(self.job), len(self.job.models)
        share = len(self.together) / models if self.job.stage == "models" else 1.0
        return replace(cost, evaluations=cost.evaluations * share, work=cost.work * share)

    def _read(self) -> dict[str, str | None]:
        """The content digest of everything this job reads.

        Raises:
            BegatError: something is missing or damaged.
        """
        digests = self.contents.read_by(self.job)
        for name, content in digests.items():
            if content is None:
                raise BegatError(f"{self.job.path}: needs {name}: missing or damaged; run again")
        return digests

    def materialise_scores(
        self,
        compute: Compute,
        *,
        enabled: bool = True,
        only: Sequence[str] | None = None,
        of_clusters: bool = False,
        **attributes: Any,
    ) -> None:
        """Put scores in place, or an artifact without any where the method is disabled.

        Args:
            compute: makes the blocks, one row per declared method, in their order.
            enabled: whether there is anything to compute from.
            only: the declared methods that there are, if not all.
            of_clusters: whether an image's score is that of all its near-duplicates together, so
                that each of them counts for its share where scores are summed.
            attributes: further attributes of the artifact.
        """
        methods = {n: m for n, m in self.methods.items() if enabled and (only is None or n in only)}
        self.materialise(
            compute if enabled else lambda job: iter(()),
            methods=[name for name, method in methods.items() if method.of != "groups"],
            group_methods=[name for name, method in methods.items() if method.of != "images"],
            measures={name: asdict(method.measure) for name, method in methods.items()},
            of_clusters=of_clusters,
            **attributes,
        )

    def _unless_outlived(self, compute: Compute) -> Iterator[Block]:
        """The blocks, and at the end the question whether this result is still asked for.

        A job may outlive the run that started it; it must not overwrite what a later run made.
        """
        yield from compute(self)
        now = self.table.again().job(self.job.stage, self.job.name)
        if now.key != self.job.key or Contents(self.root).read_by(now) != self._read():
            raise BegatError(f"{self.job.path}: {CHANGED}")
