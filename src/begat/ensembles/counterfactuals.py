"""Counterfactual images: queries regenerated from the same noise without a training unit."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.noise_predictors import NoisePredictor
from begat.diffusion.sampling import sample, sampling_timesteps
from begat.diffusion.schedules import diffuse
from begat.ensembles.codewords import Codes
from begat.ensembles.null_codes import null_codes
from begat.evaluation.distances import nearest, rms
from begat.rng.seeds import numpy_generator

Queries = Float[np.ndarray, "query channel y x"]
Images = Float[np.ndarray, "query slot channel y x"]
Slots = Int[np.ndarray, "query slot"]
Regenerate = Callable[[Bool[np.ndarray, "query slot member"]], Images]


def regenerate(
    predictor: NoisePredictor,
    members: Bool[np.ndarray, "query slot member"],
    queries: Mapping[str, np.ndarray],
    *,
    strength: float | None,
    scheduler: str,
    num_inference_steps: int,
    clip_sample: bool,
    progress: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
) -> Images:
    """Returns each query as several subsets of the ensemble generate it from the query's noise.

    The predicted noise is averaged over the subset at every step. Slots are sampled one by one, in
    the shapes of ``diffusion.query_images``: images of the same members have the same bits.

    Args:
        predictor: the ensemble.
        members: the members that generate, for every slot of every query.
        queries: the arrays of the ``queries`` schema.
        strength: share of the process that user-supplied queries are noised by; None if generated.
        scheduler, num_inference_steps, clip_sample: as the queries were generated.
        progress: passes the slots on one by one, for a progress bar.
    """
    schedule = predictor.schedule
    times = sampling_timesteps(
        schedule.timesteps, num_inference_steps, 1.0 if strength is None else strength
    )
    noise = torch.from_numpy(queries["noise"]).clone()
    if strength is not None:
        start = torch.full((len(noise),), times[0])
        noise[:, 0] = diffuse(schedule, torch.from_numpy(queries["pixels"]), start, noise[:, 0])
    label = torch.from_numpy(queries["label"]).long() if predictor.config.classes else None

    def generated(subset: Bool[Tensor, "query member"]) -> Float[Tensor, "query channel y x"]:
        def predict(x: Tensor, t: int) -> Tensor:
            return predictor.predict_mean(x, t, label, subset)

        return sample(predict, noise, schedule, times, scheduler, clip_sample)

    slots = torch.tensor(members).unbind(1)
    return torch.stack([generated(subset) for subset in progress(slots)], 1).numpy()


def factual_images(
    regenerate: Regenerate, queries: Queries, generated_by: Sequence[str] | str, members: list[str]
) -> Queries:
    """Returns the queries as all ``members`` together generate them.

    These are the queries themselves where ``generated_by`` names the same models: what must be
    identical is not computed twice.
    """
    if generated_by == members:
        return queries
    return regenerate(np.ones((len(queries), 1, len(members)), bool))[:, 0]


def removed_images(
    scores: Float[np.ndarray, "query image"],
    factual: Queries,
    cluster: Int[np.ndarray, " image"],
    training: Float[np.ndarray, "image channel y x"],
    queries: range,
    *,
    seed: int,
    top: int,
    random: int,
) -> Slots:
    """Returns the training images to remove from each query, named by ``image_slots``.

    The ``top`` most helpful by ``scores`` (one of each cluster of near-duplicates), the nearest
    training image to the factual one, and ``random`` others. The false attribution rate compares
    the nearest with the random ones.
    """
    representative = np.unique(cluster)
    helpful = representative[np.argsort(-scores[:, representative], axis=1)[:, :top]]
    closest = cluster[nearest(factual, training)]
    others = np.empty((len(queries), random), int)
    for row, query, excluded in zip(others, queries, closest, strict=True):
        generator = numpy_generator(seed, "counterfactuals", query)
        candidates = representative[representative != excluded]
        row[:] = generator.choice(candidates, random, replace=False)
    return np.concatenate([helpful, closest[:, None], others], 1).astype(np.int32)


def image_slots(top: int, random: int) -> list[str]:
    """Returns the role of each slot of ``removed_images``."""
    return [f"helpful {i + 1}" for i in range(top)] + ["nearest"] + ["random"] * random


def without_images(
    regenerate: Regenerate, factual: Queries, exposure: Codes, unit: Slots
) -> dict[str, np.ndarray]:
    """Returns each query without each of its images ``unit``: the ``counterfactuals`` schema."""
    return _counterfactuals(factual, regenerate(~exposure[unit]), unit)


def without_groups(
    regenerate: Regenerate, factual: Queries, exposure: Codes, blocks: list[int], *, seed: int
) -> dict[str, np.ndarray]:
    """Returns each query without each group, then by as many null codes (unit -1)."""
    groups, members = exposure.shape
    queries = len(factual)
    generator = numpy_generator(seed, "counterfactuals", "null")
    nulls = null_codes(generator, exposure, blocks, groups)
    unit = np.concatenate([np.arange(groups), np.full(len(nulls), -1)]).astype(np.int32)
    survivors = ~np.concatenate([exposure, nulls])
    images = regenerate(np.broadcast_to(survivors, (queries, len(unit), members)))
    return _counterfactuals(factual, images, np.tile(unit, (queries, 1)))


def _counterfactuals(factual: Queries, images: Images, unit: Slots) -> dict[str, np.ndarray]:
    """Returns the arrays of the ``counterfactuals`` schema; distances take pixels as 0..1."""
    distance = rms(images, factual[:, None]) / 2
    return {"factual": factual, "pixels": images, "unit": unit, "distance": distance}
