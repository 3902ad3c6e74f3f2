"""Slow, plain versions of what the package computes fast, written from the definitions."""

import itertools
import math

import numpy as np
import torch
from diffusers import UNet2DModel

from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.unet import UNetConfig


def diffusers_models(config: UNetConfig, rows: torch.Tensor) -> list[UNet2DModel]:
    """Each row of weights as a diffusers model."""
    stacked = unflatten(rows, config)
    models = []
    for i in range(len(rows)):
        model = UNet2DModel(**config.diffusers_arguments())
        model.load_state_dict({name: weight[i] for name, weight in stacked.items()})
        models.append(model.to(rows.dtype))
    return models


def loss_of_average(errors: np.ndarray, members: list[int]) -> float:
    """Loss of the averaged members: errors[member, draw, pixel] -> mean of the squared mean."""
    return float((errors[members].mean(0) ** 2).mean())


def gram_of(errors: np.ndarray) -> np.ndarray:
    """[query=1, member, member] by the definition, one pair after another."""
    n = len(errors)
    return np.array([[[(errors[i] * errors[j]).mean() for j in range(n)] for i in range(n)]])


def words_of_weight(members: int, weight: int) -> set[tuple[int, ...]]:
    """All words of a weight, as positions of their ones."""
    return set(itertools.combinations(range(members), weight))


def spearman_by_hand(a: list[float], b: list[float]) -> float:
    """Rank correlation by counting, ties at their mean rank."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    x, y = ranks(a), ranks(b)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cov = sum((i - mx) * (j - my) for i, j in zip(x, y, strict=True))
    return cov / math.sqrt(sum((i - mx) ** 2 for i in x) * sum((j - my) ** 2 for j in y))


def patches_by_unfold(module: torch.nn.Conv2d, image: torch.Tensor) -> torch.Tensor:
    """The patch of every output pixel, [example, position, (ky, kx, channel)], by torch."""
    patches = torch.nn.functional.unfold(
        image, module.kernel_size, module.dilation, module.padding, module.stride
    )
    taps = module.kernel_size[0] * module.kernel_size[1]
    return patches.unflatten(1, (-1, taps)).transpose(1, 2).flatten(1, 2).transpose(1, 2)


def gradients_by_example(
    module: torch.nn.Conv2d, image: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """sum_p b_p a_p^T for every example."""
    return gradient.flatten(2) @ patches_by_unfold(module, image)
