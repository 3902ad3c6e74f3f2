"""The loss landscape by Gram matrices against ablating one unit after another.

24 members, 1,797 units, a demo-sized network: for every unit the loss of the members that never
saw it. One by one means averaging those members' predictions for each unit and measuring; the
Gram form asks every member once and then does algebra. Both start from the same draws. One by one
is timed on some units and scaled up to all; the scores of those must agree.

    python benchmarks/landscape.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np
import torch

from begat.diffusion.draws import shared_draws
from begat.diffusion.measurement import measure
from begat.diffusion.noise_predictors import NoisePredictor, PackPredictor
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import cosine_schedule, diffuse
from begat.diffusion.unet import UNetConfig, initial_weights
from begat.ensembles.ablation import ensemble_loss, subset_weights
from begat.ensembles.codes import nested_codes
from begat.rng.torch_generators import torch_generator

MEMBERS, UNITS, QUERIES, DRAWS, TRIED = 24, 1797, 4, 64, 12
CONFIG = UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8)


def one_by_one(
    predictor: NoisePredictor, pixels: torch.Tensor, survivors: np.ndarray
) -> tuple[np.ndarray, float]:
    """Losses [query, unit] of each unit's survivors, and the cpu-seconds it took."""
    start = time.process_time()
    losses = np.zeros((len(pixels), len(survivors)))
    for q, image in enumerate(pixels):
        t, noise = shared_draws(torch_generator(0, "measurements", q), DRAWS, 1000, (1, 8, 8))
        noisy = diffuse(predictor.schedule, image.expand(DRAWS, -1, -1, -1), t, noise)
        for u, members in enumerate(survivors):
            asked = np.flatnonzero(members).tolist()
            mean = torch.stack([predictor.predict(m, noisy, t, None) for m in asked]).mean(0)
            losses[q, u] = (mean - noise).square().mean()
    return losses, time.process_time() - start


def by_gram(
    predictor: NoisePredictor, pixels: torch.Tensor, survivors: np.ndarray
) -> tuple[np.ndarray, float]:
    """Losses [query, unit] of every unit's survivors, and the cpu-seconds it took."""
    start = time.process_time()
    label = np.zeros(len(pixels), int)
    queries = range(len(pixels))
    found = measure(predictor, pixels.numpy(), label, queries, seed=0, draws=DRAWS, gram=True)
    losses = ensemble_loss(found["gram"], subset_weights(survivors))
    return losses, time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows = flatten(stack(initial_weights(CONFIG, generator) for _ in range(MEMBERS)))
    schedule = cosine_schedule(1000)
    predictor = PackPredictor(rows, CONFIG, schedule, "v_prediction", torch.device("cpu"))
    pixels = torch.rand(QUERIES, 1, 8, 8, generator=generator) * 2 - 1
    survivors = ~nested_codes(0, "benchmark", UNITS, MEMBERS)
    slow, slow_time = one_by_one(predictor, pixels, survivors[:TRIED])
    slow_time *= UNITS / TRIED
    fast, fast_time = by_gram(predictor, pixels, survivors)
    error = np.abs(fast[:, :TRIED] / slow - 1).max()
    print(f"{MEMBERS} members, {UNITS} units, {QUERIES} queries of {DRAWS} draws, one CPU thread")
    print("| one by one (cpu-s) | by Gram matrices (cpu-s) | ratio | largest relative difference |")
    print("|---|---|---|---|")
    print(
        f"| {slow_time:.0f} (from {TRIED} units) | {fast_time:.2f} "
        f"| **{slow_time / fast_time:.0f}** | {error:.0e} |"
    )
