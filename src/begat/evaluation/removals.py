"""Measures of counterfactual images: their radius, and the false attribution rate."""

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.evaluation.distances import nearest
from begat.evaluation.intervals import Row, confidence_interval, half_sampling
from begat.rng.seeds import numpy_generator

PUBLISHED_SCALE = (256 * 256 * 3) ** 0.5  # of pixel distances: images as 256 x 256 x 3 in 0..1
Units = Int[np.ndarray, "image membership"]


def counterfactual_radius(
    distance: Float[np.ndarray, "query unit"],
    null: Float[np.ndarray, "query null"],
    *,
    seed: int,
    resamples: int,
) -> dict[str, Row]:
    """Returns the largest distance of a counterfactual image, mean over queries, and its null.

    The radius depends on the set of codes only, not on their assignment to units, so by itself it
    is no evidence about any unit: ``null`` is the radius over null codes, ``excess`` the
    difference. Source: Dai & Gifford, arXiv 2406.07908; ``published`` is on their scale.

    Args:
        distance: of the images without each unit, RMS in 0..1.
        null: of the images by null codes; without any, only the radius is returned.
        seed: the root seed.
        resamples: half-samples of queries for the intervals.
    """
    rows = {"radius": distance.max(1)}
    if null.shape[1]:
        rows |= {"null": null.max(1), "excess": rows["radius"] - null.max(1)}
    table = np.stack(list(rows.values()))
    generator = numpy_generator(seed, "metrics", "radius")
    values, deviations = half_sampling(
        lambda queries: table[:, queries].mean(1), (len(distance),), generator, resamples
    )
    summary = {n: confidence_interval(values[i], deviations[:, i]) for i, n in enumerate(rows)}
    return {**summary, "published": {"value": float(values[0]) * PUBLISHED_SCALE}}


def groups_of_images(member_of: Bool[np.ndarray, "group image"]) -> Units:
    """Returns the groups of each image, padded with -1."""
    width = max(int(member_of.sum(0).max(initial=0)), 1)
    units = np.full((member_of.shape[1], width), -1)
    for image, groups in enumerate(member_of.T):
        units[image, : groups.sum()] = np.flatnonzero(groups)
    return units


def false_attribution_rate(
    attributed: Int[np.ndarray, "query membership"],
    attributed_without: Int[np.ndarray, "query slot membership"],
    removed: Int[np.ndarray, "query slot"],
    *,
    seed: int,
    resamples: int,
) -> Row:
    """Returns how often an attributor names a unit that cannot be the cause, with its interval.

    rate = P(names u on the image generated without u) / P(names u on one without another unit),
    u being each unit of the image that it names on the factual image. Another unit is one that
    this image does not belong to. 0 is best; 1 means that the attributor ignores the removal.
    Source: Dai & Gifford 2026 (Nature Communications 17, 6974).

    Args:
        attributed: the units of the image named for each query; -1 for none.
        attributed_without: the same on each counterfactual image.
        removed: the unit that each was generated without; other units than u are random ones.
        seed: the root seed.
        resamples: half-samples of queries for the interval.

    Returns:
        The value is None where no query has both kinds of images, or where the named unit changes
        with every removal.
    """
    without_it, without_another = _naming_rates(attributed, attributed_without, removed)
    rates = {"without_it": _mean(without_it), "without_another": _mean(without_another)}
    if not without_another.any():
        return {**confidence_interval(0.0, np.zeros(0)), "value": None, **rates}
    base = without_another.mean()
    ratio = without_it.mean() / base
    _, deviations = half_sampling(  # of the ratio to first order: the base of a half may be 0
        lambda queries: np.array((without_it - ratio * without_another)[queries].mean() / base),
        (len(without_it),),
        numpy_generator(seed, "metrics", "far"),
        resamples,
    )
    return {**confidence_interval(ratio, deviations), **rates}


def _naming_rates(
    attributed: Int[np.ndarray, "query membership"],
    attributed_without: Int[np.ndarray, "query slot membership"],
    removed: Int[np.ndarray, "query slot"],
) -> tuple[Float[np.ndarray, " valid"], Float[np.ndarray, " valid"]]:
    """Returns the rates of naming the named unit again: without it, and without another unit.

    Per query with both kinds of images.
    """
    own = (removed[:, :, None] == attributed[:, None]) & (attributed[:, None] >= 0)
    other = ~own.any(2, keepdims=True) & own.any(1, keepdims=True)
    same = (attributed_without[:, :, None] == attributed[:, None, :, None]).any(3)
    valid = own.any((1, 2)) & other.any((1, 2))  # not where the named image belongs to no unit
    without_it, without_another = (
        (same & pairs)[valid].sum((1, 2)) / pairs[valid].sum((1, 2)) for pairs in (own, other)
    )
    return without_it, without_another


def _mean(values: Float[np.ndarray, " valid"]) -> float | None:
    return float(values.mean()) if len(values) else None


def nearest_images(
    images: Float[np.ndarray, "*batch channel y x"],
    training: Float[np.ndarray, "image channel y x"],
) -> Int[np.ndarray, "*batch"]:
    """Returns the training image nearest to each image: the simplest attributor."""
    flat = images.reshape(-1, *images.shape[-3:])
    return nearest(flat, training).reshape(images.shape[:-3])
