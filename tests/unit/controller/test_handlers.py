"""A change wakes whoever may decide differently because of it, and nobody who could not."""

from __future__ import annotations

from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller.cache import Cache, Key, Object
from reembed.controller.handlers import concerned


def obj(name: str, **parts: object) -> Object:
    return {"metadata": {"namespace": "rag", "name": name, "uid": name, "resourceVersion": "1"}, **parts}


def woken(kind: Kind, changed: Object, *known: tuple[Kind, Object]) -> set[tuple[str, str]]:
    cache = Cache()
    for one, other in known:
        cache.put(one, other)
    return {(key.kind.name, key.name) for key in concerned(kind, changed, cache)}


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
