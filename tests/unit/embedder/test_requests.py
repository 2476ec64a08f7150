"""What callers may ask for, and the words in which they are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reembed.core.model import InputType, Model, Pooling, Truncate
from reembed.embedder.requests import Asked, Malformed, decode, parse

_PLAIN = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 384, 256)
_PREFIXED = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 384, 256, query_prefix="q: ", document_prefix="d: ")


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        pytest.param({"input": "a"}, Asked(("a",), InputType.DOCUMENT, False), id="one text"),
        pytest.param({"input": ["a", "b"]}, Asked(("a", "b"), InputType.DOCUMENT, False), id="texts"),
        pytest.param({"input": "a", "input_type": "query"}, Asked(("a",), InputType.QUERY, False), id="query"),
        pytest.param({"input": "a", "encoding_format": "base64"}, Asked(("a",), InputType.DOCUMENT, True), id="base64"),
        pytest.param({"input": "a", "dimensions": 384}, Asked(("a",), InputType.DOCUMENT, False), id="own dimensions"),
        pytest.param(
            {"input": "a", "model": "x", "user": "y"}, Asked(("a",), InputType.DOCUMENT, False), id="OpenAI's"
        ),
        pytest.param({"input": ["a"] * 256}, Asked(("a",) * 256, InputType.DOCUMENT, False), id="most texts"),
    ],
)
def test_requests_are_read(body: dict[str, Any], asked: Asked) -> None:
    assert parse(body, _PLAIN, None) == asked


@pytest.mark.parametrize(
    ("body", "index", "message"),
    [
        pytest.param({}, None, "input is missing", id="no input"),
        pytest.param({"input": []}, None, "input is missing, empty", id="no text"),
        pytest.param({"input": {"a": 1}}, None, "input is missing, empty or not text", id="object"),
        pytest.param({"input": ["a", 7]}, 1, "text 1 is not a string but int", id="number"),
        pytest.param({"input": ["a", ""]}, 1, "text 1 is empty; leave it out", id="empty text"),
        pytest.param({"input": " \n\t"}, 0, "text 0 is empty; leave it out", id="white space"),
        pytest.param({"input": ["\ud800"]}, 0, "text 0 has half of a surrogate pair", id="surrogate"),
        pytest.param({"input": ["a"] * 257}, None, "input has 257 texts, at most 256", id="too many"),
        pytest.param(
            {"input": "a", "dimensions": 256}, None, "dimensions is 256, this model gives 384", id="dimensions"
        ),
        pytest.param({"input": "a", "encoding_format": "hex"}, None, "encoding_format is 'hex'", id="encoding"),
        pytest.param({"input": "a", "input_type": "x"}, None, "input_type is 'x', expected query or", id="input type"),
        pytest.param({"input": "a", "input_type": ["query"]}, None, "input_type is ['query']", id="input type's type"),
    ],
)
def test_refusals_say_what_to_change(body: dict[str, Any], index: int | None, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(body, _PLAIN, None)
    assert (caught.value.index, str(caught.value)[: len(message)]) == (index, message)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000], ids=["none", "cut", "list", "bytes", "deep"]
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"the body is not (a )?JSON"):
        decode(data)


def test_a_body_is_an_object() -> None:
    assert decode(json.dumps({"input": "é"}).encode()) == {"input": "é"}


def test_a_model_with_two_prefixes_wants_to_know_which() -> None:
    with pytest.raises(Malformed, match="input_type is missing"):
        parse({"input": "a"}, _PREFIXED, None)


@pytest.mark.parametrize(
    ("said", "default", "text"),
    [
        pytest.param({"input_type": "query"}, None, "q: a", id="query"),
        pytest.param({"input_type": "document"}, InputType.QUERY, "d: a", id="document in spite of the default"),
        pytest.param({}, InputType.QUERY, "q: a", id="default"),
    ],
)
def test_each_type_has_its_prefix(said: dict[str, str], default: InputType | None, text: str) -> None:
    assert parse({"input": "a", **said}, _PREFIXED, default).prefixed(_PREFIXED) == (text,)


@pytest.mark.parametrize(
    ("truncate", "length"),
    [pytest.param(Truncate.END, 256 * 1024, id="cut"), pytest.param(Truncate.REFUSE, 1 << 20, id="not cut")],
)
def test_megabytes_that_no_model_reads_are_not_handed_on(truncate: Truncate, length: int) -> None:
    asked = parse({"input": "a" * (1 << 20)}, _PLAIN, None)
    assert [len(text) for text in asked.prefixed(replace(_PLAIN, truncate=truncate))] == [length]
