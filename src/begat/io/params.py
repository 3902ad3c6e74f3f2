"""``params.yaml``: every number a run can be asked for, its type, unit, bounds and meaning.

The file is read by three programs in three YAML dialects (this package through OmegaConf,
Snakemake, DVC), so what they would read differently is refused here.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from begat.errors import BegatError

DEFAULT_FILE = "params.yaml"


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

    ``count`` marks a number that only decides how many jobs there are: it is no part of any job's
    key, so changing it leaves what is already computed as it is.
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
    size: int = key("height and width", unit="px", least=2)
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

    full: int = key("models trained on everything", unit="seeds", least=0, count=True)
    members: int = key("ensemble members coded by image", least=0, count=True)
    code: str = key("their codes", choices=("nested", "random", "hadamard"))
    group_members: int = key("ensemble members coded by group", least=0, count=True)
    group_code: str = key("their codes", choices=("hadamard", "nested", "random"))
    logo: int = key("models trained without each group", unit="seeds", least=0, count=True)
    halves: int = key("random halves of the images, the truth for LDS", least=0, count=True)
    group_halves: int = key("random halves of the groups", least=0, count=True)
    half_seeds: int = key("models trained on each half", unit="seeds", least=1, count=True)
    kept: float = key("share of the units kept in a half", above=0, most=0.95)


@dataclass
class Unet:
    """The network, as diffusers.UNet2DModel names its parts."""

    block_out_channels: list[int] = key("channels per level, from full resolution down", least=1)
    layers_per_block: int = key("residual blocks per level", least=1)
    attention: list[bool] = key("self-attention per level")
    mid_attention: bool = key("self-attention at the bottom")
    attention_head_dim: int = key("channels per attention head", least=1)
    norm_num_groups: int = key("groups of the group normalisations", least=1)
    conditional: bool = key("condition on the image's group, if it has exactly one")


@dataclass
class Diffusion:
    """The forward process, and what the network predicts."""

    timesteps: int = key("length of the forward process", least=2)
    schedule: str = key("noise schedule", choices=("cosine", "linear"))
    prediction: str = key("what the network outputs", choices=("v", "epsilon"))
    weights: str = key("which weights answer questions", choices=("ema", "raw"))


@dataclass
class Models:
    """How every model is trained."""

    steps: int = key("optimiser steps", least=1)
    batch: int = key("images per step", least=1)
    learning_rate: float = key("AdamW's peak learning rate", above=0)
    warmup: int = key("linear warm-up, then a cosine down to zero", unit="steps", least=0)
    weight_decay: float = key("AdamW's weight decay", least=0)
    clip: float = key("largest gradient norm per model", above=0)
    ema: float = key("decay of the moving average of weights", least=0, most=0.99999)
    dropout: float = key("dropout in the residual blocks", least=0, most=0.9)
    flip: bool = key("mirror half of the images")
    pack: int = key("models trained side by side in one job", least=1, count=True)


@dataclass
class Queries:
    """The images asked about."""

    source: str = key("drawn by a model, or a person's own", choices=("generated", "folder"))
    path: str = key("for folder: a directory or CSV under data/")
    drawn_by: str = key("who draws them", choices=("full", "member", "group_member"))
    count: int = key("how many are drawn", least=1, count=True)
    block: int = key("how many per job", least=1, count=True)
    sampler: str = key("ancestral, or deterministic", choices=("ddim", "ddpm"))
    steps: int = key("sampling steps", least=1)
    clip: bool = key("keep the implied clean image in range at every step")


@dataclass
class Measurements:
    """How a model's loss on a query is measured."""

    draws: int = key("shared draws of (timestep, noise) per query; even", least=4)


@dataclass
class Counterfactuals:
    """Queries drawn again from the same noise without a unit."""

    top: int = key("most helpful images of each query to do without", least=0)
    random: int = key("random images of each query to do without", least=1)
    strength: float = key("how far a person's own image is noised first", above=0, most=1)


@dataclass
class ScoresEnsemble:
    """Scores from encoded ensembles."""

    nulls: int = key("unused codes behind each p-value", least=1)


