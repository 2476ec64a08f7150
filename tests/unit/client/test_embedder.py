"""Vectors come from the expected model or not at all, and every failure says what to do about it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from reembed.client import (
    Embedded,
    EmbedderBusy,
    EmbedderClient,
    EmbedderError,
    EmbedderUnavailable,
    FingerprintMismatch,
    TextInvalid,
    TextTooLong,
)
from reembed.core.model import InputType
from tests.fixtures import fake_embedder
from tests.fixtures.arms import vector_of
from tests.fixtures.fake_embedder import Behaviour, EmbedderServer

Expected = tuple[type[EmbedderError], str, dict[str, object]]

FINGERPRINT = "fp-0123456789abcdef"


@pytest.fixture
async def server() -> AsyncIterator[EmbedderServer]:
    async with fake_embedder.listening(FINGERPRINT) as server:
        yield server


@pytest.fixture
async def client(server: EmbedderServer) -> AsyncIterator[EmbedderClient]:
    client = EmbedderClient(server.url, fingerprint=FINGERPRINT, timeout=5)
    yield client
    await client.close()


async def embed(client: EmbedderClient, *texts: str, background: bool = False) -> Embedded:
    return await client.embed(texts, InputType.QUERY, background=background)


async def test_vectors_come_in_the_order_of_the_texts(client: EmbedderClient) -> None:
    vectors = (vector_of(FINGERPRINT, "one"), vector_of(FINGERPRINT, "two"))
    assert await embed(client, "one", "two") == Embedded(vectors, FINGERPRINT, tokens=3)


async def test_vectors_are_sorted_by_their_index(client: EmbedderClient, server: EmbedderServer) -> None:
    answer = server.answer(["one", "two"])
    server.behaviour = fake_embedder.saying({**answer, "data": answer["data"][::-1], "truncated": [1]})
    found = await embed(client, "one", "two")
    assert (found.vectors[0], found.truncated) == (vector_of(FINGERPRINT, "one"), (1,))


async def test_the_request_says_what_kind_of_text_it_is(client: EmbedderClient, server: EmbedderServer) -> None:
    await client.embed(["one"], InputType.DOCUMENT)
    body, headers = server.asked[0]
    assert body == {"input": ["one"], "input_type": "document", "encoding_format": "base64"}
    assert "X-Reembed-Priority" not in headers


async def test_background_requests_may_be_shed_first(client: EmbedderClient, server: EmbedderServer) -> None:
    await embed(client, "one", background=True)
    assert server.asked[0][1]["X-Reembed-Priority"] == "background"


async def test_ends_of_tokens_are_taken_only_if_they_are_of_all_texts(
    client: EmbedderClient, server: EmbedderServer
) -> None:
    server.behaviour = fake_embedder.saying({"tokens": [1, 2], "ends": [[3], [1, 5]]})
    assert await client.boundaries(["one", "a two"]) == [[3], [1, 5]]
    for ends in ([[3]], [[3], ["5"]], {"0": [3]}, None):
        server.behaviour = fake_embedder.saying({"ends": ends})
        with pytest.raises(EmbedderUnavailable, match="no ends of the tokens of 2 texts"):
            await client.boundaries(["one", "a two"])


async def test_of_a_collection_in_parts_the_model_alone_is_asked_for(server: EmbedderServer) -> None:
    client = EmbedderClient(server.url, fingerprint=f"{FINGERPRINT}+128-16-Line", timeout=5)
    assert (await embed(client, "one")).fingerprint == FINGERPRINT
    await client.close()


async def test_no_texts_need_no_request(client: EmbedderClient, server: EmbedderServer) -> None:
    assert (await embed(client), server.asked) == (Embedded((), FINGERPRINT), [])


async def test_more_texts_than_an_embedder_takes_are_the_callers_mistake(client: EmbedderClient) -> None:
    with pytest.raises(ValueError, match="257 texts in one request, above the limit of 256"):
        await embed(client, *["text"] * 257)


async def test_vectors_of_another_model_are_not_used(client: EmbedderClient, server: EmbedderServer) -> None:
    server.fingerprint = "fp-other"
    with pytest.raises(FingerprintMismatch, match="'fp-other' where 'fp-0123456789abcdef' was expected"):
        await embed(client, "one")


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        pytest.param(
            fake_embedder.refusing(413, {"type": "text_too_long", "message": "text 1 has 300 tokens", "index": 1}),
            (TextTooLong, "text 1 has 300 tokens", {"index": 1}),
            id="a text is too long",
        ),
        pytest.param(
            fake_embedder.saying({"error": {"type": "text_too_long", "message": "300 tokens"}, "index": 1}, 413),
            (TextTooLong, "300 tokens", {"index": 1}),
            id="the index stands beside the error",
        ),
        pytest.param(
            fake_embedder.refusing(422, {"type": "invalid", "message": "empty text"}),
            (TextInvalid, "empty text", {"index": None}),
            id="one of several texts is refused, unsaid which",
        ),
        pytest.param(
            fake_embedder.refusing(429, {"type": "busy", "message": "queue full"}, {"Retry-After": "3"}),
            (EmbedderBusy, "queue full", {"retry_after": 3.0}),
            id="the queue is full",
        ),
        pytest.param(
            fake_embedder.refusing(429, {"message": "queue full"}, {"Retry-After": "Fri, 01 Jan 2027 00:00:00 GMT"}),
            (EmbedderBusy, "queue full", {"retry_after": 1.0}),
            id="the queue is full until a date",
        ),
        pytest.param(
            fake_embedder.refusing(503, {"type": "loading", "message": "the model is being loaded"}),
            (EmbedderUnavailable, "answered 503: the model is being loaded", {}),
            id="not ready",
        ),
        pytest.param(
            fake_embedder.saying("<html>Bad gateway</html>", 502),
            (EmbedderUnavailable, "answered 502", {}),
            id="a proxy's page",
        ),
        pytest.param(
            fake_embedder.saying("vectors!"), (EmbedderUnavailable, "can't be used", {}), id="an answer without JSON"
        ),
        pytest.param(
            fake_embedder.saying({"fingerprint": FINGERPRINT, "data": []}),
            (EmbedderUnavailable, "not 2 vectors of one dimension", {}),
            id="vectors are missing",
        ),
        pytest.param(
            fake_embedder.saying({"fingerprint": FINGERPRINT, "data": [{"index": 5, "embedding": "AAAA"}]}),
            (EmbedderUnavailable, "IndexError", {}),
            id="a vector of a text that was not asked",
        ),
        pytest.param(
            fake_embedder.saying(
                {
                    "fingerprint": FINGERPRINT,
                    "data": [{"index": 0, "embedding": "AAAAAA=="}, {"index": 1, "embedding": "AAAAAAAAAAA="}],
                }
            ),
            (EmbedderUnavailable, "not 2 vectors of one dimension", {}),
            id="vectors of two dimensions",
        ),
        pytest.param(
            fake_embedder.disconnecting, (EmbedderUnavailable, "can't be reached", {}), id="a pod that crashes"
        ),
    ],
)
async def test_a_failure_says_what_to_do(
    client: EmbedderClient, server: EmbedderServer, behaviour: Behaviour, expected: Expected
) -> None:
    kind, message, details = expected
    server.behaviour = behaviour
    with pytest.raises(kind, match=message) as raised:
        await embed(client, "one", "two")
    assert {name: getattr(raised.value, name) for name in details} == details


async def test_a_refused_text_is_the_first_where_there_is_only_one(
    client: EmbedderClient, server: EmbedderServer
) -> None:
    server.behaviour = fake_embedder.refusing(413, {"message": "300 tokens"})
    with pytest.raises(TextTooLong) as raised:
        await embed(client, "one")
    assert raised.value.index == 0


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = EmbedderClient(f"http://127.0.0.1:{unused.getsockname()[1]}", fingerprint=FINGERPRINT, timeout=5)
        with pytest.raises(EmbedderUnavailable, match="can't be reached"):
            await embed(client, "one")
        await client.close()


async def test_an_embedder_that_hangs_is_given_up_in_time(server: EmbedderServer) -> None:
    server.behaviour = fake_embedder.hanging
    client = EmbedderClient(server.url, fingerprint=FINGERPRINT, timeout=0.05)
    with pytest.raises(EmbedderUnavailable, match=r"did not answer within 0\.05 s"):
        await embed(client, "one")
    await client.close()


async def test_a_pod_that_goes_away_costs_no_query(client: EmbedderClient, server: EmbedderServer) -> None:
    server.behaviour = fake_embedder.disconnecting_once()
    assert (await embed(client, "one")).vectors == (vector_of(FINGERPRINT, "one"),)


async def test_a_pod_that_goes_away_with_several_idle_connections_costs_no_query(
    client: EmbedderClient, server: EmbedderServer
) -> None:
    await asyncio.gather(*(embed(client, "one") for _ in range(3)))
    server.behaviour = fake_embedder.disconnecting_from(frozenset(server.ports))
    assert (await embed(client, "one")).vectors == (vector_of(FINGERPRINT, "one"),)


async def test_a_cancelled_request_leaves_the_embedder(client: EmbedderClient, server: EmbedderServer) -> None:
    server.behaviour = fake_embedder.hanging
    asking = asyncio.create_task(embed(client, "one"))
    await server.entered.wait()
    asking.cancel()
    await asyncio.wait_for(server.dropped.wait(), 5)


async def test_connections_are_kept_alive_and_renewed_once_in_a_while(
    client: EmbedderClient, server: EmbedderServer
) -> None:
    for _ in range(130):
        await embed(client, "one")
    assert len(server.ports) == 3


async def test_no_error_quotes_a_text(client: EmbedderClient, server: EmbedderServer) -> None:
    server.behaviour = fake_embedder.saying("nonsense")
    with pytest.raises(EmbedderError) as raised:
        await embed(client, "a secret question")
    assert "secret" not in str(raised.value)


async def test_a_node_that_swallows_packets_does_not_cost_a_query_its_time() -> None:
    # With its queue of connections full, the kernel drops what comes, as a dead node does.
    with socket.socket() as deaf, contextlib.ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        client = EmbedderClient(f"http://127.0.0.1:{deaf.getsockname()[1]}", fingerprint=FINGERPRINT, timeout=60)
        try:
            with pytest.raises(EmbedderUnavailable, match="took no connection within 2 s, twice"):
                await asyncio.wait_for(embed(client, "one"), 20)
        finally:
            await client.close()
