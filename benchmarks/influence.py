"""What gradients by image and curvature cost, as multiples of an ordinary training step's passes.

Run it with one thread (``OMP_NUM_THREADS=1 python benchmarks/influence.py``): only the ratios carry
over to other machines. ``--rivals`` instead scores 64 queries end to end, and the same by other
libraries where they are installed; ``--stream`` scores them against ever more images; ``--large``
takes a U-Net of 35 million parameters. Each of these runs in a process of its own. ``--scores``
is about scores of images and groups at CIFAR size, over plain passes. ``--storage`` holds scores
from queries' gradients kept in fewer bits against those from whole ones.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from begat.diffusion.image_draws import DrawsOf, common_draws, own_draws
from influence_rivals import RIVALS, first_draw
from influence_rivals import Case as Rivalry

from begat.diffusion.denoisers import Denoiser, answer, training, unet_denoiser
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import UNetConfig, initial_weights
from begat.evaluation.statistics import spearman
from begat.influence.blocks import blocks_of
from begat.influence.curvature import covariances, eigenbases, eigenvalues, fake_gradients
from begat.influence.factors import factors
from begat.influence.gradients import Sample, image_gradients
from begat.influence.layers import covered_layers
from begat.influence.scores import Variant, score, variants

CONFIGS = {
    "41 k": UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8),
    "650 k, attention": UNetConfig(8, 3, (32, 64), 1, (False, True), False, 8, 8),
    "35 M, attention": UNetConfig(
        32, 3, (128, 256, 256, 256), 2, (False, True, False, False), False, 8, 32
    ),
}
QUERIES = 64
SLOW = 256  # images above which dattri, which takes a second for each, is left out
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


CIFAR = UNetConfig(32, 3, (16, 32, 32), 1, (False, False, True), True, 8, 8)


def scores(images: int, rounds: int) -> None:
    """The default's scores of 16 queries, by image and by ten groups, over plain passes."""
    denoiser, sample, draws = case(CIFAR, images, 8)
    member_of = np.arange(images) % 10 == np.arange(10)[:, None]
    few = sample.only(range(16))
    found = factors(denoiser, few, member_of[:, :16], seed=0, draws=2)
    wanted = variants("mean_eigenvalue", [1e-4, 1e-3, 1e-2, 1e-1])
    asked = denoiser, found, sample, few, draws, wanted
    for _ in range(rounds):
        least = seconds(lambda: plain(denoiser, sample, draws))
        spent = seconds(lambda: score(*asked, member_of=member_of))
        print(
            f"  scores: {spent:.1f} cpu-s, {spent / least:.2f} x plain ({least:.1f} cpu-s, "
            f"{1e3 * least / images / 8:.2f} cpu-ms per noisy image), peak {peak():.0f} MiB"
        )


def peak() -> float:
    """The process's own peak of memory in MiB; ``ru_maxrss`` would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def rivalry(name: str, images: int, who: str, place: str) -> dict[str, float]:
    denoiser, sample, _ = case(CONFIGS[name], images)
    draws = first_draw(own_draws(0, "bench", 2, 1000, sample.pixels.shape[1:]))
    given, before = Rivalry(denoiser, sample, draws, QUERIES), peak()
    found: list[np.ndarray] = []
    spent = seconds(lambda: found.append(RIVALS[who](given)))
    np.save(place, found[0])
    return {"seconds": spent, "peak": peak(), "before": before}


class Endless:
    """Pixels of as many images as one likes, drawn when they are asked for."""

    def __init__(self, images: int, shape: tuple[int, ...]) -> None:
        self.shape = (images, *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, some: int | slice) -> np.ndarray:
        numbers = range(len(self))[some]
        if isinstance(numbers, int):
            shape = self.shape[1:]
            return np.random.default_rng(numbers).integers(0, 256, shape, np.uint8)
        return np.stack([self[i] for i in numbers])


def no_groups(sample: Sample) -> np.ndarray:
    """No group asks for a curvature of its own."""
    return np.zeros((0, len(sample)), bool)


def storage(name: str, images: int) -> None:
    """How far scores move when the queries' gradients are kept in fewer bits."""
    denoiser, sample, draws = case(CONFIGS[name], images, 4)
    found = factors(denoiser, sample, no_groups(sample), seed=0, draws=2)
    few, wanted = sample.only(range(QUERIES)), [Variant("ekfac", "mean_eigenvalue", 0.1)]
    scores, bits = {}, {"float32": 32, "float16": 16, "int8": 8}
    for kind in bits:
        asked = denoiser, found, sample, few, draws, wanted
        scores[kind] = score(*asked, centred=False, halves=False, storage=kind)["score"][0]  # type: ignore[arg-type]
    whole = scores["float32"]
    for kind, size in bits.items():
        error = np.abs(scores[kind] - whole).max() / np.abs(whole).max()
        ranks = spearman(scores[kind], whole).min()
        print(f"  {size} bits: largest error {error:.1e}, least rank correlation {ranks:.6f}")


