"""What gradients by image and curvature cost, as multiples of an ordinary training step's passes.

Run it with one thread (``OMP_NUM_THREADS=1 python benchmarks/influence.py``): only the ratios carry
over to other machines. ``--rivals`` also times EK-FAC for 64 queries end to end against kronfluence
and curvlinops' factors, where they are installed.
"""

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from begat.core.curvature import covariances, eigenbases, eigenvalues, fake_gradients
from begat.core.denoisers import Denoiser, answer, training, unet_denoiser
from begat.core.diffusion import cosine_schedule
from begat.core.gradients import Sample, blocks_of, image_gradients
from begat.core.image_draws import DrawsOf, common_draws
from begat.core.kronecker import blocks, preconditioned
from begat.core.layers import covered_layers
from begat.core.packs import flatten, stack
from begat.core.unet import UNetConfig, initial_weights

CONFIGS = {
    "41 k": UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8),
    "650 k, attention": UNetConfig(8, 3, (32, 64), 1, (False, True), False, 8, 8),
}
SCHEDULE = cosine_schedule(1000)
DRAWS, REPEATS = 16, 4
Case = tuple[Denoiser, Sample, DrawsOf]


def case(config: UNetConfig, images: int, draws: int = DRAWS) -> Case:
    generator = torch.Generator().manual_seed(0)
    row = flatten(stack([initial_weights(config, generator)]))[0]
    denoiser = unet_denoiser(row, config, SCHEDULE, "epsilon", torch.device("cpu"))
    shape = (config.image_channels, config.sample_size, config.sample_size)
    pixels = np.random.default_rng(0).integers(0, 256, (images, *shape), np.uint8)
    return (
        denoiser,
        Sample(pixels, None, range(images)),
        common_draws(0, "bench", draws, 1000, shape),
    )


def plain(denoiser: Denoiser, sample: Sample, draws: DrawsOf) -> None:
    """Ordinary forward and backward passes over the same draws in the same batches."""
    for some in blocks_of(sample, draws([0]).number):
        found = answer(denoiser, sample.images(some), None, draws(sample.number[some]))
        found.output.backward(training(found))
        denoiser.module.zero_grad()


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(config: UNetConfig, images: int) -> dict[str, float]:
    """Least cpu time of several runs, taken in turn so that all meet the same neighbours."""
    denoiser, sample, draws = case(config, images)
    layers, fake = covered_layers(denoiser.module, norms=True), fake_gradients(0, "bench")
    asked = denoiser, layers, sample, draws
    bases = eigenbases(covariances(*asked, fake), denoiser.like)
    works: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(denoiser, sample, draws),
        "gradients": lambda: [None for _ in image_gradients(*asked)],
        "gradients in two halves": lambda: [None for _ in image_gradients(*asked, parts=2)],
        "factors": lambda: covariances(*asked, fake),
        "eigenvalues": lambda: eigenvalues(*asked, fake, bases),
    }
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(REPEATS)]
    best = {name: min(found[name] for found in rounds) for name in works}
    print(f"  plain passes: {1e3 * best['plain'] / images / DRAWS:.2f} cpu-ms per noisy image")
    return {name: value / best["plain"] for name, value in best.items() if name != "plain"}


def ours(denoiser: Denoiser, sample: Sample, draws: DrawsOf, queries: int) -> np.ndarray:
    """EK-FAC scores end to end, one draw per image as the rivals take them."""
    layers, fake = covered_layers(denoiser.module), fake_gradients(0, "bench")
    asked = denoiser, layers, sample, draws
    bases = eigenbases(covariances(*asked, fake), denoiser.like)
    (values,) = eigenvalues(*asked, fake, bases)
    curvature = blocks(layers, {n: bases[n] | values[n] for n in bases}, "ekfac")
    few = sample.only(range(queries))
    rows = torch.cat([r[0] for _, (r,) in image_gradients(denoiser, layers, few, draws)])
    (kept,) = preconditioned(curvature, rows, "absolute", [1e-3])
    stream = image_gradients(*asked, ("training",))
    return torch.cat([kept @ r[0].T for _, (r,) in stream], 1).numpy()


