"""Verdicts of ``begat challenge`` on honest, fitted and renamed scores, each in many challenges.

Simulated runs have the reliability of the demo's losses, and scores with the LDS of its methods.
With ``--challenge groups-7``, in the folder of a finished run and of a finished challenge with many
subsets: the run's own scores and losses. Each time, random subsets of both are called committed
and others fresh.

    python benchmarks/challenge.py
    python benchmarks/challenge.py --world images --fresh 60
    python benchmarks/challenge.py --challenge groups-7 --methods ekfac guda_loss pixel_rbf

Scores are ``honest``; ``fitted`` to the committed losses by regression; ``half fitted``, the mean
of both; ``renamed``, with the names of their units exchanged after the claim, so that the claim is
that of the honest scores; ``renamed before``, with the claim that such scores have.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from begat.ensembles.fresh_subsets import fresh_rows, rows_of_images
from begat.evaluation.agreement import GroundTruth
from begat.evaluation.challenge import verdicts_on
from begat.evaluation.challenge_verdicts import MethodVerdict, Rule
from begat.evaluation.predictions import Forecast, forecast_of
from begat.evaluation.statistics import lds
from begat.rng.seeds import numpy_generator

RESAMPLES = 100
Forecasts = dict[str, Forecast]


@dataclass(frozen=True)
class Run:
    """Forecasts of honest scores, and all subsets with their losses."""

    honest: Forecasts
    truth: GroundTruth

    def part(self, subsets: np.ndarray) -> GroundTruth:
        return GroundTruth(self.truth.removed[subsets], self.truth.measured[subsets])


@dataclass(frozen=True)
class World:
    """A simulated run.

    Attributes:
        units, queries, committed, seeds: sizes.
        reliability: share of the expected loss in the variance of one model's loss.
        quality: correlation of honest scores with the effects of units.
        interaction: share of the expected loss that is not linear in the units.
        common: share of the noise that all queries have in common.
    """

    units: int
    committed: int
    reliability: float
    quality: float
    common: float
    interaction: float = 0.2
    queries: int = 64
    seeds: int = 2

    def run(self, subsets: int, generator: np.random.Generator) -> Run:
        effects, others = generator.normal(size=(2, self.queries, self.units))
        scores = self.quality * effects + np.sqrt(1 - self.quality**2) * others
        units, row = rows_of_images(np.arange(self.units))
        none = np.zeros((0, units), bool)
        removed = ~fresh_rows(none, row, units, 0.5, [generator] * subsets)
        linear = removed @ effects.T / np.sqrt(self.units / 4)
        expected = np.sqrt(1 - self.interaction) * linear
        expected += np.sqrt(self.interaction) * generator.normal(size=linear.shape)
        shape = (subsets, self.seeds, self.queries)
        noise = np.sqrt(1 - self.common) * generator.normal(size=shape)
        noise += np.sqrt(self.common) * generator.normal(size=(*shape[:2], 1))
        noise *= np.sqrt((1 - self.reliability) / self.reliability)
        return Run({"honest": forecast_of(scores)}, GroundTruth(removed, expected[:, None] + noise))


WORLDS = {
    "groups": World(units=10, committed=10, reliability=0.83, quality=0.85, common=0.06),
    "images": World(units=1797, committed=12, reliability=0.11, quality=0.4, common=0.1),
}


def fitted(truth: GroundTruth) -> Forecast:
    """The forecast of the smallest scores that fit the losses best."""
    removed, losses = truth.removed - truth.removed.mean(0), truth.measured.mean(1)
    return forecast_of(np.linalg.lstsq(removed, losses - losses.mean(0), rcond=None)[0].T)


def mean_of(first: Forecast, second: Forecast, removed: np.ndarray) -> np.ndarray:
    """Two predictions' mean, both scaled to the same deviation."""
    parts = [forecast(removed) for forecast in (first, second)]
    return sum((part - part.mean(0)) / part.std() for part in parts)


