"""Training a pack against training as many diffusers models one after another.

Both sides take the same steps on the same batches, on one CPU thread (or on a GPU where there is
one), alternately, so that other load on the machine meets both alike.

    python benchmarks/packs.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable

import torch
from diffusers import UNet2DModel

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork
from begat.diffusion.parameter_rows import flatten, stack, unflatten
from begat.diffusion.schedules import cosine_schedule, diffuse, training_target
from begat.diffusion.training import PackTraining
from begat.diffusion.training_config import OptimiserConfig
from begat.diffusion.unet import UNetConfig, initial_weights

SCHEDULE = cosine_schedule(1000)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DEMO = UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8)
ATTENTIVE = UNetConfig(16, 3, (32, 64, 64), 1, (False, True, True), True, 8, 8)


def data(config: UNetConfig, models: int, batch: int) -> tuple[torch.Tensor, ...]:
    shape = (models, batch, config.image_channels, config.sample_size, config.sample_size)
    image, noise = torch.randn(2, *shape, device=DEVICE)
    return image, torch.randint(1000, (models, batch), device=DEVICE), noise


def packed_step(config: UNetConfig, rows: torch.Tensor, batch: int) -> Callable[[], None]:
    optimiser = OptimiserConfig(
        num_steps=1000,
        learning_rate=1e-3,
        warmup_steps=1,
        max_grad_norm=1.0,
        weight_decay=0.01,
        ema_decay=0.99,
    )
    network = PackedNetwork(config, SCHEDULE, "v_prediction", DEVICE)
    training = PackTraining(network, rows.to(DEVICE), optimiser)
    inputs = NoisedBatch(*data(config, len(rows), batch))

    def step() -> None:
        training.step(inputs)

    return step


def separate_step(config: UNetConfig, rows: torch.Tensor, batch: int) -> Callable[[], None]:
    models = []
    for i in range(len(rows)):
        model = UNet2DModel(**config.diffusers_arguments())
        model.load_state_dict({name: w[i] for name, w in unflatten(rows, config).items()})
        models.append(model.to(DEVICE))
    optimisers = [torch.optim.AdamW(m.parameters(), lr=1e-3, fused=True) for m in models]
    averages = [[p.detach().clone() for p in m.parameters()] for m in models]
    images, timesteps, noises = data(config, len(rows), batch)

    def step() -> None:
        for k, model in enumerate(models):
            noisy = diffuse(SCHEDULE, images[k], timesteps[k], noises[k])
            target = training_target(SCHEDULE, "v_prediction", images[k], timesteps[k], noises[k])
            optimisers[k].zero_grad()
            (model(noisy, timesteps[k]).sample - target).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimisers[k].step()
            with torch.no_grad():
                torch._foreach_lerp_(averages[k], list(model.parameters()), 0.01)

    return step


def seconds(step: Callable[[], None], steps: int) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter() if DEVICE.type == "cuda" else time.process_time()
    for _ in range(steps):
        step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps
    return (time.process_time() - start) / steps


def compare(name: str, config: UNetConfig, models: int, batch: int, steps: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    rows = flatten(stack(initial_weights(config, generator) for _ in range(models)))
    packed, separate = packed_step(config, rows, batch), separate_step(config, rows, batch)
    packed(), separate()  # first calls choose kernels
    rounds = [(seconds(packed, steps), seconds(separate, steps)) for _ in range(5)]
    fast, slow = (statistics.median(r[i] for r in rounds) / models * 1000 for i in (0, 1))
    ratio = statistics.median(s / p for p, s in rounds)
    print(
        f"| {name} | {rows.shape[1]:,} | {models} | {batch} "
        f"| {slow:.1f} | {fast:.1f} | **{ratio:.2f}** |",
        flush=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{DEVICE.type}, PyTorch {torch.__version__}; milliseconds per model and step")
    print("| model | parameters | pack | batch | separate | packed | ratio |")
    print("|---|---|---|---|---|---|---|")
    compare("demo", DEMO, 16, 16, 5)
    compare("with attention", ATTENTIVE, 2, 32, 2)
    compare("with attention", ATTENTIVE, 4, 32, 1)