def kronfluence(denoiser: Denoiser, sample: Sample, draws: DrawsOf, queries: int) -> np.ndarray:
    """The same by kronfluence (which joins weights and biases)."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task

    class Denoising(Task):
        def compute_train_loss(self, batch, model, sample=False):  # type: ignore[no-untyped-def]
            x, t, noise = batch
            output = model(x, t).sample
            if sample:
                fake = torch.randn_like(output) * (2 / output[0].numel()) ** 0.5
                return (output * fake).sum()
            return (output - noise).square().mean((1, 2, 3)).sum()

        def compute_measurement(self, batch, model):  # type: ignore[no-untyped-def]
            return self.compute_train_loss(batch, model)

    x, t, noise = as_tensors(sample, draws)
    train = torch.utils.data.TensorDataset(x, t, noise)
    asked = torch.utils.data.TensorDataset(x[:queries], t[:queries], noise[:queries])
    task = Denoising()
    with tempfile.TemporaryDirectory() as folder:
        model = prepare_model(denoiser.module, task)
        analyzer = Analyzer("b", model, task, cpu=True, disable_tqdm=True, output_dir=folder)
        analyzer.fit_all_factors("f", train, per_device_batch_size=256)
        arguments = ScoreArguments(damping_factor=1e-3)
        analyzer.compute_pairwise_scores(
            "s", "f", asked, train, 64, per_device_train_batch_size=256, score_args=arguments
        )
        return analyzer.load_pairwise_scores("s")["all_modules"].numpy()


def curvlinops(denoiser: Denoiser, sample: Sample, draws: DrawsOf) -> None:
    """EK-FAC factors alone."""
    from curvlinops import EKFACLinearOperator

    class OfPair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = denoiser.module

        def forward(self, given: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.module(given["x"], given["t"]).sample.flatten(1)

    x, t, noise = as_tensors(sample, draws)
    data = [
        ({"x": x[i : i + 256], "t": t[i : i + 256]}, noise[i : i + 256].flatten(1))
        for i in range(0, len(x), 256)
    ]
    layers = covered_layers(denoiser.module)
    operator = EKFACLinearOperator(
        OfPair(),
        torch.nn.MSELoss(),
        [p for layer in layers for p in layer.module.parameters(recurse=False)],
        data,
        check_deterministic=False,
        batch_size_fn=lambda given: len(given["x"]),
    )
    operator.compute_kronecker_factors()
    operator.compute_eigenvalue_correction()


def as_tensors(sample: Sample, draws: DrawsOf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from begat.core.diffusion import diffuse

    dealt = draws(sample.number)
    t, noise = dealt.timestep[:, 0], dealt.noise[:, 0].contiguous()
    return diffuse(SCHEDULE, sample.images(slice(None)), t, noise), t, noise


def first_draw(draws: DrawsOf) -> DrawsOf:
    """One draw per image, which the rivals take as an image."""
    from begat.core.image_draws import Draws

    def of(images):  # type: ignore[no-untyped-def]
        d = draws(images)
        return Draws(d.timestep[:, :1], d.noise[:, :1], d.flip[:, :1])

    return of


def rivals(name: str, images: int, queries: int = 64) -> None:
    logging.disable(logging.WARNING)
    for label, work in (
        ("begat, factors and scores", lambda d, s, w: ours(d, s, w, queries)),
        ("kronfluence, factors and scores", lambda d, s, w: kronfluence(d, s, w, queries)),
        ("curvlinops, factors alone", curvlinops),
    ):
        denoiser, sample, draws = case(CONFIGS[name], images)
        one = first_draw(draws)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                spent = seconds(lambda w=work, d=denoiser, s=sample, o=one: w(d, s, o))
            print(f"  {label:32s} {spent:7.2f} cpu-s")
        except ImportError as missing:
            print(f"  {label:32s} not installed ({missing.name})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rivals", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, config in CONFIGS.items():
        print(f"U-Net of {name} parameters, {arguments.images} images x {DRAWS} draws")
        for what, ratio in ratios(config, arguments.images).items():
            print(f"  {what:32s} {ratio:5.2f} x plain")
    if arguments.rivals:
        for name in CONFIGS:
            print(f"U-Net of {name} parameters, {4 * arguments.images} images, 64 queries")
            rivals(name, 4 * arguments.images)


if __name__ == "__main__":
    main()
