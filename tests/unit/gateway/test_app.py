"""What callers, the operator and kubelet get from a gateway over HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from reembed.client import EmbedderBusy, EmbedderUnavailable, TextInvalid, TextTooLong
from reembed.core.acceptance import Accepted
from reembed.core.buckets import choose
from reembed.core.chunking import Span
from reembed.core.model import PanelRef, Routing
from reembed.gateway.app import Gateway, Settings
from reembed.stores.protocol import FilterRefused, StoreError
from tests.fixtures.arms import NEW, OLD, FakeEmbedder, FakeStore, right_answer, vector_of
from tests.fixtures.exposition import parse
from tests.fixtures.remembering import FakeMemory
from tests.fixtures.routing import FakeSource

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
ALL_ON_NEW = replace(CANARY, weight=100)
SETTINGS = Settings("rag", "docs", "gateway-a")

pytestmark = pytest.mark.looptime


class World:
    """A gateway that runs, and everything around it."""

    def __init__(self, routing: Routing = CANARY, settings: Settings = SETTINGS) -> None:
        self.source = FakeSource(routing)
        self.clients = {OLD: FakeEmbedder(OLD.fingerprint), NEW: FakeEmbedder(NEW.fingerprint)}
        self.store = FakeStore([OLD, NEW])
        self.gateway = Gateway(settings, self.source, self.clients.__getitem__, self.store)
        self.http: httpx.AsyncClient

    async def search(self, query: object = "keys", user: str | None = None, **fields: object) -> httpx.Response:
        headers = {} if user is None else {"X-Reembed-User": user}
        return await self.http.post("/v1/search", json={"query": query, "k": 1, **fields}, headers=headers)

    async def embed(self, text: object, **fields: object) -> httpx.Response:
        return await self.http.post("/v1/embeddings", json={"input": text, **fields})

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Return the metrics that have at most one label."""
        text = (await self.http.get("/metrics")).text
        return {(name, *labels.values()): value for name, labels, value in parse(text) if len(labels) < 2}


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    app = world.gateway.app()
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://gw") as client:
        world.http = client
        await asyncio.sleep(1)
        yield world


def answer(arm: str, query: str = "keys", *, fell_back: bool = False, k: int = 1) -> dict[str, Any]:
    of = {"serving": OLD, "candidate": NEW}[arm]
    return {
        "results": [{"id": right_answer(of, query), "score": 1.0 - rank / 100} for rank in range(k)],
        "pool": of.pool,
        "collection": of.collection,
        "fingerprint": of.fingerprint,
        "arm": arm,
        "fellBack": fell_back,
        "epoch": 7,
    }


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    return response.status_code, response.json()["error"]["type"], response.headers.get("retry-after")


async def test_an_answer_says_where_it_comes_from() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        assert (await world.search(k=2)).json() == answer("candidate", k=2)


async def test_of_a_document_in_parts_an_answer_says_which_characters_were_nearest() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        world.store.span = Span(1204, 1710)
        expected = answer("candidate")
        assert (await world.search(k=1)).json() == {
            **expected,
            "results": [{**expected["results"][0], "start": 1204, "end": 1710}],
        }


async def test_of_a_group_of_rows_an_answer_says_which_row_was_nearest() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        world.store.row = "1204"
        expected = answer("candidate")
        assert (await world.search(k=1)).json() == {
            **expected,
            "results": [{**expected["results"][0], "row": "1204"}],
        }


async def test_a_user_stays_on_one_side_whatever_is_asked() -> None:
    async with running(World()) as world:
        for user in map(str, range(20)):
            arm = choose(CANARY, user)
            assert arm is not None
            assert {(await world.search(f"query {n}", user)).json()["pool"] for n in range(3)} == {arm.pool}


async def test_without_a_user_the_query_decides() -> None:
    async with running(World()) as world:
        for query in (f"query {number}" for number in range(20)):
            arm = choose(CANARY, query)
            assert arm is not None
            assert (await world.search(query)).json()["pool"] == arm.pool


async def test_what_serves_answers_for_a_dead_candidate() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        world.clients[NEW].error = EmbedderUnavailable("connection refused")
        assert (await world.search()).json() == answer("serving", fell_back=True)


async def test_no_answer_at_all_is_503_with_the_cause() -> None:
    async with running(World()) as world:
        for client in world.clients.values():
            client.error = EmbedderUnavailable("the embedder does not answer")
        response = await world.search()
        assert error(response) == (503, "unavailable", "1")
        assert "what serves said: the embedder does not answer" in response.json()["error"]["message"]


async def test_a_busy_embedder_says_when_to_come_back() -> None:
    async with running(World()) as world:
        for client in world.clients.values():
            client.error = EmbedderBusy(2.5, "the queue is full")
        assert error(await world.search()) == (503, "unavailable", "3")


@pytest.mark.parametrize(
    ("refusal", "code", "kind"),
    [(TextTooLong(0, "300 tokens"), 413, "text_too_long"), (TextInvalid(0, "no prefix"), 422, "invalid_text")],
)
async def test_a_text_that_the_models_refuse_is_the_callers(refusal: Exception, code: int, kind: str) -> None:
    async with running(World()) as world:
        for client in world.clients.values():
            client.error = refusal
        assert error(await world.search()) == (code, kind, None)


