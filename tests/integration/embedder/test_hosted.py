"""A pool of a hosted model: a real process before real endpoints, with faults between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hack import llama_server
from tests.cluster import processes
from tests.fixtures.embedders import Embedder, Start, eventually, start
from tests.fixtures.faulty_proxy import (
    FaultyProxy,
    before,
    choking_on,
    cutting,
    hanging_up,
    losing_one,
    never_ending,
    saying,
    shuffling,
    turned,
)
from tests.fixtures.models import SMALL, ModelFile

KEY = "sk-correct-horse-battery"
TEXTS = [f"{word} of number {number}" for number in range(30) for word in ("the weather", "a history", "def f()")]


@pytest.fixture(scope="module")
def own(models: dict[str, ModelFile], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    """An embedder of ours, which speaks the same API."""
    started = start(models[SMALL], tmp_path_factory.mktemp("endpoint"))
    yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture
def proxy(own: Embedder) -> Iterator[FaultyProxy]:
    with before(f"{own.url}/v1", KEY) as found:
        yield found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def hosted(url: str, key: Path | None = None, **changes: str) -> dict[str, str]:
    """Return what the operator tells pods of an external pool."""
    told = {"MODEL_URI": url, "HOSTED_MODEL": "mini", "MAX_CHARACTERS": "2000", **changes}
    return told if key is None else {**told, "KEY_FILE": str(key)}


def same(found: Embedder, expected: Embedder, texts: Sequence[str]) -> bool:
    """Return whether both give the same vectors."""
    one, other = found.vectors(texts), expected.vectors(texts)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return bool(((one * other).sum(axis=1) / lengths).min() > 0.999)


def test_vectors_are_those_of_the_endpoint_whatever_fails_on_the_way(
    own: Embedder, proxy: FaultyProxy, key: Path, embedder: Start
) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.faults.extend(
        [
            saying(429, Retry_After="1"),
            saying(500),
            hanging_up,
            shuffling,
            cutting,
            saying(502, b"<html>bad gateway</html>"),
            shuffling,
            losing_one,
            saying(200, b"<html>"),
            saying(503, Retry_After="1"),
        ]
    )
    answers = [pool.ask(TEXTS, background=True) for _ in range(6)]
    assert {one.status_code for one in answers} <= {200, 429, 503}
    assert all("Retry-After" in one.headers for one in answers if one.status_code != 200)
    eventually(lambda: pool.ask(["a"]).status_code == 200)
    assert same(pool, own, TEXTS)
    assert not proxy.faults


def test_queries_and_documents_get_the_pool_s_prefixes(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key, QUERY_PREFIX="query: ", DOCUMENT_PREFIX="passage: "))
    proxy.asked.clear()
    pool.ask(["one"], input_type="query")
    pool.ask(["two"], input_type="document")
    assert proxy.asked == [
        {"model": "mini", "input": ["query: one"], "encoding_format": "float"},
        {"model": "mini", "input": ["passage: two"], "encoding_format": "float"},
    ]


def test_a_new_key_is_used_without_a_restart(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.key = "sk-new"
    assert pool.ask(["a"]).status_code == 503
    key.write_text("sk-new")
    eventually(lambda: pool.ask(["b"]).status_code == 200)


def test_a_key_is_never_told(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.key = "sk-other"
    told = pool.ask(["a"]).text + pool.log.read_text() + pool.get("/metrics").text
    assert "Incorrect API key provided: ***" in told
    assert KEY not in told


def test_a_key_that_is_refused_ends_the_process_which_says_so(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    key.write_text("sk-wrong")
    status, words = embedder(wait=False, **hosted(proxy.url, key)).ended()
    assert (status, words["reason"]) == (3, "EndpointRefused")
    assert (
        "answered 401: Incorrect API key provided: ***; look at external.url, model and secretRef" in words["message"]
    )


@pytest.mark.parametrize("filler", [0, 120, 500])
def test_no_part_of_a_key_is_told_though_the_endpoint_repeats_it(
    proxy: FaultyProxy, key: Path, embedder: Start, filler: int
) -> None:
    proxy.key = "sk-proj-" + "k" * 150
    key.write_text(proxy.key)
    pool = embedder(**hosted(proxy.url, key))
    proxy.always = saying(401, {"error": {"message": "x" * filler + f" {proxy.key} is wrong"}})
    told = pool.ask(["a"]).text + pool.log.read_text() + pool.get("/v1/hosted").text
    assert "answered 401" in told
    assert "kkk" not in told


def test_no_text_is_told_though_the_endpoint_repeats_it(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    secret = "the diagnosis of Mrs Smith"
    for status in (500, 502, 422):
        proxy.always = saying(status, {"detail": [{"msg": "it fails", "input": {"input": [secret]}}]})
        assert secret not in pool.ask([secret]).text + pool.log.read_text() + pool.get("/v1/hosted").text


def test_a_missing_key_ends_the_process_which_says_so(proxy: FaultyProxy, tmp_path: Path, embedder: Start) -> None:
    status, words = embedder(wait=False, **hosted(proxy.url, tmp_path / "missing")).ended()
    assert (status, words["reason"]) == (3, "EndpointRefused")
    assert "the key of secretRef can't be read (FileNotFoundError)" in words["message"]


def test_a_key_that_is_away_for_a_moment_is_the_last_one(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    """A Secret that is deleted and made again, as some tools replace one."""
    pool = embedder(**hosted(proxy.url, key))
    key.unlink()
    assert pool.ask(["a"]).status_code == 200


def test_a_document_for_which_the_model_gives_nan_is_refused_and_its_neighbours_are_not(
    proxy: FaultyProxy, key: Path, embedder: Start
) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.always = choking_on("poison")
    answer = pool.ask(["short", "poison", "short too"], background=True)
    assert (answer.status_code, answer.json()["error"]["index"]) == (422, 1)
    assert pool.ask(["short", "short too"], background=True).status_code == 200


def test_an_answer_that_does_not_end_is_not_read_to_its_end(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.always = never_ending
    answer = pool.ask(["a"])
    assert (answer.status_code, "is larger than 1 MiB" in answer.text) == (503, True)


def test_a_host_that_is_no_name_is_told_as_one_that_cannot_be_reached(embedder: Start) -> None:
    pool = embedder(wait=False, **hosted("http://api..example/v1"))
    eventually(lambda: "can't be reached" in pool.log.read_text())
    assert pool.process.poll() is None


def test_vectors_of_another_length_end_the_process_for_good(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    status, words = embedder(wait=False, **hosted(proxy.url, key, DIMENSIONS="512")).ended()
    assert status == 2
    assert "vectors have 384 dimensions, the pool says 512; correct external.dimensions" in words["message"]


def test_an_endpoint_that_is_not_there_yet_is_waited_for(own: Embedder, embedder: Start) -> None:
    port = processes.free_port()
    pool = embedder(wait=False, **hosted(f"http://127.0.0.1:{port}/v1"))
    eventually(lambda: "can't be reached" in pool.log.read_text())
    assert not pool.ready()
    assert pool.process.poll() is None


def test_what_an_endpoint_does_is_seen_in_the_metrics(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    proxy.faults.extend([saying(429, Retry_After="0"), saying(500)])
    pool.ask(["a document"], background=True)
    name = "reembed_embedder_endpoint"
    found = {what: pool.metric(f"{name}_{what}_total") for what in ("refusals", "failures", "checks")}
    assert found == {"refusals": 1.0, "failures": 1.0, "checks": 1.0}
    assert pool.metric(f"{name}_background_tokens_total") > 2
    assert pool.metric(f"{name}_requests_per_second") >= 1
    assert pool.metric(f"{name}_probe_cosine") > 0.9999
    assert pool.metric(f'{name}_breaker{{state="closed"}}') == 1


def test_a_redirect_is_not_followed(own: Embedder, proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    """It would carry texts and the key to where nobody sent them."""
    pool = embedder(**hosted(proxy.url, key))
    proxy.always = saying(307, Location=f"{own.url}/v1/embeddings")
    refused = pool.ask(["a"])
    assert (refused.status_code, f"a redirect to '{own.url}/v1/embeddings'" in refused.text) == (503, True)


def test_a_budget_is_kept_to_the_token_and_queries_go_on(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key, BUDGETED="true"))
    refused = pool.ask(["a document"], background=True)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "budget_spent")
    assert pool.ask(["a query"]).status_code == 200
    grant(pool, tokens=100)
    answers = [pool.ask([f"document number {number}"], background=True).status_code for number in range(60)]
    said = pool.get("/v1/hosted").json()
    assert answers == sorted(answers)
    assert 80 < said["spentTokens"] <= 100
    assert said["shortTokens"] > 0


def test_a_model_that_changed_is_seen_in_the_probes_and_embeds_no_documents(
    own: Embedder, proxy: FaultyProxy, key: Path, embedder: Start
) -> None:
    first = embedder(**hosted(proxy.url, key)).get("/v1/hosted").json()
    again = embedder(**hosted(proxy.url, key)).get("/v1/hosted").json()
    proxy.always = turned
    pool = embedder(**hosted(proxy.url, key))
    other = pool.get("/v1/hosted").json()
    assert again["check"] >= first["check"] > 1_700_000_000
    assert {**again, "check": first["check"]} == first
    assert {**first, "check": 0, "probes": ""} == {
        "spentTokens": 0,
        "check": 0,
        "probes": "",
        "shortTokens": 0,
        "error": "",
    }
    assert other["probes"] != first["probes"]
    grant(pool, tokens=None, changed=True)
    assert (pool.ask(["a"]).status_code, pool.ask(["a"], background=True).status_code) == (200, 503)


def test_a_grant_that_is_none_is_refused(proxy: FaultyProxy, key: Path, embedder: Start) -> None:
    pool = embedder(**hosted(proxy.url, key))
    wrong: list[Any] = [{"tokens": -1, "changed": False}, {"tokens": True, "changed": False}, {"tokens": 1}, []]
    wrong += [{"tokens": 1, "changed": 1}, {"tokens": 1.5, "changed": False}]
    assert [httpx.put(f"{pool.url}/v1/hosted", json=body).status_code for body in wrong] == [422] * len(wrong)


def test_an_embedder_of_a_file_has_nothing_to_grant(own: Embedder) -> None:
    assert own.get("/v1/hosted").status_code == 404
    assert httpx.put(f"{own.url}/v1/hosted", json={"tokens": 1, "changed": False}).status_code == 404


def grant(pool: Embedder, *, tokens: int | None, changed: bool = False) -> None:
    answer = httpx.put(f"{pool.url}/v1/hosted", json={"tokens": tokens, "changed": changed})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def server(models: dict[str, ModelFile]) -> Iterator[str]:
    """A real llama-server of the small model."""
    if not llama_server.built():
        pytest.skip("llama-server is not built: make llama-server takes a quarter of an hour")
    port = processes.free_port()
    words = ["--embeddings", "--pooling", "mean", "-np", "2", "-c", "1024", "-b", "512", "-ub", "512", "--log-disable"]
    command = [llama_server.program(), "-m", models[SMALL].path, *words, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        eventually(lambda: _healthy(port), process=process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_llama_server_s_vectors_are_those_of_an_embedder_with_the_same_file(
    server: str, own: Embedder, embedder: Start
) -> None:
    assert same(embedder(**hosted(server)), own, TEXTS)


def test_a_text_that_llama_server_finds_too_long_is_refused_and_its_neighbours_are_not(
    server: str, embedder: Start
) -> None:
    pool = embedder(**hosted(server, MAX_CHARACTERS="8000"))
    answer = pool.ask(["short", "word " * 1500, "short too"], background=True)
    assert (answer.status_code, answer.json()["error"]["index"]) == (413, 1)
    assert pool.ask(["short", "short too"], background=True).status_code == 200
