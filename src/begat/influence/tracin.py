"""TracIn scores: gradient products along the training, from states of the model.

A step of size r down the gradient g of an image lowers the query's loss by r g_q^T g, to first
order; summed over several states (TracIn, arXiv 2002.08484). Positive where the image helped.
``retrac`` divides by the length of the image's gradient, as an image whose draws have timesteps of
large gradients would otherwise rank high for all queries (Diffusion-ReTrac, arXiv 2401.09031).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from begat.errors import BegatError
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.gradients import image_gradients
from begat.influence.pairwise import query_gradients

METHODS = ("tracin", "retrac")


def score(
    states: Iterable[GradientSource],
    learning_rates: Sequence[float],
    images: ImageSet,
    queries: ImageSet,
) -> Float[np.ndarray, "method query image"]:
    """Returns ``score[method, query, image]``: steps times products of gradients, summed, over N.

    Args:
        states: the network at several times of its training; queries have the same draws as
            images, without mirroring.
        learning_rates: the size of a step at each.
        images: what it was trained on.
        queries: the query images.

    Raises:
        BegatError: there are not as many learning rates as states.
    """
    rates = list(learning_rates)
    total = np.zeros((len(METHODS), len(queries), len(images)))
    count = 0
    for count, source in enumerate(states, 1):
        if count > len(rates):
            break
        (query_rows,) = query_gradients(source, queries, "noise")
        for span, (rows,) in image_gradients(source, images, ("training",)):
            product = (query_rows @ rows[0].T).cpu().numpy() * rates[count - 1]
            length = rows[0].norm(dim=1).cpu().numpy()
            total[0, :, span] += product
            total[1, :, span] += np.divide(product, length, out=product * 0, where=length > 0)
    if count != len(rates):
        raise BegatError(
            f"TracIn: expected a learning rate for each state of the model, found {len(rates)} for "
            f"{'more' if count > len(rates) else count}"
        )
    return total / len(images)
