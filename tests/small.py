"""Small networks, weights and images for the tests."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from begat.config.load import load
from begat.config.schema import Images, Params
from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.parameter_rows import flatten, stack
from begat.diffusion.schedules import cosine_schedule
from begat.diffusion.unet import UNetConfig, initial_weights, parameter_shapes
from begat.stages import PARAMS

ROOT = Path(__file__).resolve().parent.parent
TINY = UNetConfig(8, 1, (8, 16), 1, (False, False), False, 8, 8)
ATTENTIVE = UNetConfig(8, 3, (8, 16), 2, (False, True), True, 4, 4)
CONDITIONAL = UNetConfig(8, 1, (8, 8, 16), 1, (True, False, True), True, 8, 4, classes=5)
DEEP = UNetConfig(16, 3, (4, 8, 8, 16), 2, (False, False, True, False), False, 8, 2)
CONFIGS = {"tiny": TINY, "attentive": ATTENTIVE, "conditional": CONDITIONAL, "deep": DEEP}


def params_with(**sections: dict[str, Any]) -> Params:
    """The parameters of params/tiny.yaml with other values: ``models={"batch_size": 3}``."""
    params = load(ROOT, "params/tiny.yaml", PARAMS)
    changed = {name: replace(params.value(name), **values) for name, values in sections.items()}
    return replace(params, **changed)


def folder_with(**changes: Any) -> Images:
    """The section of a folder of grey training images of 4 x 4 pixels, with other values."""
    folder = {"source": "folder", "path": "data/images", "max_images": 0, "resize": "refuse"}
    return params_with(images={**folder, "size": 4, "channels": 1, **changes}).images


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
