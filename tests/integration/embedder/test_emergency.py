"""Emergency protection of a real process: what it lets in and computes, by its own metrics; nothing restarts."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from tests.fixtures.embedders import Embedder, Start, eventually, standing_still

_DOCUMENT = "words of a document that is being embedded " * 4
_CALLERS = 64
_HALF_OF_THE_QUEUE = 32_768
_numbers = itertools.count()


def _protect(server: Embedder, seconds: float) -> dict[str, int]:
    """Return the limits that hold from now on."""
    answer = httpx.put(f"{server.url}/v1/emergency", json={"seconds": seconds})
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()["limits"]
    return found


def _figure(server: Embedder, name: str) -> float:
    return server.metric(f"reembed_embedder_{name}")


def _page(texts: int) -> list[str]:
    """Return so many documents, none like another in any page: equal ones would be computed once."""
    return [f"{next(_numbers)} {_DOCUMENT}" for _ in range(texts)]


def _all_at_once(server: Embedder, texts: int, callers: int = _CALLERS) -> tuple[Counter[int], float]:
    """Ask for so many texts from all callers; return how often each status came, and the most tokens seen to wait."""
    with ThreadPoolExecutor(callers) as pool:
        asked = [pool.submit(server.ask, _page(texts)) for _ in range(callers)]
        waiting = [0.0]
        while not all(one.done() for one in asked):
            waiting.append(_figure(server, "queue_tokens"))
        return Counter(one.result().status_code for one in asked), max(waiting)


def test_of_many_live_requests_ten_are_under_way_and_afterwards_all_are_answered(embedder: Start) -> None:
    server = embedder()
    child, texts = server.child(), 12
    limits = _protect(server, 60)
    during, waiting = _all_at_once(server, texts)
    requests, contexts = _figure(server, "requests_under_way_peak"), _figure(server, "contexts_peak")
    lifted = _protect(server, 0)
    after, _ = _all_at_once(server, texts)
    assert set(during) == {200, 429}
    assert during[200] >= requests == limits["requests"] == 10
    assert 1 <= contexts <= limits["contexts"] <= _figure(server, "contexts_peak") <= lifted["contexts"]
    assert 0 < waiting <= limits["queue_tokens"] == _HALF_OF_THE_QUEUE
    assert after == Counter({200: _CALLERS})
    assert (server.child(), _figure(server, "child_restarts_total"), _figure(server, "emergency")) == (child, 0, 0)


def test_half_as_many_tokens_wait(embedder: Start) -> None:
    server = embedder()
    texts = 64
    _protect(server, 60)
    during, waiting = _all_at_once(server, texts, callers=10)
    _protect(server, 0)
    after, normally = _all_at_once(server, texts, callers=10)
    assert (set(during), set(after)) == ({200, 429}, {200})
    assert 0 < waiting <= _HALF_OF_THE_QUEUE < normally


def test_waiting_background_requests_are_turned_away_and_live_ones_finished(embedder: Start) -> None:
    server = embedder()
    with ThreadPoolExecutor(4) as pool:
        with standing_still(server.child()):
            background = [pool.submit(server.ask, _page(64), background=True) for _ in range(3)]
            live = pool.submit(server.ask, _page(32))
            eventually(lambda: _figure(server, "requests_under_way") == 4)
            _protect(server, 30)
            late = server.ask("a", background=True)
        found = [one.result() for one in background]
        assert live.result().status_code == 200
    refused = [answer for answer in (*found, late) if answer.status_code == 429]
    assert {answer.json()["error"]["type"] for answer in refused} == {"busy"}
    assert "emergency protection" in refused[0].json()["error"]["message"]
    assert late.status_code == 429
    assert len(refused) > 1
    eventually(lambda: _figure(server, "queue_tokens") == 0)


def test_a_new_engine_keeps_the_limits_of_the_emergency(embedder: Start) -> None:
    server = embedder()
    limits = _protect(server, 60)
    os.kill(server.child(), signal.SIGKILL)
    eventually(lambda: not server.ready())
    eventually(server.ready)
    _protect(server, 60)
    codes, _ = _all_at_once(server, 4)
    assert set(codes) <= {200, 429}
    assert _figure(server, "contexts_peak") <= limits["contexts"]


def test_a_live_request_above_half_of_the_bound_is_told_to_be_smaller(embedder: Start) -> None:
    server = embedder()
    _protect(server, 60)
    answer = server.ask(["word " * 200] * 200)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["error"]["message"]) == (
        429,
        "1",
        "the request has about 51200 tokens, 32768 are taken now; send fewer texts at a time",
    )


def test_vectors_are_the_same_in_an_emergency_and_it_ends_by_itself(embedder: Start) -> None:
    server = embedder()
    texts = [f"{_DOCUMENT[: 10 * number]} {number}" for number in range(1, 20)]
    before = server.vectors(texts)
    _protect(server, 2)
    during = server.vectors(texts)
    assert np.sum(before * during, axis=1).min() >= 0.999
    eventually(lambda: _figure(server, "emergency") == 0)
    assert _figure(server, "emergencies_total") == 1
    assert server.ask("a", background=True).status_code == 200
