"""Every number a run can be asked for: type, unit, bounds and meaning, as structured configs."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

OPERATORS = (
    "posterior_mean",
    "retrack",
    "anchor",
    "esd",
    "swap",
    "noise",
    "ascent",
    "siss",
    "salun",
    "ewc",
    "retain_only",
    "newton",
)
KINDS = ("relative", "absolute")
MANY = 1_000_000  # every whole number has a bound, so that a slip of the hand fills no memory


def key(
    doc: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str | int, ...] = (),
    count: bool = False,
) -> Any:
    """A required key: its meaning and unit, inclusive bounds (``above``: exclusive), choices.

    ``count`` marks what decides which jobs there are: it is in no job's key, unless the job says so
    itself (``planning.plan``), so changing it leaves what is already computed as it is.
    """
    metadata = dict(
        doc=doc, unit=unit, least=least, most=most, above=above, choices=choices, count=count
    )
    return field(default="???", metadata=metadata)


@dataclass
class Images:
    """The training images."""

    source: str = key("where they come from", choices=("digits", "folder"))
    path: str = key("for folder: a directory under data/ with one sub-folder per group, or a CSV")
    limit: int = key("keep only so many, evenly spread over the whole; 0 = all", least=0, most=MANY)
    size: int = key("height and width", unit="px", least=2, most=4096)
    channels: int = key("1 = grey, 3 = colour", choices=(1, 3))
    resize: str = key("for images of another size", choices=("refuse", "crop", "stretch"))
    near_duplicate: float = key(
        "images at most this far apart count as one unit; 0 = identical only",
        unit="RMS, 0..1",
        least=0,
        most=1,
    )


@dataclass
class Splits:
    """Which models are trained, and on what."""

    full: int = key("models trained on everything", unit="seeds", least=0, most=1_000, count=True)
    members: int = key(
        "ensemble members coded by image; nested codes round up to what they need",
        least=0,
        most=10_000,
        count=True,
    )
    code: str = key("their codes", choices=("nested", "random", "hadamard"))
    group_members: int = key(
        "ensemble members coded by group; nested codes round up; none below two groups",
        least=0,
        most=10_000,
        count=True,
    )
    group_code: str = key(
        "their codes; auto: hadamard where so many members make one, else nested",
        choices=("auto", "hadamard", "nested", "random"),
    )
    logo: int = key(
        "models trained without each group; none below two groups",
        unit="seeds",
        least=0,
        most=100,
        count=True,
    )
    halves: int = key(
        "random halves of the images, the truth for LDS; fewer where fewer differ",
        least=0,
        most=10_000,
        count=True,
    )
    group_halves: int = key(
        "random halves of the groups; fewer where fewer differ", least=0, most=10_000, count=True
    )
    half_seeds: int = key(
        "models trained on each half", unit="seeds", least=1, most=100, count=True
    )
    kept: float = key("share of the units kept in a half", above=0, most=0.95)


@dataclass
class Unet:
    """The network, as diffusers.UNet2DModel names its parts."""

    block_out_channels: list[int] = key(
        "channels per level, from full resolution down", least=1, most=8192
    )
    layers_per_block: int = key("residual blocks per level", least=1, most=32)
    attention: list[bool] = key("self-attention per level")
    mid_attention: bool = key("self-attention at the bottom")
    attention_head_dim: int = key("channels per attention head", least=1, most=8192)
    norm_num_groups: int = key("groups of the group normalisations", least=1, most=8192)
    conditional: bool = key(
        "condition on each image's class: the manifest's column condition, or its only group"
    )


@dataclass
class Diffusion:
    """The forward process, and what the network predicts."""

    timesteps: int = key("length of the forward process", least=2, most=100_000)
    schedule: str = key("noise schedule", choices=("cosine", "linear"))
    prediction: str = key("what the network outputs", choices=("v", "epsilon"))
    weights: str = key("which weights answer questions", choices=("ema", "raw"))


@dataclass
class Models:
    """How every model is trained."""

    pipeline: str = key("none, or a trained diffusers pipeline under data/ as the full model")
    steps: int = key("optimiser steps", least=1, most=100_000_000)
    batch: int = key("images per step", least=1, most=MANY)
    learning_rate: float = key("AdamW's peak learning rate", above=0)
    warmup: int = key(
        "linear warm-up, then a cosine down to zero", unit="steps", least=0, most=100_000_000
    )
    weight_decay: float = key("AdamW's weight decay", least=0)
    clip: float = key("largest gradient norm per model", above=0)
    ema: float = key("decay of the moving average of weights", least=0, most=0.99999)
    snapshots: int = key("states kept along the training, for scores_tracin", least=0, most=1_000)
    dropout: float = key("dropout in the residual blocks", least=0, most=0.9)
    flip: bool = key(
        "mirror half of the images; draws per gradient must then be multiples of 4"
        " (scores_influence: 8)"
    )
    pack: int = key("models trained side by side in one job", least=1, most=10_000, count=True)


@dataclass
class Queries:
    """The images asked about."""

    source: str = key("drawn by a model, or a person's own", choices=("generated", "folder"))
    path: str = key("for folder: a directory or CSV under data/")
    drawn_by: str = key("who draws them", choices=("full", "member", "group_member"))
    count: int = key("how many are drawn", least=1, most=MANY, count=True)
    block: int = key("how many per job", least=1, most=MANY, count=True)
    sampler: str = key("ancestral, or deterministic", choices=("ddim", "ddpm"))
    steps: int = key("sampling steps", least=1, most=100_000)
    clip: bool = key("keep the implied clean image in range at every step")


@dataclass
class Measurements:
    """How a model's loss on a query is measured."""

    draws: int = key("shared draws of (timestep, noise) per query; even", least=4, most=MANY)


