"""Models that forget: a copy of the full model for every group, all in one pack."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from begat.diffusion.schedules import Prediction, Schedule
from begat.diffusion.unet import UNetConfig
from begat.errors import BegatError
from begat.unlearning.batches import Pairs
from begat.unlearning.operators import OPERATORS, Forgetting, most_touched
from begat.unlearning.training import (
    Network,
    PackUnlearning,
    Precondition,
    diagonal_fisher,
    group_gradient,
    newton,
    reached,
)

STRETCH = 20  # steps between two chances to save or to notice divergence
PASSES = 10  # batches per group behind a mask or a Fisher information
BOUND = 2.0  # retain loss of a ruined model; predicting no noise at all costs 1
CURVES = ("forget_loss", "forget_rise", "retain_loss", "retain_drift")
State = dict[str, np.ndarray]


def shortened(
    training: Mapping[str, Any], steps: float, learning_rate: float, clip: float
) -> dict[str, Any]:
    """The full model's training schedule in fewer steps and to a lower peak, for ``unlearn``.

    What retraining without a group does in a whole training, fine-tuning does in a share of it,
    whatever the data: so its length and its learning rate are shares of the training's own.

    Args:
        training: ``steps``, ``learning_rate`` and ``warmup`` of the training.
        steps: share of its steps; 0 takes none, anything else at least one.
        learning_rate: share of its peak learning rate.
        clip: largest gradient norm per model.
    """
    count = max(round(steps * training["steps"]), 1) if steps else 0
    return {
        "steps": count,
        "learning_rate": learning_rate * training["learning_rate"],
        "warmup": round(training["warmup"] * count / training["steps"]),
        "clip": clip,
    }


def unlearn(
    pixels: UInt8[np.ndarray, "image channel y x"],
    label: Int[np.ndarray, " image"] | None,
    member_of: Bool[np.ndarray, "group image"],
    names: Sequence[str],
    streams: Sequence[str],
    full: Float[np.ndarray, " parameter"],
    how: Forgetting,
    *,
    seed: int,
    config: UNetConfig,
    schedule: Schedule,
    prediction: Prediction,
    device: torch.device,
    steps: int,
    batch: int,
    learning_rate: float,
    warmup: int,
    clip: float,
    flip: bool,
    anchor: Int[np.ndarray, " group"] | None = None,
    start: Float[np.ndarray, "group parameter"] | None = None,
    resume: tuple[int, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[tuple[int, Callable[[], State]]]:
    """Forget groups side by side, yielding after every stretch how far they are and their state.

    The last state is the result, one row per group: ``weights`` and ``ema_weights``; the curves
    ``forget_loss``, ``forget_rise``, ``retain_loss`` and ``retain_drift`` (``unlearning.training``),
    where what nothing depends on is looked at now and then and holds in between;
    and ``stopped_at``, the steps a model took until it reached its goal and was left alone, -1 if
    it did not. No steps at all are allowed: then nothing is forgotten. Any state, with its number
    of steps, can be handed back as ``resume``; on the same machine the forgetting then ends with
    the same bits as if it had never stopped. All is computed in the dtype of ``full``.

    Args:
        pixels: all images.
        label: each image's class for conditional models, else None.
        member_of: which images each group of this pack has; groups may overlap.
        names: the groups' names, for error messages.
        streams: the name of each group's randomness. Groups that share one see the same retained
            images, timesteps and noise wherever both may: what that moves in all models alike
            cancels when groups are compared.
        full: the full model's weights.
        how: the operator and its settings.
        seed: the root seed.
        config, schedule, prediction, device: as in ``models.train``.
        steps: the largest number of steps.
        batch: images of each kind, retained and forgotten, per step.
        learning_rate, warmup, clip, flip: as in ``models.train``.
        anchor: the label that takes the place of each group's, for operators that ask for one;
            without it, labels of random retained images do.
        start: where to start from instead of the full model (a Newton step, say).
        resume: a number of steps and the state yielded with it.

    Raises:
        BegatError: a group that is empty, everything or another once more; a model that diverges,
            with the group and the step.
    """
    _check_groups(member_of, names)
    if how.operator in ("anchor", "esd") and label is None:
        raise BegatError(f"unlearned.operator: {how.operator} needs a conditional model")
    origin = torch.from_numpy(full)[None].to(device)
    pairs = _pairs(pixels, label, member_of, streams, anchor, seed, schedule, batch, flip, origin)
    first = origin.repeat(len(names), 1) if start is None else torch.from_numpy(start).to(device)
    pack = PackUnlearning(
        Network(config, schedule, prediction),
        origin,
        first,
        how,
        steps=steps,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=0.0,  # it would draw the model to zero, not to what it was
        clip=clip,
        ema=0.0,  # so few steps leave an average behind
    )
    _prepare(pack, pairs)
    curves = {name: torch.zeros(len(names), steps, dtype=origin.dtype) for name in CURVES}
    stopped_at = torch.full((len(names),), -1)
    if resume:
        state = {name: torch.from_numpy(rows) for name, rows in resume[1].items()}
        stopped_at = state.pop("stopped_at").clone()
        for name in CURVES:
            curves[name][:, : resume[0]] = state.pop(name)
        pack.resume(state, resume[0])

    def one_step(step: int) -> None:
        retain, forget = pairs.at(step)
        frozen = (stopped_at >= 0).to(device)
        found = pack.step(retain, forget, pairs.known(step, forget), frozen)
        for name, curve in curves.items():
            curve[:, step] = found[name].cpu() if name in found else curve[:, max(step - 1, 0)]
        if how.stop != "steps":
            progress = curves["retain_drift" if how.stop == "drift" else "forget_rise"]
            there = reached(progress[:, : step + 1], how.goal) & (stopped_at < 0)
            stopped_at[there] = step + 1

    def state_now() -> State:
        done = pack.steps_done
        rows = {name: row.cpu().numpy().copy() for name, row in pack.state().items()}
        drawn = {name: curve[:, :done].numpy().copy() for name, curve in curves.items()}
        return {**rows, **drawn, "stopped_at": stopped_at.numpy().copy()}

    def busy() -> bool:
        return pack.steps_done < steps and bool((stopped_at < 0).any())

    if not busy():
        yield pack.steps_done, state_now
    while busy():
        begun = pack.steps_done
        while busy() and pack.steps_done < begun + STRETCH:
            one_step(pack.steps_done)
        recent = slice(begun, pack.steps_done)
        _check_sound({n: curve[:, recent] for n, curve in curves.items()}, begun, names)
        yield pack.steps_done, state_now


def newton_step(
    pixels: UInt8[np.ndarray, "image channel y x"],
    label: Int[np.ndarray, " image"] | None,
    member_of: Bool[np.ndarray, "group image"],
    names: Sequence[str],
    streams: Sequence[str],
    full: Float[np.ndarray, " parameter"],
    precondition: Precondition,
    *,
    seed: int,
    config: UNetConfig,
    schedule: Schedule,
    prediction: Prediction,
    device: torch.device,
    batch: int,
    passes: int,
    flip: bool,
) -> Float[np.ndarray, "group parameter"]:
    """Every group's weights after one Newton step, an operator of its own or ``unlearn``'s start.

    Args:
        precondition: the inverse curvature of the full model, applied to rows of gradients.
        batch, passes: images per batch and batches behind a group's mean gradient.
        pixels, label, member_of, names, streams, full: as in ``unlearn``, like all others.
    """
    _check_groups(member_of, names)
    origin = torch.from_numpy(full)[None].to(device)
    pairs = _pairs(pixels, label, member_of, streams, None, seed, schedule, batch, flip, origin)
    batches = (pairs.at(i, "newton")[1] for i in range(passes))
    network = Network(config, schedule, prediction)
    gradient = group_gradient(network, origin.expand(len(names), -1), batches)
    sizes = torch.from_numpy(member_of.sum(1))
    return newton(origin, gradient, sizes, len(pixels), precondition).cpu().numpy()


def _pairs(
    pixels: UInt8[np.ndarray, "image channel y x"],
    label: Int[np.ndarray, " image"] | None,
    member_of: Bool[np.ndarray, "group image"],
    streams: Sequence[str],
    anchor: Int[np.ndarray, " group"] | None,
    seed: int,
    schedule: Schedule,
    batch: int,
    flip: bool,
    like: Tensor,
) -> Pairs:
    return Pairs(
        torch.from_numpy(pixels),
        None if label is None else torch.from_numpy(label).long(),
        torch.from_numpy(member_of),
        streams,
        None if anchor is None else torch.from_numpy(anchor).long(),
        seed,
        schedule.timesteps,
        batch,
        flip,
        like,
    )


def _prepare(pack: PackUnlearning, pairs: Pairs) -> None:
    """Take the measures of the full model that the operator needs: gradients to mask or weigh."""
    operator = OPERATORS[pack.how.operator]
    if operator.masked:
        batches = [pairs.at(i, "mask")[1] for i in range(PASSES)]
        gradient = group_gradient(pack.network, pack.weights, batches)
        pack.mask = most_touched(gradient, pack.how.share)
    if operator.anchored:
        batches = [pairs.single(i) for i in range(PASSES)]
        pack.fisher = diagonal_fisher(pack.network, pack.full, batches)


def _check_groups(member_of: Bool[np.ndarray, "group image"], names: Sequence[str]) -> None:
    seen: dict[bytes, str] = {}
    for name, members in zip(names, member_of, strict=True):
        if not members.any() or members.all():
            what = "has no image" if not members.any() else "has all images"
            raise BegatError(f"unlearned: group {name!r} {what}: nothing to compare with")
        if twin := seen.get(members.tobytes()):
            raise BegatError(
                f"unlearned: groups {twin!r} and {name!r} have the same images: name them once"
            )
        seen[members.tobytes()] = name


def _check_sound(
    curves: Mapping[str, Float[Tensor, "group step"]], first: int, names: Sequence[str]
) -> None:
    loss = curves["retain_loss"]
    finite = torch.stack([curve.isfinite() for curve in curves.values()]).all(0)
    wrong = (~finite | (loss > BOUND)).nonzero()
    if len(wrong):
        group, step = wrong[wrong[:, 1].argmin()].tolist()
        raise BegatError(
            f"unlearned: {names[group]} diverged: its loss on retained images at step "
            f"{first + step} is {loss[group, step].item():.4g}; try a smaller "
            "unlearned.learning_rate or unlearned.balance"
        )
