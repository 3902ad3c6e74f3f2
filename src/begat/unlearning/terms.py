"""Loss terms of unlearning operators, on retained and on forget images.

Terms are means over pixels and batch of squared errors of the predicted noise, one value per
group; an operator adds a term on forget images to one on retained images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.packed_network import mean_square
from begat.unlearning.targets import Images, Scale, Target, TargetContext

PerGroup = Float[Tensor, " group"]


@dataclass(frozen=True)
class DenoisingBatch:
    """The retained or the forget images of a step, noised, with the models' predictions.

    Retained and forget images share their timesteps, image by image.

    Attributes:
        image: in -1..1.
        noisy: the noised images.
        noise: the noise that was added.
        predicted: the noise predicted by each group's model.
        teacher_noise: lazily evaluates the full model's prediction (few operators need it on
            forget images).
        error: of the network's output, as it is trained (of v or of the noise).
    """

    image: Images
    noisy: Images
    noise: Images
    predicted: Images
    teacher_noise: Callable[[], Images]
    error: Images


Term = Callable[[DenoisingBatch, DenoisingBatch, TargetContext], PerGroup]
Mask = Callable[[Float[Tensor, "group parameter"]], Bool[Tensor, "group parameter"]]


@dataclass(frozen=True)
class Terms:
    """The parts of an operator.

    Attributes:
        forget: the term on forget images; None: no forget term, and the training's own loss on
            retained images.
        retain: the term on retained images, if the operator prescribes it.
        mask: which weights are updated, as a function of the gradient of the forget images.
        ewc_weight: weight of the penalty on changes of the weights by their diagonal Fisher
            information; None: no penalty.
    """

    forget: Term | None = None
    retain: Term | None = None
    mask: Mask | None = None
    ewc_weight: float | None = None


def denoise(retain: DenoisingBatch, forget: DenoisingBatch, context: TargetContext) -> PerGroup:
    """The denoising loss on retained images."""
    return mean_square(retain.predicted - retain.noise)


def distil(retain: DenoisingBatch, forget: DenoisingBatch, context: TargetContext) -> PerGroup:
    """The squared distance from the full model's prediction on retained images."""
    return mean_square(retain.predicted - retain.teacher_noise())


RETAIN_LOSSES: dict[str, Term] = {"distil": distil, "denoise": denoise}
ERROR_WEIGHTS: dict[str, Callable[[Scale, Scale], Scale]] = {
    # of the squared error of the noise, to make it that of v or (times the squared signal) of the
    # clean image; the latter vanishes at low noise, where an ideal denoiser overshoots most
    "noise": lambda signal, sigma: torch.ones_like(sigma),
    "velocity": lambda signal, sigma: signal.square().clamp(min=1e-3).reciprocal(),
    "clean": lambda signal, sigma: sigma.square(),
}


def target_loss(target: Target, min_noise_variance: float) -> Term:
    """The term that draws predictions on forget images to a target.

    Below the noise variance given, the target is the full model's prediction.
    """

    def term(retain: DenoisingBatch, forget: DenoisingBatch, context: TargetContext) -> PerGroup:
        goal = target(context)
        if min_noise_variance > 0:
            noisy_enough = context.sigma.square() >= min_noise_variance
            goal = torch.where(noisy_enough, goal, context.teacher_noise())
        return mean_square(context.error_weight.sqrt() * (forget.predicted - goal))

    return term


def ascent(
    retain: DenoisingBatch,
    forget: DenoisingBatch,
    context: TargetContext,
    max_forget_loss: float,
) -> PerGroup:
    """Minus the denoising loss on forget images, constant above the maximum."""
    return -mean_square(forget.predicted - forget.noise).clamp(max=max_forget_loss)


def mixture_losses(
    retain: DenoisingBatch, forget: DenoisingBatch, context: TargetContext
) -> tuple[PerGroup, PerGroup]:
    """Denoising losses on retained and on forget images, both sampled from the mixture of the two.

    Half of the points come from either image of a pair, and each is weighted by the ratio of its
    likelihood under the image to that under the mixture: bounded weights, and one set of
    predictions for both losses. Alberti et al., arXiv 2503.01034; here the mixture weight is 1/2,
    stratified, and the first image is a retained one, not any.
    """
    noisy = torch.cat([retain.noisy, forget.noisy], 1)  # [group, 2 batch, channel, y, x]
    predicted = torch.cat([retain.predicted, forget.predicted], 1)
    signal, sigma = (torch.cat([scale, scale], 1) for scale in (context.signal, context.sigma))
    implied = [
        (noisy - signal * torch.cat([batch.image, batch.image], 1)) / sigma
        for batch in (retain, forget)
    ]
    norms = [noise.double().square().sum((2, 3, 4)) for noise in implied]
    posterior = torch.sigmoid((norms[1] - norms[0]) / 2).to(noisy)[..., None, None, None]
    return (
        mean_square((2 * posterior).sqrt() * (predicted - implied[0])),
        mean_square((2 - 2 * posterior).sqrt() * (predicted - implied[1])),
    )


def siss_retain(retain: DenoisingBatch, forget: DenoisingBatch, context: TargetContext) -> PerGroup:
    """The denoising loss on retained images, sampled from the mixture."""
    return mixture_losses(retain, forget, context)[0]


def siss_forget(
    retain: DenoisingBatch,
    forget: DenoisingBatch,
    context: TargetContext,
    forget_strength: float,
) -> PerGroup:
    """Minus a multiple of the denoising loss on forget images, sampled from the mixture."""
    return -forget_strength * mixture_losses(retain, forget, context)[1]


def saliency_mask(
    gradient: Float[Tensor, "group parameter"], mask_fraction: float
) -> Bool[Tensor, "group parameter"]:
    """True for the fraction of each group's weights with the largest absolute gradients."""
    count = max(1, round(mask_fraction * gradient.shape[1]))
    index = gradient.abs().topk(count, dim=1).indices
    return torch.zeros_like(gradient, dtype=torch.bool).scatter(1, index, True)
