"""Every promise of docs/promises.md names tests that exist; and two that are no other file's subject."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml

from reembed.controller.cache import Cache
from reembed.controller.watching import register

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text()
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what goes wrong")]


@cache
def _tests_in(path: str) -> frozenset[str]:
    module = ast.parse((ROOT / path).read_text())
    functions = (one for one in module.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(PAGE))), ids=lambda found: found.split("/")[-1])
def test_a_test_that_a_promise_names_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file()
    assert name in _tests_in(path)


def _named(cell: str) -> bool:
    """Return whether a cell lists tests, and nothing else."""
    return bool(_TEST.search(cell)) and not _TEST.sub("", cell).strip(", ")


def test_every_promise_names_a_test() -> None:
    cells = [re.split(r"\s*\|\s*", row.strip("| ")) for row in _ROWS]
    assert [cell[0] for cell in cells if len(cell) != 3 or not _named(cell[2])] == []
    assert len(cells) > 60


def test_the_framework_keeps_nothing_on_anybodys_objects() -> None:
    """Any handler but a plain watch brings annotations or a finalizer of kopf's own, which GitOps sees as drift."""
    registry = kopf.OperatorRegistry()
    register(registry, Cache())
    of_kinds = {
        name: one.get_all_handlers() for name, one in vars(registry).items() if hasattr(one, "get_all_handlers")
    }
    assert {name for name, handlers in of_kinds.items() if handlers} == {"_watching"}


def _skippable(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the fields whose rule against a change is passed by leaving the field out, and adding it again."""
    guards = " ".join(one["rule"] for one in schema.get("x-kubernetes-validations", ()))
    for name, field in schema.get("properties", {}).items():
        rules = [one["rule"] for one in field.get("x-kubernetes-validations", ()) if "oldSelf" in one["rule"]]
        always = name in schema.get("required", ()) or "default" in field
        if rules and not always and f"has(self.{name}) == has(oldSelf.{name})" not in guards:
            yield f"{path}.{name}"
        yield from _skippable(field, f"{path}.{name}")


def test_no_rule_against_a_change_is_skipped_where_its_field_is_left_out() -> None:
    crds = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    schemas = [crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds]
    assert [found for schema in schemas for found in _skippable(schema["properties"]["spec"], "spec")] == []
