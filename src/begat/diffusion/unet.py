"""Packs of U-Nets: K models of one architecture, evaluated together, equal to K diffusers models.

The architecture and the parameter names are those of ``diffusers.UNet2DModel``; every parameter
has a leading ``model`` axis. Activations have the shape ``(batch, model * channel, y, x)``, so that
one grouped convolution serves all models, one GroupNorm with K times the groups normalises each
apart, and one batched product does all linear layers. diffusers itself is not imported (that takes
seconds per process); the tests compare every configuration with it.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.unet_layers import (
    Dropout,
    Weights,
    concatenate_channels,
    conv,
    group_norm,
    resnet,
    self_attention,
    time_embedding,
    time_features,
)
from begat.diffusion.unet_shapes import (
    Level,
    UNetConfig,
    down_levels,
    mid_level,
    parameter_shapes,
    up_levels,
)
from begat.errors import BegatError


def initial_weights(config: UNetConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Returns one model's initial weights (no model axis), distributed as PyTorch's defaults.

    Convolutions and linear layers, bias included: uniform in +-1/sqrt(fan-in); norms: one and
    zero; label embedding: standard normal.
    """
    weights: dict[str, Tensor] = {}
    bound = 0.0
    for name, shape in parameter_shapes(config).items():
        if "norm" in name:
            weights[name] = torch.full(shape, float(name.endswith("weight")))
        elif name.startswith("class_embedding"):
            weights[name] = torch.randn(shape, generator=generator)
        else:
            if name.endswith("weight"):  # its bias follows and shares the bound
                bound = 1 / math.sqrt(math.prod(shape[1:]))
            weights[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
    return weights


def unet(
    weights: Weights,
    config: UNetConfig,
    x: Float[Tensor, "model batch channel y x"],
    t: Int[Tensor, "model batch"],
    label: Int[Tensor, "model batch"] | None = None,
    dropout: Dropout | None = None,
) -> Float[Tensor, "model batch channel y x"]:
    """Returns the output of each model of the pack on its own batch.

    Args:
        weights: every parameter with its model axis, as ``parameter_shapes`` names them.
        config: the architecture that they share.
        x: noisy images.
        t: timesteps, counted from 0.
        label: classes, for a conditional model.
        dropout: applied before each block's second convolution, for training only.

    Raises:
        BegatError: labels given to an unconditional model, or missing for a conditional one.
    """
    if (label is None) != (config.classes == 0):
        raise BegatError("labels are needed exactly where the model has classes")
    models, groups = len(x), config.norm_num_groups

    def blocks(level: Level, h: Tensor, skips: list[Tensor] | None = None) -> Iterator[Tensor]:
        for (name, _, _), attention in zip(level.resnets, level.attentions, strict=True):
            h = h if skips is None else concatenate_channels(h, skips.pop(), models)
            h = resnet(weights, name, h, time, groups, dropout)
            if attention:
                h = self_attention(weights, attention, h, groups, config.attention_head_dim)
            yield h

    features = time_features(t, config.block_out_channels[0]).to(x.dtype)
    time = time_embedding(weights, features, label)
    h = conv(weights, "conv_in", x.transpose(0, 1).flatten(1, 2))
    skips = [h]
    for level in down_levels(config):
        skips += blocks(level, skips[-1])
        if level.resampler:
            skips.append(conv(weights, level.resampler, skips[-1], stride=2))
    *_, h = blocks(mid_level(config), skips[-1])
    for level in up_levels(config):
        *_, h = blocks(level, h, skips)
        if level.resampler:
            h = conv(weights, level.resampler, F.interpolate(h, scale_factor=2.0, mode="nearest"))
    h = conv(weights, "conv_out", F.silu(group_norm(weights, "conv_norm_out", h, groups)))
    return h.unflatten(1, (models, -1)).transpose(0, 1)
