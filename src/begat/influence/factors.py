"""How sharply the loss bends along each direction of a model's weights, layer by layer."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.image_draws import DrawsOf, Shape, own_draws
from begat.errors import BegatError
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.curvature import (
    Weight,
    covariances,
    eigenbases,
    eigenvalues,
    fake_gradients,
)
from begat.influence.gradients import Sample
from begat.influence.kronecker import blocks, dead_blocks
from begat.influence.layers import covered_layers, uncovered

Arrays = dict[str, dict[str, np.ndarray]]


def factors(
    denoiser: Denoiser,
    images: Sample,
    member_of: Bool[np.ndarray, "group image"],
    *,
    seed: int,
    draws: int,
    norms: bool = True,
    sharing: Weight = "expand",
    flip: bool = False,
    examples: int = MAX_EXAMPLES,
) -> Arrays:
    """The curvature's eigenvectors and eigenvalues, as arrays by layer.

    Every layer with an input axis has ``activation_eigenvectors``, ``activation_eigenvalues``,
    ``gradient_eigenvectors``, ``gradient_eigenvalues`` (K-FAC), ``eigenvalues[output, input]`` and
    where there is a bias ``bias_eigenvalues[output]`` (EK-FAC); a normalisation layer has
    ``parameter_eigenvectors`` and ``parameter_eigenvalues``, weight before bias. EK-FAC's values
    also come for every group by itself, in the same directions: ``group_...``. An input axis of
    a convolution runs (ky, kx, channel). Draws and fake gradients belong to (root seed, image), in
    the two passes different ones.

    Args:
        denoiser: the network.
        images: what it was trained on.
        member_of: which of them each group has; a group without any has no curvature.
        seed: the root seed.
        draws: for each image and pass; even.
        norms: cover normalisation layers too, as dense blocks.
        sharing: how positions that share a weight count, see ``influence.curvature``.
        flip: the model was trained on mirrored images as well.
        examples: noisy images per network call, at most; for speed only.

    Raises:
        BegatError: no layer can be covered.
    """
    layers = covered_layers(denoiser.module, norms=norms)
    if not layers:
        raise BegatError("factors: the network has no convolution or linear layer to cover")
    shape: Shape = (images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3])
    times = denoiser.schedule.timesteps

    def dealt(step: str) -> DrawsOf:
        return own_draws(seed, f"factors/{step}", draws, times, shape, flip=flip)

    covariance = covariances(
        denoiser,
        layers,
        images,
        dealt("covariances"),
        fake_gradients(seed, "factors/covariances"),
        sharing=sharing,
        examples=examples,
    )
    found = eigenbases(covariance, denoiser.like)
    every = np.concatenate([np.ones((1, len(images)), bool), member_of])
    values, *of_groups = eigenvalues(
        denoiser,
        layers,
        images,
        dealt("eigenvalues"),
        fake_gradients(seed, "factors/eigenvalues"),
        found,
        groups=torch.from_numpy(every).float(),
        examples=examples,
    )
    for layer, parts in found.items():
        parts |= values[layer]
        for name in values[layer] if of_groups else ():
            parts[f"group_{name}"] = torch.stack([group[layer][name] for group in of_groups])
    return {
        layer: {name: v.cpu().numpy() for name, v in parts.items()}
        for layer, parts in found.items()
    }


def left_out(denoiser: Denoiser, found: Arrays, *, norms: bool) -> dict[str, Any]:
    """What contributes nothing to a score, and why.

    ``uncovered``: parameters outside all covered layers, each with its share of all parameters.
    ``dead``: blocks of parameters without any curvature.
    """
    layers = covered_layers(denoiser.module, norms=norms)
    tensors = {n: {k: torch.from_numpy(v) for k, v in part.items()} for n, part in found.items()}
    dead = dead_blocks(blocks(layers, tensors, "ekfac"))
    return {"uncovered": uncovered(denoiser.module, layers), "dead": dead}
