"""A score made once more, in a clean process, from its models and data, or from the data alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from begat.auditing.audit import ancestry
from begat.auditing.question import Question, ask
from begat.errors import BegatError
from begat.execution.jobs import Job
from begat.execution.machine import SETTINGS
from begat.execution.records import recorded
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact
from begat.storage.cache import link_tree
from begat.storage.manifests import content_digest

OWN = ("results", ".begat", ".snakemake", "logs", ".venv", ".git")  # no sources
DECIDE = ("fingerprint", "pack", "blocks")  # of a record: these decide the last bits, and
LIBRARIES = ("torch", "numpy")  # the versions of these
SCORE_TOLERANCE = 1e-3  # of the standard deviation of the query's scores
MODEL_TOLERANCE = 0.25  # of the RMS difference between the losses of two seeds


@dataclass(frozen=True)
class Recomputed:
    """A score made again.

    Attributes:
        before, again: both numbers.
        spread: standard deviation of the method's scores for the query, over units.
        tolerance: largest difference that is no fault; 0 where the same bits are expected.
        same_bits: artifacts that came out with the same bits; ``other_bits``: those that did not.
        models: RMS difference of the new models' losses from the old ones', divided by that between
            two seeds; None where no models were trained again or there is one seed only.
    """

    before: float
    again: float
    spread: float
    tolerance: float
    same_bits: list[str]
    other_bits: list[str]
    models: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        models_hold = self.models is None or self.models <= MODEL_TOLERANCE
        return abs(self.again - self.before) <= self.tolerance and models_hold

    def summary(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**vars(self), "difference": self.again - self.before, "holds": self.holds}


def jobs_again(plan: Plan, question: Question, deep: bool) -> list[Job]:
    """Returns what is computed again: the artifact with the score, or all that it comes from."""
    if not deep:
        return [question.job]
    jobs = ancestry(plan, question.job)
    losses = [job for job in plan.jobs("measurements") if job.name.startswith("full-")]
    return [*jobs, *(job for job in losses if job not in jobs)]


def recompute(plan: Plan, question: Question, jobs: Sequence[Job]) -> Recomputed:
    """Computes a score again, in a folder of its own that is removed at the end.

    Args:
        plan: of the run.
        question: the score.
        jobs: what is computed again (``jobs_again``); the rest is linked.

    Raises:
        BegatError: a job failed.
    """
    with _workspace(plan, jobs) as root:
        for job in tqdm(jobs, "computed again"):
            _run(plan, job, root)
        again = Plan(root, plan.params.params_file)
        unit = {question.of: str(question.unit)}
        other = ask(again, question.query, question.method, **unit)
        same = {
            job.path.as_posix(): content_digest(root / job.path)
            == content_digest(plan.root / job.path)
            for job in jobs
        }
        spread = float(np.std(question.scores.values[question.query]))
        alike = all(_same_shapes(plan, again, job) for job in jobs)
        return Recomputed(
            before=question.value,
            again=other.value,
            spread=spread,
            tolerance=0.0 if alike else SCORE_TOLERANCE * spread,
            same_bits=[path for path, equal in same.items() if equal],
            other_bits=[path for path, equal in same.items() if not equal],
            models=_models_apart(plan, root) if any(j.stage == "models" for j in jobs) else None,
        )


def _same_shapes(plan: Plan, again: Plan, job: Job) -> bool:
    """Whether a job ran on the same kind of machine, in the same shapes, as recorded before."""
    before, now = recorded(plan.root, job.key), recorded(again.root, job.key)
    pairs = [(before.get(name), now.get(name)) for name in DECIDE]
    pairs += [(before.get("versions", {}).get(n), now["versions"][n]) for n in LIBRARIES]
    return all(one == other for one, other in pairs)


@contextmanager
def _workspace(plan: Plan, jobs: Sequence[Job]) -> Iterator[Path]:
    """A folder with the project's sources and all results but those of some jobs."""
    place = plan.root / ".begat" / "audit"
    place.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=place))
    try:
        for entry in plan.root.iterdir():
            if entry.name not in OWN:
                (root / entry.name).symlink_to(entry)
        for job in plan.jobs():
            if job not in jobs and (plan.root / job.path).is_dir():
                (root / job.path).parent.mkdir(parents=True, exist_ok=True)
                link_tree(plan.root / job.path, root / job.path)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(plan: Plan, job: Job, root: Path) -> None:
    """Compute one artifact in a process of its own, as a run does."""
    script = [sys.executable, "workflow/scripts/stage.py", job.stage, job.name]
    settings = recorded(plan.root, job.key).get("fingerprint", {}).get("settings", {})
    environment = {**os.environ, **{name: settings[name] for name in SETTINGS if name in settings}}
    done = subprocess.run(
        [*script, "--params-file", plan.params.params_file, "--key", job.key],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BegatError(f"{job.path}: could not be computed again: {last}")


def _models_apart(plan: Plan, root: Path) -> float | None:
    """How far the losses of full models trained again are from the old ones, relative to seeds."""
    before, again = (_losses(place, plan) for place in (plan.root, root))
    if len(before) < 2:
        return None
    seeds = float(np.sqrt(np.mean((before[0] - before[1]) ** 2)))
    return float(np.sqrt(np.mean((again - before) ** 2))) / seeds


def _losses(root: Path, plan: Plan) -> np.ndarray:
    """Mean losses of all full models, [model, query]."""
    names = [job for job in plan.jobs("measurements") if job.name.startswith("full-")]
    parts = [Artifact(root / job.path, "measurements")["loss"].mean(-1) for job in names]
    return np.concatenate(parts, 1)  # one artifact per block of queries
