"""The audit of one score, of one artifact or of a whole run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from begat.auditing.choices import choices
from begat.auditing.links import Inspector, Link
from begat.auditing.pixels import identity, image_faults
from begat.auditing.question import Question
from begat.errors import BegatError, brief
from begat.execution.jobs import Job
from begat.planning.commitment import changed_files, files
from begat.planning.plan import Plan


@dataclass(frozen=True)
class Audit:
    """What an audit went through and what it is about.

    Attributes:
        question: the score; None for an artifact or a whole run.
        target: the artifact with the score, or the one that was asked for; None for a whole run.
        links: every artifact, each after those that it was made from.
        image: the training image of the score; None for groups.
        faults: everything that is wrong by itself, each in one line that names a file.
        changes: files that are other than when the run was planned, without effect on any key.
        choices: see ``auditing.choices``; None for a whole run.
        head: number and digest of the history's last line; empty where there is no history.
    """

    question: Question | None
    target: Job | None
    links: list[Link]
    image: dict[str, Any] | None
    faults: list[str]
    changes: list[str]
    choices: dict[str, Any] | None
    head: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not self.origins

    @property
    def origins(self) -> dict[str, list[str]]:
        """How artifacts were made from something else than there is now, with those artifacts.

        What is wrong with an input comes first; what only follows from other inputs comes last.
        """
        origins = dict[str, list[str]]()
        for link in sorted(self.links, key=lambda link: link.origin.startswith("input")):
            if link.origin and link.origin != "missing":
                origins.setdefault(link.origin, []).append(link.job.path.as_posix())
        return origins

    def summary(self) -> dict[str, Any]:
        """Returns the audit as JSON values."""
        return {
            "holds": self.holds,
            "score": self.question and self.question.summary(),
            "image": self.image,
            "artifact": self.target and self.target.path.as_posix(),
            "faults": self.faults,
            "made_from_other": self.origins,
            "changes_without_effect": self.changes,
            "choices": self.choices,
            "history": self.head,
            "artifacts": [link.summary() for link in self.links],
        }


def audit(plan: Plan, question: Question | None = None, artifact: str | None = None) -> Audit:
    """Returns the audit of a score, of an artifact, or of all that a run has.

    Args:
        plan: of the run.
        question: the score.
        artifact: its path below the project's folder; with neither, everything is audited.

    Raises:
        BegatError: no such artifact.
    """
    inspector = Inspector(plan)
    target = question.job if question else artifact_job(plan, artifact) if artifact else None
    jobs = ancestry(plan, target) if target else plan.jobs()
    links = [inspector.link(job) for job in tqdm(jobs, "artifacts", leave=False, delay=2)]
    image = question.image if question else None
    stages = {job.stage for job in jobs}
    faults = (
        list(image_faults(plan, None if image is None else [image])) if "images" in stages else []
    )
    faults += (fault for link in links for fault in link.faults)
    faults += inspector.history_faults() if target else inspector.on_this_machine()
    lines = inspector.history.lines
    return Audit(
        question,
        target,
        links,
        None if image is None else _identity(plan, image),
        list(dict.fromkeys(faults)),
        list(_changes(inspector)),
        choices(inspector.history, target, links[-1].line, stages) if target else None,
        {"line": len(lines) - 1, "digest": lines[-1]["digest"]} if lines else {},
    )


def artifact_job(plan: Plan, artifact: str) -> Job:
    """Returns the job that makes the artifact with a path.

    Raises:
        BegatError: these parameters need no such artifact.
    """
    path = Path(artifact)
    path = path.relative_to(plan.root) if path.is_absolute() else path
    jobs = {job.path: job for job in plan.jobs()}
    if path not in jobs:
        raise BegatError(
            f"{brief(artifact)}: expected an artifact of this run, such as {next(iter(jobs))}"
        )
    return jobs[path]


def ancestry(plan: Plan, job: Job) -> list[Job]:
    """Returns a job and all those whose results it comes from, in an order to do them in."""
    names, waiting = {(job.stage, job.name)}, [job]
    while waiting:
        inputs = {name for name in waiting.pop().inputs if name not in names}
        names |= inputs
        waiting += [plan.job(*name) for name in inputs]
    return [job for job in plan.jobs() if (job.stage, job.name) in names]


def _identity(plan: Plan, image: int) -> dict[str, Any] | None:
    try:
        return identity(plan, image)
    except BegatError:  # named among the faults
        return None


def _changes(inspector: Inspector) -> Iterator[str]:
    """Yields the files that differ from those with which the run was last planned."""
    planned = inspector.history.last("planned")
    if planned is not None:
        line = planned["line"]
        for name in changed_files(planned["files"], files(inspector.plan)):
            yield f"{name}: not the file with which the run was planned (line {line})"
