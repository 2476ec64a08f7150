"""The CRDs and the types they are read into are twins: no field, value or default of one is missing in the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reembed.api import InvalidField, parse_index, parse_migration, parse_pool
from reembed.core.model import Scaling
from tests.unit.api.complete import EXTERNAL_POOLS, INDEXES, MIGRATIONS, POOLS
from tests.unit.api.schemas import Object, closed, defaulted, get, leaves, paths, put, required, schema_of


@dataclass(frozen=True)
class Kind:
    """A kind with two objects that differ in every field, and what is there for other readers than the operator."""

    plural: str
    first: Object
    second: Object
    parse: Callable[[Object], tuple[Any, ...]]
    unread: frozenset[str] = frozenset()
    passed_on: str = "nothing"  # where this starts, a value goes to Kubernetes as it is
    unset: frozenset[str] = frozenset()
    form: str = ""  # which of several forms of a spec, each of which has its own fields
    fields: frozenset[str] = frozenset()  # of the form; all if empty
    needs: tuple[str, ...] = ()  # fields of the form that must be there

    @property
    def name(self) -> str:
        return self.form or self.plural

    def schema(self) -> Any:
        """Return the schema of the spec, without the fields of other forms."""
        whole = schema_of(self.plural)["properties"]["spec"]
        kept = {name: one for name, one in whole["properties"].items() if not self.fields or name in self.fields}
        return {**whole, "properties": kept, "required": [*whole.get("required", ()), *self.needs]}

    def leaves(self) -> dict[str, Any]:
        return dict(leaves(self.schema(), "spec"))

    def typed(self, raw: Object) -> dict[str, Any]:
        """Return the spec that `raw` is read into, by the path of each field."""
        return flat(self.parse(raw)[1], "")

    def moved(self, path: str) -> set[str]:
        """Return the fields of the types that follow a field of the schema."""
        before, after = self.typed(self.first), self.typed(put(self.first, path, get(self.second, path)))
        return {name for name in before if before[name] != after[name]}


_OWN = frozenset({"defaultInputType", "textCache", "validation"})

KINDS = [
    Kind(
        "embedderpools",
        *POOLS,
        parse_pool,
        passed_on="spec.variants[].tolerations",
        fields=_OWN | {"model", "variants", "download", "cache", "weightType", "scaling"},
        needs=("model", "variants"),
        unset=frozenset({".model.hosted", ".external"}),
    ),
    Kind(
        "embedderpools",
        *EXTERNAL_POOLS,
        parse_pool,
        form="external pools",
        fields=_OWN | {"external"},
        needs=("external",),
        # What a pool of a model's file has, and its pods.
        unset=frozenset(
            {".model.sha256", ".model.pooling", ".claim_name", ".cache_claim", ".weight_type"}
            | {f".download.{name}" for name in ("secret_name", "endpoint", "region")}
            | {f".variants[].{name}" for name in ("name", "device", "node_selector", "tolerations")}
            | {f".scaling.{field.name}" for field in fields(Scaling)}
        ),
    ),
    Kind("embeddingindexes", *INDEXES, parse_index),
    Kind(
        "embeddingmigrations",
        *MIGRATIONS,
        parse_migration,
        # One type holds every kind of limit; each trigger uses its own.
        unset=frozenset(
            {
                f".limits.{trigger}.{threshold}"
                for trigger, own in {
                    "memory": {"share"},
                    "error_rate": {"share"},
                    "latency": {"factor", "absolute"},
                    "retrieval": {"number"},
                    "pointer": set(),
                    "agents": set(),
                    "consensus": set(),
                    "follower_lag": {"absolute"},
                    "prometheus[].limit": {"number"},
                }.items()
                for threshold in {"share", "factor", "absolute", "number"} - own
            }
            | {".gates[].absolute"}
            | {f".limits.{trigger}.hysteresis" for trigger in ("pointer", "agents", "consensus")}
        ),
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def flat(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        value, path = value[0], f"{path}[]"
    if is_dataclass(value):
        return {
            name: one
            for field in fields(value)
            for name, one in flat(getattr(value, field.name), f"{path}.{field.name}").items()
        }
    return {path: value}


@every_kind
def test_the_objects_of_these_tests_have_every_field(kind: Kind) -> None:
    maps = {path for path, schema in kind.leaves().items() if "additionalProperties" in schema}
    held = {next((one for one in maps if path.startswith(one)), path) for path in paths(kind.first["spec"], "spec")}
    assert held == set(kind.leaves())


@every_kind
def test_the_objects_of_these_tests_are_what_the_schema_allows(kind: Kind) -> None:
    schema = closed(kind.schema())
    errors = [
        error
        for one in (kind.first, kind.second)
        for error in jsonschema.Draft7Validator(schema).iter_errors(one["spec"])
    ]
    assert errors == []


@every_kind
def test_every_field_of_the_schema_is_read(kind: Kind) -> None:
    assert {path for path in kind.leaves() if not kind.moved(path)} == kind.unread


@every_kind
def test_every_field_of_the_types_can_be_written(kind: Kind) -> None:
    moved = {name for path in kind.leaves() for name in kind.moved(path)}
    assert moved == set(kind.typed(kind.first)) - kind.unset


@every_kind
def test_every_choice_of_the_types_can_be_written(kind: Kind) -> None:
    choices = {path: one["enum"] for path, one in kind.leaves().items() if "enum" in one and path not in kind.unread}
    own = {path: values for path, values in choices.items() if not path.startswith(kind.passed_on)}
    for path, values in own.items():
        (name,) = kind.moved(path)
        members = [kind.typed(put(kind.first, path, value))[name] for value in values]
        assert isinstance(members[0], Enum)
        assert members == list(type(members[0])), path


@every_kind
def test_what_is_left_out_means_what_the_schema_fills_in(kind: Kind) -> None:
    schema = kind.schema()
    bare = {**kind.first, "spec": required(schema, kind.first["spec"])}
    assert kind.typed(bare) == kind.typed({**bare, "spec": defaulted(schema, bare["spec"])})


@every_kind
def test_a_value_of_another_type_is_an_error_that_names_its_field(kind: Kind) -> None:
    for path, schema in kind.leaves().items():
        if path not in kind.unread and not path.startswith(kind.passed_on):
            wrong = "yes" if schema["type"] == "boolean" else True
            with pytest.raises(InvalidField) as caught:
                kind.parse(put(kind.first, path, wrong))
            assert caught.value.path == path.replace("[]", "[0]")


# Python's `$` would let a line break through, which Kubernetes' does not.
MATCHES = re.compile(r"self\.matches\('\^(.+?)\$'\)")


def forms() -> list[Any]:
    """Return every form that a rule of a CRD allows for a text, as (kind, path, regular expression)."""
    return [
        pytest.param(kind, path, expression, id=f"{path} {expression[:12]}")
        for kind in KINDS
        for path, schema in kind.leaves().items()
        for rule in schema.get("x-kubernetes-validations", [])
        for expression in MATCHES.findall(rule["rule"])
    ]


@pytest.mark.parametrize(("kind", "path", "expression"), forms())
@given(data=st.data())
@settings(max_examples=50)
def test_what_the_api_server_lets_through_can_be_read(
    kind: Kind, path: str, expression: str, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(expression, fullmatch=True).filter(bool))
    kind.parse(put(kind.first, path, text))


def unbounded(schema: Any, path: str) -> list[str]:
    """Return the texts, lists and maps below `path` that may be of any size."""
    bounds = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}
    wanted = {"maxProperties"} if "additionalProperties" in schema else bounds.get(schema.get("type"), set())
    inner = {f".{name}": one for name, one in schema.get("properties", {}).items()}
    inner |= {mark: schema[name] for name, mark in (("items", "[]"), ("additionalProperties", ".*")) if name in schema}
    below = [found for step, one in inner.items() for found in unbounded(one, path + step)]
    return below if not wanted or wanted & set(schema) else [path, *below]


@pytest.mark.parametrize("plural", sorted({kind.plural for kind in KINDS}))
def test_everything_has_a_largest_size(plural: str) -> None:
    """The API server counts what a rule may cost at worst, and etcd what an object may weigh."""
    assert unbounded(schema_of(plural), "") == []


@pytest.mark.parametrize("plural", sorted({kind.plural for kind in KINDS}))
def test_a_crd_is_small_enough_for_kubectl_apply(plural: str) -> None:
    """Above 262,144 bytes, kubectl's annotation of what was applied last does not fit."""
    assert len(json.dumps(schema_of(plural))) < 200_000
