"""Gradients and diagonal Fisher information of a full model, and Newton steps away from groups."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork

Rows = Float[Tensor, "group parameter"]
Precondition = Callable[[Rows], Rows]


def group_gradient(network: PackedNetwork, rows: Rows, batches: Iterable[NoisedBatch]) -> Rows:
    """The gradient of each group's training loss at its row of weights, mean over batches."""
    return torch.stack([network.gradient(rows, batch) for batch in batches]).mean(0)


def diagonal_fisher(
    network: PackedNetwork,
    full: Float[Tensor, "1 parameter"],
    batches: Iterable[NoisedBatch],
) -> Float[Tensor, "1 parameter"]:
    """The mean squared gradient of single images' training losses at the full model's weights.

    Every image of a batch is a member of a pack of copies of the full model, with a batch of one.
    """
    squares = [
        network.gradient(full.expand(len(batch.image), -1), batch).square().mean(0, keepdim=True)
        for batch in batches
    ]
    return torch.stack(squares).mean(0)


def newton_update(
    full: Float[Tensor, "1 parameter"],
    gradient: Rows,
    sizes: Int[Tensor, " group"],
    num_images: int,
    precondition: Precondition,
) -> Rows:
    """Every group's weights after one Newton step away from its images.

    ``theta + (1/N) G^-1 sum_{j in group} grad loss_j``: an influence function's first-order
    estimate of the weights retrained without the group. Gradient and curvature are of the loss
    that was trained; with the curvature that is left without the group (``influence.kronecker``)
    the step is exact for a quadratic loss.

    Args:
        full: theta.
        gradient: the group's *mean* gradient at theta, from ``group_gradient``.
        sizes: images of each group.
        num_images: N, all images.
        precondition: G^-1 applied to rows of gradients.
    """
    return full + precondition(gradient * (sizes.to(gradient) / num_images)[:, None])
