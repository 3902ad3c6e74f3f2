"""A pack of U-Nets: K models of one shape, evaluated together, equal to K diffusers models.

The architecture and the parameter names are those of ``diffusers.UNet2DModel``; every parameter
carries a leading ``model`` axis. Activations travel as ``(batch, model * channel, y, x)``, so that
one grouped convolution serves all models, one GroupNorm with K times the groups normalises each
apart, and one batched product does all linear layers. diffusers itself is not needed to run it
(its import alone costs seconds per process); the tests hold every configuration against it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from begat.errors import BegatError

Weights = Mapping[str, Float[Tensor, "model ..."]]
Dropout = Callable[[Float[Tensor, "batch channel y x"]], Float[Tensor, "batch channel y x"]]


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net, in the words of ``diffusers.UNet2DModel``.

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
        """Width of the time embedding."""
        return 4 * self.block_out_channels[0]

    def attributes(self) -> dict[str, object]:
        """The configuration as plain JSON values; ``from_attributes`` reads it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_attributes(cls, values: Mapping[str, object]) -> "UNetConfig":
        """The configuration that ``attributes`` wrote."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]

    def diffusers_arguments(self) -> dict[str, object]:
        """Keyword arguments that build the same network as a ``diffusers.UNet2DModel``."""
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
    """Residual blocks of one resolution: their names and channels, and what follows them."""

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
    """The way down, from full resolution to the lowest."""
    widths = config.block_out_channels
    for i, width in enumerate(widths):
        first = widths[max(i - 1, 0)]
        inputs = [first] + [width] * (config.layers_per_block - 1)
        resampler = "downsamplers.0.conv" if i < len(widths) - 1 else ""
        yield _level(f"down_blocks.{i}", inputs, width, config.attention[i], resampler)


def mid_level(config: UNetConfig) -> Level:
    """The bottom: two residual blocks, attention between them where asked for."""
    width = config.block_out_channels[-1]
    level = _level("mid_block", [width, width], width, config.mid_attention, "")
    return Level(level.resnets, (level.attentions[0], None), None)


def up_levels(config: UNetConfig) -> Iterator[Level]:
    """The way up; each block's input is the block before it beside one skip connection."""
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
    """Every parameter's name and shape (without the model axis), in a fixed order."""
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
