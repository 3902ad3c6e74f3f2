"""Timing of small jobs of every kind on this machine, with the network of a run.

Weights and images are random: no time depends on them.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from begat.config.schema import Models
from begat.diffusion.bounds import BATCH
from begat.execution.architecture import config_of, size_of
from begat.execution.jobs import Kind
from begat.planning.costs import device_of
from begat.planning.plan import Plan
from begat.planning.rates import Probe

if TYPE_CHECKING:
    import numpy as np
    import torch

    from begat.diffusion.packed_network import PackedNetwork

SECONDS = 10.0  # at least, for every kind
IMAGES, DRAWS = 32, 8  # where gradients are taken; all of them go through in one call
STEPS = 100_000  # of a training, more than there is time for
Step = Callable[[], int]  # does a little, and returns for how many evaluations


def probe(plan: Plan) -> Probe:
    """Returns the seconds that evaluations of every kind take here, in about a minute."""
    started = time.process_time()
    import torch

    from begat.diffusion.packed_network import PackedNetwork
    from begat.execution.machine import forbid_tf32
    from begat.execution.networks import prediction_type_of, schedule_of

    torch.set_num_threads(plan.params.compute.threads)
    forbid_tf32()
    config, device = config_of(plan.spec), torch.device(device_of(plan))
    network = PackedNetwork(config, schedule_of(plan.spec), prediction_type_of(plan.spec), device)
    pack = max(len(job.models) for job in plan.jobs("models"))
    rates, starts = dict[str, float](), dict[str, float]()
    for kind, step in _steps(plan.params.models, network, pack):
        step()
        starts[kind] = time.process_time() - started
        rates[kind] = _seconds(step, device) / size_of(config).products
        started = time.process_time() - starts[kind]
    return Probe(device.type, rates, starts)


def _seconds(step: Step, device: "torch.device") -> float:
    """The seconds of one evaluation: of CPU time, on a GPU of time."""
    import torch

    def now() -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    first, done = now(), 0
    while not done or now() - first < SECONDS:
        done += step()
    return (now() - first) / done


def _steps(training: Models, network: "PackedNetwork", pack: int) -> Iterator[tuple[Kind, Step]]:
    """Yields a step of every kind, its libraries loaded."""
    import numpy as np
    import torch

    from begat.diffusion.unet import initial_weights

    config = network.config
    shape = (IMAGES, config.image_channels, config.sample_size, config.sample_size)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    label = np.zeros(IMAGES, np.int64) if config.classes else None
    weights = initial_weights(config, torch.Generator())
    row = torch.cat([value.flatten() for value in weights.values()])
    yield "prediction", _prediction(network, row)
    yield "training", _training(training, network, pack, pixels, label)
    yield from _gradients(network, row, pixels, label)


def _prediction(network: "PackedNetwork", row: "torch.Tensor") -> Step:
    import torch

    from begat.diffusion.noise_predictors import PackPredictor

    config = network.config
    model = row[None], config, network.schedule, network.prediction_type, network.device
    noisy = torch.randn(BATCH, config.image_channels, config.sample_size, config.sample_size)
    zeros, predictor = torch.zeros(BATCH, dtype=torch.long), PackPredictor(*model)

    def step() -> int:
        predictor.predict(0, noisy, zeros, zeros if config.classes else None)
        return BATCH

    return step


def _training(
    params: Models,
    network: "PackedNetwork",
    pack: int,
    pixels: "np.ndarray",
    label: "np.ndarray | None",
) -> Step:
    import numpy as np

    from begat.diffusion.model_training import ModelRun, train
    from begat.diffusion.training_batches import TrainingImages
    from begat.diffusion.training_config import OptimiserConfig, TrainingConfig

    every = np.ones(len(pixels), bool)
    models = [ModelRun(f"{i}", f"{i}", every) for i in range(pack)]
    optimiser = OptimiserConfig(STEPS, 1e-9, 0, params.max_grad_norm, ema_decay=params.ema_decay)
    config = TrainingConfig(optimiser, params.batch_size, params.dropout, 0)
    states = train(TrainingImages(pixels, label), models, network, config, seed=0)
    done = 0

    def step() -> int:
        nonlocal done
        before, (done, _) = done, next(states)
        return (done - before) * pack * params.batch_size

    return step


def _gradients(
    network: "PackedNetwork", row: "torch.Tensor", pixels: "np.ndarray", label: "np.ndarray | None"
) -> Iterator[tuple[Kind, Step]]:
    from begat.diffusion.denoisers import unet_denoiser
    from begat.diffusion.draws import common_draws
    from begat.influence.corrected_eigenvalues import corrected_eigenvalues
    from begat.influence.curvature import covariances, eigenbases, sampled_output_gradients
    from begat.influence.gradient_source import ImageSet, gradient_source
    from begat.influence.gradients import image_gradients

    model = network.config, network.schedule, network.prediction_type, network.device
    denoiser = unet_denoiser(row, *model)
    images = ImageSet(pixels, label, range(len(pixels)))
    draws = common_draws(0, "probe", DRAWS, network.schedule.timesteps, pixels.shape[1:])
    source = gradient_source(denoiser, draws, norms=True)
    output_gradient = sampled_output_gradients(0, "probe")

    def gradients() -> int:
        for _ in image_gradients(source, images, ("training",)):
            pass
        return len(pixels) * DRAWS

    yield "gradient", gradients
    bases = eigenbases(covariances(source, images, output_gradient), denoiser.like)

    def curvature() -> int:
        covariances(source, images, output_gradient)
        corrected_eigenvalues(source, images, output_gradient, bases)
        return len(pixels) * DRAWS

    yield "covariance", curvature
