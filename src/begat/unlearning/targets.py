"""What a model that forgets is to predict on forget images: one function per published target.

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
Logits = Float[Tensor, "group batch image"]


@dataclass(frozen=True)
class Scene:
    """Noised forget images of every group, and what a target may know about them.

    Attributes:
        noisy: x_t.
        signal, sigma: its scales, shaped to multiply it.
        taught: asks for what the full model predicts.
        elsewhere: the same under another label.
        fresh: noise that has nothing to do with x_t.
        pick: a uniform number in 0..1 per image, to pick a retained image by.
        images: all training images in -1..1, flat, in float64.
        candidates: which of them a target may use for each forget image.
        neighbours: how many of them ``retrack`` keeps.
        strength: how far ``esd`` is pushed beyond the unconditional prediction.
    """

    noisy: Images
    signal: Float[Tensor, "group batch 1 1 1"]
    sigma: Float[Tensor, "group batch 1 1 1"]
    taught: Callable[[], Images]
    elsewhere: Callable[[], Images]
    fresh: Images
    pick: Float[Tensor, "group batch"]
    images: Float[Tensor, "image pixel"]
    candidates: Bool[Tensor, "group batch image"]
    neighbours: int
    strength: float


Target = Callable[[Scene], Images]


def likelihoods(
    noisy: Images,
    signal: Float[Tensor, "group batch 1 1 1"],
    sigma: Float[Tensor, "group batch 1 1 1"],
    images: Float[Tensor, "image pixel"],
    candidates: Bool[Tensor, "group batch image"],
) -> Logits:
    """Log likelihood of x_t under each candidate, but for what is the same for all of them.

    ``-|v_r|^2 / 2`` in float64: it is about minus half the number of pixels even for the true
    image, and exp of that is 0 in float32 from some 200 pixels on.
    """
    scale = signal.flatten(2).double() / sigma.flatten(2).double()
    x = noisy.flatten(2).double() * (scale / sigma.flatten(2).double())
    logits = torch.addcmul(x @ images.T, scale.square(), images.square().sum(1), value=-0.5)
    return logits.masked_fill_(~candidates, -torch.inf)


def likelihoods_in(scene: Scene) -> Logits:
    """Those of the scene's candidates."""
    return likelihoods(scene.noisy, scene.signal, scene.sigma, scene.images, scene.candidates)


def implied_noise(scene: Scene, image: Images) -> Images:
    """The noise that would have led from ``image`` to x_t."""
    return (scene.noisy - scene.signal * image) / scene.sigma


def ideal_noise(scene: Scene, weight: Logits) -> Images:
    """The noise implied by the mean of the retained images under these weights."""
    mean = (weight @ scene.images).view(scene.noisy.shape)
    return implied_noise(scene, mean.to(scene.noisy))


def posterior_mean(scene: Scene) -> Images:
    """What the ideal denoiser of the retained images predicts: retraining's own optimum.

    It memorises, so at low noise, where a retrained network denoises unseen groups well, it
    overshoots (``Forgetting.above``).
    """
    return ideal_noise(scene, likelihoods_in(scene).softmax(-1))


def retrack(scene: Scene) -> Images:
    """The ideal denoiser of the ``neighbours`` likeliest retained images (arXiv 2509.13007).

    The released code exponentiates before it normalises, which gives 0 at 3,072 pixels; here the
    weights are a softmax. Neighbours are nearest to x_t: what truncation drops weighs least.
    """
    logits = likelihoods_in(scene)
    kept = logits.topk(min(scene.neighbours, logits.shape[-1]), dim=-1)
    few = torch.zeros_like(logits).scatter(-1, kept.indices, kept.values.softmax(-1))
    return ideal_noise(scene, few)


def anchor(scene: Scene) -> Images:
    """What the full model predicts under another label (GUDA, arXiv 2601.22651)."""
    return scene.elsewhere()


def esd(scene: Scene) -> Images:
    """Away from the own label: other - strength (own - other) (arXiv 2303.07345).

    The other label stands for no label: give a null label, or none, for a drawn one, which has the
    same gradient in the mean.
    """
    other = scene.elsewhere()
    return other - scene.strength * (scene.taught() - other)


def picked(
    candidates: Bool[Tensor, "group batch image"], pick: Float[Tensor, "group batch"]
) -> Int[Tensor, "group batch"]:
    """The index of the candidate at the share ``pick`` of all candidates."""
    place = (pick * candidates.sum(-1)).long()
    return (candidates.cumsum(-1) == (place + 1)[..., None]).int().argmax(-1)


def swap(scene: Scene) -> Images:
    """The noise implied by one random retained image."""
    image = scene.images[picked(scene.candidates, scene.pick)].view(scene.noisy.shape)
    return implied_noise(scene, image.to(scene.noisy))


def noise(scene: Scene) -> Images:
    """Fresh noise."""
    return scene.fresh


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (posterior_mean, retrack, anchor, esd, swap, noise)
}