def renamed(forecast: Forecast, order: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The predictions of scores with exchanged names of units."""
    return forecast(removed[:, order])


def changing(before: Forecast, after: Forecast, subsets: np.ndarray) -> Forecast:
    """``before`` for the committed subsets, ``after`` for all others."""
    committed = {row.tobytes() for row in subsets}

    def forecast(removed: np.ndarray) -> np.ndarray:
        is_committed = np.array([row.tobytes() in committed for row in removed])
        return np.where(is_committed[:, None], before(removed), after(removed))

    return forecast


def challenge(run: Run, committed: int, fresh: int, number: int) -> dict[str, MethodVerdict]:
    """The verdicts of one challenge, on random subsets of a run."""
    generator = numpy_generator(number, "subsets")
    subsets = generator.permutation(len(run.truth.removed))[: committed + fresh]
    first, rest = run.part(subsets[:committed]), run.part(subsets[committed:])
    cycle = generator.permutation(run.truth.removed.shape[1])
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)  # no unit keeps its name
    honest = next(iter(run.honest.values()))
    swapped = partial(renamed, honest, order)
    forecasts = {
        **run.honest,
        "fitted": fitted(first),
        "half fitted": partial(mean_of, honest, fitted(first)),
        "renamed": changing(honest, swapped, first.removed),
        "renamed before": swapped,
    }
    claims = {m: float(lds(f(first.removed), first.measured).mean()) for m, f in forecasts.items()}
    draws: Callable[[str], np.random.Generator] = partial(numpy_generator, number)
    return verdicts_on(forecasts, claims, first, rest, Rule(), draws, RESAMPLES)


def finished(name: str, methods: list[str]) -> tuple[Run, int]:
    """The run in this folder with the subsets of a finished challenge; its committed subsets."""
    from begat.auditing.challenge import committed_scores, removed_units
    from begat.auditing.fresh_models import Request, training_rows
    from begat.planning.plan import Plan

    plan, outcome = (
        Plan(Path.cwd()),
        json.loads(Path(f"results/challenges/{name}.json").read_text()),
    )
    committed = committed_scores(plan, outcome["of"], methods)
    request = Request(*(outcome[field] for field in ("seed", "of", "subsets", "commitment")))
    rows = training_rows(plan, request, committed.rows)
    removed = np.concatenate([committed.truth.removed, removed_units(plan, request.of, rows)])
    measured = np.concatenate([committed.truth.measured, np.array(outcome["losses"])])
    return Run(dict(committed.forecasts), GroundTruth(removed, measured)), len(committed.rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--world", choices=WORLDS, default="groups")
    parser.add_argument("--challenge")
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--fresh", type=int, default=8)
    parser.add_argument("--committed", type=int)
    parser.add_argument("--number", type=int, default=100)
    options = parser.parse_args()
    world, verdicts = WORLDS[options.world], defaultdict(list)
    run, committed = (
        finished(options.challenge, options.methods)
        if options.challenge
        else (None, world.committed)
    )
    committed = options.committed or committed
    for number in range(options.number):
        subsets = committed + options.fresh
        this = run or world.run(subsets, numpy_generator(number, options.world))
        for method, row in challenge(this, committed, options.fresh, number).items():
            verdicts[method].append(row)
    print(f"{options.number} challenges, {committed} committed and {options.fresh} fresh subsets")
    print("| scores | claimed | fresh | accepted | rejected | undecided | needed |")
    print("|---|---|---|---|---|---|---|")
    for method, rows in verdicts.items():
        means = [
            np.mean([getattr(row, side)["value"] for row in rows]) for side in ("claimed", "fresh")
        ]
        counts = [
            sum(row.verdict == v for row in rows) for v in ("accepted", "rejected", "undecided")
        ]
        needed = np.median([row.needed or np.inf for row in rows])
        print(
            f"| {method} | {means[0]:.2f} | {means[1]:.2f} |",
            *(f"{n} |" for n in counts),
            f"{needed:.0f} |",
        )


if __name__ == "__main__":
    main()
