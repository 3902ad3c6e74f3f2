"""Targets of unlearning: the noise to predict on forget images, one function per published target.

All targets are predicted noise, whatever the network outputs. Symbols: ``x_t`` a noised forget
image, ``sqrt(ab)`` and ``sigma = sqrt(1 - ab)`` its scales, ``a_r`` retained images,
``v_r = (x_t - sqrt(ab) a_r) / sigma`` the noise that would have led from ``a_r`` to ``x_t``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "group batch channel y x"]
Scale = Float[Tensor, "group batch 1 1 1"]
Logits = Float[Tensor, "group batch image"]


@dataclass(frozen=True)
class TargetInputs:
    """Data and random numbers that targets may use in one step, beside the forget images.

    Attributes:
        fresh_noise: independent of the noise of the forget images.
        uniform: a number in [0, 1) per forget image, for the choice of a retained image.
        images: all training images in -1..1, flat, in float64.
        candidates: which of them a target may use for each forget image.
        anchor_label: the label under which the full model predicts an anchor, None without labels.
    """

    fresh_noise: Images
    uniform: Float[Tensor, "group batch"]
    images: Float[Tensor, "image pixel"]
    candidates: Bool[Tensor, "group batch image"]
    anchor_label: Int[Tensor, "group batch"] | None


@dataclass(frozen=True)
class TargetContext:
    """Noised forget images of every group, and all that their targets may depend on.

    Attributes:
        noisy: x_t.
        signal, sigma: its scales, shaped to multiply it.
        teacher_noise: lazily evaluates the full model's prediction.
        anchor_noise: the same under the anchor label.
        error_weight: weight over time of the squared distance from the target.
        inputs: images, candidates and random numbers.
    """

    noisy: Images
    signal: Scale
    sigma: Scale
    teacher_noise: Callable[[], Images]
    anchor_noise: Callable[[], Images]
    error_weight: Scale
    inputs: TargetInputs


Target = Callable[[TargetContext], Images]


def log_likelihoods(
    noisy: Images,
    signal: Scale,
    sigma: Scale,
    images: Float[Tensor, "image pixel"],
    candidates: Bool[Tensor, "group batch image"],
) -> Logits:
    """The log likelihood of x_t under each candidate, less what is the same for all of them.

    ``-|v_r|^2 / 2`` in float64: it is about minus half the number of pixels even for the true
    image, and exp of that is 0 in float32 from some 200 pixels on.
    """
    scale = signal.flatten(2).double() / sigma.flatten(2).double()  # [group, batch, 1]
    x = noisy.flatten(2).double() * (scale / sigma.flatten(2).double())  # [group, batch, pixel]
    logits = torch.addcmul(x @ images.T, scale.square(), images.square().sum(1), value=-0.5)
    return logits.masked_fill_(~candidates, -torch.inf)


def candidate_log_likelihoods(context: TargetContext) -> Logits:
    """The log likelihoods of a context's candidates."""
    inputs, scales = context.inputs, (context.signal, context.sigma)
    return log_likelihoods(context.noisy, *scales, inputs.images, inputs.candidates)


def implied_noise(context: TargetContext, image: Images) -> Images:
    """The noise that would have led from ``image`` to x_t."""
    return (context.noisy - context.signal * image) / context.sigma


def ideal_noise(context: TargetContext, weight: Logits) -> Images:
    """The noise implied by the mean of the candidates under these weights."""
    mean = (weight @ context.inputs.images).view(context.noisy.shape)
    return implied_noise(context, mean.to(context.noisy))


def posterior_mean(context: TargetContext) -> Images:
    """The prediction of the ideal denoiser of the retained images: the optimum of retraining.

    It memorises, so at low noise, where a retrained network denoises images of unseen groups well,
    it overshoots (``TargetOperator.min_noise_variance``).
    """
    return ideal_noise(context, candidate_log_likelihoods(context).softmax(-1))


def retrack(context: TargetContext, num_neighbours: int) -> Images:
    """The ideal denoiser of the ``num_neighbours`` likeliest retained images (arXiv 2509.13007).

    The released code exponentiates before it normalises, which gives 0 at 3,072 pixels; here the
    weights are a softmax. Neighbours are the nearest to x_t: the truncated weights are the least.
    """
    logits = candidate_log_likelihoods(context)
    nearest = logits.topk(min(num_neighbours, logits.shape[-1]), dim=-1)
    weight = torch.zeros_like(logits).scatter(-1, nearest.indices, nearest.values.softmax(-1))
    return ideal_noise(context, weight)


def anchor(context: TargetContext) -> Images:
    """The full model's prediction under the anchor label (GUDA, arXiv 2601.22651)."""
    return context.anchor_noise()


def esd(context: TargetContext, guidance_strength: float) -> Images:
    """The prediction guided away from the label: anchor - strength (own - anchor).

    Source: ESD, arXiv 2303.07345, with the unconditional prediction for the anchor's. A null label
    gives it; a random retained label has the same gradient in the mean.
    """
    other = context.anchor_noise()
    return other - guidance_strength * (context.teacher_noise() - other)


def select_candidate(
    candidates: Bool[Tensor, "group batch image"], uniform: Float[Tensor, "group batch"]
) -> Int[Tensor, "group batch"]:
    """The index of the candidate at the fraction ``uniform`` of all candidates."""
    rank = (uniform * candidates.sum(-1)).long()
    return (candidates.cumsum(-1) == (rank + 1)[..., None]).int().argmax(-1)


def swap(context: TargetContext) -> Images:
    """The noise implied by one random retained image."""
    inputs = context.inputs
    index = select_candidate(inputs.candidates, inputs.uniform)
    image = inputs.images[index].view(context.noisy.shape)
    return implied_noise(context, image.to(context.noisy))


def noise(context: TargetContext) -> Images:
    """Fresh noise."""
    return context.inputs.fresh_noise
