"""The rival that needs no model: how near a training image is to the query, as pixels.

Not a score in this package's sense (it has no sign and no unit of loss), but what every score must
beat before anything is claimed for it.
"""

import numpy as np
from jaxtyping import Float

from begat.core.distances import distance_to_nearest_other, rms_to_all

VARIANTS = ("rbf",)


def similarity(
    queries: Float[np.ndarray, "query channel y x"], images: Float[np.ndarray, "image channel y x"]
) -> Float[np.ndarray, "variant query image"]:
    """A Gaussian kernel of the RMS pixel difference: 1 for the same image, towards 0 with distance.

    Its width is the median distance from a training image to its nearest other, so no truth is
    consulted to choose it.
    """
    width = np.median(distance_to_nearest_other(images))
    return np.exp(-0.5 * (rms_to_all(queries, images) / width) ** 2)[None]
