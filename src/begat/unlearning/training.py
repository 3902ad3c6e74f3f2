"""Unlearning a pack: K copies of one model, each forgetting its own group, side by side."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import (
    Prediction,
    Schedule,
    diffuse,
    predicted_noise,
    training_target,
)
from begat.diffusion.training import PackOptimiser
from begat.diffusion.unet import UNetConfig, unet
from begat.unlearning.operators import OPERATORS, Forgetting, Half, mean_square, objective
from begat.unlearning.targets import Images, Scene

Rows = Float[Tensor, "group parameter"]
Precondition = Callable[[Rows], Rows]
WINDOW = 10  # steps over which progress towards a goal is averaged
LOOK = 5  # steps between two looks at curves that nothing depends on


@dataclass(frozen=True)
class Noised:
    """Every group's batch of images with the noise they are given; labels if the model has any.

    ``first`` is where, counting through groups and images, each was met first with the same noise:
    one model has to look at it once.
    """

    image: Images
    timestep: Int[Tensor, "group batch"]
    noise: Images
    label: Int[Tensor, "group batch"] | None
    first: Int[Tensor, "group batch"]


@dataclass(frozen=True)
class Knowledge:
    """What targets may look at in one step, beside the images to forget; fields as in ``Scene``.

    ``other`` are the labels under which the full model is asked for an anchor.
    """

    fresh: Images
    pick: Float[Tensor, "group batch"]
    images: Float[Tensor, "image pixel"]
    candidates: Bool[Tensor, "group batch image"]
    other: Int[Tensor, "group batch"] | None


@dataclass(frozen=True)
class Network:
    """What turns rows of weights into predicted noise."""

    config: UNetConfig
    schedule: Schedule
    prediction: Prediction

    def output(
        self,
        rows: Rows,
        noisy: Images,
        timestep: Int[Tensor, "group batch"],
        label: Int[Tensor, "group batch"] | None,
    ) -> Images:
        """What each model returns for its own batch: the noise, or v."""
        return unet(unflatten(rows, self.config), self.config, noisy, timestep, label)

    def noise(
        self,
        rows: Rows,
        noisy: Images,
        timestep: Int[Tensor, "group batch"],
        label: Int[Tensor, "group batch"] | None,
    ) -> Images:
        """The noise that each model sees in its own batch."""
        output = self.output(rows, noisy, timestep, label)
        return predicted_noise(self.schedule, self.prediction, output, noisy, timestep)

    def gradient(self, rows: Rows, batch: Noised) -> Rows:
        """Gradient of the loss that each model was trained on, on its own batch.

        That of the noise loss would not fit the curvature of a model that predicts v: the two
        losses differ by a factor that depends on time.
        """
        leaf = rows.detach().requires_grad_()
        seen = batch.image, batch.timestep, batch.noise
        noisy = diffuse(self.schedule, *seen)
        target = training_target(self.schedule, self.prediction, *seen)
        output = self.output(leaf, noisy, batch.timestep, batch.label)
        return torch.autograd.grad(mean_square(output - target).sum(), [leaf])[0]


class PackUnlearning(PackOptimiser):
    """A pack in the course of forgetting.

    The objective is a sum over groups, the teacher one model for all: none knows of the others.
    """

    def __init__(
        self,
        network: Network,
        full: Float[Tensor, "1 parameter"],
        start: Rows,
        how: Forgetting,
        *,
        steps: int,
        learning_rate: float,
        warmup: int,
        weight_decay: float,
        clip: float,
        ema: float,
        mask: Bool[Tensor, "group parameter"] | None = None,
        fisher: Float[Tensor, "1 parameter"] | None = None,
    ) -> None:
        super().__init__(
            start,
            steps=steps,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            clip=clip,
            ema=ema,
        )
        self.network, self.schedule = network, network.schedule
        self.full, self.how, self.mask, self.fisher = full, how, mask, fisher

    @torch.no_grad()
    def teach(
        self,
        noisy: Images,
        timestep: Int[Tensor, "group batch"],
        label: Int[Tensor, "group batch"] | None,
        first: Int[Tensor, "group batch"] | None = None,
    ) -> Images:
        """The noise that the full model sees, asked once wherever groups meet the same.

        Asked as two copies side by side: grouped convolutions are a third faster on a CPU.
        """
        if first is None:
            first = torch.arange(timestep.numel(), device=timestep.device).view_as(timestep)
        once, again = first.unique(return_inverse=True)
        once = torch.cat([once, once[: len(once) % 2]])

        def halved(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[once].unflatten(0, (2, -1))

        labels = None if label is None else halved(label)
        twins = self.full.expand(2, -1)
        found = self.network.noise(twins, halved(noisy), halved(timestep), labels)
        return found.flatten(0, 1)[again]

    def step(
        self, retain: Noised, forget: Noised, known: Knowledge, frozen: Bool[Tensor, " group"]
    ) -> dict[str, Float[Tensor, " group"]]:
        """Take one step with all models but the frozen; returns what it found before it.

        ``forget_loss`` and ``retain_loss`` are denoising losses, ``retain_drift`` is the squared
        distance from the full model's prediction, ``forget_rise`` the forget loss less the full
        model's on the same draws: means over batch and pixels. What neither the objective nor the
        stopping rule needs is found in every ``LOOK``-th step only.
        """
        look = self.how.stop == "rise" or self.steps_done % LOOK == 0
        gone: Half | None
        if OPERATORS[self.how.operator].forget is None:
            (kept,) = self._predicted(retain)
            loss = objective(self.how, kept)
            with torch.no_grad():
                gone = self._predicted(forget)[0] if look else None
        else:
            kept, gone = self._predicted(retain, forget)
            loss = objective(self.how, kept, gone, self._scene(gone, forget.timestep, known))
        (gradient,) = torch.autograd.grad(loss.sum(), [self.weights], materialize_grads=True)
        self._move(gradient, frozen)
        with torch.no_grad():
            found = {"retain_loss": mean_square(kept.predicted - kept.noise)}
            if look or self.how.stop == "drift":
                found["retain_drift"] = mean_square(kept.predicted - kept.taught())
            if gone is not None:
                found["forget_loss"] = mean_square(gone.predicted - gone.noise)
                if look:
                    before = mean_square(gone.taught() - gone.noise)
                    found["forget_rise"] = found["forget_loss"] - before
            return found

    def _predicted(self, *batches: Noised) -> list[Half]:
        """The models' predictions on one or two batches of equal size, in one network call."""
        image = torch.cat([of.image for of in batches], 1)
        timestep = torch.cat([of.timestep for of in batches], 1)
        noise = torch.cat([of.noise for of in batches], 1)
        labels = [of.label for of in batches if of.label is not None]
        noisy = diffuse(self.schedule, image, timestep, noise)
        label = torch.cat(labels, 1) if labels else None
        output = self.network.output(self.weights, noisy, timestep, label)
        how = self.schedule, self.network.prediction
        predicted = predicted_noise(*how, output, noisy, timestep)
        error = output - training_target(*how, image, timestep, noise)
        parts = (values.chunk(len(batches), 1) for values in (noisy, predicted, error))
        return [
            Half(
                of.image,
                seen,
                of.noise,
                found,
                cache(partial(self.teach, seen, of.timestep, of.label, of.first)),
                wrong,
            )
            for of, seen, found, wrong in zip(batches, *parts, strict=True)
        ]

    def _scene(self, gone: Half, timestep: Int[Tensor, "group batch"], known: Knowledge) -> Scene:
        signal, sigma = self.schedule.scales(timestep, gone.noisy)
        return Scene(
            noisy=gone.noisy,
            signal=signal,
            sigma=sigma,
            taught=gone.taught,
            elsewhere=partial(self.teach, gone.noisy, timestep, known.other),
            fresh=known.fresh,
            pick=known.pick,
            images=known.images,
            candidates=known.candidates,
            neighbours=self.how.neighbours,
            strength=self.how.strength,
        )

    def _move(self, gradient: Rows, frozen: Bool[Tensor, " group"]) -> None:
        if self.fisher is not None:
            away = self.weights.detach() - self.full
            gradient = gradient + self.how.penalty * self.fisher * away
        still = frozen[:, None] if self.mask is None else frozen[:, None] | ~self.mask
        self.move(gradient, still if still.any() else None)


