"""Training a pack of models, each on its own images with its own randomness."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import Prediction, Schedule
from begat.diffusion.training import PackTraining, snapshot_steps
from begat.diffusion.training_batches import batch_at
from begat.diffusion.unet import Dropout, UNetConfig, initial_weights
from begat.errors import BegatError
from begat.rng.torch_generators import torch_generator

STRETCH = 20  # steps between two chances to save or to notice divergence
State = dict[str, np.ndarray]


def train(
    pixels: UInt8[np.ndarray, "image channel y x"],
    label: Int[np.ndarray, " image"] | None,
    trains_on: Bool[np.ndarray, "model image"],
    names: Sequence[str],
    streams: Sequence[str],
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
    weight_decay: float,
    clip: float,
    ema: float,
    dropout: float,
    flip: bool,
    snapshots: int = 0,
    dtype: torch.dtype = torch.float32,
    resume: tuple[int, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[tuple[int, Callable[[], State]]]:
    """Train models side by side, yielding after every stretch how far they are and their state.

    The last state is the result: ``weights``, ``ema_weights`` and ``training_loss`` have one row
    per model, and so have ``snapshots``, the weights in the middle of equal stretches of the
    training (``diffusion.training.snapshot_steps``), where asked for. Any state, with its number of
    steps, can be handed back as ``resume``; on the same machine the training then ends with the
    same bits as if it had never stopped. Another pack or machine changes rounding only; that grows
    in the course of a training, as Adam makes whole steps of gradients that are mere rounding.

    Args:
        pixels: all images.
        label: each image's class for conditional models, else None.
        trains_on: which images each model may see.
        names: the models' names, for error messages.
        streams: the name of each model's randomness.
        seed: the root seed.
        config: the network.
        schedule: the forward process.
        prediction: what the network outputs.
        device: where to compute.
        steps, batch, learning_rate, warmup, weight_decay, clip, ema, dropout, flip, snapshots: as
            in ``params.yaml``.
        dtype: in which to compute; what is drawn is the same for all.
        resume: a number of steps and the state yielded with it.

    Raises:
        BegatError: a loss that is no longer finite, with the model and the step.
    """
    start = stack(
        initial_weights(config, torch_generator(seed, stream, "init")) for stream in streams
    )
    training = PackTraining(
        config,
        schedule,
        flatten(start).to(device, dtype),
        prediction=prediction,
        steps=steps,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        clip=clip,
        ema=ema,
    )
    losses = torch.zeros(len(names), steps, dtype=dtype)
    taken: list[Tensor] = []
    if resume:
        state = {name: torch.from_numpy(rows) for name, rows in resume[1].items()}
        losses[:, : resume[0]] = state.pop("training_loss")
        taken += state.pop("snapshots", torch.zeros(len(names), 0)).unbind(1)
        training.resume(state, resume[0])

    images = torch.from_numpy(pixels)
    allowed = torch.from_numpy(trains_on)
    classes = None if label is None else torch.from_numpy(label)
    shape = (images.shape[1], images.shape[2], images.shape[3])

    def one_step(step: int) -> Float[Tensor, " model"]:
        batches = [
            batch_at(seed, stream, step, on, batch, schedule.timesteps, shape, flip)
            for stream, on in zip(streams, allowed, strict=True)
        ]
        chosen = torch.stack([b.image for b in batches])
        mirrored = torch.stack([b.flip for b in batches])
        image = images[chosen].to(dtype) / 127.5 - 1
        image = torch.where(mirrored[..., None, None, None], image.flip(-1), image)
        return training.step(
            image.to(device),
            torch.stack([b.timestep for b in batches]).to(device),
            torch.stack([b.noise for b in batches]).to(device, dtype),
            None if classes is None else classes[chosen].to(device),
            _dropout(seed, streams, step, dropout) if dropout else None,
        )

    def state_now() -> State:
        done = training.steps_done
        rows = {name: row.cpu().numpy().copy() for name, row in training.state().items()}
        rows |= {"snapshots": torch.stack(taken, 1).numpy()} if taken else {}
        return {**rows, "training_loss": losses[:, :done].numpy().copy()}

    moments = snapshot_steps(steps, snapshots)
    if training.steps_done >= steps:
        yield training.steps_done, state_now
    while training.steps_done < steps:
        first = training.steps_done
        for step in range(first, min(first + STRETCH, steps)):
            losses[:, step] = one_step(step).cpu()
            if step + 1 in moments:
                taken.append(training.weights.detach().cpu().clone())
        _check_finite(losses[:, first : training.steps_done], first, names)
        yield training.steps_done, state_now


def _dropout(seed: int, streams: Sequence[str], step: int, share: float) -> Dropout:
    """Dropout with a generator per model and step, so that a pack changes no draw."""
    generators = [torch_generator(seed, stream, "dropout", step) for stream in streams]

    def drop(h: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        batch, channels, *size = h.shape
        part = (batch, channels // len(streams), *size)
        keep = [torch.rand(part, generator=generator) >= share for generator in generators]
        return h * torch.cat(keep, 1).to(h) / (1 - share)

    return drop


def _check_finite(losses: Float[Tensor, "model step"], first: int, names: Sequence[str]) -> None:
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        model, step = wrong[0].tolist()
        raise BegatError(
            f"models: {names[model]} diverged: its loss at step {first + step} is "
            f"{losses[model, step].item()}; try a smaller models.learning_rate"
        )
