"""The network of a run from its parameters: its shape, and what one evaluation takes."""

from dataclasses import dataclass
from functools import cache

from begat.data.pipelines import pipeline_config
from begat.diffusion.unet_shapes import (
    UNetConfig,
    down_levels,
    layers,
    parameter_count,
)
from begat.errors import BegatError
from begat.execution.run_spec import RunSpec


def config_of(spec: RunSpec) -> UNetConfig:
    """The network that the parameters describe.

    Raises:
        BegatError: no such network exists; the message names the key.
    """
    unet, images = spec.params.unet, spec.params.images
    try:
        return UNetConfig(
            sample_size=images.size,
            image_channels=images.channels,
            block_out_channels=tuple(unet.block_out_channels),
            layers_per_block=unet.layers_per_block,
            attention=tuple(unet.attention),
            mid_attention=unet.add_attention,
            attention_head_dim=unet.attention_head_dim,
            norm_num_groups=unet.norm_num_groups,
            classes=len(spec.dataset.classes) if unet.class_conditional else 0,
        )
    except BegatError as error:
        raise BegatError(f"{spec.params.params_file}: unet.{error}") from None


@dataclass(frozen=True)
class NetworkSize:
    """What one network, and one evaluation of it on one image, take.

    Attributes:
        parameters: numbers in one set of weights.
        products: multiplications of a forward pass, each with an addition.
        alive: numbers in memory at once during a forward pass without gradients.
        saved: numbers stored for the backward pass.
        taped: inputs and output gradients of all layers (``influence.tapes``).
        covariances: numbers in the Kronecker factors of all layers.
        largest_layer: parameters of the largest layer.
    """

    parameters: int
    products: int
    alive: int
    saved: int
    taped: int
    covariances: int
    largest_layer: int


@cache
def size_of(config: UNetConfig) -> NetworkSize:
    """Returns the size of a network."""
    every = list(layers(config))
    linear = [layer for layer in every if layer.width_in]
    norms = [layer for layer in every if layer.outputs and not layer.width_in]
    skips = sum(
        (config.sample_size >> i) ** 2 * width * (len(level.resnets) + bool(level.resampler))
        for i, (level, width) in enumerate(
            zip(down_levels(config), config.block_out_channels, strict=True)
        )
    )
    sides = [n**2 for layer in linear for n in (layer.width_in + 1, layer.width_out)]
    return NetworkSize(
        parameters=parameter_count(config),
        products=sum(layer.products for layer in every),
        alive=skips + 2 * max(layer.inputs + layer.outputs for layer in linear),
        saved=sum(layer.inputs for layer in linear) + 2 * sum(layer.inputs for layer in norms),
        taped=sum(layer.inputs + layer.outputs for layer in every),
        covariances=sum(sides) + sum((2 * layer.width_out) ** 2 for layer in norms),
        largest_layer=max(layer.width_in * layer.width_out for layer in linear),
    )


def network_size(spec: RunSpec) -> NetworkSize:
    """Returns the size of a run's network; an external pipeline's as far as it is a plain U-Net."""
    if spec.pipeline is None:
        return size_of(config_of(spec))
    external, unet = pipeline_config(spec.pipeline), config_of(spec)
    try:
        config = UNetConfig(
            sample_size=unet.sample_size,
            image_channels=unet.image_channels,
            block_out_channels=tuple(external.get("block_out_channels", (224, 448, 672, 896))),
            layers_per_block=external.get("layers_per_block", 2),
            attention=tuple("Attn" in name for name in external.get("down_block_types", ())),
            mid_attention=external.get("add_attention", True),
            attention_head_dim=external.get("attention_head_dim") or 8,
            norm_num_groups=external.get("norm_num_groups", 32),
            classes=unet.classes,
        )
        return size_of(config)
    except (BegatError, TypeError):
        return size_of(unet)
