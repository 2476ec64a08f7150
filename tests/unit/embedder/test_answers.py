"""The body of an answer says what the engine found, in both formats, as any JSON reader reads it."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from reembed.embedder.answers import render
from reembed.embedder.messages import Done

_VECTORS = np.array([[0.1, -1.5e-7], [1.0, 0.0]], "<f4")
_DONE = Done(7, _VECTORS.tobytes(), tokens=(3, 9), cut=(1,))


@pytest.mark.parametrize("as_base64", [True, False])
def test_an_answer_is_what_openai_clients_read(as_base64: bool) -> None:
    answer = json.loads(render(_DONE, 'f"p', base64=as_base64))
    vectors = [item.pop("embedding") for item in answer["data"]]
    if as_base64:
        vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in vectors]
    assert np.array_equal(np.array(vectors, "<f4"), _VECTORS)
    assert answer == {
        "object": "list",
        "model": 'f"p',
        "fingerprint": 'f"p',
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "truncated": [1],
    }
