"""The architecture of a U-Net: its levels, parameters and multiplications. Needs no torch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from begat.errors import BegatError


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


def parameter_count(config: UNetConfig) -> int:
    """Returns how many parameters one network has."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


@dataclass(frozen=True)
class Layer:
    """A layer at work on one image.

    Attributes:
        width_in, width_out: of a convolution's patch or a linear layer's feature, and of its
            output; a normalisation has no ``width_in``, a product of attention neither.
        inputs, outputs: numbers that go in and come out, channels times positions.
        products: multiplications, one addition each; none are counted for a normalisation.
    """

    width_in: int
    width_out: int
    inputs: int
    outputs: int
    products: int


def layers(config: UNetConfig) -> Iterator[Layer]:
    """Yields every layer with parameters but for the class embedding, and attention's products."""
    shapes, sides = parameter_shapes(config), _sides(config)
    for name, shape in shapes.items():
        if not name.endswith(".weight") or name.startswith("class_embedding"):
            continue
        side_in, side_out = sides[name.removesuffix(".weight")]
        outputs = shape[0] * side_out**2
        if len(shape) == 1:
            yield Layer(0, shape[0], outputs, outputs, 0)
            continue
        width_in = math.prod(shape[1:])
        yield Layer(width_in, shape[0], shape[1] * side_in**2, outputs, width_in * outputs)
        if name.endswith("to_q.weight"):  # queries by keys, and weights by values
            yield Layer(0, 0, 0, 0, 2 * side_out**2 * outputs)


def _sides(config: UNetConfig) -> dict[str, tuple[int, int]]:
    """The height of every layer's input and output; a time embedding has one position."""
    full, lowest = config.sample_size, config.sample_size >> len(config.block_out_channels) - 1
    ends = ("conv_in", "conv_norm_out", "conv_out")
    sides = dict.fromkeys(ends, (full, full))
    sides |= {f"time_embedding.linear_{i}": (1, 1) for i in (1, 2)}
    levels = [(level, full >> i) for i, level in enumerate(down_levels(config))]
    levels.append((mid_level(config), lowest))
    levels += [(level, lowest << i) for i, level in enumerate(up_levels(config))]
    for level, side in levels:
        for (name, _, _), attention in zip(level.resnets, level.attentions, strict=True):
            parts = ("norm1", "conv1", "norm2", "conv2", "conv_shortcut")
            sides |= {f"{name}.{part}": (side, side) for part in parts}
            sides[f"{name}.time_emb_proj"] = (1, 1)
            if attention:
                parts = ("group_norm", "to_q", "to_k", "to_v", "to_out.0")
                sides |= {f"{attention}.{part}": (side, side) for part in parts}
        if level.resampler:
            up = "upsamplers" in level.resampler
            sides[level.resampler] = (2 * side, 2 * side) if up else (side, side // 2)
    return sides
