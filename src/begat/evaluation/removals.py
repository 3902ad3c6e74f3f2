"""Measures of images redrawn without a unit: their radius, and the rate of false attributions."""

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.evaluation.distances import nearest
from begat.evaluation.intervals import Row, half_samples, interval
from begat.rng.seeds import numpy_generator

PUBLISHED_SCALE = (256 * 256 * 3) ** 0.5  # of pixel distances: images as 256 x 256 x 3 in 0..1
Units = Int[np.ndarray, "image membership"]


def radius(
    distance: Float[np.ndarray, "query unit"],
    null: Float[np.ndarray, "query null"],
    *,
    seed: int,
    resamples: int,
) -> dict[str, Row]:
    """How far the farthest counterfactual image lies, against as many unused codes.

    The radius depends on the set of codes only, not on who holds which, so by itself it says
    nothing of any named unit: ``null`` is the radius over codes that no unit holds, ``excess`` the
    difference. Source: Dai & Gifford, arXiv 2406.07908; ``published`` is on their scale.
    """
    rows = {"radius": distance.max(1)}
    if null.shape[1]:
        rows |= {"null": null.max(1), "excess": rows["radius"] - null.max(1)}
    table = np.stack(list(rows.values()))
    generator = numpy_generator(seed, "metrics", "radius")
    values, deviations = half_samples(
        lambda queries: table[:, queries].mean(1), (len(distance),), generator, resamples
    )
    summary = {n: interval(values[i], deviations[:, i]) for i, n in enumerate(rows)}
    return {**summary, "published": {"value": float(values[0]) * PUBLISHED_SCALE}}


def groups_of(member_of: Bool[np.ndarray, "group image"]) -> Units:
    """The groups of each image, filled up with -1."""
    most = max(int(member_of.sum(0).max(initial=0)), 1)
    units = np.full((member_of.shape[1], most), -1)
    for image, groups in enumerate(member_of.T):
        units[image, : groups.sum()] = np.flatnonzero(groups)
    return units


def false_attribution(
    blamed: Int[np.ndarray, "query membership"],
    blamed_without: Int[np.ndarray, "query slot membership"],
    removed: Int[np.ndarray, "query slot"],
    *,
    seed: int,
    resamples: int,
) -> Row:
    """How often an attributor still blames a unit that cannot have been the cause.

    far = P(blames u on the image drawn without u) / P(blames u on one drawn without another unit),
    u being what it blames on the factual image: each unit of the image that it names. Another unit
    is one that this image does not belong to. 0 is best; 1 means it does not see the removal.
    Source: Dai & Gifford 2026 (Nature Communications 17, 6974).

    Args:
        blamed: the units of the image named for each query; -1 for none.
        blamed_without: the same on each counterfactual image.
        removed: the unit that each was drawn without; those of other units drawn at random.
        seed, resamples: as everywhere.

    Returns:
        The rate with its interval; its value is None where no query can tell, or where what is
        blamed always changes, whatever is removed.
    """
    own = (removed[:, :, None] == blamed[:, None]) & (blamed[:, None] >= 0)
    other = ~own.any(2, keepdims=True) & own.any(1, keepdims=True)
    same = (blamed_without[:, :, None] == blamed[:, None, :, None]).any(3)
    fair = own.any((1, 2)) & other.any((1, 2))  # not so where what is blamed belongs to no unit
    after, base = (
        (same & pairs)[fair].sum((1, 2)) / pairs[fair].sum((1, 2)) for pairs in (own, other)
    )
    blames = {"without_it": _mean(after), "without_another": _mean(base)}
    if not base.any():
        return {**interval(0.0, np.zeros(0)), "value": None, **blames}
    rate = after.mean() / base.mean()
    _, deviations = half_samples(  # of the ratio to first order: no half is without a base
        lambda queries: np.array((after - rate * base)[queries].mean() / base.mean()),
        (len(after),),
        numpy_generator(seed, "metrics", "far"),
        resamples,
    )
    return {**interval(rate, deviations), **blames}


def _mean(values: Float[np.ndarray, " query"]) -> float | None:
    return float(values.mean()) if len(values) else None


def nearest_images(
    images: Float[np.ndarray, "*batch channel y x"],
    training: Float[np.ndarray, "image channel y x"],
) -> Int[np.ndarray, "*batch"]:
    """The training image nearest to each image: the simplest attributor."""
    flat = images.reshape(-1, *images.shape[-3:])
    return nearest(flat, training).reshape(images.shape[:-3])
