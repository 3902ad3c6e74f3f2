"""Packs of U-Nets: K models of one architecture, evaluated together, equal to K diffusers models.

The architecture and the parameter names are those of ``diffusers.UNet2DModel``; every parameter
has a leading ``model`` axis. Activations have the shape ``(batch, model * channel, y, x)``, so that
one grouped convolution serves all models, one GroupNorm with K times the groups normalises each
apart, and one batched product does all linear layers. diffusers itself is not imported (that takes
seconds per process); the tests compare every configuration with it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

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
from begat.errors import BegatError


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a U-Net, in the terms of ``diffusers.UNet2DModel``.

    ``attention[i]`` puts self-attention behind every residual block of level ``i`` (the same
    level downwards and upwards). ``classes`` is the number of labels, 0 for an unconditional model.
    """

    sample_size: int
    image_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention: tuple[bool, ...]
    mid_attention: bool
    attention_head_dim: int
    norm_num_groups: int
    classes: int = 0

    def __post_init__(self) -> None:
        """Raise BegatError where no such network exists."""
        if len(self.attention) != len(self.block_out_channels):
            raise BegatError(
                f"attention: expected one value for each of the {len(self.block_out_channels)} "
                f"levels, found {len(self.attention)}"
            )
        if odd := [c for c in self.block_out_channels if c % self.norm_num_groups]:
            raise BegatError(
                "block_out_channels: expected multiples of "
                f"norm_num_groups={self.norm_num_groups}, found {odd[0]}"
            )
        attended = [c for c, a in zip(self.block_out_channels, self.attention, strict=True) if a]
        attended += [self.block_out_channels[-1]] if self.mid_attention else []
        if odd := [c for c in attended if c % self.attention_head_dim]:
            raise BegatError(
                f"block_out_channels: expected multiples of attention_head_dim="
                f"{self.attention_head_dim} where there is attention, found {odd[0]}"
            )
        if self.sample_size % 2 ** (len(self.block_out_channels) - 1):
            raise BegatError(
                f"the image size {self.sample_size} cannot be halved "
                f"{len(self.block_out_channels) - 1} times: use another size or fewer levels"
            )

    @property
    def time_channels(self) -> int:
        """Returns the width of the time embedding."""
        return 4 * self.block_out_channels[0]

    def attributes(self) -> dict[str, object]:
        """Returns the configuration as plain JSON values, for ``from_attributes``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_attributes(cls, values: Mapping[str, object]) -> "UNetConfig":
        """Returns the configuration that ``attributes`` wrote."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]

    def diffusers_arguments(self) -> dict[str, object]:
        """Returns the arguments of the same network as a ``diffusers.UNet2DModel``."""
        down = ["AttnDownBlock2D" if a else "DownBlock2D" for a in self.attention]
        up = ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(self.attention)]
        return dict(
            sample_size=self.sample_size,
            in_channels=self.image_channels,
            out_channels=self.image_channels,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=list(self.block_out_channels),
            layers_per_block=self.layers_per_block,
            add_attention=self.mid_attention,
            attention_head_dim=self.attention_head_dim,
            norm_num_groups=self.norm_num_groups,
            num_class_embeds=self.classes or None,
        )


@dataclass(frozen=True)
class Level:
    """Residual blocks of one resolution, with the attention and the resampling behind them.

    Attributes:
        resnets: name, input channels and output channels of each residual block.
        attentions: name of the self-attention behind each, or None.
        resampler: name of the convolution to the next resolution, or None.
    """

    resnets: tuple[tuple[str, int, int], ...]
    attentions: tuple[str | None, ...]
    resampler: str | None


def _level(name: str, inputs: list[int], width: int, attention: bool, resampler: str) -> Level:
    return Level(
        tuple((f"{name}.resnets.{j}", c, width) for j, c in enumerate(inputs)),
        tuple(f"{name}.attentions.{j}" if attention else None for j in range(len(inputs))),
        f"{name}.{resampler}" if resampler else None,
    )


def down_levels(config: UNetConfig) -> Iterator[Level]:
    """Yields the encoder's levels, from full resolution to the lowest."""
    widths = config.block_out_channels
    for i, width in enumerate(widths):
        first = widths[max(i - 1, 0)]
        inputs = [first] + [width] * (config.layers_per_block - 1)
        resampler = "downsamplers.0.conv" if i < len(widths) - 1 else ""
        yield _level(f"down_blocks.{i}", inputs, width, config.attention[i], resampler)


def mid_level(config: UNetConfig) -> Level:
    """Returns the middle: two residual blocks, with attention between them if configured."""
    width = config.block_out_channels[-1]
    level = _level("mid_block", [width, width], width, config.mid_attention, "")
    return Level(level.resnets, (level.attentions[0], None), None)


def up_levels(config: UNetConfig) -> Iterator[Level]:
    """Yields the decoder's levels; a block's input is its predecessor and a skip connection."""
    widths = config.block_out_channels[::-1]
    attention = config.attention[::-1]
    for i, width in enumerate(widths):
        before = widths[max(i - 1, 0)]
        beyond = widths[min(i + 1, len(widths) - 1)]
        blocks = config.layers_per_block + 1
        inputs = [
            (before if j == 0 else width) + (beyond if j == blocks - 1 else width)
            for j in range(blocks)
        ]
        resampler = "upsamplers.0.conv" if i < len(widths) - 1 else ""
        yield _level(f"up_blocks.{i}", inputs, width, attention[i], resampler)


def parameter_shapes(config: UNetConfig) -> dict[str, tuple[int, ...]]:
    """Returns every parameter's name and shape (without the model axis), in a fixed order."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]

    def add_level(level: Level) -> None:
        for (name, c_in, c_out), attention in zip(level.resnets, level.attentions, strict=True):
            add(f"{name}.norm1", c_in)
            add(f"{name}.conv1", c_out, c_in, 3, 3)
            add(f"{name}.time_emb_proj", c_out, config.time_channels)
            add(f"{name}.norm2", c_out)
            add(f"{name}.conv2", c_out, c_out, 3, 3)
            if c_in != c_out:
                add(f"{name}.conv_shortcut", c_out, c_in, 1, 1)
            if attention:
                add(f"{attention}.group_norm", c_out)
                for part in ("to_q", "to_k", "to_v", "to_out.0"):
                    add(f"{attention}.{part}", c_out, c_out)
        if level.resampler:
            add(level.resampler, c_out, c_out, 3, 3)

    first, time = config.block_out_channels[0], config.time_channels
    add("conv_in", first, config.image_channels, 3, 3)
    add("time_embedding.linear_1", time, first)
    add("time_embedding.linear_2", time, time)
    if config.classes:
        shapes["class_embedding.weight"] = (config.classes, time)
    for level in (*down_levels(config), mid_level(config), *up_levels(config)):
        add_level(level)
    add("conv_norm_out", first)
    add("conv_out", config.image_channels, first, 3, 3)
    return shapes


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
