"""Vectors that somebody trusts: how they are read, and when a model's vectors are near enough to them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reembed.core.model import InputType, Model, Pooling
from reembed.embedder.references import Validated, compare, parse, read
from reembed.embedder.refusals import ReferencesMissing, ValidationFailed

GOOD = {"text": "a", "vector": [3, 4]}


def lines(*raw: Any) -> str:
    return "\n".join(json.dumps(one) for one in raw)


def turned(*degrees: float) -> Any:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_references_are_texts_with_their_prefixes_and_vectors() -> None:
    vector = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    found = parse(lines(GOOD, {"text": "b", "inputType": "Query", "vector": vector}) + "\n\n", 2)
    model = Model("u", "s", Pooling.MEAN, 2, 8, query_prefix="q: ", document_prefix="d: ")
    assert found.prefixed(model) == ("d: a", "q: b")
    assert found.types == (InputType.DOCUMENT, InputType.QUERY)
    assert found.vectors.tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "are empty; give 1 to 256 lines"),
        ("\n \n", "are empty"),
        (lines(*[GOOD] * 257), "have 257 lines, at most 256"),
        (lines(GOOD) + "\n{", "line 2 .* is not JSON"),
        (lines([]), "line 1 .* is not an object"),
        (lines({**GOOD, "vectors": 1}), "unknown field 'vectors'"),
        (lines({"vector": [1, 2]}), "has no text"),
        (lines({**GOOD, "text": " "}), "has no text"),
        (lines({**GOOD, "inputType": "query"}), "has inputType 'query'"),
        (lines({"text": "a"}), "has no vector"),
        (lines({**GOOD, "vector": [[1, 2]]}), "has no vector"),
        (lines({**GOOD, "vector": ["a", 2]}), "can't be read"),
        (lines({**GOOD, "vector": "#"}), "can't be read"),
        (lines({**GOOD, "vector": "AAAA"}), "can't be read"),
        (lines({**GOOD, "vector": [1, 2, 3]}), "of 3 dimensions, the pool's model gives 2"),
        (lines({**GOOD, "vector": [0, 0]}), "zero or not finite"),
        (lines({**GOOD, "vector": [1, float("nan")]}), "zero or not finite"),
        (lines({**GOOD, "vector": [1, 1e39]}), "zero or not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_references_that_cannot_be_used_are_refused_with_their_line(text: str, why: str) -> None:
    with pytest.raises(ValidationFailed, match=why):
        parse(text, 2)


def test_references_that_are_not_there_may_come(tmp_path: Path) -> None:
    with pytest.raises(ReferencesMissing, match="is not there; make it"):
        read(tmp_path / "references", 2)


def test_references_are_utf_8(tmp_path: Path) -> None:
    (tmp_path / "references").write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationFailed, match="are not UTF-8"):
        read(tmp_path / "references", 2)


def references(*degrees: float) -> Any:
    return parse(lines(*({"text": str(one), "vector": turned(one)[0].tolist()} for one in degrees)), 2)


def test_vectors_near_their_references_pass_whatever_their_length() -> None:
    found = compare(references(0, 60, 120), 7 * turned(0, 61, 120), 0.999)
    assert found == Validated(pytest.approx(np.cos(np.radians(1)), abs=1e-6), pytest.approx(0.99995, abs=1e-5), 1.0)


def test_one_vector_that_is_far_refuses_the_model_and_is_named() -> None:
    with pytest.raises(ValidationFailed) as caught:
        compare(references(0, 60, 120), turned(0, 80, 120), 0.999)
    assert str(caught.value) == (
        "1 of 3 texts have a vector with a cosine below 0.999 to their reference (smallest 0.9397, of text 2; mean "
        "0.9799; 100.0% are nearest to their own): compare pooling, prefixes and file with what made the "
        "references, or lower spec.validation.minCosine for a quantized file"
    )


def test_accuracy_is_the_share_of_texts_that_are_nearest_to_their_own_reference() -> None:
    assert compare(references(0, 10, 90, 180), turned(0, 3, 90, 180), 0.9).accuracy == 0.75


def test_equal_texts_are_not_each_other_s_rivals() -> None:
    assert compare(references(5, 5, 90), turned(5, 5, 90), 0.999).accuracy == 1.0


def test_a_vector_without_direction_is_never_near() -> None:
    with pytest.raises(ValidationFailed), np.errstate(invalid="ignore"):
        compare(references(0, 60), turned(0, 60) * np.array([[1], [0]], np.float32), 0.5)
