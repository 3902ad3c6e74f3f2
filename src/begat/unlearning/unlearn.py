"""Unlearning of groups: a copy of the full model for every group, all in one pack."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.training_batches import BatchSampler, TrainingImages
from begat.diffusion.training_config import OptimiserConfig
from begat.errors import BegatError
from begat.unlearning.batches import ForgetGroup, ForgetRetainSampler
from begat.unlearning.config import UnlearningConfig
from begat.unlearning.newton import Precondition, diagonal_fisher, group_gradient, newton_update
from begat.unlearning.training import PackUnlearning, has_reached

YIELD_INTERVAL = 20  # steps between two yields, at which a run can be saved and is checked
NUM_BATCHES = 10  # batches per group behind a mask, a Fisher information or a Newton step
MAX_RETAIN_LOSS = 2.0  # above it a model is ruined; predicting no noise at all costs 1
CURVES = ("forget_loss", "forget_rise", "retain_loss", "retain_drift")
State = dict[str, np.ndarray]


def fine_tuning(
    training: OptimiserConfig, steps: float, learning_rate: float, max_grad_norm: float
) -> OptimiserConfig:
    """The full model's training schedule in fewer steps and with a lower peak, for ``unlearn``.

    The effect of retraining without a group in a whole training is approximated by fine-tuning in
    a fraction of it, whatever the data: so its length and learning rate are fractions as well.

    Args:
        training: the optimiser of the full model's training.
        steps: fraction of its steps; 0 takes none, anything else at least one.
        learning_rate: fraction of its peak learning rate.
        max_grad_norm: largest gradient norm per model.
    """
    num_steps = max(round(steps * training.num_steps), 1) if steps else 0
    return OptimiserConfig(
        num_steps=num_steps,
        learning_rate=learning_rate * training.learning_rate,
        warmup_steps=round(training.warmup_steps * num_steps / training.num_steps),
        max_grad_norm=max_grad_norm,
        weight_decay=0.0,  # it would draw the weights to zero, not to the full model's
        ema_decay=0.0,  # an average over so few steps would lag behind
    )


def unlearn(
    data: TrainingImages,
    groups: Sequence[ForgetGroup],
    full: Float[np.ndarray, " parameter"],
    network: PackedNetwork,
    config: UnlearningConfig,
    *,
    seed: int,
    precondition: Precondition | None = None,
    resume: tuple[int, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[tuple[int, Callable[[], State]]]:
    """Yields, every few steps of the pack's unlearning, their number and a function of the state.

    The last state is the result, one row per group: ``weights`` and ``ema_weights``; the curves
    ``forget_loss``, ``forget_rise``, ``retain_loss`` and ``retain_drift``
    (``unlearning.training``), whose values are repeated where they are not evaluated at every
    step; and ``stopped_at``, the number of steps after which a model reached the stopping
    threshold and was frozen, -1 if it did not. With no steps at all the result is the initial
    weights. Any state can be passed as ``resume`` with its number of steps; on the same machine
    the unlearning then ends with the same bits as the uninterrupted one.

    Args:
        data: all images.
        groups: the groups of this pack; they may overlap.
        full: the full model's weights.
        network: its architecture, forward process, device and dtype.
        config: the operator and its settings.
        seed: the root seed.
        precondition: the inverse curvature of the full model, damped by
            ``config.curvature_damping``, applied to rows of gradients; if that is not None.
        resume: a number of steps and the state yielded with it.

    Raises:
        BegatError: a group without images, with all images or with those of another group; an
            operator that needs labels or curvature that there are not; a model that diverges, with
            the group and the step.
    """
    unlearning = _Unlearning(data, groups, full, network, config, seed, precondition)
    if resume:
        unlearning.resume(*resume)
    if unlearning.is_done:
        yield unlearning.pack.steps_done, unlearning.state
    while not unlearning.is_done:
        first = unlearning.pack.steps_done
        while not unlearning.is_done and unlearning.pack.steps_done < first + YIELD_INTERVAL:
            unlearning.step()
        unlearning.check_sound(first)
        yield unlearning.pack.steps_done, unlearning.state


def newton_step(
    data: TrainingImages,
    groups: Sequence[ForgetGroup],
    full: Float[np.ndarray, " parameter"],
    network: PackedNetwork,
    precondition: Precondition,
    *,
    seed: int,
    batch_size: int,
) -> Float[np.ndarray, "group parameter"]:
    """Every group's weights after one Newton step from the full model's.

    Args:
        data, groups, full, network, seed: as in ``unlearn``.
        precondition: the inverse curvature of the full model, applied to rows of gradients.
        batch_size: images per batch; a group's gradient is a mean over ``NUM_BATCHES`` batches.
    """
    _check_groups(groups)
    sampler = ForgetRetainSampler(groups, BatchSampler(data, network, seed, batch_size))
    return _newton_rows(sampler, _row(full, network), precondition).cpu().numpy()


class _Unlearning:
    """A pack in the course of unlearning, with its batches, its curves and its stopping rule."""

    def __init__(
        self,
        data: TrainingImages,
        groups: Sequence[ForgetGroup],
        full: Float[np.ndarray, " parameter"],
        network: PackedNetwork,
        config: UnlearningConfig,
        seed: int,
        precondition: Precondition | None,
    ) -> None:
        _check_groups(groups)
        if config.operator.needs_labels and data.label is None:
            raise BegatError(f"operator: {config.operator.name} needs a conditional model")
        self.groups, self.config = groups, config
        self.sampler = ForgetRetainSampler(
            groups, BatchSampler(data, network, seed, config.batch_size)
        )
        origin = _row(full, network)
        init = origin.repeat(len(groups), 1)
        if config.curvature_damping is not None:
            if precondition is None:
                raise BegatError(
                    "init: a Newton step needs the inverse curvature of the full model"
                )
            init = _newton_rows(self.sampler, origin, precondition)
        self.pack = PackUnlearning(network, origin, init, config)
        self._prepare()
        shape = len(groups), config.num_steps
        self.curves = {name: torch.zeros(shape, dtype=network.dtype) for name in CURVES}
        self.stopped_at = torch.full((len(groups),), -1)

    @property
    def is_done(self) -> bool:
        all_frozen = bool((self.stopped_at >= 0).all())
        return all_frozen or self.pack.steps_done >= self.config.num_steps

    def step(self) -> None:
        step = self.pack.steps_done
        retain, forget = self.sampler.batch(step)
        inputs = self.sampler.target_inputs(step, forget)
        frozen = (self.stopped_at >= 0).to(self.pack.weights.device)
        values = self.pack.step(retain, forget, inputs, frozen)
        for name, curve in self.curves.items():
            previous = curve[:, max(step - 1, 0)]
            curve[:, step] = values[name].cpu() if name in values else previous
        if self.config.stopping_rule != "steps":
            drift = self.config.stopping_rule == "drift"
            progress = self.curves["retain_drift" if drift else "forget_rise"][:, : step + 1]
            reached = has_reached(progress, self.config.stopping_threshold)
            self.stopped_at[reached & (self.stopped_at < 0)] = step + 1

    def state(self) -> State:
        done = self.pack.steps_done
        rows = {name: row.cpu().numpy().copy() for name, row in self.pack.state().items()}
        curves = {name: curve[:, :done].numpy().copy() for name, curve in self.curves.items()}
        return {**rows, **curves, "stopped_at": self.stopped_at.numpy().copy()}

    def resume(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        rows = {name: torch.from_numpy(array) for name, array in state.items()}
        self.stopped_at = rows.pop("stopped_at").clone()
        for name in CURVES:
            self.curves[name][:, :step] = rows.pop(name)
        self.pack.resume(rows, step)

    def check_sound(self, first: int) -> None:
        """Raise BegatError if a model has diverged since the step ``first``."""
        curves = {name: c[:, first : self.pack.steps_done] for name, c in self.curves.items()}
        loss = curves["retain_loss"]
        finite = torch.stack([curve.isfinite() for curve in curves.values()]).all(0)
        wrong = (~finite | (loss > MAX_RETAIN_LOSS)).nonzero()
        if len(wrong):
            group, step = wrong[wrong[:, 1].argmin()].tolist()
            raise BegatError(
                f"group {self.groups[group].name!r} diverged: its loss on retained images at step "
                f"{first + step} is {loss[group, step].item():.4g}; try a smaller "
                "learning_rate or forget_weight"
            )

    def _prepare(self) -> None:
        """Compute the mask and the Fisher information that the operator needs."""
        pack, batches = self.pack, range(NUM_BATCHES)
        if pack.terms.mask is not None:
            forget = [self.sampler.batch(i, "mask")[1] for i in batches]
            pack.mask = pack.terms.mask(group_gradient(pack.network, pack.weights, forget))
        if pack.terms.ewc_weight is not None:
            images = [self.sampler.fisher_batch(i) for i in batches]
            pack.fisher = diagonal_fisher(pack.network, pack.full, images)


def _row(
    full: Float[np.ndarray, " parameter"], network: PackedNetwork
) -> Float[Tensor, "1 parameter"]:
    return torch.from_numpy(full)[None].to(network.device, network.dtype)


def _newton_rows(
    sampler: ForgetRetainSampler, full: Float[Tensor, "1 parameter"], precondition: Precondition
) -> Float[Tensor, "group parameter"]:
    batches = (sampler.batch(i, "newton")[1] for i in range(NUM_BATCHES))
    rows = full.expand(len(sampler.groups), -1)
    gradient = group_gradient(sampler.sampler.network, rows, batches)
    sizes = sampler.members.sum(1)
    return newton_update(full, gradient, sizes, len(sampler.sampler.pixels), precondition)


def _check_groups(groups: Sequence[ForgetGroup]) -> None:
    names: dict[bytes, str] = {}
    for group in groups:
        if not group.members.any():
            raise BegatError(f"group {group.name!r} has no image: nothing to unlearn")
        if group.members.all():
            raise BegatError(f"group {group.name!r} has all images: nothing to compare with")
        images = group.members.tobytes()
        if images in names:
            raise BegatError(
                f"groups {names[images]!r} and {group.name!r} have the same images: name them once"
            )
        names[images] = group.name
