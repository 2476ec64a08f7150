"""With a real API server and PostgreSQL: what an operator that lies can make gateways do, and what a panel can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reembed.api import render_index_status
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Refused
from reembed.core.acceptance import Accepted
from reembed.core.model import IndexStatus, PointerPlan, Routing
from reembed.core.quorum.proposals import Proposal, Subject
from reembed.gateway.accepting import Judging
from reembed.gateway.app import Settings
from reembed.gateway.events import IndexEvents
from reembed.gateway.routing_source import IndexSource
from reembed.stores.pgvector.search import Searcher
from tests.cluster import processes
from tests.fixtures import gateways, stores
from tests.fixtures.gateways import Listening
from tests.fixtures.postgres import GATEWAY, Database
from tests.integration.gateway.test_process import Process
from tests.integration.gateway.two_models import NEW, OLD, embedders, filled
from tests.panels import NEW as CANDIDATE
from tests.panels import agents, raising

PANEL = agents()
FIRST = Routing(1, OLD)
NAMED = Routing(2, OLD, NEW, 0)
PATIENCE = 20.0


@dataclass
class Index:
    """An EmbeddingIndex whose status is whatever the test, as its operator, writes."""

    cluster: Cluster
    namespace: str
    uid: str = ""

    @property
    def _meta(self) -> dict[str, str]:
        return {"namespace": self.namespace, "name": "docs"}

    async def create(self) -> None:
        secret = {"name": "store", "key": "dsn"}
        spec = {
            "store": {"ownerSecretRef": secret, "gatewaySecretRef": secret, "gatewayRole": GATEWAY},
            "source": {"table": "docs", "idColumn": "id", "textColumn": "body"},
            "panelRef": {"namespace": "reembed-panel", "name": "panel", "digest": PANEL.membership.digest},
        }
        made = await self.cluster.apply(kinds.INDEX, {"metadata": self._meta, "spec": spec}, manager="user")
        self.uid = made["metadata"]["uid"]

    async def tell(self, routing: Routing, change: Callable[[dict[str, Any]], None] = lambda status: None) -> None:
        """Write a routing; `change` falsifies what is written."""
        status = render_index_status(IndexStatus(routing=routing))
        change(status)
        body = {"metadata": self._meta, "status": status}
        await self.cluster.apply(kinds.INDEX, body, manager="reembed-routing", subresource="status")

    def proposal(self, epoch: int, weight: int, *, minutes: float = 5, uid: str | None = None) -> Proposal:
        subject = Subject(self.namespace, "docs", uid or self.uid, "to-new", "uid-migration")
        made = raising(0, weight, epoch)
        return replace(made, subject=subject, expires=datetime.now(UTC) + timedelta(minutes=minutes))

    def raised(self, epoch: int, weight: int, voters: Any = 6, **changes: Any) -> Routing:
        """Return a raise with a certificate of so many, or these, voters."""
        proposal = self.proposal(epoch, weight, **changes)
        return Routing(epoch, OLD, NEW, weight, certificate=PANEL.certificate(proposal, voters))

    async def told_of(self, count: int) -> list[str]:
        """Return what events about the index say, when there are so many."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.cluster.list(kinds.EVENT, self.namespace)
                messages = [one["message"] for one in found if one["involvedObject"]["uid"] == self.uid]
                if len(messages) >= count:
                    return messages
                await asyncio.sleep(0.05)


@dataclass
class Gateways:
    """Two gateways of one index, on one row."""

    index: Index
    pods: tuple[Listening, Listening]
    stores: tuple[Searcher, Searcher]

    async def reports(self) -> list[dict[str, Any]]:
        return [await pod.index() for pod in self.pods]

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until each gateway's report is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while not all(holds(report) for report in await self.reports()):  # noqa: ASYNC110 - over HTTP, no event
                await asyncio.sleep(0.05)

    async def follow(self, routing: Routing) -> None:
        wanted = (routing.epoch, routing.weight)
        await self.until(lambda report: (report["epoch"], report["weight"]) == wanted)

    async def refuse(self, reason: str) -> None:
        await self.until(lambda report: report.get("refused", {}).get("reason") == reason)

    async def arms(self) -> set[str]:
        """Return which sides answer twenty texts of each gateway."""
        answers = [await pod.search(f"text {number}") for pod in self.pods for number in range(1, 21)]
        assert {status for status, _ in answers} == {200}
        return {answer["pool"] for _, answer in answers}


@pytest.fixture
async def index(apiserver_with_crds: Path, namespace: str) -> AsyncIterator[Index]:
    async with Cluster.connect(str(apiserver_with_crds)) as cluster:
        made = Index(cluster, namespace)
        await made.create()
        yield made


