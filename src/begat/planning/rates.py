"""Seconds per network evaluation, start-up times and libraries' memory, from earlier runs.

Every record says what its job was expected to take (``execution.costs``) and what it took. A
stage's rate is the seconds that its jobs took beyond their start, over their work. Where jobs were
so short that their start hides the rest, a probe's rate counts as well, with as much weight as the
starts' seconds; without a probe the rate of other stages of the same kind is taken, or none.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from begat.execution.jobs import Cost
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
MAX_START = 2.5  # a stage's start over that of the quickest job that loads the same libraries


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


@dataclass(frozen=True)
class Rate:
    """What the jobs of a stage take besides their work.

    Attributes:
        start: seconds before a job begins to compute; None where nothing says it.
        per_work: seconds per work; None where nothing says it.
        source: of ``per_work``, in words.
        libraries: bytes of memory.
    """

    start: float | None
    per_work: float | None
    source: str
    libraries: float


class Rates:
    """What one unit of work takes, by stage, from samples and a probe."""

    def __init__(self, samples: Iterable[Sample], probe: Probe) -> None:
        """Rates by what has been measured."""
        self.probe = probe
        self._by_stage, self._by_kind = defaultdict[str, list](list), defaultdict[str, list](list)
        self._quickest: dict[bool, float] = {}  # job that evaluates a network, or none
        self._rates: dict[tuple[str, str], Rate] = {}
        for sample in samples:
            kind = sample.cost.kind
            self._by_stage[sample.stage].append(sample)
            if kind != "arrays":  # whose work is another in every stage
                self._by_kind[kind].append(sample)
            before = self._quickest.get(kind == "arrays", sample.seconds)
            self._quickest[kind == "arrays"] = min(before, sample.seconds)

    def seconds(self, stage: str, cost: Cost) -> float | None:
        """Returns the seconds that a job takes; None where nothing says it."""
        rate = self.of(stage, cost.kind)
        if rate.per_work is not None:
            return (rate.start or 0.0) + rate.per_work * cost.work
        own = [s.seconds for s in self._by_stage[stage] if s.cost.work >= cost.work]
        if own:  # they were all start, and so is this
            return sum(own) / len(own)
        return rate.start if cost.kind == "arrays" or not cost.work else None

    def memory(self, stage: str, cost: Cost) -> float:
        """Returns the peak memory of a job, its libraries included."""
        return cost.memory + self.of(stage, cost.kind).libraries

    def of(self, stage: str, kind: str) -> Rate:
        """Returns the rate of a stage, whose jobs compute in this ``kind``."""
        if (stage, kind) not in self._rates:
            own = self._by_stage[stage]
            prior, alike = self.probe.rates.get(kind), own or self._by_kind[kind]
            choices = {
                "records": self._per_work(own, None),
                "probe": self._per_work(own, prior) or prior,
                "records of other stages": self._per_work(self._by_kind[kind], None),
                "": None,
            }
            source = next(name for name, rate in choices.items() if rate or not name)
            per_work = (self._per_work(own, prior) if own else None) or choices[source]
            libraries = [sample.peak - sample.cost.memory for sample in alike]
            taken = median(libraries) if libraries else LIBRARIES[kind]
            self._rates[stage, kind] = Rate(self._start(stage, kind), per_work, source, taken)
        return self._rates[stage, kind]

    def _start(self, stage: str, kind: str) -> float | None:
        """The quickest job of the stage or kind, unless others start much quicker."""
        own = [sample.seconds for sample in self._by_stage[stage] or self._by_kind[kind]]
        quickest = self._quickest.get(kind == "arrays")
        if quickest is None:
            starts = self.probe.starts
            return starts.get(kind, min(starts.values(), default=None))
        return min([*own, MAX_START * quickest])

    def _per_work(self, samples: Sequence[Sample], prior: float | None) -> float | None:
        """The seconds beyond the starts, over the work; None where the starts hide them."""
        kinds = {(sample.stage, sample.cost.kind) for sample in samples}
        start_of = {kind: self._start(*kind) or 0.0 for kind in kinds}
        starts = [start_of[sample.stage, sample.cost.kind] for sample in samples]
        unknown = sum(starts)  # seconds by which the starts may be off, all in all
        seconds = sum(max(s.seconds - t, 0.0) for s, t in zip(samples, starts, strict=True))
        work = sum(sample.cost.work for sample in samples)
        if not work:
            return None
        if prior:
            return (seconds + unknown) / (work + unknown / prior)
        return seconds / work if seconds > unknown else None


def rates_of(plan: Plan, device: str) -> Rates:
    """Returns the rates on a device, by all records beside the results, and the last probe."""
    return Rates(samples(plan, device), read_probe(plan.root, device))


def samples(plan: Plan, device: str) -> Iterator[Sample]:
    """Yields the jobs of earlier runs on a device, as far as records say what they took."""
    by_key = {job.key: job for job in plan.jobs()}
    for path in sorted((plan.root / RECORDS).glob("*.json")):
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            own, job = fields.get("cost"), by_key.get(fields["key"])
            cost = Cost(**own) if own else plan.cost(job) if job else None
            before = fields["cpu_seconds"] - fields["computing_cpu_seconds"]
            on_gpu = fields["device"].startswith("cuda")
            spent = before + fields["seconds"] if on_gpu else fields["cpu_seconds"]
            peak = float(fields["peak_memory"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a record that is damaged, or says that nothing is known
        if cost and (cost.kind == "arrays" or on_gpu == (device == "cuda")):
            yield Sample(fields["stage"], cost, spent, peak)


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
