"""Small networks, weights and images for the tests."""

import math
from pathlib import Path

import numpy as np
import torch

from begat.config.schema import Images
from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import UNetConfig, initial_weights, parameter_shapes

ROOT = Path(__file__).resolve().parent.parent
TINY = UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8)
ATTENTIVE = UNetConfig(8, 3, (8, 16), 2, (False, True), True, 4, 4)
CONDITIONAL = UNetConfig(8, 1, (8, 8, 16), 1, (True, False, True), True, 8, 4, classes=5)
DEEP = UNetConfig(16, 3, (4, 8, 8, 16), 2, (False, False, True, False), False, 8, 2)
CONFIGS = {"tiny": TINY, "attentive": ATTENTIVE, "conditional": CONDITIONAL, "deep": DEEP}


def images_section(**changes: object) -> Images:
    """The section images of a folder of 4 x 4 images, with some other values."""
    values = dict(source="folder", path="data/images", max_images=0, size=4, channels=1)
    return Images(**{**values, "resize": "refuse", "near_duplicate_rms": 0.0, **changes})


def random_rows(config: UNetConfig, models: int, seed: int = 0) -> torch.Tensor:
    """Random weights of several models, one row each; norms included, so that none is idle."""
    generator = torch.Generator().manual_seed(seed)
    rows = flatten(stack(initial_weights(config, generator) for _ in range(models)))
    return rows + 0.05 * torch.randn(rows.shape, generator=generator)


def random_images(images: int, config: UNetConfig, seed: int = 0) -> np.ndarray:
    """Random pixels as unsigned bytes."""
    shape = (images, config.image_channels, config.sample_size, config.sample_size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_predictor(
    config: UNetConfig, models: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> PackPredictor:
    """Models with random weights."""
    rows = random_rows(config, models, seed).to(dtype)
    return PackPredictor(rows, config, cosine_schedule(50), "v_prediction", torch.device("cpu"))


def roundings(config: UNetConfig, rows: int) -> float:
    """Largest relative error of a prediction, or of a gradient from ``rows`` pixels, in float32.

    n roundings one after another err by n u / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability
    of Numerical Algorithms, eq. 3.4). Here n is the length of all layers' sums put together, there
    and back, and of the sum over rows; what layers subtract from one another is left out, which
    the very pessimistic n makes up for.
    """
    lengths = (math.prod(shape[1:]) + 10 for shape in parameter_shapes(config).values())
    n = 2 * sum(lengths) + rows
    return n * 2**-24 / (1 - n * 2**-24)
