"""Error rates of ``begat challenge``, in simulated runs and with the losses of a finished run."""

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from begat.evaluation.agreement import GroundTruth
from begat.evaluation.challenge import Judgement, Rule, judge
from begat.evaluation.predictions import forecast_of
from begat.evaluation.statistics import lds
from begat.rng.seeds import numpy_generator


@dataclass(frozen=True)
class World:
    """A simulated run whose losses are linear in the units that a subset lacks, plus noise.

    Attributes:
        units, queries, committed, seeds: sizes.
        reliability: share of signal in the variance of one model's loss.
        common: share of the noise that all queries have in common.
        quality: correlation of honest scores with the true effects.
    """

    units: int
    queries: int
    committed: int
    reliability: float
    quality: float
    common: float = 0.06
    seeds: int = 2
    interaction: float = 0.2


GROUPS = World(units=10, queries=64, committed=10, reliability=0.83, quality=0.8)
IMAGES = World(units=1797, queries=64, committed=12, reliability=0.12, quality=0.5, common=0.1)


@dataclass(frozen=True)
class Run:
    """One simulated run: true effects, honest scores, all subsets and their losses."""

    scores: np.ndarray
    removed: np.ndarray
    measured: np.ndarray


def simulate(world: World, fresh: int, generator: np.random.Generator) -> Run:
    """Returns a run with so many fresh subsets after the committed ones."""
    w = world
    effects, other = generator.normal(size=(2, w.queries, w.units))
    scores = w.quality * effects + np.sqrt(1 - w.quality**2) * other
    removed = np.zeros((w.committed + fresh, w.units), bool)
    for row in removed:
        row[generator.permutation(w.units)[: w.units // 2]] = True
    signal = removed @ effects.T / np.sqrt(w.units / 4)
    signal = np.sqrt(1 - w.interaction) * signal + np.sqrt(w.interaction) * generator.normal(size=signal.shape)
    shape = (len(removed), w.seeds, w.queries)
    noise = np.sqrt(1 - w.common) * generator.normal(size=shape)
    noise += np.sqrt(w.common) * generator.normal(size=shape)[..., :1]
    scale = np.sqrt((1 - w.reliability) / w.reliability)
    return Run(scores, removed, signal[:, None] + scale * noise)


def attacks(run, committed, generator):
    """Returns method -> (scores as the run has them, their units' names on committed subsets)."""
    removed, losses = run.removed[:committed], run.measured[:committed].mean(1)
    centred = removed - removed.mean(0)
    fitted = np.linalg.lstsq(centred, losses - losses.mean(0), rcond=None)[0].T
    scale = run.scores.std() / fitted.std()
    half = 0.5 * run.scores + 0.5 * scale * fitted
    return {"honest": run.scores, "flattered": fitted, "half flattered": half}


def challenged(world, fresh, rule, number, resamples=100):
    generator = numpy_generator(number, "world")
    run = simulate(world, fresh, generator)
    committed = world.committed
    scores = attacks(run, committed, generator)
    order = generator.permutation(world.units)
    # shuffled: committed tables use the exchanged names throughout, fresh subsets the true ones
    first, rest = (GroundTruth(run.removed[s], run.measured[s]) for s in (slice(committed), slice(committed, None)))
    renamed = GroundTruth(first.removed[:, order], first.measured)
    def one(scores, first):
        f = {k: forecast_of(v) for k, v in scores.items()}
        claims = {k: lds(g(first.removed), first.measured).mean() for k, g in f.items()}
        return judge(f, claims, first, rest, rule, lambda n: numpy_generator(number, n), resamples)
    rows = one(scores, first)
    rows |= one({"shuffled, claim upheld": run.scores[:, order]}, renamed)
    rows |= one({"shuffled":run.scores[:, order]}, first)
    return rows

if __name__ == "__main__":
    import sys,time
    t=time.time()
    world={'g':GROUPS,'i':IMAGES}[sys.argv[1]]; fresh=int(sys.argv[2]); n=int(sys.argv[3])
    rule=Rule()
    out={}
    for k in range(n):
        for m,j in challenged(world,fresh,rule,k+1000).items(): out.setdefault(m,[]).append(j)
    for m,js in out.items():
        print(m, dict(Counter(j.verdict for j in js)), 'claimed',np.mean([j.claimed['value'] for j in js]).round(3),'err',np.mean([j.claimed['error'] for j in js]).round(3),'sd',np.std([j.claimed['value'] for j in js]).round(3),'fresh',np.mean([j.fresh['value'] for j in js]).round(3),'err',np.mean([j.fresh['error'] for j in js]).round(3),'sd',np.std([j.fresh['value'] for j in js]).round(3),'needed',np.median([j.needed or 99999 for j in js]), 'p<.05',np.mean([j.claim_p<=.05 for j in js]))
    print(time.time()-t)