@dataclass
class Metrics:
    """How scores are held against retraining."""

    resamples: int = key("halves of queries and subsets drawn for each interval", least=10)


@dataclass
class Report:
    """What the report shows."""

    queries: int = key("queries shown with their images", least=1)
    top: int = key("most helpful and most harmful images shown per query and method", least=1)


@dataclass
class Compute:
    """Where and how fast; changes no result."""

    device: str = key("auto takes a GPU where there is one", choices=("auto", "cpu", "cuda"))
    threads: int = key("CPU threads per job", least=1)
    checkpoint: int = key("how often a training saves its state", unit="s", least=1)


@dataclass
class Params:
    """The whole file."""

    use: str = key("the file to read the rest from: this one, or params/tiny.yaml")
    seed: int = key("root of every random number", least=0)
    images: Images = field(default_factory=Images)
    splits: Splits = field(default_factory=Splits)
    unet: Unet = field(default_factory=Unet)
    diffusion: Diffusion = field(default_factory=Diffusion)
    models: Models = field(default_factory=Models)
    queries: Queries = field(default_factory=Queries)
    measurements: Measurements = field(default_factory=Measurements)
    counterfactuals: Counterfactuals = field(default_factory=Counterfactuals)
    scores_ensemble: ScoresEnsemble = field(default_factory=ScoresEnsemble)
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


def explained(known: dataclasses.Field[Any]) -> str:
    """A key's meaning with its choices and unit, as its comment in the file says it."""
    rule = known.metadata
    choices = f" ({', '.join(map(str, rule['choices']))})" if rule["choices"] else ""
    return f"{rule['doc']}{choices}{' [' + rule['unit'] + ']' if rule['unit'] else ''}"


def documentation() -> str:
    """The page ``docs/parameters.md``: ``python -m begat.io.params > docs/parameters.md``."""
    lines = [
        "# Parameters",
        "",
        "Everything a run can be asked for, in `params.yaml` (or the file that its key `use`, or",
        "`--config use=...`, names). A *count* only decides how many jobs there are: changing it",
        "leaves all that is already computed as it is. Written from the schema; to write it anew:",
        "`python -m begat.io.params > docs/parameters.md`.",
    ]
    for section in ("", *SECTIONS):
        lines += ["", f"## {section or 'top level'}", ""]
        if section:
            lines += [str(SECTIONS[section].__doc__), ""]
        lines += ["| key | type | meaning | bounds |", "|---|---|---|---|"]
        for name, known in fields_of(section).items():
            rule = known.metadata
            kind = _TYPES[known.type][0].partition(" (")[0]
            bounds = [f"≥ {rule['least']}"] if rule["least"] is not None else []
            bounds += [f"> {rule['above']}"] if rule["above"] is not None else []
            bounds += [f"≤ {rule['most']}"] if rule["most"] is not None else []
            bounds += ["count"] if rule["count"] else []
            lines.append(f"| `{name}` | {kind} | {explained(known)} | {', '.join(bounds)} |")
    return "\n".join(lines) + "\n"


