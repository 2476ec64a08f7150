"""Bodies of requests, checked before anything is asked of an arm: what is accepted, and what to do about the rest.

Every refusal is a `BadRequest` with an HTTP code and a message that names the field, what was found and what is
accepted. Unknown fields are refused, since a misspelt `k` would otherwise silently be 10.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.client import BATCH_LIMIT
from reembed.core.model import InputType
from reembed.stores.protocol import Filter

# Bytes of a body. A query is a question, not a document; a page of texts for /v1/embeddings may be.
SEARCH_BYTES = 64 * 1024
EMBEDDINGS_BYTES = 4 * 1024 * 1024
MOST_HITS = 100
DEFAULT_HITS = 10
MOST_VALUES = 1000  # of a filter; each is looked at before the search


class BadRequest(Exception):
    """The request is not accepted, and will not be unless it changes."""

    def __init__(self, code: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Find the `k` documents nearest to `query`, of those that a filter leaves."""

    query: str
    k: int
    within: Filter | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Embed `texts`; `dimensions` is what the caller expects, `user` who asks, both None if not said."""

    texts: tuple[str, ...]
    input_type: InputType
    as_base64: bool
    dimensions: int | None
    user: str | None


def parse_search(body: bytes) -> SearchRequest:
    """Read the body of /v1/search."""
    fields = _fields(body, ("query", "k", "filter"))
    query = text_of(fields.get("query"), "query")
    k = fields.get("k", DEFAULT_HITS)
    if not _whole(k) or not 1 <= k <= MOST_HITS:
        raise _invalid("k", k, f"a whole number from 1 to {MOST_HITS}")
    return SearchRequest(query, k, _filter(fields.get("filter")))


def parse_embeddings(body: bytes) -> EmbeddingsRequest:
    """Read the body of /v1/embeddings, which is OpenAI's with `input_type`."""
    fields = _fields(body, ("input", "input_type", "encoding_format", "dimensions", "model", "user"))
    given = fields.get("input")
    texts = given if isinstance(given, list) else [given]
    if not 1 <= len(texts) <= BATCH_LIMIT:
        raise _invalid("input", f"{len(texts)} texts", f"1 to {BATCH_LIMIT} of them; send more in several requests")
    input_type = fields.get("input_type", "query")
    if input_type not in ("query", "document"):
        raise _invalid("input_type", input_type, '"query" or "document"')
    encoding = fields.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _invalid("encoding_format", encoding, '"float" or "base64"')
    dimensions = fields.get("dimensions")
    if dimensions is not None and not (_whole(dimensions) and dimensions > 0):
        raise _invalid("dimensions", dimensions, "a whole number above 0, or no such field")
    user = fields.get("user")
    return EmbeddingsRequest(
        tuple(text_of(text, "input") for text in texts),
        InputType.QUERY if input_type == "query" else InputType.DOCUMENT,
        encoding == "base64",
        dimensions,
        user if isinstance(user, str) and user else None,
    )


def too_large(limit: int) -> BadRequest:
    return BadRequest(413, "body_too_large", f"the body is larger than {limit} bytes; send shorter or fewer texts")


def too_slow(seconds: float) -> BadRequest:
    return BadRequest(408, "late", f"the body did not come within {seconds:g} s; send it at once")


def text_of(value: object, field: str) -> str:
    """Return a text that may be embedded."""
    if not isinstance(value, str):
        raise _invalid(field, value, "text")
    if not value.strip():
        raise BadRequest(422, "empty_text", f"'{field}' holds an empty text, which has no vector; leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(
            422, "invalid_text", f"'{field}' holds half of a surrogate pair; send whole characters"
        ) from None
    return value


def object_of(body: bytes) -> Mapping[str, Any]:
    """Return the object that a body is; NaN and Infinity are no JSON either, though Python reads them."""
    try:
        fields = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):  # nested a thousand times
        raise BadRequest(422, "not_json", "the body is not JSON; send an object") from None
    if not isinstance(fields, dict):
        raise BadRequest(422, "not_json", f"the body is a JSON {type(fields).__name__}; send an object")
    return fields


def only(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse fields that an endpoint does not know."""
    if unknown := sorted(fields.keys() - set(known)):
        raise BadRequest(
            422, "unknown_field", f"unknown field {unknown[0]!r:.80}; this endpoint knows {', '.join(known)}"
        )


def _no_number(found: str) -> object:
    raise ValueError(f"{found} is no number of JSON")


def _fields(body: bytes, known: tuple[str, ...]) -> Mapping[str, Any]:
    fields = object_of(body)
    only(fields, known)
    return fields


def _filter(given: object) -> Filter | None:
    """Read a filter as far as it can be told without its columns, which the store knows.

    Nothing goes on to the store that it could not read as JSON: an error there would count against the arm.
    """
    if given is None or given == {}:
        return None
    if not isinstance(given, dict):
        raise _invalid("filter", given, 'an object such as {"lang": "en", "year": {"gte": 2020}}')
    values = [one for name, wanted in given.items() for one in (name, *_values(wanted))]
    if len(values) > MOST_VALUES:
        raise _invalid("filter", f"{len(values)} names and values", f"of {MOST_VALUES} at most")
    for value in values:
        if not _storable(value):
            raise _invalid("filter", repr(value)[:40], "of texts, finite numbers, true, false and null")
    return given


def _values(wanted: object) -> Iterator[object]:
    """Yield what a column is compared with, and by which operators; of deeper structures the structures."""
    for operand in (*wanted, *wanted.values()) if isinstance(wanted, dict) else (wanted,):
        yield from operand if isinstance(operand, list) else (operand,)


def _storable(value: object) -> bool:
    if isinstance(value, str):
        return _writable(value)
    return value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _writable(text: str) -> bool:
    """Return whether PostgreSQL can hold it: no half of a surrogate pair, no zero character."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _invalid(field: str, found: object, expected: str) -> BadRequest:
    return BadRequest(422, "invalid_field", f"'{field}' is {json.dumps(found)[:80]}; it must be {expected}")
