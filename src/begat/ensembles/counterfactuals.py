"""What would have been drawn from the same noise, had the ensemble never seen a unit."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.noise_predictors import NoisePredictor
from begat.diffusion.sampling import sample, sampling_timesteps
from begat.diffusion.schedules import diffuse
from begat.ensembles.ablation import Gram, matched
from begat.ensembles.codes import Codes
from begat.ensembles.null_codes import unused_codes
from begat.evaluation.distances import nearest, rms
from begat.rng.seeds import numpy_generator

Draw = Callable[
    [Bool[np.ndarray, "query slot member"]], Float[np.ndarray, "query slot channel y x"]
]


def redraw(
    predictor: NoisePredictor,
    members: Bool[np.ndarray, "query slot member"],
    queries: Mapping[str, np.ndarray],
    *,
    drawn: bool,
    scheduler: str,
    num_inference_steps: int,
    clip_sample: bool,
    strength: float,
    watch: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
) -> Float[np.ndarray, "query slot channel y x"]:
    """Each query drawn by several parts of the ensemble, all following the query's noise.

    The predicted noise is averaged over the asked members at every step. A query that was
    ``drawn`` starts from its own noise. A person's own image is first noised up to ``strength`` of
    the process and redrawn from there, so that it stays recognisable. Slots are drawn one after
    another, each in the shapes in which ``diffusion.query_images`` draws the same queries: pictures drawn
    by the same members then have the same bits, and others differ by their members alone.

    Args:
        predictor: the ensemble.
        members: which members draw, for every slot of every query.
        queries: the arrays of the ``queries`` schema.
        drawn: whether the queries were generated.
        scheduler, num_inference_steps, clip_sample: as the queries were generated.
        strength: see above.
        watch: passes the slots on one by one, to show how far this is.
    """
    schedule = predictor.schedule
    times = sampling_timesteps(schedule.timesteps, num_inference_steps, 1.0 if drawn else strength)
    noise = torch.from_numpy(queries["noise"]).clone()
    if not drawn:
        at = torch.full((len(noise),), times[0])
        noise[:, 0] = diffuse(schedule, torch.from_numpy(queries["pixels"]), at, noise[:, 0])
    label = torch.from_numpy(queries["label"]).long()
    condition = label if predictor.config.classes else None

    def drawn_by(asked: Bool[Tensor, "query member"]) -> Float[Tensor, "query channel y x"]:
        def predict(x: Tensor, t: int) -> Tensor:
            return predictor.predict_mean(x, t, condition, asked)

        return sample(predict, noise, schedule, times, scheduler, clip_sample)

    slots = torch.tensor(members).unbind(1)
    return torch.stack([drawn_by(asked) for asked in watch(slots)], 1).numpy()


def drawn_by_all(
    draw: Draw,
    queries: Float[np.ndarray, "query channel y x"],
    drawn_by: Sequence[str] | str,
    members: Sequence[str],
) -> Float[np.ndarray, "query channel y x"]:
    """What all ``members`` together draw: the queries themselves where these are who drew them."""
    if drawn_by == members:
        return queries
    return draw(np.ones((len(queries), 1, len(members)), bool))[:, 0]


def without_images(
    draw: Draw,
    factual: Float[np.ndarray, "query channel y x"],
    gram: Gram,
    seen: Codes,
    cluster: Int[np.ndarray, " image"],
    training: Float[np.ndarray, "image channel y x"],
    queries: range,
    *,
    seed: int,
    top: int,
    random: int,
) -> dict[str, np.ndarray]:
    """Each query without the images that are worth doing without, as ``image_slots`` names them.

    The ``top`` most helpful by the matched contrast (one of each cluster of near-duplicates), the
    nearest training image to what the ensemble draws, and ``random`` others: the two last are what
    the false attribution rate compares.
    """
    score = matched(gram, seen)
    representative = np.unique(cluster)
    helpful = representative[np.argsort(-score[:, representative], axis=1)[:, :top]]
    closest = cluster[nearest(factual, training)]
    others = np.empty((len(queries), random), int)
    for row, query, blamed in zip(others, queries, closest, strict=True):
        generator = numpy_generator(seed, "counterfactuals", query)
        row[:] = generator.choice(representative[representative != blamed], random, replace=False)
    unit = np.concatenate([helpful, closest[:, None], others], 1).astype(np.int32)
    return _compare(factual, draw(~seen[unit]), unit)


def image_slots(top: int, random: int) -> list[str]:
    """Why each slot of ``without_images`` is there."""
    return [f"helpful {i + 1}" for i in range(top)] + ["nearest"] + ["random"] * random


def without_groups(
    draw: Draw,
    factual: Float[np.ndarray, "query channel y x"],
    seen: Codes,
    blocks: list[int],
    *,
    seed: int,
) -> dict[str, np.ndarray]:
    """Each query without each group, then by as many codes that no group holds (unit -1)."""
    groups, members = seen.shape
    queries = len(factual)
    unused = unused_codes(numpy_generator(seed, "counterfactuals", "null"), seen, blocks, groups)
    unit = np.concatenate([np.arange(groups), np.full(len(unused), -1)]).astype(np.int32)
    left = np.broadcast_to(~np.concatenate([seen, unused]), (queries, len(unit), members))
    return _compare(factual, draw(left), np.tile(unit, (queries, 1)))


def _compare(
    factual: Float[np.ndarray, "query channel y x"],
    images: Float[np.ndarray, "query slot channel y x"],
    unit: Int[np.ndarray, "query slot"],
) -> dict[str, np.ndarray]:
    """The arrays of the ``counterfactuals`` schema; distances take pixels as 0..1."""
    distance = rms(images, factual[:, None]) / 2
    return {"factual": factual, "pixels": images, "unit": unit, "distance": distance}
