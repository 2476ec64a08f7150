"""What a caller of /v1/embeddings asks for, checked; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reembed.core.model import InputType, Model

# Texts of one request, counted alike whether they come as one string or an array.
MOST_TEXTS = 256

_INPUT_TYPES = {"query": InputType.QUERY, "document": InputType.DOCUMENT}
_FORMATS = ("float", "base64")


class Malformed(Exception):
    """The request cannot be answered as it is; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts to embed as one type, and how their vectors are written."""

    texts: tuple[str, ...]
    input_type: InputType
    base64: bool

    def prefixed(self, model: Model) -> tuple[str, ...]:
        """Return the texts as the model was trained to read them."""
        prefix = model.query_prefix if self.input_type is InputType.QUERY else model.document_prefix
        return tuple(prefix + text for text in self.texts)


def parse(body: Any, model: Model, default: InputType | None) -> Asked:
    """Return what a decoded JSON body asks for.

    Raises:
        Malformed: it asks for what this model cannot do, or not in the form of the API.

    """
    if not isinstance(body, Mapping):
        raise Malformed('the body is not a JSON object; send {"input": ...}')
    dimensions = body.get("dimensions")
    if dimensions is not None and dimensions != model.dimensions:
        raise Malformed(f"dimensions is {dimensions!r}, this model gives {model.dimensions}; leave it out")
    encoding = body.get("encoding_format", "float")
    if encoding not in _FORMATS:
        raise Malformed(f"encoding_format is {encoding!r}, expected one of {', '.join(_FORMATS)}")
    texts = parse_texts(body.get("input"))
    return Asked(texts, _input_type(body.get("input_type"), model, default), encoding == "base64")


def parse_texts(value: Any) -> tuple[str, ...]:
    """Return `input` as texts.

    Raises:
        Malformed: it is neither a text nor a list of texts, or one of them is empty.

    """
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Malformed("input is missing, empty or not text; send a string or a list of strings")
    if len(texts) > MOST_TEXTS:
        raise Malformed(f"input has {len(texts)} texts, at most {MOST_TEXTS} are taken; send several requests")
    for index, text in enumerate(texts):
        if not text.strip():
            raise Malformed(f"text {index} is empty; leave it out")
    return texts


def _input_type(value: Any, model: Model, default: InputType | None) -> InputType:
    if value is None:
        if default is None and model.query_prefix != model.document_prefix:
            raise Malformed(
                "input_type is missing, and this model reads queries and documents differently; send query or "
                "document, or set defaultInputType of the pool"
            )
        return default or InputType.DOCUMENT
    if value not in _INPUT_TYPES:
        raise Malformed(f"input_type is {value!r}, expected query or document")
    return _INPUT_TYPES[value]
