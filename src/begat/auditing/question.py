"""The score that an audit is about: one method's number for a query and a training unit."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from begat.errors import BegatError, brief
from begat.execution.jobs import Job
from begat.planning.plan import Plan
from begat.reading import Results, Scores
from begat.reporting.method_names import SUMMED
from begat.stages import STAGES


@dataclass(frozen=True)
class Question:
    """One score.

    Attributes:
        job: of the artifact with the score.
        method: its name.
        query, unit: their numbers.
        query_name, unit_name: their names.
        of: ``image`` or ``group``.
        scores: of the method.
        label: of the method, for readers.
    """

    job: Job
    method: str
    query: int
    unit: int
    query_name: str
    unit_name: str
    of: str
    scores: Scores
    label: str

    @property
    def image(self) -> int | None:
        """The number of the training image; None for a group."""
        return self.unit if self.of == "image" else None

    @property
    def value(self) -> float:
        """The score."""
        return float(self.scores.values[self.query, self.unit])

    @property
    def rank(self) -> int:
        """How many units have at least this score for the query."""
        return int(np.sum(self.scores.values[self.query] >= self.value))

    def summary(self) -> dict[str, Any]:
        """Returns the score as JSON values."""
        p_values = self.scores.p_values
        return {
            "method": self.method,
            "label": self.label,
            "query": self.query,
            "query_name": self.query_name,
            self.of: self.unit,
            f"{self.of}_name": self.unit_name,
            "score": self.value,
            "rank": self.rank,
            "units": self.scores.values.shape[1],
            "p_value": None if p_values is None else float(p_values[self.query, self.unit]),
            "measure": asdict(self.scores.measure),
        }


def ask(
    plan: Plan, query: int, method: str, image: str | None = None, group: str | None = None
) -> Question:
    """Returns the score that a query, a method and an image or a group name.

    Args:
        plan: of the run.
        query: its number.
        method: its name.
        image, group: number or name of the unit; exactly one of both.

    Raises:
        BegatError: no such query, method, image or group, or no such score.
    """
    if (image is None) == (group is None):
        raise BegatError("expected either --image or --group with --query and --method")
    results = Results(plan)
    of = "image" if group is None else "group"
    names = list(plan.spec.dataset.names) if of == "image" else results.group_names
    scores = results.image_scores(method) if of == "image" else results.group_scores(method)
    unit = _number(f"--{of}", str(image if group is None else group), names)
    count = len(scores.values)
    if not 0 <= query < count:
        raise BegatError(f"--query {query}: expected a number from 0 to {count - 1}")
    title = "".join(results.query_names[query : query + 1])
    job, label = _job_of(plan, method, of), results.names.label(method)
    return Question(job, method, query, unit, title, names[unit], of, scores, label)


def _number(option: str, text: str, names: list[str]) -> int:
    """Returns the number of a unit that is named, or numbered; a name comes first."""
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise BegatError(
        f"{option} {brief(text)}: expected a name, such as {names[0]}, or a number from 0 to "
        f"{len(names) - 1}"
    )


def _job_of(plan: Plan, method: str, of: str) -> Job:
    """Returns the job of the artifact that has a method's scores of images or of groups."""
    name = method.removesuffix(SUMMED)
    stage = next(stage for stage in STAGES.values() if name in stage.methods)
    summed = of == "group" and (name != method or stage.methods[name].of == "images")
    return plan.job("aggregated" if summed else stage.name, "all")
