"""Optimisation of an unlearning pack: K copies of one model, each unlearning its own group."""

from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork, mean_square
from begat.diffusion.schedules import diffuse, predicted_noise, training_target
from begat.diffusion.training import PackOptimiser
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.targets import Images, TargetContext, TargetInputs
from begat.unlearning.terms import ERROR_WEIGHTS, RETAIN_LOSSES, DenoisingBatch, PerGroup

Rows = Float[Tensor, "group parameter"]
STOPPING_WINDOW = 10  # steps over which drift or rise is averaged for the stopping rule
CURVE_INTERVAL = 5  # steps between two values of a curve that nothing else needs


def objective(
    config: UnlearningConfig,
    retain: DenoisingBatch,
    forget: DenoisingBatch | None = None,
    context: TargetContext | None = None,
) -> PerGroup:
    """The loss that each group's model minimises.

    ``forget`` and ``context`` are required only if the operator has a forget term.
    """
    terms = config.operator.terms()
    if terms.forget is None or forget is None or context is None:
        return mean_square(retain.error)
    retain_term = terms.retain or RETAIN_LOSSES[config.retain_loss]
    retain_loss = retain_term(retain, forget, context)
    if config.loss_combination == "convex":
        retain_loss = (1 - config.forget_weight) * retain_loss
    return retain_loss + config.forget_weight * terms.forget(retain, forget, context)


