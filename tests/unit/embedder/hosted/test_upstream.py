"""What is taken from an endpoint's answer, and what is not."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest

from reembed.embedder.hosted.upstream import Rejected, Unusable, message, parse, retry_after, without

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def answer(*vectors: Any, **more: Any) -> bytes:
    return orjson.dumps({"data": [{"index": n, "embedding": one} for n, one in enumerate(vectors)], **more})


def test_vectors_come_in_the_order_of_the_texts() -> None:
    body = {"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]}
    assert parse(orjson.dumps(body), 2, 2).values.tolist() == [[1, 2], [3, 4]]


def test_vectors_may_be_base64() -> None:
    text = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    assert parse(answer(text), 1, 2).values.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7}, 7),
        ({"prompt_tokens": 5}, 5),
        ({}, None),
        (None, None),
        ("x", None),
        ({"total_tokens": "7"}, None),
    ],
)
def test_tokens_are_those_that_the_endpoint_counted(usage: Any, tokens: int | None) -> None:
    assert parse(answer([1, 2], usage=usage), 1, 2).tokens == tokens


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "can't be read"),
        (b"[]", "can't be read"),
        (b"{}", "can't be read"),
        (orjson.dumps({"data": None}), "can't be read"),
        (orjson.dumps({"data": [7]}), "can't be read"),
        (answer([1, 2]), "1 vectors for 2 texts"),
        (answer([1, 2], [1, 2], [1, 2]), "can't be read"),
        (orjson.dumps({"data": [{"index": 0, "embedding": [1, 2]}] * 2}), "can't be read"),
        (orjson.dumps({"data": [{"index": -1, "embedding": [1, 2]}] * 2}), "can't be read"),
        (answer([1, 2], [1, 2, 3]), "dimensions, the pool says 2"),
        (answer([1], [1]), "have 1 dimensions, the pool says 2"),
        (answer([1, 2], [[1, 2]]), "dimensions, the pool says 2"),
        (answer([1, 2], ["a", "b"]), "can't be read"),
        (answer([1, 2], None), "zero or not finite|dimensions|can't be read"),
        (answer([1, 2], "###"), "can't be read"),
        (answer([1, 2], [0, 0]), "zero or not finite"),
        (answer([1, 2], base64.b64encode(np.array([1, np.nan], "<f4").tobytes()).decode()), "zero or not finite"),
    ],
)
def test_what_are_no_vectors_of_the_model_is_not_taken(body: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        parse(body, 2, 2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}, NOON) == seconds


@pytest.mark.parametrize(
    ("said", "too_long"),
    [
        ("This model's maximum context length is 8192 tokens, however you requested 9000 tokens", True),
        ("input is too large to process. increase the physical batch size", True),
        ("Input validation error: `inputs` must have less than 512 tokens. Given: 600, exceeds", True),
        ("the input length exceeds the context length", True),
        ("Input validation error: `inputs` must have less than 512 tokens. Given: 600", True),
        ("invalid characters", False),
        ("context deadline exceeded", False),
        ("quota exceeded", False),
    ],
)
def test_a_text_that_is_too_long_is_known_by_what_endpoints_say(said: str, too_long: bool) -> None:
    assert Rejected(said).too_long is too_long


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no  such\\n model"}}', "no such model"),
        (b'{"error": "model not found", "type": "x"}', "model not found"),
        (b'{"message": "overloaded"}', "overloaded"),
        (b'{"detail": [{"msg": "Field required", "input": {"input": ["a text of somebody"]}}]}', "Field required"),
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"[7]", "[7]"),
    ],
)
def test_what_an_endpoint_says_of_an_error_is_found_where_each_puts_it(body: bytes, words: str) -> None:
    assert message(body) == words


@pytest.mark.parametrize("filler", [0, 100, 190, 1000])
def test_no_part_of_a_key_is_shown_wherever_an_endpoint_repeats_it(filler: int) -> None:
    key = "sk-proj-" + "k" * 150
    assert "kkk" not in without("x" * filler + f" {key} is wrong", key, ())


def test_an_endpoint_s_words_are_shown_up_to_where_they_repeat_a_text() -> None:
    said = "cannot embed 'My diagnosis is secret and long'"
    assert without(said, "", ["a", "My diagnosis  is secret and long"]) == "cannot embed '..."
    assert without("cannot embed a", "", ["a"]) == "cannot embed a"