async def test_a_request_that_is_not_understood_is_refused() -> None:
    async with running(World()) as world:
        assert error(await world.search("")) == (422, "empty_text", None)
        assert error(await world.search("x" * 70_000)) == (413, "body_too_large", None)


async def test_a_body_of_unknown_length_is_not_read_beyond_the_limit() -> None:
    async with running(World()) as world:

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1024

        assert error(await world.http.post("/v1/search", content=endless())) == (413, "body_too_large", None)


async def test_more_requests_than_the_limit_are_told_to_come_back() -> None:
    async with running(World(settings=replace(SETTINGS, concurrency=2))) as world:
        world.clients[OLD].seconds = world.clients[NEW].seconds = 1
        responses = await asyncio.gather(*(world.search(f"query {number}") for number in range(3)))
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert error(responses[2]) == (429, "busy", "1")
        assert (await world.search()).status_code == 200


async def test_callers_that_send_slowly_hold_nobodys_place_and_are_given_up() -> None:
    async def dribbling() -> AsyncIterator[bytes]:
        yield b'{"query": '
        await asyncio.sleep(3600)

    async with running(World(settings=replace(SETTINGS, concurrency=2))) as world:
        slow = [asyncio.create_task(world.http.post("/v1/search", content=dribbling())) for _ in range(5)]
        await asyncio.sleep(1)
        assert (await world.search()).status_code == 200
        given_up = await asyncio.gather(*slow)
        assert {error(response) for response in given_up} == {(408, "late", None)}
        assert {response.headers["connection"] for response in given_up} == {"close"}


async def test_large_bodies_have_a_quarter_of_the_places() -> None:
    async with running(World(settings=replace(SETTINGS, concurrency=4))) as world:
        world.clients[OLD].seconds = world.clients[NEW].seconds = 1
        large = [world.embed("x" * 70_000) for _ in range(2)]
        responses = await asyncio.gather(*large, world.embed("keys"), world.search())
        assert [response.status_code for response in responses] == [200, 429, 200, 200]
        assert error(responses[1]) == (429, "busy", "1")
        assert (await world.embed("x" * 70_000)).status_code == 200


async def test_an_index_without_vectors_is_healthy_and_says_that_it_cannot_answer() -> None:
    async with running(World(Routing(epoch=1))) as world:
        assert (await world.http.get("/ready")).status_code == 200
        response = await world.search()
        assert error(response) == (503, "no_vectors", "30")
        assert "its first migration has to finish" in response.json()["error"]["message"]


async def test_a_gateway_that_never_read_its_index_is_not_ready() -> None:
    world = World()
    world.source.reachable = False
    async with running(world):
        assert error(await world.http.get("/ready")) == (503, "not_ready", None)
        assert error(await world.search()) == (503, "not_ready", "1")
        assert (await world.http.get("/health")).status_code == 200


async def test_a_gateway_that_ends_is_not_ready_and_still_answers() -> None:
    async with running(World()) as world:
        assert (await world.http.get("/ready")).status_code == 200
        world.gateway.drain()
        assert error(await world.http.get("/ready")) == (503, "draining", None)
        response = await world.search()
        assert (response.status_code, response.headers["connection"]) == (200, "close")


async def test_a_gateway_whose_follower_broke_wants_to_be_restarted() -> None:
    world = World()
    world.source.defective = True
    async with running(world):
        assert error(await world.http.get("/health")) == (503, "broken", None)


async def test_the_report_is_of_what_is_served_now() -> None:
    async with running(World()) as world:
        arms = {
            name: {"pool": arm.pool, "collection": arm.collection, "fingerprint": arm.fingerprint}
            for name, arm in {"serving": OLD, "candidate": NEW}.items()
        }
        report = {"pod": "gateway-a", "epoch": 7, "weight": 50, **arms}
        assert (await world.http.get("/v1/index")).json() == report
        world.source.reachable = False
        await asyncio.sleep(30)
        assert (await world.http.get("/v1/index")).json() == {**report, "weight": 0}


async def test_the_report_says_what_is_not_followed_for_want_of_a_certificate() -> None:
    world = World()
    world.source.panel = PanelRef("reembed-panel", "panel", "a" * 64)
    world.source.tell(CANARY)
    world.store = FakeMemory(Accepted(replace(CANARY, epoch=6, weight=10)))
    world.store.filled_with = {arm.collection: arm.fingerprint for arm in (OLD, NEW)}
    world.gateway = Gateway(SETTINGS, world.source, world.clients.__getitem__, world.store)
    async with running(world):
        report = (await world.http.get("/v1/index")).json()
        assert (report["epoch"], report["weight"]) == (6, 10)
        assert report["refused"] == {
            "epoch": 7,
            "reason": "CertificateMissing",
            "message": "epoch 7 gives more to pool 'new', and nobody has certified it",
        }
        metrics = await world.metrics()
        assert metrics["reembed_gateway_certificates_refused_total", "CertificateMissing"] == 1.0
        assert (await world.search()).json()["arm"] == "serving"


