"""``params.yaml``, read (``config.plain_yaml``) and checked against ``config.schema``."""

import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from begat.config import plain_yaml
from begat.config.schema import SECTIONS, Params, fields_of
from begat.errors import BegatError, brief

DEFAULT_FILE = "params.yaml"
NETWORKS = r"full|timm:[\w.-]+(:.+\.safetensors)?"  # no other hub, whose files may run code
MOST_SIGNAL = 0.01  # of an image's variance at the end of the forward process


def explained(known: dataclasses.Field[Any]) -> str:
    """A key's meaning with its choices and unit, as its comment in the file says it."""
    rule = known.metadata
    choices = f" ({', '.join(map(str, rule['choices']))})" if rule["choices"] else ""
    return f"{rule['doc']}{choices}{' [' + rule['unit'] + ']' if rule['unit'] else ''}"


def documentation() -> str:
    """The page ``docs/parameters.md``."""
    lines = [
        "# Parameters",
        "",
        "Everything a run can be asked for, in `params.yaml` (or the file that its key `use`, or",
        "`--config use=...`, names). A *count* decides which jobs there are: changing it leaves",
        "all that is already computed as it is. Written from the schema by `make generate`.",
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


def commented(text: str) -> str:
    """A parameter file with its values as they are written, and the schema's comments."""
    return "\n\n".join(_commented_block(block) for block in text.rstrip("\n").split("\n\n")) + "\n"


def _commented_block(block: str) -> str:
    """A section, or the keys of the top level; other text stays as it is."""
    titled = re.search(r"^(\w+):$", block, re.MULTILINE)
    section = titled[1] if titled else ""
    written = dict(re.findall(r"^ *(\w+): (.*?)(?:  +#.*)?$", block, re.MULTILINE))
    keys = {k: known for k, known in fields_of(section).items() if k in written}
    if not keys:
        return block
    indent = "  " if section else ""
    width = max(len(f"{indent}{k}: {written[k]}") for k in keys)
    lines = [f"# {SECTIONS[section].__doc__}", f"{section}:"] if section else []
    for k, known in keys.items():
        lines.append(f"{f'{indent}{k}: {written[k]}':{width}}  # {explained(known)}")
    return "\n".join(lines)


def load(root: Path, use: str | None = None) -> dict[str, Any]:
    """The validated parameters as plain dictionaries, from the file that ``use`` names.

    ``use`` is a path below ``root``; None takes the one that ``params.yaml`` itself names.

    Raises:
        BegatError: naming file, key, what was expected and what was found.
    """
    raw = plain_yaml.read(root, chosen := use or DEFAULT_FILE)
    if use is None and raw.get("use", DEFAULT_FILE) != DEFAULT_FILE:
        _check_type(DEFAULT_FILE, "use", raw["use"], fields_of("")["use"])
        raw = plain_yaml.read(root, chosen := raw["use"])
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
    found = {**params, "use": chosen}
    check_together(found)
    return found


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: (
        "a finite number (write 1.0e-3, not 1e-3)",
        lambda v: (
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
        ),
    ),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    str: (
        "text (printable, without interpolation)",
        lambda v: isinstance(v, str) and v.isprintable() and "${" not in v,
    ),
    list[int]: ("a list of whole numbers", lambda v: _all(v, int)),
    list[float]: ("a list of numbers", lambda v: _all(v, float)),
    list[bool]: ("a list of true and false", lambda v: _all(v, bool)),
}


