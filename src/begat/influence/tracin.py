"""Scores along the training: how far each image's steps moved the query's loss.

A step of size r down the gradient g of an image lowers the query's loss by r g_q^T g, to first
order; summed over a few checkpoints (TracIn, arXiv 2002.08484). Positive where the image helped.
``retrac`` divides by the length of the image's gradient, as an image whose draws fell on loud
timesteps would otherwise lead all lists (Diffusion-ReTrac, arXiv 2401.09031).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.image_draws import DrawsOf
from begat.errors import BegatError
from begat.evaluation.measures import NORMALISED_PRODUCT, STEP_PRODUCT
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.gradients import Sample, image_gradients
from begat.influence.layers import covered_layers
from begat.influence.pairwise import query_gradients

METHODS = {"tracin": STEP_PRODUCT, "retrac": NORMALISED_PRODUCT}


def score(
    checkpoints: Iterable[Denoiser],
    learning_rates: Sequence[float],
    images: Sample,
    queries: Sample,
    draws: DrawsOf,
    *,
    norms: bool = True,
    examples: int = MAX_EXAMPLES,
) -> Float[np.ndarray, "method query image"]:
    """``score[method, query, image]``: steps times products of gradients, summed, over N.

    Args:
        checkpoints: the network as it was at several times, one after another.
        learning_rates: the size of a step at each.
        images: what it was trained on.
        queries: the images asked about.
        draws: of images and queries alike, the latter without mirroring.
        norms: differentiate in normalisation layers too.
        examples: noisy images per network call, at most; for speed only.

    Raises:
        BegatError: there are not as many learning rates as checkpoints.
    """
    rates = list(learning_rates)
    total = np.zeros((len(METHODS), len(queries), len(images)))
    seen = 0
    for seen, denoiser in enumerate(checkpoints, 1):
        if seen > len(rates):
            break
        layers = covered_layers(denoiser.module, norms=norms)
        (asked,) = query_gradients(denoiser, layers, queries, draws, "noise", examples=examples)
        stream = image_gradients(denoiser, layers, images, draws, ("training",), examples=examples)
        for some, (rows,) in stream:
            product = (asked @ rows[0].T).cpu().numpy() * rates[seen - 1]
            length = rows[0].norm(dim=1).cpu().numpy()
            total[0, :, some] += product
            total[1, :, some] += np.divide(product, length, out=product * 0, where=length > 0)
    if seen != len(rates):
        raise BegatError(
            f"scores_tracin: expected a learning rate for each checkpoint, found {len(rates)} for "
            f"{'more' if seen > len(rates) else seen}"
        )
    return total / len(images)