@asynccontextmanager
async def serving(index: Index, database: Database, urls: dict[str, str], pod: str) -> AsyncIterator[Any]:
    """Run one gateway; yield it and its store."""
    judging = Judging(announcer=IndexEvents(index.cluster, index.namespace, "docs", pod))
    source = IndexSource(index.cluster, index.namespace, "docs")
    async with (
        Searcher(database.gateway_dsn, 4, stores.KEY) as store,
        gateways.listening(Settings(index.namespace, "docs", pod), source, urls, store, judging) as gateway,
    ):
        yield gateway, store


@asynccontextmanager
async def running(index: Index, database: Database, told: Routing = FIRST) -> AsyncIterator[Gateways]:
    """Run two gateways of an index whose pointer names the old side."""
    async with filled(database, index.uid) as keeper, embedders() as urls:
        await keeper.move_pointer(PointerPlan(OLD.collection, OLD.fingerprint, 1))
        await index.tell(told)
        async with serving(index, database, urls, "a") as one, serving(index, database, urls, "b") as two:
            yield Gateways(index, (one[0], two[0]), (one[1], two[1]))


def naked(index: Index) -> Routing:
    return Routing(3, OLD, NEW, 100)


def renumbered(index: Index) -> Routing:
    return replace(index.raised(3, 50), weight=100)


def of_another_index(index: Index) -> Routing:
    return index.raised(3, 100, uid="11111111-1111-1111-1111-111111111111")


def of_another_migration(index: Index) -> Routing:
    """Return a raise with what was certified for a migration to the same pool, which filled another collection."""
    proposal = index.proposal(3, 100)
    after = replace(proposal.after, candidate=replace(CANDIDATE, collection="c_other"))
    proposal = replace(proposal, subject=replace(proposal.subject, migration_uid="another"), after=after)
    return Routing(3, OLD, NEW, 100, certificate=PANEL.certificate(proposal))


def five(index: Index) -> Routing:
    return index.raised(3, 100, 5)


def five_and_one_twice(index: Index) -> Routing:
    return index.raised(3, 100, [*PANEL.names[:5], PANEL.names[0]])


def expired(index: Index) -> Routing:
    return index.raised(3, 100, minutes=-3)


def of_years(index: Index) -> Routing:
    return index.raised(3, 100, minutes=60 * 24 * 365)


def of_another_panel(index: Index) -> Routing:
    proposal = index.proposal(3, 100)
    return Routing(3, OLD, NEW, 100, certificate=agents(generation=1).certificate(proposal))


def promoted(index: Index) -> Routing:
    return Routing(3, NEW)


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (naked, "CertificateMissing"),
        (promoted, "CertificateMissing"),
        (renumbered, "CertificateOfOther"),
        (of_another_index, "CertificateOfOther"),
        (of_another_migration, "CertificateOfOther"),
        (of_another_panel, "ForeignPanel"),
        (five, "QuorumMissing"),
        (five_and_one_twice, "QuorumMissing"),
        (expired, "CertificateExpired"),
        (of_years, "ExpiryTooFar"),
    ],
)
async def test_whatever_the_operator_forges_every_gateway_answers_from_the_old_side_and_says_why(
    index: Index, database: Database, forged: Callable[[Index], Routing], reason: str
) -> None:
    async with running(index, database, NAMED) as both:
        await both.follow(NAMED)
        await index.tell(forged(index))
        await both.refuse(reason)
        assert await both.arms() == {"old"}
        row, _ = await both.stores[0].accepted(index.uid)
        assert row is not None
        assert row.routing == NAMED
        counted = [sample for pod in both.pods for sample in await pod.metrics() if "certificates_refused" in sample[0]]
        assert [(labels["reason"], value) for name, labels, value in counted if name.endswith("_total")] == [
            (reason, 1.0)
        ] * 2
        assert all(f"epoch 3 of the routing ({reason})" in message for message in await index.told_of(2))


async def test_a_key_that_is_spelt_otherwise_certifies_nothing(index: Index, database: Database) -> None:
    def respelt(status: dict[str, Any]) -> None:
        vote = status["routing"]["certificate"]["votes"][0]
        # The last character of 32 bytes in base64 has two bits that mean nothing.
        key = vote["publicKey"].rstrip("=")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        votes = status["routing"]["certificate"]["votes"]
        votes[5] = {**vote, "publicKey": key[:-1] + alphabet[alphabet.index(key[-1]) + 1] + "="}

    async with running(index, database, NAMED) as both:
        await both.follow(NAMED)
        await index.tell(index.raised(3, 100), respelt)
        await both.refuse("CertificateMissing")
        assert await both.arms() == {"old"}


async def test_a_certified_raise_is_followed_by_every_gateway_and_replayed_after_a_lowering_by_none(
    index: Index, database: Database
) -> None:
    async with running(index, database, NAMED) as both:
        raised, lowered = index.raised(3, 100), Routing(4, OLD, NEW, 0)
        await index.tell(raised)
        await both.follow(raised)
        assert await both.arms() == {"new"}
        assert (await both.stores[0].accepted(index.uid))[0] == Accepted(
            Routing(3, OLD, NEW, 100), PANEL.membership.digest, 1
        )
        await index.tell(lowered)
        await both.follow(lowered)
        await index.tell(raised)
        await both.refuse("EpochConsumed")
        assert await both.arms() == {"old"}
        # The same certificate under another epoch, and a lowering's epoch used again.
        await index.tell(replace(raised, epoch=5))
        await both.refuse("CertificateOfOther")
        await index.tell(index.raised(4, 100))
        await both.refuse("EpochConsumed")
        assert await both.arms() == {"old"}


