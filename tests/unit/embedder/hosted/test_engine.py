"""How an endpoint is asked: who goes first, what is tried again, who is blamed. The endpoint is a double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

import numpy as np
import pytest

from reembed.core.emergency_limits import conservative
from reembed.core.model import Hosted, Model, Pooling, Truncate
from reembed.embedder.failures import EngineBusy, EngineUnavailable, TextRefused, TextTooLong
from reembed.embedder.hosted.engine import HostedEngine
from reembed.embedder.hosted.failures import BudgetSpent, EndpointFailed, Throttled
from reembed.embedder.hosted.terms import Patience, Terms
from reembed.embedder.hosted.throttle import Throttle
from reembed.embedder.hosted.upstream import Denied, Failed, Limited, Rejected, Unusable, UpstreamError, Vectors
from reembed.embedder.limits import normal
from reembed.embedder.probes import PROBES
from reembed.embedder.refusals import DimensionsMismatch, EndpointRefused
from reembed.embedder.text_cache import TextCache

pytestmark = pytest.mark.looptime

HOSTED = Hosted("small", max_characters=300)
MODEL = Model("https://api.example/v1", "", Pooling.MEAN, 2, 100, Truncate.END, hosted=HOSTED)
PLAIN = Terms()
Answer = Callable[[Sequence[str]], Awaitable[Vectors]]


class Endpoint:
    """Answers after a tenth of a second, with what the test says."""

    model, hosted = MODEL, HOSTED

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.faults: list[UpstreamError] = []  # of the next requests
        self.fault: Callable[[Sequence[str]], UpstreamError | None] = lambda texts: None
        self.turned = 0.0  # radians by which the model's vectors changed
        self.tokens: int | None = 10
        self.seconds = 0.1  # until it answers
        self.under_way = self.most = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        fault = self.faults.pop(0) if self.faults else self.fault(texts)
        if fault is not None:
            raise fault
        angles = np.array([len(text) % 7 + self.turned for text in texts])
        return Vectors(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), self.tokens)

    async def close(self) -> None:
        pass


def answered(status: int, words: str) -> UpstreamError:
    error = (Denied if status == 403 else Failed)(words)
    error.status = status
    return error


@asynccontextmanager
async def asking(
    terms: Terms = PLAIN, cache: int = 0, endpoint: Endpoint | None = None
) -> AsyncIterator[tuple[HostedEngine, Endpoint]]:
    """Have an engine that embedded its probes."""
    found = endpoint or Endpoint()
    engine = HostedEngine(found, normal(MODEL, 2), TextCache("fp-a", cache), terms, Random(1))  # type: ignore[arg-type]
    engine.start()
    await asyncio.sleep(1.0)
    if engine.ready:
        found.asked.clear()
    try:
        yield engine, found
    finally:
        await engine.close()


async def test_vectors_are_those_of_the_endpoint_in_the_order_of_the_texts() -> None:
    async with asking() as (engine, endpoint):
        texts = [f"text {number}" for number in range(70)]
        done = await engine.embed(texts, background=True)
    expected = (await Endpoint().embed(texts)).values
    assert np.array_equal(np.frombuffer(done.vectors, "<f4").reshape(-1, 2), expected)
    assert [len(one) for one in endpoint.asked] == [32, 32, 6]
    assert sum(done.tokens) == 30


async def test_what_the_endpoint_does_not_count_is_estimated() -> None:
    async with asking() as (engine, endpoint):
        endpoint.tokens = None
        assert (await engine.embed(["abcdef"], background=False)).tokens == (4,)


async def test_a_live_text_that_was_asked_for_lately_is_not_paid_for_again() -> None:
    async with asking(cache=10_000) as (engine, endpoint):
        for texts in (["a", "b"], ["b", "c", "a"]):
            await engine.embed(texts, background=False)
    assert endpoint.asked == [["a", "b"], ["c"]]


async def test_a_long_text_is_cut_and_counted() -> None:
    async with asking() as (engine, endpoint):
        done = await engine.embed(["x" * 301, "y"], background=True)
    assert (endpoint.asked, done.cut) == ([["x" * 300, "y"]], (0,))


async def test_a_text_that_the_endpoint_rejects_is_found_and_alone_refused() -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: Rejected("bad input") if "bad" in texts else None
        with pytest.raises(TextRefused, match=r"text 37 is rejected by the endpoint \(bad input\)") as caught:
            await engine.embed([*"a" * 37, "bad", "b"], background=True)
    assert caught.value.index == 37
    assert endpoint.asked[-1] == list(PROBES[:1])


@pytest.mark.parametrize(
    "fault",
    [Unusable("a vector that is not finite"), answered(500, "unsupported value: NaN"), answered(403, "blocked")],
)
async def test_a_document_on_which_the_endpoint_always_fails_is_found_and_queries_go_on(fault: UpstreamError) -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: fault if "bad" in texts else None
        work = asyncio.create_task(engine.embed([*"a" * 9, "bad", "b"], background=True))
        while not work.done():
            await engine.embed(["query"], background=False)
        with pytest.raises(TextRefused, match="text 9 gets no vector from the endpoint") as caught:
            await work
    assert caught.value.index == 9


@pytest.mark.parametrize("fault", [Failed("502"), answered(500, "out of memory"), Unusable("no JSON")])
async def test_an_endpoint_that_fails_on_everything_is_at_fault_and_no_text(fault: UpstreamError) -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: fault
        with pytest.raises(EndpointFailed):
            await engine.embed(["good"], background=True)


async def test_a_query_is_never_blamed_for_a_failure() -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: answered(500, "NaN") if "bad" in texts else None
        with pytest.raises(EndpointFailed):
            await engine.embed(["bad"], background=False)


async def test_a_document_that_fails_twice_in_a_row_and_then_does_not_is_embedded() -> None:
    async with asking() as (engine, endpoint):
        endpoint.faults = [answered(500, "overloaded")] * 4
        await engine.embed(["good"], background=True)


async def test_an_answer_that_cannot_be_used_was_paid_for() -> None:
    async with asking() as (engine, endpoint):
        endpoint.faults = [Unusable("no JSON")]
        await engine.embed(["doc"], background=True)
        assert engine.spent == 13


async def test_a_text_that_the_endpoint_finds_too_long_is_told_apart() -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: Rejected("maximum context length is 8 tokens") if "long" in texts else None
        with pytest.raises(TextTooLong):
            await engine.embed(["long"], background=True)


async def test_an_endpoint_that_rejects_everything_is_at_fault_and_no_text() -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: Rejected("unknown field encoding_format")
        with pytest.raises(EndpointFailed, match="rejects every request"):
            await engine.embed(["good"], background=True)


@pytest.mark.parametrize("fault", [Failed("502"), Unusable("no JSON"), Limited("slow down", 0.5)])
async def test_what_may_pass_is_tried_again(fault: UpstreamError) -> None:
    async with asking() as (engine, endpoint):
        endpoint.faults = [fault, fault]
        await engine.embed(["a"], background=False)
    assert endpoint.asked == [["a"]] * 3


async def test_nothing_is_asked_for_as_long_as_the_endpoint_wishes_and_callers_are_told() -> None:
    async with asking() as (engine, endpoint):
        endpoint.faults = [Limited("slow down", 90)]
        with pytest.raises(Throttled, match="slow down") as first:
            await engine.embed(["a"], background=False)
        with pytest.raises(Throttled, match="wants fewer requests") as second:
            await engine.embed(["b"], background=True)
        await asyncio.sleep(91)
        await engine.embed(["c"], background=True)
    assert (first.value.retry_after, second.value.retry_after) == (90, 90)
    assert endpoint.asked == [["a"], ["c"]]


async def test_live_texts_go_before_background_texts_that_wait_longer() -> None:
    async with asking(Terms(Throttle(most_requests=1.0), patience=Patience(live=5, background=60))) as (
        engine,
        endpoint,
    ):
        await asyncio.sleep(5)
        waiting = [asyncio.create_task(engine.embed([f"doc {n}"], background=True)) for n in range(6)]
        await asyncio.sleep(1.5)
        await engine.embed(["query"], background=False)
        await asyncio.gather(*waiting)
    assert endpoint.asked.index(["query"]) <= 4


async def test_background_texts_starve_for_five_seconds_at_the_most() -> None:
    async with asking(Terms(Throttle(most_requests=1.0), patience=Patience(live=60, background=60))) as (
        engine,
        endpoint,
    ):
        await asyncio.sleep(5)
        queries = [asyncio.create_task(engine.embed([f"query {n}"], background=False)) for n in range(20)]
        await asyncio.sleep(0)
        await engine.embed(["doc"], background=True)
        before = len(endpoint.asked)
        await asyncio.gather(*queries)
    assert 5 <= before <= 8


async def test_background_texts_leave_room_for_live_ones() -> None:
    async with asking() as (engine, endpoint):
        waiting = [asyncio.create_task(engine.embed([f"doc {n}"], background=True)) for n in range(40)]
        await asyncio.sleep(0.05)
        most = endpoint.under_way
        await engine.embed(["query"], background=False)
        await asyncio.gather(*waiting)
    assert (most, endpoint.most) == (12, 13)


async def test_five_failures_in_a_row_leave_the_endpoint_alone_until_one_try_succeeds() -> None:
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: Failed("503")
        for _ in range(2):
            with pytest.raises(EndpointFailed):
                await engine.embed(["a"], background=True)
        asked = len(endpoint.asked)
        with pytest.raises(EndpointFailed, match="left alone"):
            await engine.embed(["a"], background=False)
        assert (asked, len(endpoint.asked)) == (5, 5)
        endpoint.fault = lambda texts: None
        await asyncio.sleep(2)
        await engine.embed(["a"], background=False)
        assert engine.breaker.state.value == "closed"


async def test_many_that_fail_at_the_same_moment_are_one_moment() -> None:
    """A load balancer that is restarted ends all that is under way; it must not be left alone for half an hour."""
    async with asking() as (engine, endpoint):
        endpoint.fault = lambda texts: Failed("reset")
        waiting = [engine.embed([f"query {n}"], background=False) for n in range(16)]
        await asyncio.gather(*waiting, return_exceptions=True)
        endpoint.fault = lambda texts: None
        await asyncio.sleep(5)
        await engine.embed(["a"], background=False)


async def test_an_endpoint_that_lets_callers_go_without_an_answer_is_failing() -> None:
    async with asking() as (engine, endpoint):
        endpoint.seconds = 50.0
        for _ in range(9):
            with suppress(TimeoutError, EndpointFailed):
                await asyncio.wait_for(engine.embed(["a"], background=False), 5)
        asked = len(endpoint.asked)
        with pytest.raises(EndpointFailed, match="left alone"):
            await engine.embed(["a"], background=False)
        await asyncio.sleep(30)
        assert (asked, "did not answer within 5 s" in str(engine.report()["error"])) == (5, True)


async def test_what_fails_for_half_a_minute_is_told_until_there_is_an_answer() -> None:
    async with asking() as (engine, endpoint):
        told = []
        endpoint.fault = lambda texts: Limited("insufficient_quota", 5)
        for _ in range(5):
            with pytest.raises(EngineBusy):
                await engine.embed(["a"], background=False)
            told.append(engine.report()["error"])
            await asyncio.sleep(9)
        endpoint.fault = lambda texts: None
        await asyncio.sleep(10)
        await engine.embed(["a"], background=False)
        assert (told[0], told[-1], engine.report()["error"]) == ("", "insufficient_quota", "")


async def test_background_texts_wait_for_the_operator_s_grant_and_live_ones_do_not() -> None:
    async with asking(Terms(budgeted=True)) as (engine, _endpoint):
        await engine.embed(["live"], background=False)
        with pytest.raises(BudgetSpent):
            await engine.embed(["doc"], background=True)
        assert engine.report()["shortTokens"] == 3
        engine.grant(12, changed=False)
        await engine.embed(["doc"], background=True)
        with pytest.raises(BudgetSpent, match="may spend 2 more"):
            await engine.embed(["doc"], background=True)
        assert engine.spent == 10


async def test_a_request_that_was_turned_away_long_ago_asks_for_no_budget() -> None:
    """Its caller went to another pod, which must not be left without tokens for the sake of this one."""
    async with asking(Terms(budgeted=True)) as (engine, _endpoint):
        with pytest.raises(BudgetSpent):
            await engine.embed(["doc"], background=True)
        await asyncio.sleep(30)
        lately = engine.report()["shortTokens"]
        await asyncio.sleep(60)
        assert (lately, engine.report()["shortTokens"]) == (3, 0)


async def test_what_is_under_way_counts_before_it_is_paid_for() -> None:
    async with asking(Terms(budgeted=True)) as (engine, _endpoint):
        engine.grant(8, changed=False)
        done = await asyncio.gather(*(engine.embed(["doc"], background=True) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in done].count(BudgetSpent) == 3


async def test_a_model_that_changed_embeds_no_documents() -> None:
    async with asking() as (engine, _endpoint):
        engine.grant(None, changed=True)
        await engine.embed(["query"], background=False)
        with pytest.raises(EndpointFailed, match="ModelChanged"):
            await engine.embed(["doc"], background=True)


async def test_the_probes_are_embedded_every_hour_and_again_soon_if_they_differ() -> None:
    async with asking() as (engine, endpoint):
        first = engine.probes
        await asyncio.sleep(4000)
        assert (engine.checks, engine.probes, engine.cosine) == (2, first, pytest.approx(1.0))
        endpoint.turned = 0.2
        await asyncio.sleep(4000)
        assert engine.cosine == pytest.approx(np.cos(0.2), abs=0.01)
        assert 4 < engine.checks < 70  # once a minute instead of once an hour


async def test_the_probes_are_embedded_again_soon_if_the_operator_doubts_the_model() -> None:
    """A pod that began on another model sees no change; one whose operator knows better is asked again at once."""
    async with asking() as (engine, _endpoint):
        engine.grant(None, changed=True)
        await asyncio.sleep(70)
        assert engine.checks == 2
        engine.grant(None, changed=False)
        await asyncio.sleep(600)
        assert engine.checks <= 4


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [
        (Denied("401: no such key"), EndpointRefused),
        (Rejected("400: no such field"), EndpointRefused),
        (Unusable("vectors have 3 dimensions, the pool says 2"), DimensionsMismatch),
        (Unusable("no JSON"), EndpointRefused),
    ],
)
async def test_an_endpoint_that_cannot_serve_the_pool_is_refused_at_the_start(
    fault: UpstreamError, refusal: type[Exception]
) -> None:
    endpoint = Endpoint()
    endpoint.fault = lambda texts: fault
    async with asking(endpoint=endpoint) as (engine, _):
        assert isinstance(await engine.failed, refusal)


@pytest.mark.parametrize("fault", [Failed("connection refused"), Limited("slow down", 100)])
async def test_an_endpoint_that_may_come_back_is_waited_for(fault: UpstreamError) -> None:
    endpoint = Endpoint()
    endpoint.fault = lambda texts: fault
    async with asking(endpoint=endpoint) as (engine, _):
        with pytest.raises(EngineUnavailable, match="has not answered the probes yet"):
            await engine.embed(["a"], background=False)
        endpoint.fault = lambda texts: None
        await asyncio.sleep(200)
        await engine.embed(["a"], background=False)


async def test_emergency_protection_turns_background_texts_away_that_wait() -> None:
    async with asking() as (engine, _endpoint):
        waiting = asyncio.create_task(engine.embed(["doc"], background=True))
        await asyncio.sleep(0.01)
        engine.limit(conservative(normal(MODEL, 2), 2))
        with pytest.raises(EngineBusy, match="emergency protection began"):
            await waiting


async def test_a_caller_who_leaves_gives_its_turn_back() -> None:
    async with asking() as (engine, _endpoint):
        for _ in range(40):
            waiting = asyncio.create_task(engine.embed(["query"], background=False))
            await asyncio.sleep(0.01)
            waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (engine.contexts_busy, engine.tokens) == (0, 0)
        await engine.embed(["query"], background=False)


async def test_more_than_may_wait_is_turned_away() -> None:
    async with asking() as (engine, _endpoint):
        texts = ["x" * 290] * 200
        waiting = [asyncio.create_task(engine.embed(texts, background=True)) for _ in range(3)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(one, EngineBusy) for one in done] == [False, True, True]
