"""Who asks for what is not there, or not for them, is told what to do, in one line."""

from __future__ import annotations

import pytest

from reembed.cluster.client import ClusterError, Refused
from reembed.plugin.lookup import Place, find, find_all, no_migrations, surrounded
from reembed.plugin.overview import Index, Pods, Surroundings
from reembed.plugin.problems import Problem
from reembed.plugin.reading import read_migration
from tests.unit.plugin import stories
from tests.unit.plugin.fakes import ScriptedCluster, index, namespace, pool
from tests.unit.plugin.stories import NAMESPACE, Object

FORBIDDEN = Refused(403, "the API server answered 403: User cannot")


def elsewhere(raw: Object, name: str) -> Object:
    return {**raw, "metadata": {**raw["metadata"], "namespace": name}}


async def problem_of(cluster: ScriptedCluster, name: str, where: str = NAMESPACE) -> str:
    with pytest.raises(Problem) as caught:
        await find(Place(cluster, where, name))
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_a_mistyped_name_is_answered_with_close_ones() -> None:
    cluster = ScriptedCluster(None, others=(namespace(), stories.AWAITING_APPROVAL, stories.SUCCEEDED))
    told = await problem_of(cluster, "awating")
    assert told == "there is no migration 'awating' in namespace 'rag'; did you mean 'awaiting'?"


async def test_a_name_like_no_other_is_answered_with_all() -> None:
    cluster = ScriptedCluster(None, others=(namespace(), stories.AWAITING_APPROVAL, stories.SUCCEEDED))
    told = await problem_of(cluster, "xyz")
    assert told == "there is no migration 'xyz' in namespace 'rag'; there are 'awaiting' or 'done'"


async def test_the_wrong_namespace_is_answered_with_the_right_one() -> None:
    cluster = ScriptedCluster(None, others=(namespace(), elsewhere(stories.SUCCEEDED, "prod")))
    told = await problem_of(cluster, "done")
    assert told == "there is no migration 'done' in namespace 'rag', but in 'prod': add -n prod"


async def test_a_namespace_that_is_not_there_is_said_to_be_missing() -> None:
    cluster = ScriptedCluster(None, others=(namespace("production"),))
    told = await problem_of(cluster, "done", "prodution")
    assert told == "there is no namespace 'prodution'; did you mean 'production'?"


async def test_who_may_not_look_into_other_namespaces_is_answered_without_them() -> None:
    cluster = ScriptedCluster(None, all_embeddingmigrations=FORBIDDEN, namespaces=FORBIDDEN)
    told = await problem_of(cluster, "done")
    assert told == (
        "there is no migration 'done' in namespace 'rag', nor any other; `kubectl reembed list -A` shows all"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FORBIDDEN, "ask its administrator for a Role with get, list, watch and patch of embeddingmigrations.reembed"),
        (ClusterError(401, "Unauthorized"), "log in again"),
        (ClusterError(404, "no"), "install Reembed's chart"),
        (ClusterError(0, "GET /x: the API server did not answer"), "kubectl cluster-info"),
        (ClusterError(500, "the API server answered 500: etcd"), "answered 500: etcd"),
    ],
    ids=["no rights", "not logged in", "no CRDs", "no server", "server in trouble"],
)
async def test_what_the_server_refuses_is_told_with_what_to_do(error: ClusterError, told: str) -> None:
    with pytest.raises(Problem) as caught:
        await find_all(ScriptedCluster(None, embeddingmigrations=error), NAMESPACE)
    assert told in str(caught.value)


async def test_missing_crds_are_told_where_one_migration_is_asked_for() -> None:
    cluster = ScriptedCluster(None, embeddingmigrations=ClusterError(404, "page not found"))
    assert "install Reembed's chart" in await problem_of(cluster, "done")


async def test_an_object_of_another_form_asks_for_another_plugin() -> None:
    broken = {**stories.PAUSED, "status": {"state": {"name": "Canary"}}}
    assert "upgrade the plugin" in await problem_of(ScriptedCluster(broken), "paused")


async def test_an_empty_namespace_and_a_missing_one_are_told_apart() -> None:
    cluster = ScriptedCluster(None, others=(namespace(),))
    assert await no_migrations(cluster, "rag") == (
        "there are no migrations in namespace 'rag'; -A lists those of all namespaces"
    )
    assert await no_migrations(cluster, "rga") == "there is no namespace 'rga'; did you mean 'rag'?"


async def test_index_and_pools_are_found() -> None:
    cluster = ScriptedCluster(None, others=(index(), pool("minilm-l3", 1, 1), pool("minilm-l6", 0, 2)))
    found = await surrounded(cluster, read_migration(stories.PAUSED))
    pools = {"minilm-l3": Pods(1, 1), "minilm-l6": Pods(0, 2)}
    assert found.surroundings == Surroundings(Index(8674, Pods(2, 2)), pools)


async def test_a_migration_is_shown_without_pods_where_they_may_not_be_seen() -> None:
    cluster = ScriptedCluster(None, others=(index(),), embedderpools=FORBIDDEN)
    found = await surrounded(cluster, read_migration(stories.PAUSED))
    assert found.surroundings.hidden == "pods cannot be shown: the API server answered 403: User cannot"