def load(root: Path, use: str | None = None) -> dict[str, Any]:
    """The validated parameters as plain dictionaries, from the file that ``use`` names.

    ``use`` is a path below ``root``; None takes the one that ``params.yaml`` itself names.

    Raises:
        BegatError: naming file, key, what was expected and what was found.
    """
    raw = _read(root, use or DEFAULT_FILE)
    chosen = use or raw.get("use", DEFAULT_FILE)
    if chosen != (use or DEFAULT_FILE):
        raw = _read(root, chosen)
    _check_types(chosen, raw)
    try:
        config = OmegaConf.merge(OmegaConf.structured(Params), OmegaConf.create(raw))
        params = OmegaConf.to_container(config, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise BegatError(_in_one_line(chosen, error)) from None
    assert isinstance(params, dict)
    for name in ("", *SECTIONS):
        for k, known in fields_of(name).items():
            _check(chosen, f"{name}.{k}".lstrip("."), (params[name] if name else params)[k], known)
    _check_together(chosen, params)
    return {**params, "use": chosen}


class _Loader(yaml.SafeLoader):
    """YAML whose only booleans are true and false: ``yes`` and ``on`` are text to DVC's reader."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, rule) for tag, rule in resolvers if not tag.endswith(":bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))

_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: (
        "a number (write 1.0e-3, not 1e-3)",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    ),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    str: ("text without interpolation", lambda v: isinstance(v, str) and "${" not in v),
    list[int]: ("a list of whole numbers", lambda v: _all(v, int)),
    list[bool]: ("a list of true and false", lambda v: _all(v, bool)),
}


def _all(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(_TYPES[kind][1](v) for v in value)


def _read(root: Path, name: str) -> dict[str, Any]:
    try:
        raw = yaml.load((root / name).read_text(), _Loader)
    except FileNotFoundError:
        raise BegatError(f"{name}: expected a parameter file here, found none") from None
    except yaml.YAMLError as error:
        raise BegatError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BegatError(f"{name}: expected sections of keys, found {type(raw).__name__}")
    return raw


def _check_types(file: str, raw: dict[str, Any]) -> None:
    """Refuse values of another type, before a reader converts them silently."""
    for section in ("", *SECTIONS):
        values = raw.get(section, {}) if section else raw
        if not isinstance(values, dict):
            raise BegatError(f"{file}: {section}: expected a section of keys, found {values!r}")
        for name, known in fields_of(section).items():
            if name not in values:
                continue
            expected, fits = _TYPES[known.type]
            if not fits(values[name]):
                place = f"{section}.{name}".lstrip(".")
                raise BegatError(f"{file}: {place}: expected {expected}, found {values[name]!r}")


def _in_one_line(file: str, error: OmegaConfBaseException) -> str:
    name = getattr(error, "full_key", None) or "?"
    section, _, last = str(name).rpartition(".")
    message = str(getattr(error, "msg", None) or error).splitlines()[0]
    if "not in" in message:
        known = list(fields_of(section)) if section in ("", *SECTIONS) else []
        near = difflib.get_close_matches(last, [*known, *([] if section else SECTIONS)], 1)
        hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
        return f"{file}: {name}: unknown parameter{hint}"
    if "Missing" in message or "missing" in message:
        return f"{file}: {name}: missing; expected a value"
    return f"{file}: {name}: {message}"


def _check(file: str, name: str, value: Any, known: dataclasses.Field[Any]) -> None:
    rule = known.metadata
    for one in value if isinstance(value, list) else [value]:
        if rule["choices"] and one not in rule["choices"]:
            expected = "one of " + ", ".join(map(str, rule["choices"]))
        elif rule["least"] is not None and not one >= rule["least"]:
            expected = f"at least {rule['least']}"
        elif rule["most"] is not None and not one <= rule["most"]:
            expected = f"at most {rule['most']}"
        elif rule["above"] is not None and not one > rule["above"]:
            expected = f"more than {rule['above']}"
        else:
            continue
        raise BegatError(f"{file}: {name}: expected {expected}, found {one}")


def _check_together(file: str, params: dict[Any, Any]) -> None:
    """What no single key can say: values that exclude one another."""

    def refuse(name: str, expected: str, found: object) -> None:
        raise BegatError(f"{file}: {name}: expected {expected}, found {found}")

    draws = params["measurements"]["draws"]
    if draws % 2:
        refuse("measurements.draws", "an even number (draws come in antithetic pairs)", draws)
    steps, timesteps = params["queries"]["steps"], params["diffusion"]["timesteps"]
    if steps > timesteps:
        refuse("queries.steps", f"at most diffusion.timesteps={timesteps}", steps)
    drawn_by = params["queries"]["drawn_by"]
    source = params["splits"]["full" if drawn_by == "full" else f"{drawn_by}s"]
    if params["queries"]["source"] == "generated" and not source:
        refuse("queries.drawn_by", "models that splits asks for", f"{drawn_by}, of which it asks 0")
    if params["images"]["source"] == "digits" and params["images"]["channels"] != 1:
        refuse("images.channels", "1, as digits are grey", params["images"]["channels"])


if __name__ == "__main__":
    print(documentation(), end="")