async def test_embeddings_have_the_form_of_openai_and_name_their_collection() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        vector = vector_of(NEW.fingerprint, "keys")
        response = (await world.embed("keys", encoding_format="base64")).json()
        assert response == {
            "object": "list",
            "model": "fp-new",
            "data": [{"object": "embedding", "index": 0, "embedding": base64.b64encode(vector).decode()}],
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
            "truncated": [],
            **{name: value for name, value in answer("candidate").items() if name != "results"},
        }


async def test_embeddings_are_numbers_unless_asked_otherwise() -> None:
    async with running(World()) as world:
        (item,) = (await world.embed("keys")).json()["data"]
        assert all(isinstance(number, float) for number in item["embedding"])


async def test_all_texts_of_a_request_are_embedded_by_one_model() -> None:
    async with running(World()) as world:
        for number in range(20):
            response = (await world.embed([f"{number} one", f"{number} two"], encoding_format="base64")).json()
            vectors = [base64.b64decode(item["embedding"]) for item in response["data"]]
            assert vectors == [vector_of(response["fingerprint"], f"{number} {word}") for word in ("one", "two")]


async def test_other_dimensions_than_the_models_are_refused() -> None:
    async with running(World()) as world:
        assert error(await world.embed("keys", dimensions=1536)) == (422, "invalid_field", None)


async def test_a_page_of_texts_says_nothing_of_a_querys_latency() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        await world.embed(["one", "two"])
        await world.embed("one")
        text = (await world.http.get("/metrics")).text
        assert 'reembed_gateway_arm_requests_total{collection="c_new",outcome="ok",probe="false"} 2.0' in text
        assert 'reembed_gateway_arm_seconds_count{collection="c_new",probe="false"} 1.0' in text


async def test_the_metrics_say_what_callers_got_and_what_is_served() -> None:
    async with running(World()) as world:
        world.source.tell(ALL_ON_NEW)
        await world.search()
        world.clients[NEW].error = EmbedderUnavailable("connection refused")
        await world.search()
        await world.search("")
        found = await world.metrics()
        ours = {name: value for name, value in found.items() if name[0].startswith("reembed_")}
        assert {name: value for name, value in ours.items() if not name[0].endswith("_created")} == {
            ("reembed_gateway_answers_total", "answered"): 1.0,
            ("reembed_gateway_answers_total", "fell_back"): 1.0,
            ("reembed_gateway_refused_total", "422"): 1.0,
            ("reembed_gateway_weight_percent",): 100.0,
            ("reembed_gateway_epoch",): 7.0,
        }


async def test_another_path_names_those_that_exist() -> None:
    async with running(World()) as world:
        response = await world.http.get("/v1/search")
        assert error(response) == (405, "no_such_endpoint", None)
        assert "POST /v1/search" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(FilterRefused('filter names "x"'), (422, "invalid_filter", 0), id="a filter that is refused"),
        pytest.param(StoreError("no such function"), (503, "unavailable", 2), id="anything else"),
    ],
)
async def test_a_filter_that_is_refused_counts_against_no_arm(error: Exception, expected: tuple[int, str, int]) -> None:
    async with running(World(ALL_ON_NEW)) as world:
        world.store.errors = dict.fromkeys((OLD.collection, NEW.collection), error)
        answered = await world.search(filter={"x": 1})
        text = (await world.http.get("/metrics")).text
    asked = [(labels, value) for name, labels, value in parse(text) if name == "reembed_gateway_arm_requests_total"]
    errors = sum(value for labels, value in asked if (labels["outcome"], labels["probe"]) == ("error", "false"))
    assert (answered.status_code, answered.json()["error"]["type"], errors) == expected


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(["lang"], id="a list"),
        pytest.param({"lang": "\ud800"}, id="half of a surrogate pair"),
        pytest.param({"lang": {"eq": "\0"}}, id="a zero character"),
        pytest.param({"lang": {"eq": {"eq": 1}}}, id="deeper than it may be"),
        pytest.param({"lang": [["en"]]}, id="a list in a list"),
        pytest.param({"lang": list(range(1001))}, id="too many values"),
    ],
)
async def test_a_filter_that_no_store_could_read_is_refused_before_any_arm_is_asked(given: object) -> None:
    async with running(World()) as world:
        body = json.dumps({"query": "keys", "filter": given}).encode()
        answered = await world.http.post("/v1/search", content=body)
    assert (answered.status_code, answered.json()["error"]["type"]) == (422, "invalid_field")


@pytest.mark.parametrize(
    "body", [b'{"query": "keys", "filter": {"x": NaN}}', b'{"query": "keys", "filter": {"x": 1e999}}']
)
async def test_numbers_without_end_are_refused_in_a_filter(body: bytes) -> None:
    async with running(World()) as world:
        answered = await world.http.post("/v1/search", content=body)
    assert answered.status_code == 422


async def test_a_body_that_is_nested_too_deep_is_no_json() -> None:
    async with running(World()) as world:
        answered = await world.http.post("/v1/search", content=b"[" * 60_000)
    assert (answered.status_code, answered.json()["error"]["type"]) == (422, "not_json")
