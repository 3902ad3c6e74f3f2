"""Seconds per network evaluation, start-up times and libraries' memory, from earlier runs.

Every record says what its job was expected to take (``execution.costs``) and what it took. A stage's
rate is the seconds that its jobs took beyond their start, over their work. Where jobs were so short
that their start hides the rest, a probe's rate counts as well, with as much weight as the starts'
seconds; without a probe the rate of other stages of the same kind is taken, or none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from begat.execution.costs import Cost
from begat.execution.records import RECORDS
from begat.planning.plan import Plan

PROBED = Path(".begat") / "rates.json"
MIB = 2**20
LIBRARIES = {  # of a process, where no record says it; measured on x86-64 with torch for CPUs
    "arrays": 120 * MIB,
    "prediction": 290 * MIB,
    "training": 365 * MIB,
    "gradient": 470 * MIB,
    "covariance": 430 * MIB,
}
MAX_START = 3  # a stage's start over that of the quickest job that loads the same libraries


@dataclass(frozen=True)
class Sample:
    """A job that was computed.

    Attributes:
        stage: its stage.
        cost: what it was expected to take.
        seconds: of CPU time, or on a GPU of time.
        peak: bytes of memory at most.
    """

    stage: str
    cost: Cost
    seconds: float
    peak: float


@dataclass(frozen=True)
class Probe:
    """What a probe measured, by kind: seconds per work, and seconds to load the libraries."""

    device: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)


class Rates:
    """What one unit of work takes, by stage, from samples and a probe."""

    def __init__(self, samples: Iterable[Sample], probe: Probe) -> None:
        """Rates by what has been measured."""
        self.samples, self.probe = list(samples), probe

    def seconds(self, stage: str, cost: Cost) -> float | None:
        """Returns the seconds that a job takes; None where nothing says it."""
        start, rate = self.start(stage, cost.kind), self.rate(stage, cost.kind)
        if rate is not None:
            return (start or 0.0) + rate * cost.work
        own = [s.seconds for s in self._of(stage) if s.cost.work >= cost.work]
        if own:  # they were all start, and so is this
            return sum(own) / len(own)
        return start if cost.kind == "arrays" or not cost.work else None

    def memory(self, stage: str, cost: Cost) -> float:
        """Returns the peak memory of a job, its libraries included."""
        own = self._of(stage) or self._of_kind(cost.kind)
        libraries = [sample.peak - sample.cost.memory for sample in own]
        return cost.memory + (median(libraries) if libraries else LIBRARIES[cost.kind])

    def start(self, stage: str, kind: str) -> float | None:
        """Returns the seconds before a job begins to compute."""
        alike = [s.seconds for s in self.samples if (s.cost.kind == "arrays") == (kind == "arrays")]
        own = [sample.seconds for sample in self._of(stage) or self._of_kind(kind)]
        if not alike:
            starts = self.probe.starts
            return starts.get(kind, min(starts.values(), default=None))
        return min([*own, MAX_START * min(alike)])

    def rate(self, stage: str, kind: str) -> float | None:
        """Returns the seconds per work."""
        prior = self.probe.rates.get(kind)
        return self._rate(self._of(stage), prior) or prior or self._rate(self._of_kind(kind), None)

    def source(self, stage: str, kind: str) -> str:
        """Returns what a stage's rate comes from: records, probe, or nothing."""
        if self._rate(self._of(stage), None):
            return "records"
        if kind in self.probe.rates:
            return "probe"
        return "records of other stages" if self.rate(stage, kind) else ""

    def _rate(self, samples: Sequence[Sample], prior: float | None) -> float | None:
        starts = [self.start(sample.stage, sample.cost.kind) or 0.0 for sample in samples]
        unknown = sum(starts)  # seconds by which the starts may be off, all in all
        seconds = sum(max(s.seconds - t, 0.0) for s, t in zip(samples, starts, strict=True))
        work = sum(sample.cost.work for sample in samples)
        if not work:
            return None
        if prior:
            return (seconds + unknown) / (work + unknown / prior)
        return seconds / work if seconds > unknown else None

    def _of(self, stage: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.stage == stage]

    def _of_kind(self, kind: str) -> list[Sample]:
        return [s for s in self.samples if s.cost.kind == kind and kind != "arrays"]


def rates_of(plan: Plan, device: str) -> Rates:
    """Returns the rates on a device, by all records beside the results, and the last probe."""
    return Rates(samples(plan, device), read_probe(plan.root, device))


def samples(plan: Plan, device: str) -> Iterator[Sample]:
    """Yields the jobs of earlier runs on a device, as far as records say what they took."""
    by_key = {job.key: job for job in plan.jobs()}
    for path in sorted((plan.root / RECORDS).glob("*.json")):
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
            own, job = found.get("cost"), by_key.get(found["key"])
            cost = Cost(**own) if own else plan.cost(job) if job else None
            before = found["cpu_seconds"] - found["computing_cpu_seconds"]
            on_gpu = found["device"].startswith("cuda")
            spent = before + found["seconds"] if on_gpu else found["cpu_seconds"]
            peak = float(found["peak_memory"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a record that is damaged, or says that nothing is known
        if cost and (cost.kind == "arrays" or on_gpu == (device == "cuda")):
            yield Sample(found["stage"], cost, spent, peak)


def read_probe(root: Path, device: str) -> Probe:
    """Returns what the last probe on a device measured; nothing where there was none."""
    try:
        probe = Probe(**json.loads((root / PROBED).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Probe()
    return probe if probe.device == device else Probe()


def write_probe(root: Path, probe: Probe) -> None:
    """Write what a probe measured, for later plans."""
    (root / PROBED).parent.mkdir(exist_ok=True)
    (root / PROBED).write_text(json.dumps(asdict(probe), indent=1) + "\n")
