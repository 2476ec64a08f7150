"""What /v1/documents accepts, and what it answers where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reembed.gateway import exchange
from reembed.gateway.documents import MOST_TEXT, Documents
from reembed.gateway.requests import BadRequest
from reembed.stores.protocol import DocumentWrite, Stored, StoreUnavailable


@dataclass
class Written:
    """A store that keeps what is written, or fails."""

    held: dict[str, DocumentWrite] = field(default_factory=dict)
    away: bool = False

    async def write(self, writes: Sequence[DocumentWrite]) -> list[Stored]:
        if self.away:
            raise StoreUnavailable("Chroma does not answer")
        self.held |= {one.id: one for one in writes}
        return [Stored(one.id, 7) for one in writes]

    async def written(self, document: str) -> tuple[Stored, DocumentWrite] | None:
        found = self.held.get(document)
        return None if found is None or found.gone else (Stored(document, 7), found)


def client(store: object) -> httpx.AsyncClient:
    documents = Documents(store)

    async def answer(request: Request) -> Response:
        verb = {"PUT": documents.put, "DELETE": documents.delete, "GET": documents.get}[request.method]
        try:
            return await verb(request, await request.body())
        except BadRequest as error:
            return exchange.error(error.code, error.kind, str(error))

    paths = ("/v1/documents", "/v1/documents/{document:path}")
    app = Starlette(routes=[Route(path, answer, methods=["PUT", "DELETE", "GET"]) for path in paths])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.fixture
def store() -> Written:
    return Written()


async def test_documents_are_written_read_and_deleted(store: Written) -> None:
    async with client(store) as http:
        put = await http.put("/v1/documents", json={"id": "a/1", "text": "one", "metadata": {"n": 1}})
        several = await http.put("/v1/documents", json={"documents": [{"id": "b", "text": "two"}]})
        found = await http.get("/v1/documents/a/1")
        deleted = await http.delete("/v1/documents/a/1")
        batch = await http.request("DELETE", "/v1/documents", json={"ids": ["b", "c"]})
        gone = await http.get("/v1/documents/a/1")
    assert put.json() == {"documents": [{"id": "a/1", "revision": 7}]}
    assert found.json() == {"id": "a/1", "revision": 7, "text": "one", "metadata": {"n": 1}}
    assert [one.status_code for one in (several, deleted, batch, gone)] == [200, 200, 200, 404]
    assert all(one.gone for one in store.held.values())


BAD: list[tuple[Any, int, str]] = [
    ([], 422, "not_json"),
    ({"id": "a"}, 422, "invalid_field"),
    ({"id": "a", "text": " "}, 422, "empty_text"),
    ({"id": "", "text": "x"}, 422, "empty_text"),
    ({"id": "a\n", "text": "x"}, 422, "invalid_field"),
    ({"id": "a" * 257, "text": "x"}, 422, "invalid_field"),
    ({"id": 1, "text": "x"}, 422, "invalid_field"),
    ({"id": "a", "text": "x", "meta": {}}, 422, "unknown_field"),
    ({"id": "a", "text": "x", "metadata": []}, 422, "invalid_field"),
    ({"id": "a", "text": "x", "metadata": {"a": "b" * 20_000}}, 413, "metadata_too_large"),
    ({"id": "a", "text": "x" * (MOST_TEXT + 1)}, 413, "text_too_large"),
    ({"documents": []}, 422, "invalid_field"),
    ({"documents": [{"id": "a", "text": "x"}] * 2}, 422, "twice"),
    ({"documents": [{"id": str(n), "text": "x"} for n in range(101)]}, 422, "invalid_field"),
]


@pytest.mark.parametrize(("body", "code", "kind"), BAD, ids=[json.dumps(body)[:50] for body, *_ in BAD])
async def test_a_bad_document_is_refused_and_nothing_of_its_request_is_stored(
    store: Written, body: Any, code: int, kind: str
) -> None:
    async with client(store) as http:
        answer = await http.put("/v1/documents", json=body)
    assert (answer.status_code, answer.json()["error"]["type"], store.held) == (code, kind, {})


async def test_a_store_that_does_not_answer_is_503_and_the_write_may_be_repeated(store: Written) -> None:
    store.away = True
    async with client(store) as http:
        answer = await http.put("/v1/documents", json={"id": "a", "text": "x"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "send them again" in answer.json()["error"]["message"]


async def test_an_index_whose_documents_are_rows_says_that_sql_writes_them() -> None:
    async with client(object()) as http:
        answer = await http.put("/v1/documents", json={"id": "a", "text": "x"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "documents_are_rows")