async def test_of_two_gateways_one_that_was_not_told_of_a_lowering_learns_it_from_the_row(
    index: Index, database: Database
) -> None:
    async with running(index, database, NAMED) as both:
        raised = index.raised(3, 100)
        await index.tell(raised)
        await both.follow(raised)
        await both.stores[0].accept(index.uid, Accepted(Routing(4, OLD, NEW, 0), PANEL.membership.digest, 1))
        await both.refuse("EpochConsumed")
        assert await both.arms() == {"old"}


@pytest.mark.parametrize("written", [True, False])
async def test_a_gateway_that_starts_follows_an_expired_certificate_if_and_only_if_the_row_names_it(
    index: Index, database: Database, *, written: bool
) -> None:
    old = index.raised(3, 100, minutes=-60 * 72)
    async with Searcher(database.gateway_dsn, 1, stores.KEY) as store, filled(database, index.uid):
        row = Routing(3, OLD, NEW, 100) if written else NAMED
        await store.accept(index.uid, Accepted(row, PANEL.membership.digest, 1))
        await index.tell(old)
        async with embedders() as urls, serving(index, database, urls, "a") as (gateway, _):
            both = Gateways(index, (gateway, gateway), (store, store))
            if written:
                await both.follow(old)
                assert await both.arms() == {"new"}
            else:
                await both.refuse("CertificateExpired")
                assert await both.arms() == {"old"}


async def test_a_gateway_that_starts_after_an_old_status_was_restored_goes_on_from_the_row(
    index: Index, database: Database
) -> None:
    async with running(index, database, NAMED) as both:
        raised, lowered = index.raised(3, 100), Routing(4, OLD, NEW, 0)
        await index.tell(raised)
        await both.follow(raised)
        await index.tell(lowered)
        await both.follow(lowered)
    await index.tell(raised)
    async with embedders() as urls, serving(index, database, urls, "a") as (gateway, store):
        both = Gateways(index, (gateway, gateway), (store, store))
        await both.refuse("EpochConsumed")
        assert await both.arms() == {"old"}


@contextlib.contextmanager
def process(kubeconfig: Path, namespace: str, dsn: str, directory: Path) -> Any:
    port = processes.free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "REEMBED_NAMESPACE": namespace,
        "REEMBED_INDEX": "docs",
        "REEMBED_DSN": dsn,
        "REEMBED_PORT": str(port),
        "REEMBED_POD": "gateway-a",
    }
    program = processes.start("gateway", [sys.executable, "-m", "reembed.gateway"], directory, env=environment)
    try:
        yield Process(program, port)
    finally:
        processes.stop(program)


async def test_a_gateways_own_process_keeps_row_report_and_event(
    apiserver_with_crds: Path, index: Index, database: Database, tmp_path: Path
) -> None:
    key = f"{index.namespace}/docs"
    async with filled(database, index.uid, key) as keeper:
        await keeper.move_pointer(PointerPlan(OLD.collection, OLD.fingerprint, 1))
    await index.tell(NAMED)
    raised = index.raised(3, 50)
    with process(apiserver_with_crds, index.namespace, database.gateway_dsn, tmp_path) as gateway:
        await reported(gateway, epoch=2, weight=0)
        await index.tell(raised)
        await reported(gateway, epoch=3, weight=50)
        await index.tell(Routing(4, OLD, NEW, 100))
        await reported(gateway, epoch=3, weight=50, reason="CertificateMissing")
        (message,) = await index.told_of(1)
    assert message.startswith("gateway gateway-a does not follow epoch 4 of the routing (CertificateMissing)")
    async with Searcher(database.gateway_dsn, 1, key) as store:
        assert (await store.accepted(index.uid))[0] == Accepted(Routing(3, OLD, NEW, 50), PANEL.membership.digest, 1)


async def reported(gateway: Process, *, epoch: int, weight: int, reason: str | None = None) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            _, report = await asyncio.to_thread(gateway.get, "/v1/index")
            found = (report.get("epoch"), report.get("weight"), report.get("refused", {}).get("reason"))
            if found == (epoch, weight, reason):
                return
            await asyncio.sleep(0.05)


async def test_an_index_with_a_panel_needs_a_role_of_the_gateways(index: Index) -> None:
    change = {"spec": {"store": {"gatewayRole": None}}}
    with pytest.raises(Refused, match="needs store"):
        await index.cluster.patch(kinds.INDEX, index.namespace, "docs", change, manager="user")
