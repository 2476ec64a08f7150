"""Whether a model's vectors are those that somebody trusts: texts with the vectors that they must have.

One line of JSON a text: {"text": "how do I ...", "inputType": "Query", "vector": [0.1, ...]}; `inputType` is Document
if it is left out, and `vector` may be base64 of little-endian float32. They come from wherever the model is known to be
right: its authors' library, another pool, the pods of last year. Pure, but for reading the file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reembed.core.model import InputType, Model
from reembed.embedder.refusals import ReferencesMissing, ValidationFailed

MOST = 256
_EXPECTED = '{"text": "...", "inputType": "Query" or "Document", "vector": [numbers] or base64 of float32}'
_FIELDS = frozenset({"text", "inputType", "vector"})

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class References:
    """Texts without prefixes, what each is, and the vectors that they must have (texts x dimensions)."""

    texts: tuple[str, ...]
    types: tuple[InputType, ...]
    vectors: Floats

    def prefixed(self, model: Model) -> tuple[str, ...]:
        """Return the texts as the model reads them."""
        prefixes = {InputType.QUERY: model.query_prefix, InputType.DOCUMENT: model.document_prefix}
        return tuple(prefixes[kind] + text for kind, text in zip(self.types, self.texts, strict=True))


@dataclass(frozen=True, slots=True)
class Validated:
    """How near a model's vectors are to the references.

    `accuracy` is the share of texts whose vector is nearer to its own reference than to every other text's.
    """

    cosine_min: float
    cosine_mean: float
    accuracy: float


def read(path: Path, dimensions: int) -> References:
    """Return the references of a file.

    Raises:
        ReferencesMissing: there is no such file.
        ValidationFailed: a line is wrong; the message says which.

    """
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise ReferencesMissing(
            "the ConfigMap of spec.validation.configMapRef, or its key, is not there; make it, and the pod starts again"
        ) from error
    except UnicodeDecodeError as error:
        raise ValidationFailed("the references of spec.validation are not UTF-8; write them again") from error
    return parse(text, dimensions)


def parse(text: str, dimensions: int) -> References:
    """Return references from lines of JSON; raises ValidationFailed."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ValidationFailed(f"the references of spec.validation are empty; give 1 to {MOST} lines of {_EXPECTED}")
    if len(lines) > MOST:
        raise ValidationFailed(f"the references of spec.validation have {len(lines)} lines, at most {MOST} are taken")
    texts, types, vectors = zip(*(_line(number, line, dimensions) for number, line in lines), strict=True)
    return References(texts, types, np.stack(vectors))


def compare(references: References, vectors: Floats, least: float) -> Validated:
    """Return how near the model's vectors (texts x dimensions, in the order of the texts) are to the references.

    Raises:
        ValidationFailed: the cosine of one is below `least`.

    """
    cosines = _unit(vectors) @ _unit(references.vectors).T
    own = np.diagonal(cosines)
    # Equal texts, or texts with equal references, are not each other's rivals.
    rivals = np.where(cosines.max(axis=1) > own + 1e-6, 1, 0)
    found = Validated(float(own.min()), float(own.mean()), 1 - float(rivals.mean()))
    if not found.cosine_min >= least:
        worst = int(np.argmin(own))
        raise ValidationFailed(
            f"{int((own < least).sum())} of {len(own)} texts have a vector with a cosine below {least:g} to their "
            f"reference (smallest {found.cosine_min:.4f}, of text {worst + 1}; mean {found.cosine_mean:.4f}; "
            f"{found.accuracy:.1%} are nearest to their own): compare pooling, prefixes and file with what made the "
            "references, or lower spec.validation.minCosine for a quantized file"
        )
    return found


def _line(number: int, line: str, dimensions: int) -> tuple[str, InputType, Floats]:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise _wrong(number, f"is not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise _wrong(number, "is not an object")
    if unknown := sorted(set(raw) - _FIELDS):
        raise _wrong(number, f"has the unknown field {unknown[0]!r}")
    text, kind = raw.get("text"), raw.get("inputType", InputType.DOCUMENT.value)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(number, "has no text")
    if kind not in {one.value for one in InputType}:
        raise _wrong(number, f"has inputType {kind!r}")
    return text, InputType(kind), _vector(number, raw, dimensions)


def _vector(number: int, raw: Mapping[str, Any], dimensions: int) -> Floats:
    given = raw.get("vector")
    try:
        if isinstance(given, str):
            vector = np.frombuffer(base64.b64decode(given, validate=True), "<f4")
        else:
            vector = np.asarray(given, dtype=np.float32)
    except (binascii.Error, TypeError, ValueError) as error:
        raise _wrong(number, "has a vector that can't be read") from error
    if vector.ndim != 1:
        raise _wrong(number, "has no vector")
    if len(vector) != dimensions:
        raise _wrong(number, f"has a vector of {len(vector)} dimensions, the pool's model gives {dimensions}")
    if not np.isfinite(vector).all() or not vector.any():
        raise _wrong(number, "has a vector that is zero or not finite")
    return vector


def _unit(vectors: Floats) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _wrong(number: int, what: str) -> ValidationFailed:
    return ValidationFailed(f"line {number} of the references of spec.validation {what}; each is {_EXPECTED}")