def reached(curve: Float[Tensor, "group step"], goal: float) -> Bool[Tensor, " group"]:
    """Which groups' mean over the last ``WINDOW`` steps has reached the goal."""
    if curve.shape[1] < WINDOW:
        return torch.zeros(len(curve), dtype=torch.bool)
    return curve[:, -WINDOW:].mean(1) >= goal


def group_gradient(network: Network, rows: Rows, batches: Iterable[Noised]) -> Rows:
    """The gradient of each group's training loss at its row, mean over batches."""
    return torch.stack([network.gradient(rows, batch) for batch in batches]).mean(0)


def diagonal_fisher(
    network: Network, full: Float[Tensor, "1 parameter"], batches: Iterable[Noised]
) -> Float[Tensor, "1 parameter"]:
    """Mean squared gradient of single images' training losses at the full model's weights.

    Every image is a pack member of its own, a copy of the full model with a batch of one.
    """
    squares = [
        network.gradient(full.expand(len(batch.image), -1), batch).square().mean(0, keepdim=True)
        for batch in batches
    ]
    return torch.stack(squares).mean(0)


def newton(
    full: Float[Tensor, "1 parameter"],
    gradient: Rows,
    sizes: Int[Tensor, " group"],
    images: int,
    precondition: Precondition,
) -> Rows:
    """Every group's weights after one Newton step away from its images.

    ``theta + (1/N) G^-1 sum_{j in group} grad loss_j``: what an influence function takes
    retraining without the group to do, to first order. Gradient and curvature are of the loss that
    was trained; with the curvature that is left without the group (``kronecker.without``) the step
    is exact for a quadratic loss.

    Args:
        full: theta.
        gradient: the group's *mean* gradient at theta, from ``group_gradient``.
        sizes: how many images each group has.
        images: N, all of them.
        precondition: G^-1 applied to rows; the curvature comes from elsewhere.
    """
    return full + precondition(gradient * (sizes.to(gradient) / images)[:, None])