def _all(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(_TYPES[kind][1](v) for v in value)


def _check_types(file: str, raw: dict[str, Any]) -> None:
    """Refuse values of another type, before a reader converts them silently."""
    for section in ("", *SECTIONS):
        values = raw.get(section, {}) if section else raw
        if not isinstance(values, dict):
            raise BegatError(
                f"{brief(file)}: {section}: expected a section of keys, found {shown(values)}"
            )
        for name, known in fields_of(section).items():
            if name in values:
                _check_type(file, f"{section}.{name}".lstrip("."), values[name], known)


def _check_type(file: str, name: str, value: object, known: dataclasses.Field[Any]) -> None:
    expected, fits = _TYPES[known.type]
    if not fits(value):
        raise BegatError(f"{brief(file)}: {name}: expected {expected}, found {shown(value)}")


def shown(value: object) -> str:
    """A value for an error message, on one line and not too long."""
    return brief(repr(value), 80)


def _in_one_line(file: str, error: OmegaConfBaseException) -> str:
    name = str(getattr(error, "full_key", None) or "?")
    section, _, last = name.rpartition(".")
    message = str(getattr(error, "msg", None) or error).splitlines()[0]
    place = f"{brief(file)}: {brief(name, 80)}"
    if "not in" in message:
        known = list(fields_of(section)) if section in ("", *SECTIONS) else []
        near = difflib.get_close_matches(last[:80], [*known, *([] if section else SECTIONS)], 1)
        hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
        return f"{place}: unknown parameter{hint}"
    if "Missing" in message or "missing" in message:
        return f"{place}: missing; expected a value"
    return f"{place}: {brief(message, 80)}"


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
        raise BegatError(f"{brief(file)}: {name}: expected {expected}, found {shown(one)}")


def lowest_timestep(timesteps: int, steps: int) -> int:
    """The last of ``diffusion.sampling.sampling_timesteps``, without torch."""
    return round(timesteps - (steps - 1) * (timesteps / steps)) - 1


def signal_left(schedule: str, timesteps: int) -> float:
    """The last alpha_bar of ``diffusion.schedules.SCHEDULES``, without torch; cosine's is as good as 0.

    Sampling starts from pure noise, so a process that does not end there is sampled wrongly.
    """
    if schedule == "cosine":
        return 0.0
    return math.prod(1 - 1e-4 - i * (0.02 - 1e-4) / (timesteps - 1) for i in range(timesteps))


def check_together(params: dict[Any, Any]) -> None:
    """Raise BegatError for what no single key can say: values that exclude one another."""

    def refuse(name: str, expected: str, found: object) -> None:
        place = f"{brief(params['use'])}: {name}"
        raise BegatError(f"{place}: expected {expected}, found {brief(found, 80)}")

    if params["models"]["pipeline"] != "none":
        if params["splits"]["full"] != 1:
            refuse("splits.full", "1, the pipeline", params["splits"]["full"])
        for kind in ("members", "group_members", "logo", "halves", "group_halves"):
            if params["splits"][kind]:
                refuse(f"splits.{kind}", "0 beside models.pipeline", params["splits"][kind])
        if params["scores_tracin"]["models"]:
            refuse("scores_tracin.models", "0 beside models.pipeline", "more")
    draws = params["measurements"]["draws"]
    if draws % 2:
        refuse("measurements.draws", "an even number (draws come in antithetic pairs)", draws)
    flip = params["models"]["flip"]
    for section, multiple, mirrored in (
        ("factors", 2, flip),
        ("scores_influence", 4, flip),
        ("scores_trak", 2, flip),
        ("scores_tracin", 2, flip),
        ("scores_features", 2, False),
    ):
        multiple *= 1 + mirrored
        if params[section]["draws"] % multiple:
            why = " with models.flip, as half of the pairs are mirrored" if mirrored else ""
            refuse(f"{section}.draws", f"a multiple of {multiple}{why}", params[section]["draws"])
    tracin = params["scores_tracin"]["models"]
    if tracin > params["splits"]["full"]:
        refuse("scores_tracin.models", "at most splits.full", tracin)
    if tracin and not params["models"]["snapshots"]:
        refuse("models.snapshots", "at least 1 for scores_tracin", 0)
    for section in ("scores_influence", "scores_trak"):
        asked, there = params[section]["models"], params["splits"]
        if asked > there["full"] + there["members"]:
            refuse(f"{section}.models", "at most splits.full + splits.members", asked)
    network = params["scores_features"]["network"]
    if not re.fullmatch(NETWORKS, network):
        expected = "full, timm:NAME or timm:NAME:PATH.safetensors"
        refuse("scores_features.network", expected, network)
    steps, timesteps = params["queries"]["steps"], params["diffusion"]["timesteps"]
    if steps > timesteps:
        refuse("queries.steps", f"at most diffusion.timesteps={timesteps}", steps)
    strength = params["counterfactuals"]["strength"]
    last = lowest_timestep(timesteps, steps)
    if params["queries"]["source"] == "folder" and strength * timesteps <= last:
        most = f"more than {last / timesteps:.4g}, the lowest of queries.steps={steps} timesteps"
        refuse("counterfactuals.strength", most, strength)
    signal = signal_left(params["diffusion"]["schedule"], timesteps)
    if signal > MOST_SIGNAL:
        refuse(
            "diffusion.timesteps",
            f"so many that diffusion.schedule={params['diffusion']['schedule']} ends in noise "
            f"(at most {MOST_SIGNAL} of the image's variance left; {signal:.2g} is), or cosine",
            timesteps,
        )
    drawn_by = params["queries"]["drawn_by"]
    source = params["splits"]["full" if drawn_by == "full" else f"{drawn_by}s"]
    if params["queries"]["source"] == "generated" and not source:
        refuse("queries.drawn_by", "models that splits asks for", f"{drawn_by}, of which it asks 0")
    if params["images"]["source"] == "digits" and params["images"]["channels"] != 1:
        refuse("images.channels", "1, as digits are grey", params["images"]["channels"])
