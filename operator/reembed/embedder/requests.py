"""What a caller of the HTTP API asks for, checked; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reembed.core.emergency_limits import MOST_SECONDS
from reembed.core.model import InputType, Model, Truncate

# Texts of one request, counted alike whether they come as one string or an array.
MOST_TEXTS = 256

# Characters that a text has at the most for each token that the model reads; no text that means something has a tenth.
_CHARACTERS_PER_TOKEN = 1024

_INPUT_TYPES = {"query": InputType.QUERY, "document": InputType.DOCUMENT}
_FORMATS = ("float", "base64")
_SECONDS_WANTED = f"send 1 to {MOST_SECONDS} and renew it before they are over, or 0 to lift emergency protection"


class Malformed(Exception):
    """The request cannot be answered as it is; the message says what to change, `index` which text is at fault."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts to embed as one type, and how their vectors are written."""

    texts: tuple[str, ...]
    input_type: InputType
    base64: bool

    def prefixed(self, model: Model) -> tuple[str, ...]:
        """Return the texts as the model was trained to read them, without megabytes that it will not read."""
        prefix = model.query_prefix if self.input_type is InputType.QUERY else model.document_prefix
        end = _CHARACTERS_PER_TOKEN * model.max_tokens if model.truncate is Truncate.END else None
        return tuple(prefix + text[:end] for text in self.texts)


@dataclass(frozen=True, slots=True)
class Grant:
    """Background tokens that a process may have spent in all, None for no bound; whether a hosted model changed."""

    tokens: int | None
    changed: bool


def decode(data: bytes | bytearray, example: str = '{"input": ...}') -> Mapping[str, Any]:
    """Return a request's body; `example` is what a caller who sent something else is shown.

    Raises:
        Malformed: it is no JSON object.

    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON ({error}); send {example}") from error
    if not isinstance(body, dict):
        raise Malformed(f"the body is not a JSON object; send {example}")
    return body


def parse(body: Mapping[str, Any], model: Model, default: InputType | None) -> Asked:
    """Return what a decoded body asks for.

    Raises:
        Malformed: it asks for what this model cannot do, or not in the form of the API.

    """
    dimensions = body.get("dimensions")
    if dimensions is not None and dimensions != model.dimensions:
        raise Malformed(f"dimensions is {dimensions!r}, this model gives {model.dimensions}; leave it out")
    encoding = body.get("encoding_format") or "float"
    if encoding not in _FORMATS:
        raise Malformed(f"encoding_format is {encoding!r}, expected one of {', '.join(_FORMATS)}")
    texts = parse_texts(body)
    return Asked(texts, _input_type(body.get("input_type"), model, default), encoding == "base64")


def parse_seconds(body: Mapping[str, Any]) -> float:
    """Return for how many seconds a body asks for emergency protection.

    Raises:
        Malformed: it does not say so, or asks for more than a lease may last.

    """
    if "seconds" not in body:
        raise Malformed(f"seconds is missing; {_SECONDS_WANTED}")
    value = body["seconds"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"seconds is not a number but {type(value).__name__}; {_SECONDS_WANTED}")
    # What is no number at all (NaN) is not between two numbers either.
    if not 0 <= value <= MOST_SECONDS:
        raise Malformed(f"seconds is {value}, not between 0 and {MOST_SECONDS}; {_SECONDS_WANTED}")
    return float(value)


def parse_grant(body: Mapping[str, Any]) -> Grant:
    """Return what the operator grants.

    Raises:
        Malformed: it is not a whole number of at least 0 or null, and true or false.

    """
    tokens, changed = body.get("tokens"), body.get("changed")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0):
        raise Malformed(f"tokens is {tokens!r}, expected a whole number of at least 0, or null for no bound")
    if not isinstance(changed, bool):
        raise Malformed(f"changed is {changed!r}, expected true or false")
    return Grant(tokens, changed)


def parse_texts(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return `input` as texts.

    Raises:
        Malformed: it is neither a text nor a list of texts, or one of them is empty.

    """
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise Malformed("input is missing, empty or not text; send a string or a list of strings")
    if len(texts) > MOST_TEXTS:
        raise Malformed(f"input has {len(texts)} texts, at most {MOST_TEXTS} are taken; send several requests")
    for index, text in enumerate(texts):
        if (fault := _fault(text)) is not None:
            raise Malformed(f"text {index} {fault}", index)
    return tuple(texts)


def _fault(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"is not a string but {type(text).__name__}; token ids are not taken"
    if not text.strip():
        return "is empty; leave it out"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which is no character; leave it out"
    return None


def _input_type(value: Any, model: Model, default: InputType | None) -> InputType:
    if value is None:
        if default is None and model.query_prefix != model.document_prefix:
            raise Malformed(
                "input_type is missing, and this model reads queries and documents differently; send query or "
                "document, or set defaultInputType of the pool"
            )
        return default or InputType.DOCUMENT
    if not isinstance(value, str) or value not in _INPUT_TYPES:
        raise Malformed(f"input_type is {value!r}, expected query or document")
    return _INPUT_TYPES[value]
