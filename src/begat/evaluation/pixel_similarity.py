"""Pixel similarity of training images to queries: the baseline that needs no model.

Not scores in this package's sense (they have no unit of loss), but the baseline that every score
must beat before anything is claimed for it.
"""

import numpy as np
from jaxtyping import Float, Int

from begat.errors import BegatError
from begat.evaluation.distances import cosine_to_all, distance_to_nearest_other, rms_to_all
from begat.evaluation.measures import COSINE, NEGATIVE_DISTANCE, SIMILARITY

METHODS = {
    "pixel_rbf": SIMILARITY,
    "pixel_cosine": COSINE,
    "pixel_nearest": NEGATIVE_DISTANCE,
}


def similarity(
    queries: Float[np.ndarray, "query channel y x"],
    images: Float[np.ndarray, "image channel y x"],
    copy_of: Int[np.ndarray, " image"],
) -> Float[np.ndarray, "method query image"]:
    """Returns similarities in the order of ``METHODS``, images in -1..1.

    A Gaussian kernel of the RMS pixel difference, 1 for the same image, towards 0 with distance;
    the cosine of the angle between two images; minus the distance itself, so that a group's sum is
    its total distance. The kernel's width is the median distance from a training image to its
    nearest other, copies left out, so it is chosen without ground truth.

    Args:
        queries: the query images.
        images: the training images.
        copy_of: the first training image with the same pixels as each.

    Raises:
        BegatError: all training images are copies of one.
    """
    distinct = images[copy_of == np.arange(len(images))]
    if len(distinct) < 2:
        raise BegatError("images: expected at least two different images, found copies of one")
    width = np.median(distance_to_nearest_other(distinct))
    distance = rms_to_all(queries, images)
    kernel = np.exp(-0.5 * (distance / width) ** 2)
    return np.stack([kernel, cosine_to_all(queries, images), -distance])
