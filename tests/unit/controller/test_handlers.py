"""A change wakes whoever may decide differently because of it, and nobody who could not."""

from __future__ import annotations

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.handlers import concerned


def obj(name: str, **parts: object) -> Object:
    return {"metadata": {"namespace": "rag", "name": name, "uid": name, "resourceVersion": "1"}, **parts}


def woken(
    kind: Kind, changed: Object, *known: tuple[Kind, Object], before: Object | None = None
) -> set[tuple[str, str]]:
    cache = Cache()
    for one, other in known:
        cache.put(one, other)
    return {(key.kind.name, key.name) for key in concerned(kind, changed, cache, before)}


def test_a_pool_learns_that_an_index_needs_it_no_longer() -> None:
    moved = obj("docs", status={"routing": {"serving": {"pool": "new"}}})
    old = obj("old", status={"inUseBy": ["EmbeddingIndex/docs"]})
    third = obj("third", status={"inUseBy": ["EmbeddingIndex/other"]})
    assert woken(kinds.INDEX, moved, (kinds.POOL, old), (kinds.POOL, third)) == {
        ("EmbeddingIndex", "docs"),
        ("EmbedderPool", "new"),
        ("EmbedderPool", "old"),
    }


def test_both_pools_learn_that_a_migration_ended() -> None:
    spec = {"target": {"poolRef": {"name": "new"}}, "indexRef": {"name": "docs"}}
    old = obj("old", status={"inUseBy": ["EmbeddingMigration/move"]})
    ended = obj("move", spec=spec, status={"state": "Succeeded"})
    assert woken(kinds.MIGRATION, ended, (kinds.POOL, old)) == {
        ("EmbeddingMigration", "move"),
        ("EmbeddingIndex", "docs"),
        ("EmbedderPool", "new"),
        ("EmbedderPool", "old"),
    }


def test_an_object_that_is_changed_wakes_its_own_loop_by_its_key() -> None:
    (key,) = concerned(kinds.POOL, obj("old"), Cache())
    assert key == Key(kinds.POOL, "rag", "old")


SPEC = {"target": {"poolRef": {"name": "new"}}, "indexRef": {"name": "docs"}}
AROUND = ((kinds.POOL, obj("new")), (kinds.INDEX, obj("docs")), (kinds.MIGRATION, obj("next", spec=SPEC)))


def test_progress_of_a_migration_wakes_itself_alone() -> None:
    before = obj("move", spec=SPEC, status={"state": "Backfilling", "progress": "10%"})
    after = obj("move", spec=SPEC, status={"state": "Backfilling", "progress": "20%"})
    assert woken(kinds.MIGRATION, after, *AROUND, before=before) == {("EmbeddingMigration", "move")}


def test_a_migrations_next_state_wakes_its_index_its_pools_and_who_waits_for_it() -> None:
    before = obj("move", spec=SPEC, status={"state": "Backfilling"})
    after = obj("move", spec=SPEC, status={"state": "Indexing"})
    assert woken(kinds.MIGRATION, after, *AROUND, before=before) == {
        ("EmbeddingMigration", "move"),
        ("EmbeddingMigration", "next"),
        ("EmbeddingIndex", "docs"),
        ("EmbedderPool", "new"),
    }


def test_what_people_read_of_an_index_wakes_no_migration() -> None:
    routing = {"serving": {"pool": "new"}, "epoch": 3}
    before = obj("docs", status={"routing": routing, "documents": 10})
    after = obj("docs", status={"routing": routing, "documents": 11})
    assert woken(kinds.INDEX, after, *AROUND, before=before) == {("EmbeddingIndex", "docs")}


def test_an_index_that_routes_otherwise_wakes_its_pools_and_migrations() -> None:
    before = obj("docs", status={"routing": {"serving": {"pool": "new"}, "epoch": 3}})
    after = obj("docs", status={"routing": {"serving": {"pool": "new"}, "epoch": 4}})
    assert woken(kinds.INDEX, after, *AROUND, before=before) == {
        ("EmbeddingIndex", "docs"),
        ("EmbedderPool", "new"),
        ("EmbeddingMigration", "next"),
    }


def test_whoever_an_index_names_as_its_holder_is_woken_although_it_has_ended() -> None:
    ended = obj("move", spec=SPEC, status={"state": "RolledBack"})
    restored = obj("docs", status={"activeMigration": {"name": "move", "uid": "move"}})
    assert ("EmbeddingMigration", "move") in woken(kinds.INDEX, restored, (kinds.MIGRATION, ended))