@dataclass
class Counterfactuals:
    """Queries drawn again from the same noise without a unit."""

    top: int = key("most helpful images of each query to do without", least=0, most=10_000)
    random: int = key("random images of each query to do without", least=1, most=10_000)
    strength: float = key("how far a person's own image is noised first", above=0, most=1)


@dataclass
class Factors:
    """The curvature of a model's training loss, for influence functions."""

    draws: int = key("draws of (timestep, noise) per image and pass; even", least=2, most=MANY)
    sharing: str = key(
        "how positions that share a weight count: each, or their sum", choices=("expand", "reduce")
    )
    norms: bool = key("cover normalisation layers too, as small dense blocks")


@dataclass
class Unlearned:
    """How the full model forgets each group."""

    operator: str = key(
        "what the model is drawn to on forgotten images", choices=OPERATORS, count=True
    )
    start: str = key(
        "where forgetting starts: the full model, or a Newton step away from it",
        choices=("full", "newton"),
        count=True,
    )
    retain: str = key(
        "on other images: keep the full model's answers, or train on", choices=("distil", "denoise")
    )
    balance: float = key("weight of the forget term", least=0)
    mixing: str = key(
        "keep + balance forget, or (1 - balance) keep + balance forget", choices=("added", "shared")
    )
    weighting: str = key(
        "of the forget error over time: error of what", choices=("clean", "noise", "velocity")
    )
    above: float = key("noise variance from which a target holds; 0 = always", least=0, most=1)
    neighbours: int = key("for retrack: nearest images that make the target", least=1, most=MANY)
    strength: float = key("for esd and siss: how far to push", least=0)
    cap: float = key("for ascent: the forget loss to climb to", above=0)
    share: float = key("for salun: share of the weights that may move", above=0, most=1)
    penalty: float = key("for ewc: weight of the penalty", least=0)
    damping: float = key("for newton: multiple of each block's mean eigenvalue", least=0)
    stop: str = key(
        "after all steps, or when each group has drifted or risen by goal",
        choices=("steps", "drift", "rise"),
    )
    goal: float = key("that drift or rise", unit="squared noise error per pixel", least=0)
    steps: float = key(
        "optimiser steps, at most", unit="share of models.steps", least=0, most=1_000
    )
    batch: int = key("forgotten and other images per step, of each", least=1, most=MANY)
    learning_rate: float = key(
        "AdamW's peak learning rate", unit="share of models.learning_rate", above=0
    )
    clip: float = key("largest gradient norm per model", above=0)
    pack: int = key("groups that unlearn side by side in one job", least=1, most=10_000, count=True)


@dataclass
class ScoresEnsemble:
    """Scores from encoded ensembles."""

    nulls: int = key(
        "unused codes behind each p-value; hadamard codes have residuals instead",
        least=1,
        most=MANY,
    )