def stream(images: int) -> dict[str, float]:
    """Scores of 64 queries against any number of images, with factors of 64."""
    denoiser, sample, draws = case(CONFIGS["41 k"], QUERIES, 2)
    found = factors(denoiser, sample, no_groups(sample), seed=0, draws=2)
    many = Sample(Endless(images, sample.pixels.shape[1:]), None, range(images))  # type: ignore[arg-type]
    asked = denoiser, found, many, sample, draws, [Variant("ekfac", "mean_eigenvalue", 0.1)]
    spent = seconds(lambda: score(*asked, halves=False))  # type: ignore[arg-type]
    return {"seconds": spent, "peak": peak()}


def large(images: int, queries: int, number: int) -> dict[str, float]:
    """Factors and scores of a few images."""
    denoiser, sample, draws = case(CONFIGS["35 M, attention"], images, number)
    parts: list[dict[str, dict[str, np.ndarray]]] = []
    given = denoiser, sample, no_groups(sample)
    how = dict(seed=0, draws=number, examples=2 * number)
    first = seconds(lambda: parts.append(factors(*given, **how)))  # type: ignore[arg-type]
    of_factors, few = peak(), sample.only(range(queries))
    asked = denoiser, parts[0], sample, few, draws, [Variant("ekfac", "mean_eigenvalue", 0.1)]
    spent = seconds(lambda: score(*asked, halves=False, examples=2 * number))
    size = sum(p.numel() for p in denoiser.module.parameters())
    return {
        "parameters": size,
        "seconds of factors": first,
        "peak of factors": of_factors,
        "seconds of scores": spent,
        "peak": peak(),
    }


def alone(*what: object) -> dict[str, float]:
    """What one of the functions above returns in a process of its own."""
    command = [sys.executable, __file__, "--alone", json.dumps(what)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": float("nan")} | {done.stderr.strip().splitlines()[-1][:100]: float("nan")}
    return json.loads(done.stdout.splitlines()[-1])


def rivals(name: str, images: int, rounds: int) -> None:
    """Least cpu time of several rounds, all in turn; agreement with the one named first."""
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for who in RIVALS if images <= SLOW else [w for w in RIVALS if "dattri" not in w]:
                got = alone("rivalry", name, images, who, f"{folder}/{who}.npy")
                if "seconds" not in best.get(who, {}) or got["seconds"] < best[who]["seconds"]:
                    best[who] = got
        for who, got in best.items():
            if "seconds" not in got:
                print(f"  {who:20s} {got}")
                continue
            ours = "begat dot products" if "dot" in who else "begat"
            one, other = (np.load(f"{folder}/{w}.npy").ravel() for w in (who, ours))
            all_, ratio = 1797 / images * got["seconds"], got["seconds"] / best[ours]["seconds"]
            print(
                f"  {who:20s} {got['seconds']:7.2f} cpu-s ({all_:7.1f} for 1,797 images), "
                f"{ratio:6.2f} x {ours}, peak {got['peak']:5.0f} MiB "
                f"({got['peak'] - got['before']:+5.0f}), "
                f"correlation {np.corrcoef(one, other)[0, 1]:.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    for option in ("--rivals", "--stream", "--large", "--scores", "--storage"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--alone", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.alone:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        what, *given = arguments.alone
        print(json.dumps({"rivalry": rivalry, "stream": stream, "large": large}[what](*given)))
    elif arguments.rivals:
        for name in list(CONFIGS)[:2]:
            print(f"U-Net of {name} parameters, {arguments.images} images, {QUERIES} queries")
            rivals(name, arguments.images, arguments.rounds)
    elif arguments.stream:
        for images in (2000, 20000):
            print(f"{images} images: {alone('stream', images)}")
    elif arguments.scores:
        print(f"U-Net of 281 k parameters, 32 px, {arguments.images} images, 16 queries")
        scores(arguments.images, arguments.rounds)
    elif arguments.storage:
        for name in list(CONFIGS)[:2]:
            print(f"U-Net of {name} parameters, {arguments.images} images, {QUERIES} queries")
            storage(name, max(arguments.images, QUERIES))
    elif arguments.large:
        print(alone("large", 4, 2, 4))
    else:
        for name in list(CONFIGS)[:2]:
            print(f"U-Net of {name} parameters, {arguments.images} images x {DRAWS} draws")
            for what, ratio in ratios(CONFIGS[name], arguments.images).items():
                print(f"  {what:32s} {ratio:5.2f} x plain")


if __name__ == "__main__":
    main()
