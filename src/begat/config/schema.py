"""Sections of a parameter file that describe the run as a whole, and the typed parameters.

A stage's own section stands in its declaration (``begat.stages``).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast, get_args

from begat.config.fields import MAX_COUNT, param

Section = TypeVar("Section")
PredictionType = Literal["v_prediction", "epsilon"]
Scheduler = Literal["ddim", "ddpm"]


@dataclass(frozen=True)
class Images:
    """The training images."""

    source: str = param("where they come from: digits (embedded), folder")
    path: str = param("for folder: a directory under data/ with one sub-folder per group, or a CSV")
    max_images: int = param(
        "use only so many, evenly spread over the whole; 0 = all", ge=0, le=MAX_COUNT
    )
    size: int = param("height and width", unit="px", ge=2, le=4096)
    channels: int = param("1 = grey, 3 = colour", choices=(1, 3))
    resize: str = param("for images of another size", choices=("refuse", "crop", "stretch"))
    near_duplicate_rms: float = param(
        "images at most this far apart count as one unit; 0 = identical only",
        unit="RMS, 0..1",
        ge=0,
        le=1,
    )


@dataclass(frozen=True)
class Splits:
    """Which models are trained, and on which images."""

    full: int = param("models trained on all images", unit="seeds", ge=0, le=1_000, plans_only=True)
    members: int = param(
        "ensemble members coded by image; nested codes round up to what they need",
        ge=0,
        le=10_000,
        plans_only=True,
    )
    code: str = param("their codes", choices=("nested", "random", "hadamard"))
    group_members: int = param(
        "ensemble members coded by group; nested codes round up; none below two groups",
        ge=0,
        le=10_000,
        plans_only=True,
    )
    group_code: str = param(
        "their codes; auto: hadamard where so many members make one, else nested",
        choices=("auto", "hadamard", "nested", "random"),
    )
    logo: int = param(
        "models trained without each group (leave-one-group-out); none below two groups",
        unit="seeds",
        ge=0,
        le=100,
        plans_only=True,
    )
    subsets: int = param(
        "random subsets of the images, ground truth for LDS; fewer where fewer differ",
        ge=0,
        le=10_000,
        plans_only=True,
    )
    group_subsets: int = param(
        "random subsets of the groups; fewer where fewer differ", ge=0, le=10_000, plans_only=True
    )
    seeds_per_subset: int = param(
        "models trained on each subset", unit="seeds", ge=1, le=100, plans_only=True
    )
    subset_fraction: float = param("fraction of the units in a subset (alpha)", gt=0, le=0.95)


@dataclass(frozen=True)
class Unet:
    """The network, in the words of diffusers.UNet2DModel."""

    block_out_channels: list[int] = param(
        "channels per level, from full resolution down", ge=1, le=8192
    )
    layers_per_block: int = param("residual blocks per level", ge=1, le=32)
    attention: list[bool] = param("self-attention per level (AttnDownBlock2D)")
    add_attention: bool = param("self-attention in the middle block")
    attention_head_dim: int = param("channels per attention head", ge=1, le=8192)
    norm_num_groups: int = param("groups of the group normalisations", ge=1, le=8192)
    class_conditional: bool = param(
        "condition on each image's class: the manifest's column condition, or its only group"
    )


@dataclass(frozen=True)
class Diffusion:
    """The forward process, and what the network predicts."""

    num_train_timesteps: int = param("length of the forward process", ge=2, le=100_000)
    beta_schedule: str = param("noise schedule", choices=("squaredcos_cap_v2", "linear"))
    prediction_type: PredictionType = param(
        "what the network outputs", choices=get_args(PredictionType)
    )
    use_ema: bool = param("attribute to the moving average of the weights, not to the last ones")


@dataclass(frozen=True)
class Models:
    """How every model is trained."""

    pipeline: str = param("none, or a trained diffusers pipeline under data/ as the full model")
    max_train_steps: int = param("optimiser steps", ge=1, le=100_000_000)
    batch_size: int = param("images per step", ge=1, le=MAX_COUNT)
    learning_rate: float = param("AdamW's peak learning rate", gt=0)
    warmup_steps: int = param(
        "linear warm-up, then a cosine down to zero", unit="steps", ge=0, le=100_000_000
    )
    weight_decay: float = param("AdamW's weight decay", ge=0)
    max_grad_norm: float = param("largest gradient norm per model", gt=0)
    ema_decay: float = param("decay of the moving average of weights", ge=0, le=0.99999)
    snapshots: int = param("states stored along the training, for scores_tracin", ge=0, le=1_000)
    dropout: float = param("dropout in the residual blocks", ge=0, le=0.9)
    random_flip: bool = param(
        "mirror half of the images; draws per gradient must then be multiples of 4"
        " (scores_influence: 8)"
    )
    models_per_job: int = param(
        "models trained side by side in one job", ge=1, le=10_000, plans_only=True
    )


@dataclass(frozen=True)
class Queries:
    """The query images."""

    source: str = param("generated by a model, or user-supplied", choices=("generated", "folder"))
    path: str = param("for folder: a directory or CSV under data/")
    generated_by: str = param("the models", choices=("full", "member", "group_member"))
    count: int = param("how many are generated", ge=1, le=MAX_COUNT, plans_only=True)
    queries_per_job: int = param("queries in one job", ge=1, le=MAX_COUNT, plans_only=True)
    scheduler: str = param("ddim (deterministic) or ddpm (ancestral)")
    num_inference_steps: int = param("sampling steps", ge=1, le=100_000)
    clip_sample: bool = param("clip the predicted clean image to -1..1 at every step")


@dataclass(frozen=True)
class Compute:
    """Where and how fast; changes no result."""

    device: str = param("auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"))
    threads: int = param("CPU threads per job", ge=1, le=4096)
    checkpoint_seconds: int = param(
        "how often a training saves its state", unit="s", ge=1, le=MAX_COUNT
    )


@dataclass(frozen=True)
class Params:
    """All parameters of a run, read-only; the sections of stages by their class (``of``)."""

    params_file: str = param(
        "in params.yaml: the file to read the rest from; in any other: not read"
    )
    seed: int = param("root of every random number", ge=0, le=2**32 - 1)
    images: Images = dataclasses.field(default_factory=Images)
    splits: Splits = dataclasses.field(default_factory=Splits)
    unet: Unet = dataclasses.field(default_factory=Unet)
    diffusion: Diffusion = dataclasses.field(default_factory=Diffusion)
    models: Models = dataclasses.field(default_factory=Models)
    queries: Queries = dataclasses.field(default_factory=Queries)
    compute: Compute = dataclasses.field(default_factory=Compute)

    def of(self, section: type[Section]) -> Section:
        """Returns a section by its class: ``params.of(ScoresTrak).damping``."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return next(value for value in values if isinstance(value, section))

    def value(self, key: str) -> Any:
        """Returns a parameter, or a whole section, by its name: ``diffusion.use_ema``."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name) if name else getattr(self, section)


def with_sections(own: Mapping[str, type]) -> type[Params]:
    """Returns the class of all parameters: the shared sections, those of stages, and compute."""
    extra = [
        (name, section, dataclasses.field(default_factory=section)) for name, section in own.items()
    ]
    return dataclasses.make_dataclass("Params", extra, bases=(Params,), frozen=True)


def sections(params: type[Params]) -> dict[str, type]:
    """Returns the sections of a parameter file in their order, compute last."""
    owners = {
        field.name: cast(type, field.default_factory)
        for field in dataclasses.fields(params)
        if not field.metadata and field.name != "compute"
    }
    return {**owners, "compute": Compute}


def fields_of(owner: type) -> dict[str, dataclasses.Field[Any]]:
    """Returns the declared parameters of a section, or of the top level, by name."""
    return {f.name: f for f in dataclasses.fields(owner) if f.metadata}
