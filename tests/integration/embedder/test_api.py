"""The HTTP API of a real process: what is refused and in which words, what is cut, what is counted."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import httpx
import numpy as np
import pytest

from reembed.core.chunking import cut
from reembed.core.model import Chunking, CutAt
from tests.fixtures.embedders import FINGERPRINT, Embedder, Start, decoded

_LONG = "word " * 400


def test_the_answer_has_the_form_of_openai_s(running: tuple[str, Embedder]) -> None:
    body = running[1].ask(["hello", "world"]).json()
    shape = {key: value for key, value in body.items() if key != "data"}
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    assert shape == {
        "object": "list", "model": FINGERPRINT, "fingerprint": FINGERPRINT, "usage": usage, "truncated": []
    }  # fmt: skip
    assert [(item["object"], item["index"], len(item["embedding"])) for item in body["data"]] == [
        ("embedding", 0, 384),
        ("embedding", 1, 384),
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b'{"input": ', {"type": "invalid_request", "message": "the body is not JSON"}, id="not JSON"),
        pytest.param(
            b'{"input": ["a", " "]}',
            {"type": "invalid_request", "message": "text 1 is empty; leave it out", "index": 1},
            id="empty text",
        ),
        pytest.param(
            b'{"input": "a", "dimensions": 768}',
            {"type": "invalid_request", "message": "dimensions is 768, this model gives 384; leave it out"},
            id="dimensions",
        ),
        pytest.param(
            b'{"input": [' + b'"a",' * 256 + b'"a"]}',
            {"type": "invalid_request", "message": "input has 257 texts, at most 256 are taken; send several requests"},
            id="too many",
        ),
    ],
)
def test_malformed_requests_are_refused_with_what_to_change(
    running: tuple[str, Embedder], body: bytes, error: dict[str, Any]
) -> None:
    answer = httpx.post(f"{running[1].url}/v1/embeddings", content=body)
    found = answer.json()["error"]
    found["message"] = found["message"][: len(error["message"])]
    assert (answer.status_code, found) == (422, error)


def test_long_texts_are_cut_and_named(running: tuple[str, Embedder]) -> None:
    body = running[1].ask(["short", _LONG, "short", _LONG]).json()
    assert (body["truncated"], body["usage"]["total_tokens"]) == ([1, 3], 2 * 256 + 2 * 3)


def test_tokens_are_counted_without_the_cut(running: tuple[str, Embedder]) -> None:
    answer = httpx.post(f"{running[1].url}/tokenize", json={"input": ["hello world", _LONG]})
    assert answer.json() == {"tokens": [4, 402]}


def test_where_tokens_end_is_told_in_characters(running: tuple[str, Embedder]) -> None:
    texts = ["hello  world\n", "caf\u00e9 \u5b57\u5b57 internationalization.", _LONG]
    answer = httpx.post(
        f"{running[1].url}/tokenize",
        json={"input": texts, "ends": True},
        headers={"X-Reembed-Priority": "background"},
    ).json()
    counted = httpx.post(f"{running[1].url}/tokenize", json={"input": texts}).json()["tokens"]
    assert answer["ends"][0] == [5, 12]
    assert [ends[-1] for ends in answer["ends"]] == [12, len(texts[1]), len(_LONG) - 1]
    assert answer["tokens"] == [len(ends) for ends in answer["ends"]] == [count - 2 for count in counted]


def test_a_part_has_no_more_tokens_than_its_ends_say(running: tuple[str, Embedder]) -> None:
    """Read by itself, between the ends of two words, as well as in its text."""
    text = "Vectors of one model, e.g. MiniLM-L6's, aren't comparable with those of another (cosine 0.007)! " * 3
    (ends,) = httpx.post(f"{running[1].url}/tokenize", json={"input": text, "ends": True}).json()["ends"]
    spans = cut(text, ends, Chunking(16, 4, CutAt.SENTENCE))
    parts = [text[one.start : one.end] for one in spans]
    counted = httpx.post(f"{running[1].url}/tokenize", json={"input": parts}).json()["tokens"]
    expected = [bisect_right(ends, one.end) - bisect_right(ends, one.start) for one in spans]
    assert all(count - 2 <= said for count, said in zip(counted, expected, strict=True))
    assert len(parts) > 4
    assert max(expected) <= 16


def test_a_pool_that_refuses_long_texts_names_them(embedder: Start) -> None:
    answer = embedder(TRUNCATE="Refuse").ask(["short", _LONG])
    message = "text 1 has 402 tokens, the model reads 256 and the pool says truncate: Refuse; shorten it"
    error = {"type": "text_too_long", "message": message, "index": 1}
    assert (answer.status_code, answer.json()) == (413, {"error": error, "index": 1})


def test_prefixes_are_put_before_texts_by_their_type(embedder: Start) -> None:
    server = embedder(QUERY_PREFIX="query: ", DOCUMENT_PREFIX="passage: ")
    query, document = (
        decoded(server.ask("text", input_type=kind, encoding_format="base64").json()["data"][0]["embedding"])
        for kind in ("query", "document")
    )
    assert float(query @ document) < 0.99
    refused = server.ask("text")
    assert (refused.status_code, refused.json()["error"]["message"].partition(",")[0]) == (
        422,
        "input_type is missing",
    )


def test_a_default_input_type_stands_in(embedder: Start) -> None:
    server = embedder(QUERY_PREFIX="query: ", DEFAULT_INPUT_TYPE="Query")
    plain, query = (server.vectors([text]) for text in ("text", "text"))
    said = decoded(server.ask("text", input_type="query", encoding_format="base64").json()["data"][0]["embedding"])
    np.testing.assert_array_equal(plain, query)
    assert float(said @ plain[0]) > 0.999


def test_what_was_done_is_counted(embedder: Start) -> None:
    server = embedder()
    server.ask(["hello", "world"], input_type="query")
    server.ask(["hello"], background=True)
    server.ask("")
    assert {
        "queries": server.metric('reembed_embedder_texts_total{input_type="query",priority="live"}'),
        "documents": server.metric('reembed_embedder_texts_total{input_type="document",priority="background"}'),
        "tokens": server.metric("reembed_embedder_tokens_total"),
        "answered": server.metric('reembed_embedder_requests_total{code="200"}'),
        "refused": server.metric('reembed_embedder_requests_total{code="422"}'),
        "waiting": server.metric("reembed_embedder_queue_tokens"),
        "restarts": server.metric("reembed_embedder_child_restarts_total"),
    } == {"queries": 2, "documents": 1, "tokens": 9, "answered": 2, "refused": 1, "waiting": 0, "restarts": 0}
