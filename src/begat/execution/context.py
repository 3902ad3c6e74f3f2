"""One job, from the command line to its artifact: what all of ``workflow/scripts`` share."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from begat.errors import BegatError
from begat.evaluation.measures import Measure
from begat.execution.contents import Contents
from begat.execution.jobs import Job, path_of
from begat.execution.machine import forbid_tf32
from begat.execution.records import record
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact, Block, write
from begat.storage.cache import Store, locked
from begat.storage.manifests import Verified

if TYPE_CHECKING:
    import torch

CHANGED = "parameters, code or data changed during the run; run again"
Compute = Callable[["Run"], Iterable[Block]]


class Run:
    """A job being done: its parameters, its inputs, its device.

    ``pack`` names the models or groups that it computes side by side, for the record.
    """

    def __init__(self, plan: Plan, job: Job) -> None:
        self.plan, self.job, self.params = plan, job, plan.params
        self.root, self.seed = plan.root, plan.params["seed"]
        self.store, self.contents = Store(plan.root), Contents(plan.root)
        self.pack: list[str] = job.made_from.get("groups") or [m.name for m in job.models]

    def section(self, name: str, *without: str) -> dict[str, Any]:
        """A section of the parameters, as keyword arguments for a stage's function."""
        return {k: v for k, v in self.params[name].items() if k not in without}

    def read(self, stage: str, name: str = "all") -> Artifact:
        """An artifact this job reads.

        Raises:
            BegatError: it is missing, or was made from something else than is asked for now.
        """
        artifact = Artifact(self.root / path_of(stage, name), stage)
        if artifact.attributes["key"] != self.plan.job(stage, name).key:
            raise BegatError(f"{artifact.path}: out of date; run `begat run`")
        return artifact

    def reads(self, stage: str, prefix: str = "") -> list[Artifact]:
        """All artifacts of a stage that this job reads, whose names begin with ``prefix``."""
        found = [n for n in self.job.inputs if n[0] == stage and n[1].startswith(prefix)]
        return [self.read(*n) for n in found]

    def scores(self) -> list[Artifact]:
        """The scores of all methods that this job reads."""
        return [self.read(*n) for n in self.job.inputs if n[0].startswith("scores_")]

    @cached_property
    def device(self) -> "torch.device":
        """The device asked for; ``auto`` takes a GPU where there is one, without TF32.

        Raises:
            BegatError: ``cuda`` asked for where there is none.
        """
        import torch

        torch.set_num_threads(self.params["compute"]["threads"])
        forbid_tf32()
        wanted = self.params["compute"]["device"]
        if wanted == "cuda" and not torch.cuda.is_available():
            raise BegatError(
                "compute.device: expected a CUDA device for cuda, found none; use auto"
            )
        return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")

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

    def finish(
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
            if self.store.restore(key, path, self._read()):
                print(f"{self.job.path}: taken from the store")
            else:
                started, spent = time.time(), time.process_time()

                def sealed(content: str) -> None:
                    device = str(self.__dict__.get("device", "cpu"))
                    used = time.process_time() - spent
                    record(self.root, self.job, started, used, device, self.pack, content)

                said = self.attributes(**attributes)
                write(path, self.job.stage, said, self._wanted(compute), files, sealed)
                if keep:
                    self.store.keep(key, path)
            Verified(self.root).note(path)

    def _read(self) -> dict[str, str | None]:
        """The content digest of everything this job reads.

        Raises:
            BegatError: something is missing or damaged.
        """
        found = self.contents.read_by(self.job)
        for name, content in found.items():
            if content is None:
                raise BegatError(f"{self.job.path}: needs {name}: missing or damaged; run again")
        return found

    def finish_scores(
        self,
        compute: Compute,
        methods: Mapping[str, Measure],
        leading: Sequence[str],
        *,
        group_methods: Mapping[str, Measure] | None = None,
        there: bool = True,
        of_clusters: bool = False,
        **attributes: Any,
    ) -> None:
        """Put scores in place, or an artifact without any where nothing is asked of the method.

        Args:
            compute: makes the blocks, one row per method.
            methods: in their order, and what each is measured in.
            leading: the methods to look at first.
            group_methods: the same for scores of groups, where their methods are others.
            there: whether there is anything to compute from.
            of_clusters: whether an image's score is that of all its near-duplicates together, so
                that each of them counts for its share where scores are summed.
            attributes: what else the artifact says of itself.
        """
        of_images, of_groups = (methods, group_methods or methods) if there else ({}, {})
        measures = {m: asdict(measure) for m, measure in {**of_images, **of_groups}.items()}
        self.finish(
            compute if there else lambda run: iter(()),
            methods=list(of_images),
            group_methods=list(of_groups),
            measures=measures,
            leading=list(leading) if there else [],
            of_clusters=of_clusters,
            **attributes,
        )

    def _wanted(self, compute: Compute) -> Iterator[Block]:
        """The blocks, and at the end the question whether this result is still asked for.

        A job may outlive the run that started it; it must not overwrite what a later run made.
        """
        yield from compute(self)
        now = Plan(self.root, self.params["use"]).job(self.job.stage, self.job.name)
        if now.key != self.job.key or Contents(self.root).read_by(now) != self._read():
            raise BegatError(f"{self.job.path}: {CHANGED}")


def main(stage: str, body: Callable[[Run], None]) -> None:
    """Do the job that the command line names; errors a person can mend take one line."""
    parser = argparse.ArgumentParser(description=f"Make one artifact of {stage}.")
    parser.add_argument("name", help="the artifact's name, as in results/<stage>/<name>.zarr")
    parser.add_argument("--use", help="parameter file, if not the one params.yaml names")
    parser.add_argument("--key", help="the key the artifact must get, if known")
    arguments = parser.parse_args()
    try:
        plan = Plan(Path.cwd(), arguments.use)
        job = plan.job(stage, arguments.name)
        if arguments.key not in (None, job.key):
            raise BegatError(
                f"{job.path}: parameters, code or data changed during the run; run again"
            )
        body(Run(plan, job))
    except BegatError as error:
        sys.exit(f"begat: {error}")
