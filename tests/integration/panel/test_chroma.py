"""An agent measures an index in a real Chroma, behind a proxy that lets nothing pass but questions."""

from __future__ import annotations

import re
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from reembed.core.model import CollectionPlan, Desired, Metric
from reembed.core.quorum.judging import judge
from reembed.panel.measure import Measured
from reembed.stores import opening
from reembed.stores.chroma import held, places
from reembed.stores.chroma.agents import AgentReader
from reembed.stores.chroma.client import Address, Chroma, Row
from reembed.stores.protocol import DocumentWrite
from tests.cluster.processes import free_port
from tests.fixtures.embedders import Start
from tests.fixtures.stores import vector_of
from tests.integration.panel.test_measure import held as held_for_long
from tests.integration.panel.test_measure import measuring
from tests.integration.panel.world import CHROMA, DOCUMENTS, FINGERPRINT, KEY, NEW, OLD, UID, World, standing_on_chroma

# What docs/chroma.md tells a proxy to let pass.
READS = re.compile(r"GET .*|POST .*/collections/[^/]+/(get|query)")

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Proxy:
    """Lets questions pass, and may answer searches otherwise than the server does."""

    server: str
    url: str = ""
    refused: list[str] = field(default_factory=list)
    searched: Answer = lambda answer: answer

    async def pass_on(self, asked: web.Request) -> web.Response:
        said = f"{asked.method} {asked.path}"
        if not READS.fullmatch(said):
            self.refused.append(said)
            return web.json_response({"message": "no"}, status=403)
        async with aiohttp.ClientSession() as session:
            body = await asked.read() or None
            headers = {"Content-Type": "application/json"}
            async with session.request(
                asked.method, f"{self.server}{asked.path_qs}", data=body, headers=headers
            ) as answer:
                found = await answer.json()
                if asked.path.endswith("/query") and answer.status == 200:
                    found = self.searched(found)
                return web.json_response(found, status=answer.status)


@pytest.fixture
async def proxy(chroma_server: str) -> AsyncIterator[Proxy]:
    port = free_port()
    made = Proxy(chroma_server, f"http://127.0.0.1:{port}")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def world(chroma_dsn: str, embedder: Start, proxy: Proxy, tmp_path: Path) -> AsyncIterator[World]:
    async with standing_on_chroma(chroma_dsn, embedder(), tmp_path) as made:
        (tmp_path / "rag.docs").write_text(chroma_dsn.replace(proxy.server, proxy.url))
        yield made


@pytest.fixture
async def measured(world: World, tmp_path: Path) -> AsyncIterator[Measured]:
    async with measuring(world, tmp_path) as one:
        yield one


def reason(world: World, measured: Measured) -> str:
    return judge(world.proposal(), held_for_long(measured.evidence), datetime.now(UTC)).reasons[0]


