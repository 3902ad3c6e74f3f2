"""The noise ceiling is the LDS of a perfect predictor, for any distribution of queries."""

import numpy as np
import pytest

from begat.evaluation.lds import subset_agreement
from begat.evaluation.noise_ceilings import (
    expected_correlations,
    noise_ceiling,
    reliability_distribution,
)
from begat.evaluation.predictions import forecast_of
from begat.evaluation.statistics import lds

QUERIES = 60
KINDS = {
    "equal": np.full(QUERIES, 1.0),
    "half clear, half noise": np.where(np.arange(QUERIES) % 2, 3.0, 0.0),
    "all degrees": np.linspace(0, 2, QUERIES),
}


def simulated(generator, signal, subsets, seeds):
    """The signal, and the losses measured."""
    effect = generator.normal(size=(subsets, len(signal))) * signal
    return effect, effect[:, None] + generator.normal(size=(subsets, seeds, len(signal)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("subsets", "seeds"), [(12, 2), (24, 3)])
def test_a_perfect_predictor_reaches_the_ceiling(kind, subsets, seeds):
    generator = np.random.default_rng(0)
    correlations = expected_correlations(subsets, generator)
    pairs = []
    for _ in range(20):
        effect, measured = simulated(generator, KINDS[kind], subsets, seeds)
        pairs.append((lds(effect, measured).mean(), noise_ceiling(measured, correlations)))
    perfect, bound = np.mean(pairs, 0)
    assert bound == pytest.approx(perfect, abs=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_with_many_subsets_the_ceiling_is_closer(kind):
    generator = np.random.default_rng(1)
    effect, measured = simulated(generator, KINDS[kind], 200, 4)
    bound = noise_ceiling(measured, expected_correlations(200, generator))
    assert bound == pytest.approx(lds(effect, measured).mean(), abs=0.05)


def test_the_interval_of_the_ceiling_holds_the_perfect_predictor():
    generator = np.random.default_rng(2)
    inside = []
    for _ in range(12):
        removed = np.zeros((16, 40), bool)
        for row in removed:
            row[generator.permutation(40)[:20]] = True
        effect = generator.normal(size=(QUERIES, 40)) * KINDS["half clear, half noise"][:, None]
        losses = removed @ effect.T / 3
        measured = losses[:, None] + generator.normal(size=(16, 2, QUERIES))
        forecasts = {"perfect": forecast_of(effect)}
        summary, _ = subset_agreement(
            forecasts, removed, measured, name="lds", seed=0, resamples=20
        )
        bound = summary["ceiling"]
        inside.append(bound["low"] < summary["methods"]["perfect"]["value"] < bound["high"])
    assert sum(inside) >= 10


def test_losses_without_noise_or_without_signal_are_at_the_ends():
    losses = np.random.default_rng(0).normal(size=(10, 1, 5))
    exact = np.repeat(losses, 3, axis=1)
    assert reliability_distribution(exact)[-1] == pytest.approx(1, abs=1e-3)
    constant = np.ones((10, 3, 5))
    assert noise_ceiling(constant, expected_correlations(10, np.random.default_rng(0))) < 0.2
