"""Ways to forget: what each operator asks of the model, chosen by name from one table.

An operator is a term on forget images that is added to a term on retained ones. Both are means
over pixels and batch of squared errors of the predicted noise, one value per group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.errors import BegatError
from begat.unlearning.targets import TARGETS, Images, Scene, Target

PerGroup = Float[Tensor, " group"]
Term = Callable[["Forgetting", "Half", "Half", Scene], PerGroup]


@dataclass(frozen=True)
class Forgetting:
    """How to forget.

    Attributes:
        operator: a name of ``OPERATORS``.
        retain: on retained images, ``distil`` the full model's prediction or ``denoise``.
        balance: lambda, the weight of the forget term.
        mixing: ``added``, keep + lambda forget, or ``shared``, (1 - lambda) keep + lambda forget.
        weighting: of the forget error over time, a name of ``WEIGHTINGS``.
        above: the noise variance (0..1) from which a target holds; below, the full model is kept.
        neighbours: retained images that ``retrack`` looks at.
        strength: how far ``esd`` pushes, and how much of its forget term ``siss`` subtracts.
        cap: the forget loss that ``ascent`` climbs to.
        share: the share of the weights that ``salun`` lets move.
        penalty: the weight of the penalty of ``ewc``.
        stop: ``steps``, all of them; or until the goal is reached in ``drift`` on retained or in
            ``rise`` of the loss on forget images.
        goal: that drift, or rise: mean squared noise error per pixel.
    """

    operator: str = "retain_only"
    retain: Literal["distil", "denoise"] = "denoise"
    balance: float = 1.0
    mixing: Literal["added", "shared"] = "added"
    weighting: str = "clean"
    above: float = 0.0
    neighbours: int = 10
    strength: float = 1.0
    cap: float = 1.0
    share: float = 0.5
    penalty: float = 10.0
    stop: Literal["steps", "drift", "rise"] = "steps"
    goal: float = 0.0

    def __post_init__(self) -> None:
        """Raise BegatError where a name is unknown or a number impossible."""
        for key, table in (("operator", OPERATORS), ("weighting", WEIGHTINGS)):
            if (found := getattr(self, key)) not in table:
                raise BegatError(f"unlearned.{key}: expected one of {', '.join(table)}: {found!r}")
        if self.mixing == "shared" and not 0 <= self.balance <= 1:
            raise BegatError(f"unlearned.balance: expected 0..1 if shared, found {self.balance}")
        if self.stop != "steps" and self.goal <= 0:
            raise BegatError(f"unlearned.goal: expected a positive {self.stop}, found {self.goal}")
        if self.neighbours < 1:
            raise BegatError(f"unlearned.neighbours: expected at least 1, found {self.neighbours}")


@dataclass(frozen=True)
class Half:
    """The retained, or the forgotten, half of a step's images, and what is predicted on them.

    The two halves share their timesteps, image by image.

    Attributes:
        image: the images themselves.
        noisy: the images noised.
        noise: the noise that was added.
        predicted: the noise that the forgetting model sees.
        taught: asks for the noise that the full model sees: on forgotten images few need it.
        error: of the network's output, as it is trained (v or noise).
    """

    image: Images
    noisy: Images
    noise: Images
    predicted: Images
    taught: Callable[[], Images]
    error: Images


def mean_square(error: Images) -> PerGroup:
    """Mean square over everything but the groups."""
    return error.square().mean(dim=(1, 2, 3, 4))


def denoise(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
    """The denoising loss on retained images."""
    return mean_square(retain.predicted - retain.noise)


def distil(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
    """The squared distance from the full model on retained images."""
    return mean_square(retain.predicted - retain.taught())


Weighting = Callable[[Scene], Float[Tensor, "group batch 1 1 1"]]
WEIGHTINGS: dict[str, Weighting] = {
    # squared error of the noise; of v or, multiplied by the signal, of the clean image; the
    # latter vanishes at low noise, where an ideal denoiser overshoots most
    "noise": lambda scene: torch.ones_like(scene.sigma),
    "velocity": lambda scene: scene.signal.square().clamp(min=1e-3).reciprocal(),
    "clean": lambda scene: scene.sigma.square(),
}


def toward(target: Target) -> Term:
    """The term that draws predictions on forget images to a target."""

    def term(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
        goal = target(scene)
        if how.above > 0:
            goal = torch.where(scene.sigma.square() >= how.above, goal, scene.taught())
        weight = WEIGHTINGS[how.weighting](scene)
        return mean_square(weight.sqrt() * (forget.predicted - goal))

    return term


def ascent(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
    """Minus the denoising loss on forget images, as long as it is below the cap."""
    return -mean_square(forget.predicted - forget.noise).clamp(max=how.cap)


def mixture_losses(retain: Half, forget: Half, scene: Scene) -> tuple[PerGroup, PerGroup]:
    """Denoising losses on retained and on forget images, both taken on the mixture of the two.

    Half of the points come from either image of a pair, and each counts by how much likelier it
    is under the image than under the mixture: bounded weights, and one set of predictions for
    both losses. Alberti et al., arXiv 2503.01034; here the mixture
    weight is 1/2, stratified, and the first image is a retained one, not any.
    """
    noisy = torch.cat([retain.noisy, forget.noisy], 1)
    predicted = torch.cat([retain.predicted, forget.predicted], 1)
    signal, sigma = (torch.cat([scale, scale], 1) for scale in (scene.signal, scene.sigma))
    implied = [
        (noisy - signal * torch.cat([half.image, half.image], 1)) / sigma
        for half in (retain, forget)
    ]
    square = [noise.double().square().sum((2, 3, 4)) for noise in implied]
    share = torch.sigmoid((square[1] - square[0]) / 2).to(noisy)[..., None, None, None]
    return (
        mean_square((2 * share).sqrt() * (predicted - implied[0])),
        mean_square((2 - 2 * share).sqrt() * (predicted - implied[1])),
    )


def siss_keep(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
    """The denoising loss on retained images, taken on the mixture."""
    return mixture_losses(retain, forget, scene)[0]


def siss_forget(how: Forgetting, retain: Half, forget: Half, scene: Scene) -> PerGroup:
    """Minus ``strength`` times the denoising loss on forget images, taken on the mixture."""
    return -how.strength * mixture_losses(retain, forget, scene)[1]


@dataclass(frozen=True)
class Operator:
    """What an operator is made of.

    Attributes:
        forget: the term on forget images; None: the training's own loss on what is retained.
        keep: the term on retained images, where the operator leaves no choice.
        masked: only the weights move that the forget images' gradient touches most.
        anchored: moving weights costs by their diagonal Fisher information.
    """

    forget: Term | None
    keep: Term | None = None
    masked: bool = False
    anchored: bool = False


OPERATORS: dict[str, Operator] = {
    **{name: Operator(toward(target)) for name, target in TARGETS.items()},
    "ascent": Operator(ascent),
    "retain_only": Operator(None),
    # Alberti et al., arXiv 2503.01034
    "siss": Operator(siss_forget, siss_keep),
    # Fan et al., arXiv 2310.12508: which weights may move; the target is swap's
    "salun": Operator(toward(TARGETS["swap"]), masked=True),
    # selective amnesia, Heng & Soh, arXiv 2305.10120
    "ewc": Operator(toward(TARGETS["noise"]), anchored=True),
}


def objective(
    how: Forgetting, retain: Half, forget: Half | None = None, scene: Scene | None = None
) -> PerGroup:
    """What each group's model minimises; the last two where the operator has a forget term."""
    operator = OPERATORS[how.operator]
    if operator.forget is None or forget is None or scene is None:
        return mean_square(retain.error)
    keep = operator.keep or {"distil": distil, "denoise": denoise}[how.retain]
    kept = keep(how, retain, forget, scene)
    if how.mixing == "shared":
        kept = (1 - how.balance) * kept
    return kept + how.balance * operator.forget(how, retain, forget, scene)


def most_touched(
    gradient: Float[Tensor, "group parameter"], share: float
) -> Bool[Tensor, "group parameter"]:
    """Which weights hold the largest ``share`` of absolute gradients, for each group apart."""
    count = max(1, round(share * gradient.shape[1]))
    chosen = gradient.abs().topk(count, dim=1).indices
    return torch.zeros_like(gradient, dtype=torch.bool).scatter(1, chosen, True)
