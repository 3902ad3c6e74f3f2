"""A pack of U-Nets: K models of one shape, evaluated together, equal to K diffusers models.

The architecture and the parameter names are those of ``diffusers.UNet2DModel``; every parameter
carries a leading ``model`` axis. Activations travel as ``(batch, model * channel, y, x)``, so that
one grouped convolution serves all models, one GroupNorm with K times the groups normalises each
apart, and one batched product does all linear layers. diffusers itself is not needed to run it
(its import alone costs seconds per process); the tests hold every configuration against it.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.unet_shapes import (
    Level,
    UNetConfig,
    down_levels,
    mid_level,
    parameter_shapes,
    up_levels,
)
from begat.errors import BegatError

Weights = Mapping[str, Float[Tensor, "model ..."]]
Dropout = Callable[[Float[Tensor, "batch channel y x"]], Float[Tensor, "batch channel y x"]]


def initial_weights(config: UNetConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """One model's starting weights, distributed as PyTorch's layers start (no model axis).

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


def conv(
    weights: Weights, name: str, x: Float[Tensor, "batch channel_in y_in x_in"], stride: int = 1
) -> Float[Tensor, "batch channel_out y_out x_out"]:
    """Each model's convolution, padded to keep the size, as one grouped convolution."""
    weight = weights[f"{name}.weight"]
    kernel = weight.flatten(0, 1)
    if min(weight.shape[1:3]) < 4:  # the image's own channels: a twentieth of a step on a CPU
        x, kernel = (v.contiguous(memory_format=torch.channels_last) for v in (x, kernel))
    return F.conv2d(
        x,
        kernel,
        weights[f"{name}.bias"].flatten(),
        stride=stride,
        padding=weight.shape[-1] // 2,
        groups=len(weight),
    ).contiguous()


def linear(
    weights: Weights, name: str, x: Float[Tensor, "model row feature_in"]
) -> Float[Tensor, "model row feature_out"]:
    """Each model's linear layer, as one batched product.

    The bias rides along as one more feature. The copy that this takes begins aligned, wherever in
    its row the weight lies: some matrix libraries round by that, too.
    """
    weight = torch.cat([weights[f"{name}.weight"], weights[f"{name}.bias"].unsqueeze(2)], 2)
    return torch.bmm(F.pad(x, (0, 1), value=1.0), weight.transpose(1, 2))


def group_norm(
    weights: Weights, name: str, x: Float[Tensor, "batch channel y x"], groups: int
) -> Float[Tensor, "batch channel y x"]:
    """Each model's group normalisation: the models' groups side by side."""
    weight = weights[f"{name}.weight"]
    bias = weights[f"{name}.bias"].flatten()
    return F.group_norm(x, len(weight) * groups, weight.flatten(), bias, eps=1e-5)


def beside(
    a: Float[Tensor, "batch channel_a y x"], b: Float[Tensor, "batch channel_b y x"], models: int
) -> Float[Tensor, "batch channel y x"]:
    """Two activations concatenated model by model, so that each keeps its channels together."""
    parts = [a.unflatten(1, (models, -1)), b.unflatten(1, (models, -1))]
    return torch.cat(parts, 2).flatten(1, 2)


def resnet(
    weights: Weights,
    name: str,
    x: Float[Tensor, "batch channel_in y x"],
    time: Float[Tensor, "model batch feature"],
    groups: int,
    dropout: Dropout | None,
) -> Float[Tensor, "batch channel_out y x"]:
    """A residual block; ``time`` comes activated, as every block would activate it alike."""
    h = conv(weights, f"{name}.conv1", F.silu(group_norm(weights, f"{name}.norm1", x, groups)))
    shift = linear(weights, f"{name}.time_emb_proj", time).transpose(0, 1).flatten(1)
    h = F.silu(group_norm(weights, f"{name}.norm2", h + shift[:, :, None, None], groups))
    h = conv(weights, f"{name}.conv2", dropout(h) if dropout else h)
    if f"{name}.conv_shortcut.weight" in weights:
        x = conv(weights, f"{name}.conv_shortcut", x)
    return x + h


def self_attention(
    weights: Weights, name: str, x: Float[Tensor, "batch channel y x"], groups: int, head: int
) -> Float[Tensor, "batch channel y x"]:
    """Self-attention over positions, heads of ``head`` channels, added to its input."""
    models, width = weights[f"{name}.to_q.bias"].shape
    batch, _, *size = x.shape
    h = group_norm(weights, f"{name}.group_norm", x, groups).flatten(2)
    h = h.unflatten(1, (models, width)).permute(1, 0, 3, 2).reshape(models, -1, width)
    query, key, value = (
        linear(weights, f"{name}.{part}", h)
        .view(models * batch, -1, width // head, head)
        .transpose(1, 2)
        for part in ("to_q", "to_k", "to_v")
    )
    h = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    h = linear(weights, f"{name}.to_out.0", h.reshape(models, -1, width))
    h = h.view(models, batch, -1, width).permute(1, 0, 3, 2).reshape(batch, -1, *size)
    return x + h


def time_features(
    t: Int[Tensor, "model batch"], width: int
) -> Float[Tensor, "model batch feature"]:
    """Cosines and sines of the timestep at geometric frequencies down to 1/10000.

    In float32 whatever the network computes in, and rounded in diffusers' order: trained networks
    know these very features.
    """
    exponent = -math.log(10_000) * torch.arange(width // 2, dtype=torch.float32, device=t.device)
    angle = t[..., None].float() * torch.exp(exponent / (width // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


def unet(
    weights: Weights,
    config: UNetConfig,
    x: Float[Tensor, "model batch channel y x"],
    t: Int[Tensor, "model batch"],
    label: Int[Tensor, "model batch"] | None = None,
    dropout: Dropout | None = None,
) -> Float[Tensor, "model batch channel y x"]:
    """What each model of the pack predicts for its own batch.

    Args:
        weights: every parameter with its model axis, as ``parameter_shapes`` names them.
        config: the shape they share.
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
            h = h if skips is None else beside(h, skips.pop(), models)
            h = resnet(weights, name, h, time, groups, dropout)
            if attention:
                h = self_attention(weights, attention, h, groups, config.attention_head_dim)
            yield h

    time = time_features(t, config.block_out_channels[0]).to(x.dtype)
    time = F.silu(linear(weights, "time_embedding.linear_1", time))
    time = linear(weights, "time_embedding.linear_2", time)
    if label is not None:
        table = weights["class_embedding.weight"]
        time = time + table[torch.arange(models, device=label.device)[:, None], label]
    time = F.silu(time)

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
