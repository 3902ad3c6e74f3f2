"""Reading a parameter file: plain YAML, checked against the declared parameters."""

import dataclasses
import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from begat.config import plain_yaml
from begat.config.fields import plain_type, violated_bound
from begat.config.renamed import RENAMED
from begat.config.schema import Params, fields_of, sections
from begat.errors import BegatError, brief

DEFAULT_FILE = "params.yaml"


def load(root: Path, params_file: str | None, schema: type[Params]) -> Params:
    """Returns the validated parameters of the file that ``params_file`` names.

    Args:
        root: of the project.
        params_file: a path below ``root``; None takes the one that ``params.yaml`` itself names.
        schema: the class of all parameters (``config.schema.with_sections``).

    Raises:
        BegatError: naming file, key, what was expected and what was found.
    """
    raw = plain_yaml.read(root, file := params_file or DEFAULT_FILE)
    if params_file is None and raw.get("params_file", DEFAULT_FILE) != DEFAULT_FILE:
        _check_type(
            DEFAULT_FILE, "params_file", raw["params_file"], fields_of(Params)["params_file"]
        )
        raw = plain_yaml.read(root, file := raw["params_file"])
    _refuse_old_names(file, raw)
    _check_values(file, raw, schema)
    try:
        config = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(raw))
        params = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise BegatError(_in_one_line(file, error, schema)) from None
    assert isinstance(params, Params)
    return dataclasses.replace(params, params_file=file)


def _refuse_old_names(file: str, raw: dict[str, Any]) -> None:
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        values = raw.get(section)
        if section in raw and (not key or (isinstance(values, dict) and key in values)):
            raise BegatError(f"{brief(file)}: {old} is now {new}")


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
    list[str]: ("a list of text", lambda v: _all(v, str)),
    dict[str, Any]: (
        "a mapping of names to numbers or text",
        lambda v: isinstance(v, dict) and all(isinstance(x, int | float | str) for x in v.values()),
    ),
}


def _all(value: object, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(_TYPES[kind][1](v) for v in value)


def _check_values(file: str, raw: dict[str, Any], schema: type[Params]) -> None:
    """Refuse values of another type, before a reader converts them silently, or out of bounds."""
    for section, owner in {"": schema, **sections(schema)}.items():
        values = raw.get(section, {}) if section else raw
        if not isinstance(values, dict):
            raise BegatError(
                f"{brief(file)}: {section}: expected a section of keys, found {shown(values)}"
            )
        for name, field in fields_of(owner).items():
            if name in values:
                full_name = f"{section}.{name}".lstrip(".")
                _check_type(file, full_name, values[name], field)
                _check_bounds(file, full_name, values[name], field)


def _check_type(file: str, name: str, value: object, field: dataclasses.Field[Any]) -> None:
    expected, fits = _TYPES[plain_type(field)]
    if not fits(value):
        raise BegatError(f"{brief(file)}: {name}: expected {expected}, found {shown(value)}")


def shown(value: object) -> str:
    """A value for an error message, on one line and not too long."""
    return brief(repr(value), 80)


def _in_one_line(file: str, error: OmegaConfBaseException, schema: type[Params]) -> str:
    name = str(getattr(error, "full_key", None) or "?")
    section, _, last = name.rpartition(".")
    message = str(getattr(error, "msg", None) or error).splitlines()[0]
    place = f"{brief(file)}: {brief(name, 80)}"
    if "not in" in message:
        owners = sections(schema)
        keys = list(fields_of(owners.get(section, schema))) if section in ("", *owners) else []
        near = difflib.get_close_matches(last[:80], [*keys, *([] if section else owners)], 1)
        hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(keys)}"
        return f"{place}: unknown parameter{hint}"
    if "Missing" in message or "missing" in message:
        return f"{place}: missing; expected a value"
    return f"{place}: {brief(message, 80)}"


def _check_bounds(file: str, name: str, value: Any, field: dataclasses.Field[Any]) -> None:
    for one in value if isinstance(value, list) else [value]:
        if expected := violated_bound(field, one):
            raise BegatError(f"{brief(file)}: {name}: expected {expected}, found {shown(one)}")
