"""K-FAC and EK-FAC factors of a model's training loss, as arrays by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.draws import per_image_draws
from begat.errors import BegatError
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.corrected_eigenvalues import corrected_eigenvalues
from begat.influence.curvature import (
    WeightSharing,
    covariances,
    eigenbases,
    sampled_output_gradients,
)
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.kronecker import curvature_blocks, zero_curvature_blocks
from begat.influence.layers import Layer, tracked_layers, untracked_parameters

Factors = Mapping[str, Mapping[str, np.ndarray]]  # layer -> name -> values


@dataclass(frozen=True)
class FactorsConfig:
    """How factors are estimated.

    Attributes:
        draws: for each image and pass; even.
        norms: track normalisation layers too, as dense blocks.
        weight_sharing: how positions that share a weight count, see ``influence.curvature``.
        flip: the model was trained on mirrored images as well.
        max_examples: noisy images per network call; for speed only.
    """

    draws: int
    norms: bool = True
    weight_sharing: WeightSharing = "expand"
    flip: bool = False
    max_examples: int = MAX_EXAMPLES


def factors(
    denoiser: Denoiser,
    images: ImageSet,
    member_of: Bool[np.ndarray, "group image"],
    config: FactorsConfig,
    *,
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the curvature's eigenvectors and eigenvalues, as arrays by layer.

    Every layer with an input axis has ``activation_eigenvectors``, ``activation_eigenvalues``,
    ``gradient_eigenvectors``, ``gradient_eigenvalues`` (K-FAC), ``eigenvalues[output, input]`` and
    where there is a bias ``bias_eigenvalues[output]`` (EK-FAC); a normalisation layer has
    ``parameter_eigenvectors`` and ``parameter_eigenvalues``, weight before bias. An input axis of
    a convolution runs (ky, kx, channel). EK-FAC's values are also given for each group of images
    ``member_of``, in the same directions: ``group_...``; 0 for a group without any of ``images``.

    Raises:
        BegatError: no layer can be tracked.
    """
    layers = tracked_layers(denoiser.module, norms=config.norms)
    if not layers:
        raise BegatError("factors: the network has no convolution or linear layer to track")
    source = _source(denoiser, layers, images, config, seed, "factors/covariances")
    output_gradient = sampled_output_gradients(seed, "factors/covariances")
    covariance = covariances(source, images, output_gradient, weight_sharing=config.weight_sharing)
    bases = eigenbases(covariance, denoiser.like)
    all_and_groups = np.concatenate([np.ones((1, len(images)), bool), member_of])
    whole, *by_group = corrected_eigenvalues(
        _source(denoiser, layers, images, config, seed, "factors/eigenvalues"),
        images,
        sampled_output_gradients(seed, "factors/eigenvalues"),
        bases,
        groups=torch.from_numpy(all_and_groups).float(),
    )
    for layer, arrays in bases.items():
        arrays |= whole[layer]
        for name in whole[layer] if by_group else ():
            arrays[f"group_{name}"] = torch.stack([group[layer][name] for group in by_group])
    return {n: {k: v.cpu().numpy() for k, v in arrays.items()} for n, arrays in bases.items()}


def _source(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    images: ImageSet,
    config: FactorsConfig,
    seed: int,
    step: str,
) -> GradientSource:
    """Returns the draws of one pass, each image's own and different in each pass."""
    shape = images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3]
    timesteps = denoiser.schedule.timesteps
    draws = per_image_draws(seed, step, config.draws, timesteps, shape, flip=config.flip)
    return GradientSource(denoiser, layers, draws, config.max_examples)


def coverage_report(denoiser: Denoiser, arrays: Factors, *, norms: bool) -> dict[str, Any]:
    """Returns what contributes nothing to a score.

    ``uncovered``: untracked parameters, each with its share of all parameters.
    ``dead``: names of zero-curvature blocks.
    """
    layers = tracked_layers(denoiser.module, norms=norms)
    tensors = {n: {k: torch.from_numpy(v) for k, v in part.items()} for n, part in arrays.items()}
    zero = zero_curvature_blocks(curvature_blocks(layers, tensors, "ekfac"))
    return {"uncovered": untracked_parameters(denoiser.module, layers), "dead": zero}
