"""Objects of the cache as the core's types, each version parsed once.

A pass needs its neighbours as types too (a pool those of all who use it); with a thousand migrations, parsing them at
every pass would be most of the operator's work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from reembed.api import parse_index, parse_migration, parse_pool
from reembed.api.commands import parse_commands
from reembed.api.specs import parse_terms
from reembed.api.status import parse_migration_status
from reembed.cluster import kinds
from reembed.cluster.kinds import Kind
from reembed.controller import relations
from reembed.controller.cache import Cache, Key, Object
from reembed.core.migration import Migration, Neighbour, SeenIndex
from reembed.core.model import Meta, PoolSpec
from reembed.core.transitions import FINISHED

T = TypeVar("T")

_FINISHED = frozenset(state.value for state in FINISHED)


class Typed:
    """Reads the cache; what it has parsed is kept for as long as the object is the newest of its name."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._parsed: dict[Key, tuple[Object, Any]] = {}

    def index(self, namespace: str, name: str) -> SeenIndex | None:
        return self._one(kinds.INDEX, namespace, name, lambda raw: SeenIndex(*parse_index(raw)))

    def pool(self, namespace: str, name: str) -> tuple[Meta, PoolSpec] | None:
        return self._one(kinds.POOL, namespace, name, parse_pool)

    def migration(self, namespace: str, name: str) -> Migration | None:
        """Return a migration as its object says; the loop that runs it may know more of its status."""
        return self._one(kinds.MIGRATION, namespace, name, _migration)

    def forget(self, key: Key) -> None:
        """Drop what was parsed of an object that nobody asks for often."""
        self._parsed.pop(key, None)

    def users(self, pool: str, namespace: str) -> tuple[list[SeenIndex], list[Migration]]:
        """Return the indexes and unfinished migrations that refer to a pool, and the indexes of these migrations."""
        related = self._related(kinds.MIGRATION, namespace, pool)
        found = (raw["metadata"]["name"] for raw in related if not _ended(raw))
        migrations = [one for name in found if (one := self.migration(namespace, name)) is not None]
        names = {raw["metadata"]["name"] for raw in self._related(kinds.INDEX, namespace, pool)}
        names |= {migration.spec.index for migration in migrations}
        return self.indexes(namespace, names), migrations

    def indexes(self, namespace: str, names: Iterable[str]) -> list[SeenIndex]:
        return [one for name in sorted(names) if (one := self.index(namespace, name)) is not None]

    def neighbours(self, migration: Migration) -> dict[str, Neighbour]:
        """Return the migrations that one depends on, directly or not."""
        found: dict[str, Neighbour] = {}
        left = list(migration.spec.depends_on)
        while left:
            name = left.pop()
            other = self.migration(migration.meta.namespace, name) if name not in found else None
            if other is not None:
                found[name] = Neighbour(other.status.state, other.spec.depends_on)
                left.extend(other.spec.depends_on)
        return found

    def _related(self, kind: Kind, namespace: str, pool: str) -> Iterator[Object]:
        return self._cache.related(kind, namespace, (relations.POOL, pool))

    def _one(self, kind: Kind, namespace: str, name: str, parse: Callable[[Object], T]) -> T | None:
        raw, key = self._cache.get(kind, namespace, name), Key(kind, namespace, name)
        if raw is None:
            self._parsed.pop(key, None)
            return None
        known = self._parsed.get(key)
        if known is None or known[0] is not raw:
            known = (raw, parse(raw))
            self._parsed[key] = known
        parsed: T = known[1]
        return parsed


def _ended(raw: Object) -> bool:
    return (raw.get("status") or {}).get("state") in _FINISHED


def _migration(raw: Object) -> Migration:
    status, commands = parse_migration_status(raw), parse_commands(raw)
    return Migration(*parse_migration(raw), status, commands, parse_terms(raw))
