"""`/v1/documents`: where a store has no triggers, applications write their documents through the gateway.

A write is answered when the store has it together with the mark that it is to be followed; an answer of 503 says that
it may be there or not, and the same write may be sent again. Who may write is who may search: whoever reaches the
gateway. Where documents are an application's own table, these endpoints answer 405 and say so.

    413, 422   the request is at fault; nothing of it was stored
    404        there is no such document
    405        the documents of this index are written by SQL
    503        the store does not answer
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reembed.gateway import exchange
from reembed.gateway.requests import BadRequest, object_of, only, text_of
from reembed.stores.protocol import DocumentWrite, Stored, StoreError, StoreUnavailable, Writing

DOCUMENTS_BYTES = 4 * 1024 * 1024
MOST_DOCUMENTS = 100
MOST_TEXT = 1024 * 1024  # bytes of one text
MOST_ID = 256
MOST_METADATA = 16 * 1024
_WAIT = 1.0


class Documents:
    """The endpoints over a store; None where documents are not written through the gateway."""

    def __init__(self, store: object) -> None:
        self._store = store if isinstance(store, Writing) else None

    async def put(self, _: Request, body: bytes) -> Response:
        store = self._writing()
        return await _written(store, parse_documents(body))

    async def delete(self, request: Request, body: bytes) -> Response:
        """Delete the document of the path, or those that the body names."""
        store = self._writing()
        name = request.path_params.get("document")
        ids = [_id(name)] if name is not None else parse_ids(body)
        return await _written(store, [DocumentWrite(one, gone=True) for one in ids])

    async def get(self, request: Request, _: bytes) -> Response:
        store, name = self._writing(), _id(request.path_params["document"])
        try:
            found = await store.written(name)
        except StoreError as error:
            return _unavailable(error)
        if found is None:
            return exchange.error(404, "no_such_document", f"there is no document {name[:80]!r}")
        revision, document = found
        return JSONResponse(_told(revision) | {"text": document.text, "metadata": document.metadata})

    def _writing(self) -> Writing:
        if self._store is None:
            raise BadRequest(
                405,
                "documents_are_rows",
                "the documents of this index are rows of a table, and what SQL writes there is followed; write there",
            )
        return self._store


def parse_documents(body: bytes) -> list[DocumentWrite]:
    """Read the body of PUT: one document, or {"documents": [...]} of several."""
    fields = object_of(body)
    several = fields.get("documents")
    if "documents" in fields:
        only(fields, ("documents",))
    listed = several if "documents" in fields else [fields]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_DOCUMENTS:
        raise _invalid("documents", f"a list of 1 to {MOST_DOCUMENTS} documents; send more in several requests")
    writes = [_document(one) for one in listed]
    _distinct([one.id for one in writes])
    return writes


def parse_ids(body: bytes) -> list[str]:
    """Read the body of DELETE without a document in its path."""
    fields = object_of(body)
    only(fields, ("ids",))
    ids = fields.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_DOCUMENTS:
        raise _invalid("ids", f"a list of 1 to {MOST_DOCUMENTS} ids; send more in several requests")
    found = [_id(one) for one in ids]
    _distinct(found)
    return found


def _document(found: object) -> DocumentWrite:
    if not isinstance(found, dict):
        raise _invalid("documents", "a list of objects with id, text and metadata")
    only(found, ("id", "metadata", "text"))
    text = text_of(found.get("text"), "text")
    if (size := len(text.encode())) > MOST_TEXT:
        raise BadRequest(
            413, "text_too_large", f"a text has {size} bytes, above {MOST_TEXT}; cut it into several documents"
        )
    metadata = found.get("metadata", {})
    if not isinstance(metadata, dict) or not _storable(metadata):
        raise _invalid("metadata", "an object, or no such field")
    if (size := len(json.dumps(metadata))) > MOST_METADATA:
        raise BadRequest(413, "metadata_too_large", f"metadata has {size} bytes, above {MOST_METADATA}; shorten it")
    return DocumentWrite(_id(found.get("id")), text, metadata)


def _id(found: object) -> str:
    name = text_of(found, "id")
    if len(name.encode()) > MOST_ID or not name.isprintable():
        raise _invalid("id", f"a text of at most {MOST_ID} bytes without control characters")
    return name


def _distinct(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        raise BadRequest(422, "twice", "a document is named twice in one request, where no order is kept; name it once")


def _storable(found: object) -> bool:
    """Return whether it can be written as JSON, and read by whoever asks for it: 1e999 and half a character cannot."""
    try:
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


async def _written(store: Writing, writes: Sequence[DocumentWrite]) -> Response:
    try:
        stored = await store.write(writes)
    except StoreError as error:
        return _unavailable(error)
    return JSONResponse({"documents": [_told(one) for one in stored]})


def _told(stored: Stored) -> dict[str, Any]:
    return {"id": stored.id, "revision": stored.rev}


def _unavailable(error: StoreError) -> Response:
    kind = "unavailable" if isinstance(error, StoreUnavailable) else "store_refused"
    message = f"{error}; whether these documents were stored is not known, send them again"
    return exchange.error(503, kind, message, retry_after=_WAIT)


def _invalid(field: str, expected: str) -> BadRequest:
    return BadRequest(422, "invalid_field", f"'{field}' must be {expected}")
