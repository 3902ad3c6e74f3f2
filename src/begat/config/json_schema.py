"""JSON Schema of a parameter file, by which editors complete and check it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from begat.config.fields import plain_type
from begat.config.schema import Params, fields_of, sections

TYPES: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    list[int]: {"type": "array", "minItems": 1, "items": {"type": "integer"}},
    list[float]: {"type": "array", "minItems": 1, "items": {"type": "number"}},
    list[bool]: {"type": "array", "minItems": 1, "items": {"type": "boolean"}},
    list[str]: {"type": "array", "minItems": 1, "items": {"type": "string"}},
    dict[str, Any]: {"type": "object"},
}
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum"}


def json_schema(schema: type[Params], mappings: Mapping[str, Mapping[str, type]]) -> dict[str, Any]:
    """Returns the schema, in JSON Schema 2020-12.

    Args:
        schema: the class of all parameters.
        mappings: for each parameter that is a mapping, by its full name: the classes of parameters
            that it may hold, by the value of its key ``name``.
    """
    properties = {name: _value(field) for name, field in fields_of(schema).items()}
    for section, owner in sections(schema).items():
        properties[section] = _object(str(owner.__doc__), fields_of(owner))
        for key in (k for k in fields_of(owner) if f"{section}.{k}" in mappings):
            named = mappings[f"{section}.{key}"].items()
            properties[section]["properties"][key]["oneOf"] = [_named(*item) for item in named]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Parameters of begat",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _object(doc: str, fields: Mapping[str, dataclasses.Field[Any]]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": doc.strip(),
        "properties": {name: _value(field) for name, field in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }


def _named(name: str, owner: type) -> dict[str, Any]:
    """The mapping that chooses a class by its name; its parameters have defaults."""
    choice = _object(str(owner.__doc__), fields_of(owner))
    choice["properties"] = {"name": {"const": name}, **choice["properties"]}
    return {**choice, "required": ["name"]}


def _value(field: dataclasses.Field[Any]) -> dict[str, Any]:
    rule, kind = field.metadata, dict(TYPES[plain_type(field)])
    unit = f" [{rule['unit']}]" if rule["unit"] else ""
    bounds: dict[str, Any] = {BOUNDS[k]: rule[k] for k in BOUNDS if rule[k] is not None}
    bounds |= {"enum": list(rule["choices"])} if rule["choices"] else {}
    value = {**kind, "description": f"{rule['help']}{unit}"}
    if "items" in kind:
        return {**value, "items": {**kind["items"], **bounds}}
    return {**value, **bounds}
