"""Training of a pack of models, each on its own images with its own random numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.training import PackTraining, snapshot_steps
from begat.diffusion.training_batches import BatchSampler, TrainingImages
from begat.diffusion.training_config import TrainingConfig
from begat.diffusion.unet import initial_weights
from begat.diffusion.unet_layers import Dropout
from begat.errors import BegatError
from begat.rng.torch_generators import torch_generator

YIELD_INTERVAL = 20  # steps between two yields, at which a run can be saved and is checked
State = dict[str, np.ndarray]


@dataclass(frozen=True)
class ModelRun:
    """One model to train.

    Attributes:
        name: for error messages.
        stream: the name of its random numbers.
        train_mask: the images of its training set.
    """

    name: str
    stream: str
    train_mask: Bool[np.ndarray, " image"]


def train(
    data: TrainingImages,
    models: Sequence[ModelRun],
    network: PackedNetwork,
    config: TrainingConfig,
    *,
    seed: int,
    resume: tuple[int, Mapping[str, np.ndarray]] | None = None,
) -> Iterator[tuple[int, Callable[[], State]]]:
    """Yields, every few steps of the pack's training, their number and a function of the state.

    The last state is the result: ``weights``, ``ema_weights`` and ``training_loss`` have one row
    per model, and so have ``snapshots``, the weights in the middle of equal intervals of the
    training (``diffusion.training.snapshot_steps``), if ``num_snapshots`` is positive. Any state
    can be passed as ``resume`` with its number of steps; on the same machine the training then ends
    with the same bits as the uninterrupted one. Another pack or machine changes rounding only;
    that grows in the course of a training, as Adam makes whole steps of rounding errors.

    Args:
        data: all images.
        models: the models of the pack.
        network: their architecture, forward process, device and dtype.
        config: the optimiser and the batches.
        seed: the root seed.
        resume: a number of steps and the state yielded with it.

    Raises:
        BegatError: a loss that is no longer finite, with the model and the step.
    """
    training = _Training(data, models, network, config, seed)
    if resume:
        training.resume(*resume)
    if training.is_done:
        yield training.pack.steps_done, training.state
    while not training.is_done:
        first = training.pack.steps_done
        while not training.is_done and training.pack.steps_done < first + YIELD_INTERVAL:
            training.step()
        training.check_finite(first)
        yield training.pack.steps_done, training.state


class _Training:
    """A pack in training with its batches, its losses and its snapshots."""

    def __init__(
        self,
        data: TrainingImages,
        models: Sequence[ModelRun],
        network: PackedNetwork,
        config: TrainingConfig,
        seed: int,
    ) -> None:
        self.models, self.config, self.seed = models, config, seed
        self.sampler = BatchSampler(data, network, seed, config.batch_size)
        weights = flatten(
            stack(
                initial_weights(network.config, torch_generator(seed, model.stream, "init"))
                for model in models
            )
        )
        weights = weights.to(network.device, network.dtype)
        self.pack = PackTraining(network, weights, config.optimiser)
        num_steps = config.optimiser.num_steps
        self.losses = torch.zeros(len(models), num_steps, dtype=network.dtype)
        self.snapshots: list[Tensor] = []
        self.snapshot_steps = snapshot_steps(num_steps, config.num_snapshots)

    @property
    def is_done(self) -> bool:
        return self.pack.steps_done >= self.config.optimiser.num_steps

    def step(self) -> None:
        step = self.pack.steps_done
        draws = [
            self.sampler.draw(model.stream, step, torch.from_numpy(model.train_mask))
            for model in self.models
        ]
        dropout = self._dropout(step) if self.config.dropout else None
        self.losses[:, step] = self.pack.step(self.sampler.noised(draws), dropout).cpu()
        if step + 1 in self.snapshot_steps:
            self.snapshots.append(self.pack.weights.detach().cpu().clone())

    def state(self) -> State:
        losses = self.losses[:, : self.pack.steps_done]
        rows = {name: row.cpu().numpy().copy() for name, row in self.pack.state().items()}
        rows |= {"snapshots": torch.stack(self.snapshots, 1).numpy()} if self.snapshots else {}
        return {**rows, "training_loss": losses.numpy().copy()}

    def resume(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        rows = {name: torch.from_numpy(array) for name, array in state.items()}
        self.losses[:, :step] = rows.pop("training_loss")
        self.snapshots += rows.pop("snapshots", torch.zeros(len(self.models), 0)).unbind(1)
        self.pack.resume(rows, step)

    def check_finite(self, first: int) -> None:
        """Raise BegatError if a loss since the step ``first`` is not finite."""
        losses = self.losses[:, first : self.pack.steps_done]
        infinite = (~losses.isfinite()).nonzero()
        if len(infinite):
            model, step = infinite[0].tolist()
            raise BegatError(
                f"model {self.models[model].name!r} diverged: its loss at step {first + step} is "
                f"{losses[model, step].item()}; try a smaller learning_rate"
            )

    def _dropout(self, step: int) -> Dropout:
        """Dropout with a generator per model and step, so that no draw depends on the pack."""
        probability, models = self.config.dropout, self.models
        generators = [torch_generator(self.seed, m.stream, "dropout", step) for m in models]

        def drop(h: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
            batch, channels, *size = h.shape
            shape = (batch, channels // len(models), *size)
            uniform = [torch.rand(shape, generator=generator) for generator in generators]
            mask = torch.cat([values >= probability for values in uniform], 1)
            return h * mask.to(h) / (1 - probability)

        return drop
