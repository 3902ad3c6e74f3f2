"""What a run takes, before anything runs: jobs, hours, memory, disk space and files by stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from begat.execution.contents import Contents
from begat.execution.jobs import Cost, Job
from begat.execution.machine import gpu_memory, memory, visible_gpus
from begat.planning.plan import Plan
from begat.planning.rates import Rates, rates_of
from begat.stages import STAGES
from begat.storage.cache import Store

State = Literal["current", "stored", "missing"]
GIB = 2**30
STARTING = 10_000  # starting a process takes about as long as so many small evaluations


@dataclass(frozen=True)
class JobCost:
    """One job's cost.

    Attributes:
        job: the job.
        cost: what it takes, if all of it is computed.
        state: whether its artifact is current, or will be taken from the store.
        seconds: that it takes; None where nothing says it.
        seconds_left: that it still takes.
        memory: bytes at most, libraries included.
    """

    job: Job
    cost: Cost
    state: State
    seconds: float | None
    seconds_left: float | None
    memory: float


@dataclass(frozen=True)
class StageCost:
    """The cost of a stage's jobs together, or of all.

    Attributes:
        name: of the stage, or ``total``.
        jobs: their number; ``current`` ones, and those ``stored`` (not current, but in the store).
        evaluations: of the network on one image.
        hours, hours_left: of CPU time, or on a GPU of time; None where nothing says it.
        memory: bytes of the largest job, whose name is ``largest``.
        disk: bytes.
        files: their number.
    """

    name: str
    jobs: int
    current: int
    stored: int
    evaluations: float
    hours: float | None
    hours_left: float | None
    memory: float
    largest: str
    disk: float
    files: int


def device_of(plan: Plan) -> str:
    """Returns where jobs that evaluate networks will compute, without asking torch."""
    return "cuda" if plan.params.compute.device != "cpu" and visible_gpus() else "cpu"


def job_costs(plan: Plan, rates: Rates) -> list[JobCost]:
    """Returns the cost of every job of a plan."""
    contents, store = Contents(plan.root), Store(plan.root)
    return [job_cost(plan, rates, store, job, contents.current(job)) for job in plan.jobs()]


def job_cost(plan: Plan, rates: Rates, store: Store, job: Job, is_current: bool) -> JobCost:
    """Returns the cost of one job."""
    cost, share = plan.cost(job), missing_share(plan, store, job)
    state: State = "current" if is_current else "missing" if share else "stored"
    left = replace(cost, work=cost.work * share)
    return JobCost(
        job,
        cost,
        state,
        seconds=rates.seconds(job.stage, cost),
        seconds_left=rates.seconds(job.stage, left) if state == "missing" else 0.0,
        memory=rates.memory(job.stage, cost),
    )


def work_left(plan: Plan, jobs: Sequence[Job]) -> dict[str, Any]:
    """Returns the ``work`` that each artifact which is not current still takes, and its ``unit``.

    Seconds, or network evaluations where nothing says how long one takes; 0 for what the store has.
    """
    rates, store = rates_of(plan, device_of(plan)), Store(plan.root)
    costs = [job_cost(plan, rates, store, job, is_current=False) for job in jobs]
    in_seconds = all(cost.seconds_left is not None for cost in costs)
    work = {
        str(cost.job.path): (cost.seconds_left if in_seconds else cost.cost.evaluations + STARTING)
        if cost.state == "missing"
        else 0
        for cost in costs
    }
    return {"work": work, "unit": "s" if in_seconds else "evaluations"}


def missing_share(plan: Plan, store: Store, job: Job) -> float:
    """Returns how much of a job the store does not have, by the look of it: models one by one."""
    singly = job.stage == "models" and not plan.spec.pipeline
    keys = [plan.model_keys[model.name] for model in job.models] if singly else [job.key]
    return sum(not store.holds(key) for key in keys) / len(keys)


def by_stage(costs: Sequence[JobCost]) -> list[StageCost]:
    """Returns the cost of every stage that has jobs, and of all together."""
    stages = [(name, [c for c in costs if c.job.stage == name]) for name in STAGES]
    return [summed(name, part) for name, part in (*stages, ("total", list(costs))) if part]


def summed(name: str, costs: Sequence[JobCost]) -> StageCost:
    """Returns the cost of several jobs together."""
    largest = max(costs, key=lambda cost: cost.memory)
    return StageCost(
        name=name,
        jobs=len(costs),
        current=sum(cost.state == "current" for cost in costs),
        stored=sum(cost.state == "stored" for cost in costs),
        evaluations=sum(cost.cost.evaluations for cost in costs),
        hours=_hours([cost.seconds for cost in costs]),
        hours_left=_hours([cost.seconds_left for cost in costs]),
        memory=largest.memory,
        largest=f"{largest.job.stage}/{largest.job.name}",
        disk=sum(cost.cost.disk for cost in costs),
        files=sum(cost.cost.files for cost in costs),
    )


def _hours(seconds: Sequence[float | None]) -> float | None:
    estimated = [value for value in seconds if value is not None]
    return sum(estimated) / 3600 if len(estimated) == len(seconds) else None


def too_large(costs: Sequence[JobCost], device: str) -> Iterator[str]:
    """Yields a line for each stage whose largest job does not fit into this machine's memory."""
    host, gpu = memory(), gpu_memory() if device == "cuda" else None
    for name in dict.fromkeys(cost.job.stage for cost in costs):
        part = [cost for cost in costs if cost.job.stage == name]
        on_gpu = gpu is not None and STAGES[name].gpu
        largest_on_gpu = max(part, key=lambda c: c.cost.memory - c.cost.host)
        largest_on_host = max(part, key=_on_host if on_gpu else lambda c: c.memory)
        need = _on_host(largest_on_host) if on_gpu else largest_on_host.memory
        if on_gpu and gpu and (on := largest_on_gpu.cost.memory - largest_on_gpu.cost.host) > gpu:
            yield _advice(largest_on_gpu.job, on, gpu, "the GPU")
        if need > host:
            yield _advice(largest_on_host.job, need, host, "this machine")


def _on_host(cost: JobCost) -> float:
    """What a job takes of the machine's memory where the rest is on a GPU."""
    return cost.memory - cost.cost.memory + cost.cost.host


def _advice(job: Job, need: float, there: float, place: str) -> str:
    lower = STAGES[job.stage].lower
    advice = f"lower {lower}" if lower else "take a smaller network or smaller images"
    excess = f"about {need / GIB:.1f} GiB of memory, {place} has {there / GIB:.1f} GiB"
    return f"{job.stage}/{job.name}: takes {excess}; {advice}"


def planned_costs(plan: Plan) -> tuple[list[JobCost], Rates, str]:
    """Returns the cost of every job, the rates behind it, and the device."""
    device = device_of(plan)
    rates = rates_of(plan, device)
    return job_costs(plan, rates), rates, device
