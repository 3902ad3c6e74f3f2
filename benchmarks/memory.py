"""Peak memory and cpu time of the gradient methods at CIFAR size, each in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --images 64

Random 32 px images in colour, the U-Net of ``params/cifar.yaml`` and its numbers of draws.
``before`` is the process's memory when its images and its network are ready.
"""

import argparse
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from influence import CIFAR, case, peak, seconds

from begat.influence import scores, tracin, trak
from begat.influence.factors import factors

QUERIES, GROUPS, PROJECTION = 16, 10, 2048
DAMPINGS = [1e-4, 1e-3, 1e-2, 1e-1]


def of_factors(images: int) -> Callable[[], object]:
    """The curvature, and that of every group."""
    denoiser, sample, _ = case(CIFAR, images, 4)
    member_of = np.arange(images) % GROUPS == np.arange(GROUPS)[:, None]
    return lambda: factors(denoiser, sample, member_of, seed=0, draws=4)


def of_influence(images: int) -> Callable[[], object]:
    """Scores of images and groups, from factors of a few images."""
    denoiser, sample, draws = case(CIFAR, images, 8)
    member_of = np.arange(images) % GROUPS == np.arange(GROUPS)[:, None]
    queries, few = sample.only(range(QUERIES)), sample.only(range(GROUPS))
    found = factors(denoiser, few, member_of[:, :GROUPS], seed=0, draws=2, examples=8)
    asked = denoiser, found, sample, queries, draws
    wanted = scores.variants("relative", DAMPINGS)
    return lambda: scores.score(*asked, wanted, member_of=member_of)


def of_trak(images: int) -> Callable[[], object]:
    """Scores by DAS, whose gradients are taken draw by draw."""
    denoiser, sample, draws = case(CIFAR, images, 4)
    asked = denoiser, sample, sample.only(range(QUERIES)), draws
    return lambda: trak.score(*asked, "das", [1.0], seed=0, projection=PROJECTION)


def of_tracin(images: int) -> Callable[[], object]:
    """Scores from one state of a training."""
    denoiser, sample, draws = case(CIFAR, images, 4)
    asked = sample, sample.only(range(QUERIES)), draws
    return lambda: tracin.score([denoiser], [1.0], *asked)


METHODS = {
    "factors": of_factors,
    "influence": of_influence,
    "trak": of_trak,
    "tracin": of_tracin,
}


def measure(method: str, images: int) -> dict[str, float]:
    """Cpu-seconds, and peaks of memory in MiB before and after."""
    work, before = METHODS[method](images), peak()
    return {"seconds": seconds(work), "before": before, "peak": peak()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--alone", choices=list(METHODS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.alone:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        print(json.dumps(measure(arguments.alone, arguments.images)))
        return
    print(f"U-Net of 281 k parameters, 32 px, {arguments.images} images, {QUERIES} queries")
    for method in METHODS:
        command = [sys.executable, __file__, "--alone", method, "--images", str(arguments.images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"  {method:10s} {found['seconds']:6.1f} cpu-s, peak {found['peak']:5.0f} MiB "
            f"({found['before']:.0f} before)"
        )


if __name__ == "__main__":
    main()