async def test_everything_is_measured_by_questions_alone_and_a_good_raise_is_approved(
    world: World, measured: Measured, proxy: Proxy
) -> None:
    assert not await measured.look(world.around())
    known = measured.evidence
    assert known.stored is not None
    found = known.stored.collection(NEW.collection)
    assert found is not None
    assert (found.written, found.valid, found.state, found.shards_done) == (DOCUMENTS, True, "Indexed", 2)
    assert known.stored.pointer is not None
    assert known.retrieval is not None
    assert (known.retrieval.labelled, len(known.retrieval.differences)) == (DOCUMENTS, DOCUMENTS // 2)
    assert known.sample is not None
    assert (len(known.sample.cosines), min(known.sample.cosines) > 0.99) == (60, True)
    assert reason(world, measured) == "Measured: every check holds"
    assert proxy.refused == []


async def test_vectors_of_another_text_are_found_in_chroma(world: World, measured: Measured, chroma_dsn: str) -> None:
    async with Chroma(Address.of(chroma_dsn)) as chroma:
        vectors = await chroma.find(places.vectors(NEW.collection))
        assert vectors is not None
        rows = await chroma.get(vectors.id, include=("metadatas", "embeddings"))
        await chroma.delete(vectors.id, [row.id for row in rows])
        moved = [replace(row, vector=other.vector) for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
        await chroma.add(vectors.id, moved)
    await measured.look(world.around())
    assert reason(world, measured).startswith("RetrievalNotProven: ")
    assert measured.evidence.sample is not None
    assert sorted(measured.evidence.sample.cosines)[30] < 0.98


def nothing(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {name: [[]] for name in ("ids", "metadatas", "distances")}


def the_farthest(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"distances": [[one + 0.5 for one in answer["distances"][0]]]}


@pytest.mark.parametrize("answer", [nothing, the_farthest])
async def test_an_index_that_does_not_find_what_is_stored_is_no_index(
    world: World, measured: Measured, proxy: Proxy, answer: Answer
) -> None:
    proxy.searched = answer
    await measured.look(world.around())
    assert reason(world, measured).startswith(f"IndexInvalid: collection {NEW.collection} is without a valid")


async def test_a_sample_has_the_texts_that_the_vectors_are_of(world: World, chroma_dsn: str) -> None:
    del world
    async with opening.searching(chroma_dsn, KEY, 2) as gateway:
        await gateway.write(
            [  # type: ignore[attr-defined]
                DocumentWrite("1", "changed"),
                DocumentWrite("2", gone=True),
                DocumentWrite("3", " "),
            ]
        )
    async with AgentReader(chroma_dsn, KEY, UID) as reader:
        drawn = await reader.sample(NEW.collection, 1000)
        few = await reader.sample(NEW.collection, 10)
    assert {one.id: one.text for one in drawn} == {str(n): f"text {n}" for n in range(4, DOCUMENTS + 1)}
    assert len({one.id for one in few}) == len(few) == 10


async def test_what_has_no_vector_is_neither_drawn_nor_missed(chroma_dsn: str) -> None:
    async with opening.keeping(chroma_dsn, KEY, UID) as keeper, opening.filling(chroma_dsn) as shards:
        await keeper.prepare(CHROMA)
        await keeper.capture(CHROMA)
        await keeper.claim()
        plan = CollectionPlan("c_empty", "new", FINGERPRINT, 384, 1, Desired.PRESENT)
        await keeper.create(CHROMA, plan)
        await shards.finish(await shards.claim(plan.name, 0))
        await keeper.build_index(plan.name, CHROMA.vector_index)
    async with Chroma(Address.of(chroma_dsn)) as chroma:
        vectors = await chroma.find(places.vectors("c_empty"))
        assert vectors is not None
        await chroma.add(vectors.id, [held.reason(f"d{n}", 1, ("TextEmpty", "empty"), 384) for n in range(50)])
    async with AgentReader(chroma_dsn, KEY, UID) as reader:
        (found,) = await reader.held()
        assert (found.valid, await reader.sample("c_empty", 10)) == (True, [])


@pytest.mark.parametrize("metric", Metric)
async def test_a_whole_index_is_one_whatever_vectors_are_compared_by(chroma_dsn: str, metric: Metric) -> None:
    spec, plan = replace(CHROMA, metric=metric), CollectionPlan("c_any", "new", FINGERPRINT, 8, 1, Desired.PRESENT)
    async with opening.keeping(chroma_dsn, KEY, UID) as keeper, opening.filling(chroma_dsn) as shards:
        await keeper.prepare(spec)
        await keeper.capture(spec)
        await keeper.claim()
        await keeper.create(spec, plan)
        await shards.finish(await shards.claim(plan.name, 0))
        await keeper.build_index(plan.name, spec.vector_index)
    async with Chroma(Address.of(chroma_dsn)) as chroma:
        vectors = await chroma.find(places.vectors(plan.name))
        assert vectors is not None
        lengths = {f"text {n}": array("f", [n * one for one in array("f", vector_of(f"text {n}"))]) for n in range(60)}
        rows = [held.row(text, 0, b"h", vector.tobytes()) for text, vector in lengths.items() if any(vector)]
        await chroma.add(vectors.id, rows)
    async with AgentReader(chroma_dsn, KEY, UID) as reader:
        found = [(await reader.held())[0].valid for _ in range(10)]
    assert found == [True] * 10


async def test_a_vector_that_others_put_there_answers_nothing_and_stops_nobody(
    world: World, measured: Measured, chroma_dsn: str
) -> None:
    async with Chroma(Address.of(chroma_dsn)) as chroma:
        for arm in (OLD, NEW):
            vectors = await chroma.find(places.vectors(arm.collection))
            assert vectors is not None
            some = await chroma.get(vectors.id, include=("embeddings",), limit=20)
            await chroma.add(vectors.id, [Row(f"x{n}", {"x": n}, vector=one.vector) for n, one in enumerate(some)])
    await measured.look(world.around())
    assert reason(world, measured) == "Measured: every check holds"


async def test_what_cannot_be_understood_is_an_error_of_this_index_alone(
    world: World, measured: Measured, chroma_dsn: str
) -> None:
    async with Chroma(Address.of(chroma_dsn)) as chroma:
        facts = await chroma.find(places.facts(NEW.collection))
        assert facts is not None
        await chroma.add(facts.id, [Row("x", {"shard": "a"}, vector=places.point("x"))])
    await measured.look(world.around())
    assert reason(world, measured).startswith("NotMeasured: the store: not measured: StoreError: what is in Chroma")


async def test_an_agent_whose_chroma_is_gone_measures_nothing(world: World, measured: Measured, tmp_path: Path) -> None:
    (tmp_path / "rag.docs").write_text(f"http://127.0.0.1:{free_port()}")
    await measured.look(world.around())
    assert reason(world, measured).startswith("NotMeasured: the store: not measured: StoreUnavailable: Chroma does not")
