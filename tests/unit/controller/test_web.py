"""`/ready` names what is lacking and what to do; `/healthz` does not care."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller.migration_metrics import MigrationMetrics
from reembed.controller.pool_metrics import PoolMetrics
from reembed.controller.readiness import Readiness, Standing, remedy
from reembed.controller.web import Metrics, application

FORBIDDEN = ClusterError(403, 'the API server answered 403: pods is forbidden: User "op" cannot list resource "pods"')


def seen(*namespaces: str) -> Readiness:
    """Return the readiness of `rag` and `lost`, of which `namespaces` are listed."""
    readiness = Readiness(("rag", "lost"), (kinds.POOL, kinds.POD))
    for namespace in namespaces:
        for kind in (kinds.POOL, kinds.POD):
            readiness.listed(kind, namespace)
    return readiness


LEADS = Standing(leads=True, leader="op-1")


async def answers(readiness: Readiness, path: str, standing: Standing = LEADS) -> tuple[int, Any]:
    metrics = Metrics()
    pools, migrations = PoolMetrics(metrics.recycled), MigrationMetrics(metrics.ended)
    metrics.tell(readiness, lambda: standing.leads, pools, migrations)
    async with TestClient(TestServer(application(lambda: readiness.report(standing), metrics))) as client:
        answer = await client.get(path)
        return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


async def test_an_operator_that_has_seen_all_is_ready() -> None:
    namespaces = [{"namespace": "rag", "ready": True}, {"namespace": "lost", "ready": True}]
    assert await answers(seen("rag", "lost"), "/ready") == (
        200,
        {"status": "ready", "leader": "op-1", "namespaces": namespaces},
    )


async def test_what_could_not_be_listed_is_told_with_its_remedy() -> None:
    readiness = seen("rag")
    readiness.refused(kinds.POD, "lost", FORBIDDEN)
    status, answer = await answers(readiness, "/ready")
    assert (status, answer) == (
        503,
        {
            "status": "waiting",
            "leader": "op-1",
            "namespaces": [
                {"namespace": "rag", "ready": True},
                {
                    "namespace": "lost",
                    "ready": False,
                    "kind": "pods",
                    "error": str(FORBIDDEN),
                    "remedy": "the operator's account may not list pods in namespace 'lost': create the namespace if "
                    "it is missing and run `helm upgrade` again, which makes the account's Role in it, or take 'lost' "
                    "out of the chart's watchNamespaces",
                },
            ],
        },
    )


async def test_a_process_that_turns_is_alive_whatever_it_has_seen() -> None:
    assert await answers(seen(), "/healthz") == (200, {"status": "ok"})


async def test_a_metric_says_which_namespace_is_ready() -> None:
    _, text = await answers(seen("rag"), "/metrics")
    assert [line for line in text.splitlines() if line.startswith("reembed_operator_namespace_ready{")] == [
        'reembed_operator_namespace_ready{namespace="rag"} 1.0',
        'reembed_operator_namespace_ready{namespace="lost"} 0.0',
    ]


def test_a_kind_that_is_listed_again_is_not_lacking_any_more() -> None:
    readiness = seen("rag", "lost")
    readiness.refused(kinds.POD, "lost", FORBIDDEN)
    before = readiness.ready("lost")
    readiness.listed(kinds.POD, "lost")
    assert (before, readiness.ready("lost")) == (False, True)


@pytest.mark.parametrize(("status", "says"), [(401, "account"), (403, "account"), (404, "CRDs"), (0, "API server")])
def test_the_remedy_depends_on_the_answer(status: int, says: str) -> None:
    assert says in remedy(kinds.POOL, "rag", status)


async def test_a_replica_on_standby_is_ready_and_says_who_leads() -> None:
    status, answer = await answers(seen("rag", "lost"), "/ready", Standing(leads=False, leader="op-1"))
    assert (status, answer["status"], answer["leader"]) == (200, "standby", "op-1")


async def test_a_replica_that_cannot_lead_is_not_ready_and_says_why() -> None:
    lacking = Standing(leads=False, problem="the API server answered 403: leases is forbidden")
    status, answer = await answers(seen("rag", "lost"), "/ready", lacking)
    assert (status, answer["status"], answer["error"]) == (503, "waiting", lacking.problem)
    assert "get, create and patch on the Lease" in answer["remedy"]


@pytest.mark.parametrize("leads", [True, False])
async def test_a_metric_says_whether_this_replica_leads(leads: bool) -> None:
    _, text = await answers(seen(), "/metrics", Standing(leads=leads))
    assert f"reembed_operator_leader {float(leads)}" in text.splitlines()
