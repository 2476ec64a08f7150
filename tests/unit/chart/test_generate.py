"""Generated files are never out of date, and say so when they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hack.api_reference import Field, fields, refusals
from hack.generate import OUTPUTS, stale, write
from tests.unit.chart.rendering import CRDS


def spec_and_status(name: str) -> list[Field]:
    crd = yaml.safe_load((CRDS / name).read_text())
    top = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return [field for part in ("spec", "status") if part in top for field in fields(top[part], part)]


def test_no_generated_file_is_stale() -> None:
    assert stale(OUTPUTS) == []


def test_a_file_is_stale_until_it_is_written(tmp_path: Path) -> None:
    output = (tmp_path / "new" / "page.md", lambda: "text")
    before = stale([output])
    assert (before, write([output]), stale([output])) == ([output[0]], [output[0]], [])


def test_a_file_that_is_right_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("text")
    assert write([(path, lambda: "text")]) == []


@pytest.mark.parametrize("name", [path.name for path in sorted(CRDS.glob("*.yaml"))])
def test_every_field_is_described(name: str) -> None:
    assert [field.path for field in spec_and_status(name) if not field.description] == []


def test_a_field_says_its_type_limits_and_default() -> None:
    schema = {
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Its name."},
            "steps": {
                "type": "array",
                "description": "Steps.",
                "items": {
                    "type": "object",
                    "properties": {
                        "weight": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": 100,
                            "default": 5,
                            "description": "Share.",
                        }
                    },
                },
            },
        },
    }
    assert list(fields(schema, "spec")) == [
        Field("spec.name", "string", "required", "Its name."),
        Field("spec.steps", "list of object", "", "Steps."),
        Field("spec.steps[].weight", "integer, from 1, to 100", "`5`", "Share."),
    ]


def test_a_refusal_is_told_once_with_all_fields_that_it_is_said_of() -> None:
    rule = {"x-kubernetes-validations": [{"rule": "...", "message": "must be short"}]}
    spec = {
        "x-kubernetes-validations": [{"rule": "...", "message": "a needs b"}],
        "properties": {"a": rule, "b": {"items": rule}, "c": {"additionalProperties": rule}},
    }
    kind = {"x-kubernetes-validations": [{"rule": "...", "message": "no dots"}]}
    assert list(refusals(kind, spec)) == ["* no dots", "* a needs b", "* `a`, `b[]`, `c.*`: must be short"]


def test_a_field_that_yaml_would_not_read_as_text_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"field True of spec is a boolean in YAML 1\.1"):
        list(fields(yaml.safe_load("properties: {on: {type: object}}"), "spec"))
