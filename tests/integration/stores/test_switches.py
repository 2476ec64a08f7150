"""Applications that search by SQL while what answers is switched again and again: no answer mixes two models.

Each model gives a text a vector that has nothing in common with the other's, so a query whose vector meets the other
model's collection finds a document by chance. What is asked for is a text that nobody changes: its document is found
with a score of one, or the answer is wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import psycopg

from reembed.backfill.documents import text_hash
from reembed.backfill.shard import Work, fill
from reembed.core.model import Desired, PointerPlan
from reembed.stores.pgvector.changes import Changes
from reembed.stores.pgvector.keeper import Keeper
from reembed.stores.pgvector.search import literal
from reembed.stores.pgvector.shards import ShardStore
from reembed.stores.protocol import Paid, Written
from tests.fixtures.postgres import Database
from tests.fixtures.stores import KEY, SPEC, UID, Documents, FakeEmbedder, plan, vector_of

_QUERIES, _SWITCHES, _READERS = 10_000, 50, 3
_STABLE, _DOCUMENTS = 300, 400
_SEARCH = "SELECT id, score FROM reembed.search_index(%s, %s, %s, 1)"

MODELS = {"fp-old": plan(name="c_old", fingerprint="fp-old", shards=1, desired=Desired.INDEXED),
          "fp-new": plan(name="c_new", fingerprint="fp-new", shards=1, desired=Desired.INDEXED)}  # fmt: skip


@dataclass
class Seen:
    """What readers saw; `answering` is what they were told last, which may be a moment old."""

    answering: str = "fp-old"
    answers: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    wrong: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.answers.values())


def embedded(fingerprint: str, text: str) -> bytes:
    return vector_of(text, salt=fingerprint)


async def test_ten_thousand_queries_over_fifty_switches_never_mix_two_models(database: Database) -> None:
    Documents(database).create(_DOCUMENTS)
    seen = Seen()
    async with Keeper(database.owner_dsn, KEY, UID) as keeper, Changes(database.owner_dsn, KEY) as changes:
        await _filled(database, keeper)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(_write(database, changes, random.Random(12)))
            reading = [tasks.create_task(_read(database, seen, random.Random(reader))) for reader in range(_READERS)]
            for generation in range(2, _SWITCHES + 2):
                while seen.total < _QUERIES * (generation - 1) / (_SWITCHES + 1):  # noqa: ASYNC110 counted, not told
                    await asyncio.sleep(0.002)
                await _switch(keeper, seen, generation)
            await asyncio.wait(reading)
            writing.cancel()
    assert (seen.wrong, seen.total) == ([], _QUERIES)
    assert min(seen.answers.values()) > _QUERIES / 3, seen.answers
    assert 0 < seen.refused < _QUERIES / 10


async def _filled(database: Database, keeper: Keeper) -> None:
    await keeper.prepare(SPEC)
    await keeper.claim()
    await keeper.capture(SPEC)
    async with ShardStore(database.owner_dsn) as pods:
        for made in MODELS.values():
            await keeper.create(SPEC, made)
            model = FakeEmbedder(made.fingerprint, vector=lambda text, _, of=made.fingerprint: embedded(of, text))
            await fill(Work(made.name, 0, made.fingerprint), pods, model)
            await keeper.build_index(made.name)
    await keeper.move_pointer(PointerPlan("c_old", "fp-old", 1))


async def _switch(keeper: Keeper, seen: Seen, generation: int) -> None:
    """Move what answers to the other model; readers learn of it a little later."""
    other = "fp-new" if seen.answering == "fp-old" else "fp-old"
    await keeper.move_pointer(PointerPlan(MODELS[other].name, other, generation))
    await asyncio.sleep(0.002)
    seen.answering = other


async def _read(database: Database, seen: Seen, rng: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(database.gateway_dsn, autocommit=True) as connection:
        while seen.total < _QUERIES:
            wanted, fingerprint = rng.randint(1, _STABLE), seen.answering
            vector = literal(embedded(fingerprint, f"text {wanted}"))
            try:
                cursor = await connection.execute(_SEARCH, [KEY, fingerprint, vector])
            except psycopg.Error as error:
                if error.sqlstate != "RE001":
                    raise
                seen.refused += 1  # embedded again, by what answers now
                continue
            found, score = (await cursor.fetchall())[0]
            if seen.total < _QUERIES:
                seen.answers[fingerprint] += 1
            if found != str(wanted) or abs(score - 1) > 1e-5:
                seen.wrong.append((fingerprint, found, score))


async def _write(database: Database, changes: Changes, rng: random.Random) -> None:
    """Change the other documents all the time, and keep both collections fresh."""
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as connection:
        for number in range(10**9):
            changed = rng.randint(_STABLE + 1, _DOCUMENTS)
            await connection.execute("UPDATE docs SET body = %s WHERE id = %s", [f"changed {number}", changed])
            await changes.spread(0)
            for fingerprint, made in MODELS.items():
                await _pay(changes, made.name, partial(embedded, fingerprint))


async def _pay(changes: Changes, collection: str, embed: partial[bytes]) -> None:
    debts = await changes.owed(collection, 10)
    found = await changes.read(collection, debts)
    texts = [(one.debt, one.document.text or "") for one in found if one.document is not None]
    await changes.pay(collection, [Paid(debt, Written(debt.id, text_hash(text), embed(text))) for debt, text in texts])