class PackUnlearning(PackOptimiser):
    """A pack in the course of unlearning.

    The objective is a sum over groups with one teacher, the full model, so that no group's weights
    depend on the other groups.

    Attributes:
        mask: the weights that are updated; None: all.
        fisher: the diagonal Fisher information of the full model; None: no penalty.
    """

    def __init__(
        self,
        network: PackedNetwork,
        full: Float[Tensor, "1 parameter"],
        init: Rows,
        config: UnlearningConfig,
    ) -> None:
        super().__init__(init, config.optimiser)
        self.network, self.full, self.unlearning = network, full, config
        self.terms = config.operator.terms()
        self.mask: Bool[Tensor, "group parameter"] | None = None
        self.fisher: Float[Tensor, "1 parameter"] | None = None

    @torch.no_grad()
    def teacher_noise(
        self,
        noisy: Images,
        timestep: Int[Tensor, "group batch"],
        label: Int[Tensor, "group batch"] | None,
        first_occurrence: Int[Tensor, "group batch"] | None = None,
    ) -> Images:
        """The noise predicted by the full model, evaluated once per distinct input.

        The inputs are split between two copies: grouped convolutions are a third faster on a CPU.
        """
        if first_occurrence is None:
            indices = torch.arange(timestep.numel(), device=timestep.device)
            first_occurrence = indices.view_as(timestep)
        distinct, position = first_occurrence.unique(return_inverse=True)
        distinct = torch.cat([distinct, distinct[: len(distinct) % 2]])

        def halves(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[distinct].unflatten(0, (2, -1))

        labels = None if label is None else halves(label)
        copies = self.full.expand(2, -1)
        predicted = self.network.predict_noise(copies, halves(noisy), halves(timestep), labels)
        return predicted.flatten(0, 1)[position]

    def step(
        self,
        retain: NoisedBatch,
        forget: NoisedBatch,
        inputs: TargetInputs,
        frozen: Bool[Tensor, " group"],
    ) -> dict[str, Float[Tensor, " group"]]:
        """Take one step with all models that are not frozen; returns the curves' values before it.

        ``forget_loss`` and ``retain_loss`` are denoising losses, ``retain_drift`` is the squared
        distance from the full model's prediction, ``forget_rise`` the forget loss less the full
        model's on the same draws: means over batch and pixels. What neither the objective nor the
        stopping rule needs is evaluated in every ``CURVE_INTERVAL``-th step only.
        """
        stopping_rule = self.unlearning.stopping_rule
        log_rise = stopping_rule == "rise" or self.steps_done % CURVE_INTERVAL == 0
        log_drift = stopping_rule == "drift" or log_rise
        forgotten: DenoisingBatch | None
        if self.terms.forget is None:
            (retained,) = self._predict(retain)
            loss = objective(self.unlearning, retained)
            with torch.no_grad():
                forgotten = self._predict(forget)[0] if log_rise else None
        else:
            retained, forgotten = self._predict(retain, forget)
            context = self._context(forgotten, forget.timestep, inputs)
            loss = objective(self.unlearning, retained, forgotten, context)
        (gradient,) = torch.autograd.grad(loss.sum(), [self.weights], materialize_grads=True)
        self._update(gradient, frozen)
        return _curve_values(retained, forgotten, log_rise=log_rise, log_drift=log_drift)

    def _predict(self, *batches: NoisedBatch) -> list[DenoisingBatch]:
        """The models' predictions on one or two batches of equal size, in one network call."""
        image = torch.cat([batch.image for batch in batches], 1)
        timestep = torch.cat([batch.timestep for batch in batches], 1)
        noise = torch.cat([batch.noise for batch in batches], 1)
        labels = [batch.label for batch in batches if batch.label is not None]
        label = torch.cat(labels, 1) if labels else None
        process = self.network.schedule, self.network.prediction_type
        noisy = diffuse(self.network.schedule, image, timestep, noise)
        output = self.network.output(self.weights, noisy, timestep, label)
        predicted = predicted_noise(*process, output, noisy, timestep)
        error = output - training_target(*process, image, timestep, noise)
        parts = (values.chunk(len(batches), 1) for values in (noisy, predicted, error))
        return [
            DenoisingBatch(
                batch.image,
                own_noisy,
                batch.noise,
                own_predicted,
                cache(self._teacher(batch, own_noisy)),
                own_error,
            )
            for batch, own_noisy, own_predicted, own_error in zip(batches, *parts, strict=True)
        ]

    def _teacher(self, batch: NoisedBatch, noisy: Images) -> partial[Images]:
        inputs = noisy, batch.timestep, batch.label, batch.first_occurrence
        return partial(self.teacher_noise, *inputs)

    def _context(
        self, forget: DenoisingBatch, timestep: Int[Tensor, "group batch"], inputs: TargetInputs
    ) -> TargetContext:
        signal, sigma = self.network.schedule.scales(timestep, forget.noisy)
        return TargetContext(
            noisy=forget.noisy,
            signal=signal,
            sigma=sigma,
            teacher_noise=forget.teacher_noise,
            anchor_noise=partial(self.teacher_noise, forget.noisy, timestep, inputs.anchor_label),
            error_weight=ERROR_WEIGHTS[self.unlearning.error_space](signal, sigma),
            inputs=inputs,
        )

    def _update(self, gradient: Rows, frozen: Bool[Tensor, " group"]) -> None:
        """Take a step along the gradient of the objective and the penalty, within the mask."""
        if self.fisher is not None and self.terms.ewc_weight is not None:
            change = self.weights.detach() - self.full
            gradient = gradient + self.terms.ewc_weight * self.fisher * change
        fixed = frozen[:, None] if self.mask is None else frozen[:, None] | ~self.mask
        self.update(gradient, fixed if fixed.any() else None)


@torch.no_grad()
def _curve_values(
    retain: DenoisingBatch, forget: DenoisingBatch | None, *, log_rise: bool, log_drift: bool
) -> dict[str, Float[Tensor, " group"]]:
    values = {"retain_loss": mean_square(retain.predicted - retain.noise)}
    if log_drift:
        values["retain_drift"] = mean_square(retain.predicted - retain.teacher_noise())
    if forget is not None:
        values["forget_loss"] = mean_square(forget.predicted - forget.noise)
        if log_rise:
            before = mean_square(forget.teacher_noise() - forget.noise)
            values["forget_rise"] = values["forget_loss"] - before
    return values


def has_reached(curve: Float[Tensor, "group step"], threshold: float) -> Bool[Tensor, " group"]:
    """True for groups whose mean over the last ``STOPPING_WINDOW`` steps is at the threshold."""
    if curve.shape[1] < STOPPING_WINDOW:
        return torch.zeros(len(curve), dtype=torch.bool)
    return curve[:, -STOPPING_WINDOW:].mean(1) >= threshold
