"""Distances between images, as pixels."""

import numpy as np
from jaxtyping import Float, Int

BLOCK = 256  # rows of distances held at a time, where not all are wanted


def rms(
    a: Float[np.ndarray, "*#batch channel y x"], b: Float[np.ndarray, "*#batch channel y x"]
) -> Float[np.ndarray, "..."]:
    """Root mean square difference over channels and pixels; leading axes broadcast."""
    return np.sqrt(((a - b) ** 2).mean((-3, -2, -1)))


def rms_to_all(
    queries: Float[np.ndarray, "query channel y x"], images: Float[np.ndarray, "image channel y x"]
) -> Float[np.ndarray, "query image"]:
    """Root mean square difference of every query from every image.

    By |a - b|² = |a|² + |b|² - 2 a·b, in place: rounding leaves up to 5e-4 between identical images
    in float32, a twentieth of a grey level. ``torch.cdist`` does the same algebra on a padded copy
    of all images (64 queries, 50,000 images of 3 x 32 x 32, one core: 1.1 s and 600 MiB against
    0.3 s and 13 MiB); its exact mode takes twenty times as long.
    """
    a, b = queries.reshape(len(queries), -1), images.reshape(len(images), -1)
    distance = a @ b.T  # query image
    distance *= -2
    distance += np.vecdot(a, a)[:, None]
    distance += np.vecdot(b, b)
    np.maximum(distance, 0, out=distance)
    distance /= a.shape[1]
    return np.sqrt(distance, out=distance)


def cosine_to_all(
    queries: Float[np.ndarray, "query *feature"], images: Float[np.ndarray, "image *feature"]
) -> Float[np.ndarray, "query image"]:
    """Cosine of the angle between every query and every image; 0 where one of them is all zeros."""
    sides = []
    for side in (queries, images):
        flat = side.reshape(len(side), -1)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        sides.append(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))
    return sides[0] @ sides[1].T


def nearest(
    queries: Float[np.ndarray, "query channel y x"], images: Float[np.ndarray, "image channel y x"]
) -> Int[np.ndarray, " query"]:
    """The index of the nearest image to each query."""
    return rms_to_all(queries, images).argmin(1)


def distance_to_nearest_other(
    images: Float[np.ndarray, "image channel y x"],
) -> Float[np.ndarray, " image"]:
    """Root mean square difference of every image from the one most like it."""
    nearest = []
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        distance = rms_to_all(block, images)
        distance[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        nearest.append(distance.min(1))
    return np.concatenate(nearest)
