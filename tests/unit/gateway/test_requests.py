"""What a body may hold, and what is said about the rest."""

import json
from collections.abc import Callable

import pytest

from reembed.core.model import InputType
from reembed.gateway.documents import parse_documents, parse_ids
from reembed.gateway.requests import (
    BadRequest,
    EmbeddingsRequest,
    SearchRequest,
    parse_embeddings,
    parse_search,
)


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_query_asks_for_ten_documents_unless_it_says_otherwise() -> None:
    assert parse_search(body(query="keys")) == SearchRequest("keys", 10)
    assert parse_search(body(query="keys", k=100)) == SearchRequest("keys", 100)


def test_the_request_of_an_openai_client_is_understood() -> None:
    sent = body(input="keys", model="text-embedding-3-small", encoding_format="base64", user="ada", dimensions=384)
    assert parse_embeddings(sent) == EmbeddingsRequest(("keys",), InputType.QUERY, True, 384, "ada")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "parse", [parse_search, parse_embeddings, parse_documents, parse_ids], ids=lambda parse: parse.__name__
)
def test_what_is_no_number_of_json_is_refused_by_every_endpoint(parse: Callable[[bytes], object], number: str) -> None:
    sent = f'{{"query": "keys", "input": "keys", "id": "a", "text": "x", "metadata": {{"n": {number}}}}}'
    with pytest.raises(BadRequest, match="the body is not JSON; send an object") as raised:
        parse(sent.encode())
    assert (raised.value.code, raised.value.kind) == (422, "not_json")


def test_documents_can_be_embedded_too() -> None:
    sent = body(input=["one", "two"], input_type="document")
    assert parse_embeddings(sent) == EmbeddingsRequest(("one", "two"), InputType.DOCUMENT, False, None, None)


@pytest.mark.parametrize(
    ("sent", "kind", "message"),
    [
        pytest.param(b"", "not_json", "send an object", id="no body"),
        pytest.param(b"query=keys", "not_json", "the body is not JSON", id="a form"),
        pytest.param(b"\xff\xfe", "not_json", "the body is not JSON", id="bytes that are no text"),
        pytest.param(b"[1]", "not_json", "a JSON list", id="a list"),
        pytest.param(body(k=3), "invalid_field", "'query' is null; it must be text", id="no query"),
        pytest.param(body(query=" \n"), "empty_text", "has no vector", id="an empty query"),
        pytest.param(body(query=["keys"]), "invalid_field", "it must be text", id="a list of queries"),
        pytest.param(b'{"query": "\\ud800"}', "invalid_text", "surrogate", id="half a character"),
        pytest.param(
            body(query="keys", k=0), "invalid_field", "'k' is 0; it must be a whole number", id="no documents"
        ),
        pytest.param(body(query="keys", k=101), "invalid_field", "from 1 to 100", id="too many documents"),
        pytest.param(body(query="keys", k=True), "invalid_field", "'k' is true", id="k is a truth value"),
        pytest.param(body(query="keys", k=2.5), "invalid_field", "'k' is 2.5", id="k is a fraction"),
        pytest.param(
            body(query="keys", K=3),
            "unknown_field",
            "unknown field 'K'; this endpoint knows query, k",
            id="a misspelt k",
        ),
    ],
)
def test_a_search_that_is_refused_says_why(sent: bytes, kind: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as raised:
        parse_search(sent)
    assert (raised.value.code, raised.value.kind) == (422, kind)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        pytest.param(body(), "'input' is null; it must be text", id="no input"),
        pytest.param(body(input=[]), "1 to 256 of them", id="no texts"),
        pytest.param(body(input=["x"] * 257), "257 texts", id="too many texts"),
        pytest.param(body(input=[[1, 2]]), "it must be text", id="tokens instead of text"),
        pytest.param(body(input=["one", ""]), "empty text", id="an empty text"),
        pytest.param(
            body(input="x", input_type="passage"), "'input_type' is \"passage\"", id="an unknown kind of text"
        ),
        pytest.param(body(input="x", encoding_format="int8"), "'encoding_format'", id="an unknown encoding"),
        pytest.param(body(input="x", dimensions=0), "'dimensions' is 0", id="no dimensions"),
        pytest.param(body(input="x", prompt="y"), "unknown field 'prompt'", id="an unknown field"),
    ],
)
def test_an_embeddings_request_that_is_refused_says_why(sent: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_embeddings(sent)
