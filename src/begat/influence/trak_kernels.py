"""Kernel weights of the TRAK family: gradient products times the inverse of their own kernel.

Letters: Phi[i] the feature of training image i (its gradient, projected or not), phi the query's,
K = Phi Phi^T, l the damping. The weights of a query on the images are
w = phi Phi^T (K + l)^-1 = phi (Phi^T Phi + l)^-1 Phi^T, the first form for few images, the second
for few features; ``dampings`` come as multiples of K's mean eigenvalue over the images.

With f the loss, w is (1/N) phi (Phi^T Phi / N + l / N)^-1 Phi^T: an influence score whose
curvature is the empirical Fisher matrix, positive where an image helped (TRAK, arXiv 2303.14186;
Journey-TRAK, arXiv 2312.06205). Residuals multiply that curvature, so its level means nothing.
With f = mean square of the predicted noise on both sides the sign has no derivation (D-TRAK,
arXiv 2311.00500): ranks only. Squared and weighted by the image's loss it has no sign at
all (after DAS, arXiv 2410.18639): ``das`` returns magnitudes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from begat.errors import BegatError

Features = Float[np.ndarray, "image feature"]
Queries = Float[np.ndarray, "query feature"]
Weights = Float[np.ndarray, "damping query image"]


def weights(images: Features, queries: Queries, dampings: Sequence[float]) -> Weights:
    """Returns w for every damping, by the form with the smaller matrix.

    Raises:
        BegatError: all gradients are zero.
    """
    form = kernel_form if len(images) <= images.shape[1] else feature_form
    return form(images, queries, dampings)


def kernel_form(images: Features, queries: Queries, dampings: Sequence[float]) -> Weights:
    """Returns k_q^T (K + l)^-1, with one eigendecomposition for all dampings."""
    kernel = (images @ images.T).astype(np.float64)
    values, vectors = np.linalg.eigh(kernel)
    projected = (queries @ images.T).astype(np.float64) @ vectors
    scales = _scales(values, np.trace(kernel) / len(images), dampings)
    return np.stack([(projected * scale) @ vectors.T for scale in scales])


def feature_form(images: Features, queries: Queries, dampings: Sequence[float]) -> Weights:
    """Returns phi (Phi^T Phi + l)^-1 Phi^T, with one eigendecomposition for all dampings."""
    covariance = (images.T @ images).astype(np.float64)
    values, vectors = np.linalg.eigh(covariance)
    projected_queries = queries.astype(np.float64) @ vectors
    projected_images = images.astype(np.float64) @ vectors
    scales = _scales(values, np.trace(covariance) / len(images), dampings)
    return np.stack([(projected_queries * scale) @ projected_images.T for scale in scales])


def _scales(
    values: Float[np.ndarray, " n"], mean: float, dampings: Sequence[float]
) -> list[Float[np.ndarray, " n"]]:
    """Returns 1 / (eigenvalue + l); without damping of the pseudoinverse, the limit of l -> 0."""
    if not mean > 0:
        raise BegatError("the training images have no gradients at all")
    floor = values.max() * len(values) * np.finfo(np.float32).eps
    scales = []
    for damping in dampings:
        nonzero = values > (0 if damping else floor)
        scales.append(np.where(nonzero, 1 / np.where(nonzero, values + damping * mean, 1), 0.0))
    return scales


def das(
    weights: Weights, residual: Float[np.ndarray, " image"]
) -> Float[np.ndarray, "damping query image"]:
    """Returns the squared weight times the image's mean squared error, which is never negative."""
    return weights**2 * residual