@dataclass
class ScoresInfluence:
    """Scores by influence functions: K-FAC, EK-FAC, gradient dot products."""

    models: int = key(
        "models to average over: full ones first, then members; 0 = none",
        least=0,
        most=10_000,
        count=True,
    )
    draws: int = key("draws of (timestep, noise) per gradient; a multiple of 4", least=4, most=MANY)
    shared: bool = key("one list of draws for all images and queries, not one for each")
    damping: str = key("relative to each block's mean eigenvalue, or not", choices=KINDS)
    dampings: list[float] = key(
        "the one that two halves of the draws agree on best is taken", least=0
    )
    storage: str = key("how the queries' gradients are kept", choices=("full", "half", "int8"))


@dataclass
class ScoresTrak:
    """Scores of the TRAK family: trak, dtrak, das."""

    models: int = key(
        "models to average over: full ones first, then members; 0 = none", least=0, most=10_000
    )
    draws: int = key("draws of (timestep, noise) per gradient; even", least=2, most=MANY)
    projection: int = key(
        "numbers kept of each gradient; 0 = all, the exact kernel", least=0, most=10_000_000
    )
    damping: float = key("multiple of the kernel's mean eigenvalue", least=0)


@dataclass
class ScoresTracin:
    """Scores along the training: tracin, retrac."""

    models: int = key("full models to average over; 0 = none", least=0, most=1_000)
    draws: int = key("draws of (timestep, noise) per gradient; even", least=2, most=MANY)


@dataclass
class ScoresFeatures:
    """Similarity in the eyes of a network."""

    network: str = key(
        "full: the full model's own middle layer; timm:NAME; timm:NAME:data/FILE.safetensors"
    )
    draws: int = key("for full: draws of (timestep, noise) per image; even", least=2, most=MANY)


@dataclass
class ScoresGuda:
    """Scores of groups from models that forgot them."""

    variance: str = key(
        "of the reverse process, for the ELBO's weights", choices=("posterior", "beta")
    )
    clipped: str = key(
        "timesteps whose beta the schedule clips", choices=("exclude", "cap", "keep")
    )


@dataclass
class Metrics:
    """How scores are held against retraining."""

    resamples: int = key(
        "halves drawn for each interval, shuffles for each p-value", least=20, most=MANY
    )


@dataclass
class Report:
    """What the report shows."""

    queries: int = key("queries shown with their images", least=1, most=10_000)
    top: int = key(
        "most helpful and most harmful images shown per query and method", least=1, most=1_000
    )


@dataclass
class Compute:
    """Where and how fast; changes no result."""

    device: str = key("auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"))
    threads: int = key("CPU threads per job", least=1, most=4096)
    checkpoint: int = key("how often a training saves its state", unit="s", least=1, most=MANY)


@dataclass
class Params:
    """The whole file."""

    use: str = key("in params.yaml: the file to read the rest from; in any other: not read")
    seed: int = key("root of every random number", least=0, most=2**32 - 1)
    images: Images = field(default_factory=Images)
    splits: Splits = field(default_factory=Splits)
    unet: Unet = field(default_factory=Unet)
    diffusion: Diffusion = field(default_factory=Diffusion)
    models: Models = field(default_factory=Models)
    queries: Queries = field(default_factory=Queries)
    measurements: Measurements = field(default_factory=Measurements)
    counterfactuals: Counterfactuals = field(default_factory=Counterfactuals)
    factors: Factors = field(default_factory=Factors)
    unlearned: Unlearned = field(default_factory=Unlearned)
    scores_ensemble: ScoresEnsemble = field(default_factory=ScoresEnsemble)
    scores_influence: ScoresInfluence = field(default_factory=ScoresInfluence)
    scores_trak: ScoresTrak = field(default_factory=ScoresTrak)
    scores_tracin: ScoresTracin = field(default_factory=ScoresTracin)
    scores_features: ScoresFeatures = field(default_factory=ScoresFeatures)
    scores_guda: ScoresGuda = field(default_factory=ScoresGuda)
    metrics: Metrics = field(default_factory=Metrics)
    report: Report = field(default_factory=Report)
    compute: Compute = field(default_factory=Compute)


SECTIONS = {
    f.name: f.default_factory for f in dataclasses.fields(Params) if f.name not in ("use", "seed")
}


def fields_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """The keys of a section (of the top level for ``""``) and what is known of each."""
    owner = SECTIONS[section] if section else Params
    return {f.name: f for f in dataclasses.fields(owner) if f.metadata}  # type: ignore[arg-type]
