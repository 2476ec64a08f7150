"""The CRDs as the API server sees them: which fields they have, and what their defaults make of an object.

A path is written as in the reference, `spec.canary.steps[].hold`; reading or changing such a field takes the first
entry of a list.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml

from hack.cache import ROOT

Schema = dict[str, Any]
Object = dict[str, Any]


def schema_of(plural: str) -> Schema:
    """Return the schema of a kind, without what every object has."""
    crd = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())
    root: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {**root, "properties": {part: root["properties"][part] for part in ("spec", "status")}}


def leaves(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield path and schema of every field below `path` that has no fields itself."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from leaves(inner, f"{path}.{name}")
    elif "properties" in schema.get("items", {}):
        yield from leaves(schema["items"], f"{path}[]")
    else:
        yield path, schema


def paths(value: Any, path: str) -> set[str]:
    """Return the paths of what an object holds, as `leaves` would name them; a list stands for its first entry."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {inner for one in value for inner in paths(one, f"{path}[]")}
    if isinstance(value, dict):
        return {inner for name, one in value.items() for inner in paths(one, f"{path}.{name}")}
    return {path}


def get(raw: Object, path: str) -> Any:
    value: Any = raw
    for step in _steps(path):
        value = value[step]
    return value


def put(raw: Object, path: str, value: Any) -> Object:
    """Return a copy of `raw` whose field at `path` is `value`."""
    result = copy.deepcopy(raw)
    *parents, last = _steps(path)
    place: Any = result
    for step in parents:
        place = place[step]
    place[last] = value
    return result


def required(schema: Schema, value: Any) -> Any:
    """Return only what the schema requires of `value`."""
    if "properties" in schema:
        names = schema.get("required", [])
        return {name: required(schema["properties"][name], value[name]) for name in names}
    if "items" in schema:
        return [required(schema["items"], one) for one in value]
    return value


def defaulted(schema: Schema, value: Any) -> Any:
    """Return `value` with the defaults that the API server fills in."""
    if "properties" in schema:
        inner = schema["properties"]
        filled = {name: one["default"] for name, one in inner.items() if "default" in one} | value
        return {name: defaulted(inner[name], one) for name, one in filled.items()}
    if "items" in schema:
        return [defaulted(schema["items"], one) for one in value]
    return value


def closed(schema: Schema) -> Schema:
    """Return the schema with unknown fields refused, as the API server does for server-side apply."""
    result = {name: closed(one) if isinstance(one, dict) else one for name, one in schema.items()}
    if "properties" in result:
        result["properties"] = {name: closed(one) for name, one in schema["properties"].items()}
        result["additionalProperties"] = False
    return result


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for word in path.split("."):
        name = word.removesuffix("[]")
        steps += [name, 0] if name != word else [name]
    return steps
