"""Layers of a pack of U-Nets: each function computes the layer of all models at once.

Activations have the shape ``(batch, model * channel, y, x)``; every parameter has a leading
``model`` axis and its name in ``diffusers.UNet2DModel``.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Weights = Mapping[str, Float[Tensor, "model ..."]]
Dropout = Callable[[Float[Tensor, "batch channel y x"]], Float[Tensor, "batch channel y x"]]


def conv(
    weights: Weights, name: str, x: Float[Tensor, "batch channel_in y_in x_in"], stride: int = 1
) -> Float[Tensor, "batch channel_out y_out x_out"]:
    """Returns each model's convolution, padded to keep the size, as one grouped convolution."""
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
    """Returns each model's linear layer, as one batched product.

    The bias is one more feature. The copy that this takes begins aligned, wherever in its row the
    weight begins: some matrix libraries round differently by alignment.
    """
    weight = torch.cat([weights[f"{name}.weight"], weights[f"{name}.bias"].unsqueeze(2)], 2)
    return torch.bmm(F.pad(x, (0, 1), value=1.0), weight.transpose(1, 2))


def group_norm(
    weights: Weights, name: str, x: Float[Tensor, "batch channel y x"], groups: int
) -> Float[Tensor, "batch channel y x"]:
    """Returns each model's group normalisation: K times the groups."""
    weight = weights[f"{name}.weight"]
    bias = weights[f"{name}.bias"].flatten()
    return F.group_norm(x, len(weight) * groups, weight.flatten(), bias, eps=1e-5)


def concatenate_channels(
    a: Float[Tensor, "batch channel_a y x"], b: Float[Tensor, "batch channel_b y x"], models: int
) -> Float[Tensor, "batch channel y x"]:
    """Returns two activations concatenated model by model, channels of a model together."""
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
    """Returns the output of a residual block; ``time`` is activated once for all blocks."""
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
    """Returns self-attention over positions, heads of ``head`` channels, added to its input."""
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
    """Returns cosines and sines of the timestep at geometric frequencies down to 1/10000.

    In float32 whatever the network computes in, and rounded in diffusers' order, as external
    networks were trained with these very features.
    """
    exponent = -math.log(10_000) * torch.arange(width // 2, dtype=torch.float32, device=t.device)
    angle = t[..., None].float() * torch.exp(exponent / (width // 2))
    return torch.cat([angle.cos(), angle.sin()], -1)


def time_embedding(
    weights: Weights,
    features: Float[Tensor, "model batch feature"],
    label: Int[Tensor, "model batch"] | None,
) -> Float[Tensor, "model batch embedding"]:
    """Returns the activated embedding of timesteps and, for a conditional model, of classes."""
    time = F.silu(linear(weights, "time_embedding.linear_1", features))
    time = linear(weights, "time_embedding.linear_2", time)
    if label is not None:
        table = weights["class_embedding.weight"]
        time = time + table[torch.arange(len(table), device=label.device)[:, None], label]
    return F.silu(time)
