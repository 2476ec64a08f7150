"""Finding migrations and what surrounds them; who asks for something that is not there is told what is.

`find` answers for one migration, `find_all` for the table; `surroundings` never fails: a view without pods is better
than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from reembed.api.fields import InvalidField
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError
from reembed.plugin.overview import Index, Overview, Pods, Surroundings
from reembed.plugin.problems import Problem, explained
from reembed.plugin.reading import read_index, read_migration, read_pool

# Lists of all namespaces have the path of a kind without any.
_EVERYWHERE = replace(kinds.MIGRATION, namespaced=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one migration is looked for."""

    cluster: Cluster
    namespace: str
    name: str


async def find(place: Place) -> Overview:
    """Return the migration, without what surrounds it.

    Raises:
        Problem: it is not there, or may not be looked at.

    """
    found = await find_or_none(place)
    if found is None:
        raise Problem(await _not_found(place))
    return found


async def find_or_none(place: Place) -> Overview | None:
    """Return the migration, None if it is not there."""
    with explained(f"get migration {place.name!r}", place.namespace):
        raw = await place.cluster.get(kinds.MIGRATION, place.namespace, place.name)
        return read_migration(raw) if raw is not None else None


async def find_all(cluster: Cluster, namespace: str | None) -> list[Overview]:
    """Return the migrations of a namespace, or of all."""
    with explained("list migrations", namespace):
        kind = kinds.MIGRATION if namespace is not None else _EVERYWHERE
        return [read_migration(raw) for raw in await cluster.list(kind, namespace or "")]


async def no_migrations(cluster: Cluster, namespace: str) -> str:
    """Return what to say of a namespace without migrations; a mistyped one is the likeliest cause."""
    missing = await _missing_namespace(cluster, namespace)
    return missing or f"there are no migrations in namespace {namespace!r}; -A lists those of all namespaces"


async def surrounded(cluster: Cluster, overview: Overview) -> Overview:
    """Return the migration with its index and pools, as far as they can be read."""
    wanted = overview.wanted
    names = {overview.serving or wanted.from_pool, overview.candidate or wanted.pool} - {None}
    try:
        index = await _index(cluster, overview)
        pools = {name: await _pool(cluster, overview.namespace, name) for name in sorted(filter(None, names))}
    except (ClusterError, InvalidField) as error:
        return replace(overview, surroundings=Surroundings(hidden=f"pods cannot be shown: {error}"))
    there = {name: pods for name, pods in pools.items() if pods is not None}
    return replace(overview, surroundings=Surroundings(index, there))


async def _index(cluster: Cluster, overview: Overview) -> Index | None:
    raw = await cluster.get(kinds.INDEX, overview.namespace, overview.wanted.index)
    return read_index(raw) if raw is not None else None


async def _pool(cluster: Cluster, namespace: str, name: str) -> Pods | None:
    raw = await cluster.get(kinds.POOL, namespace, name)
    return read_pool(raw) if raw is not None else None


async def _not_found(place: Place) -> str:
    what = f"there is no migration {place.name!r} in namespace {place.namespace!r}"
    beside = [one.name for one in await find_all(place.cluster, place.namespace)]
    missing = await _missing_namespace(place.cluster, place.namespace)
    if missing:
        return missing
    elsewhere = await _namespaces_of(place)
    if elsewhere:
        return f"{what}, but in {_quoted(elsewhere[:3])}: add -n {elsewhere[0]}"
    close = get_close_matches(place.name, beside, n=3)
    if close:
        return f"{what}; did you mean {_quoted(close)}?"
    if beside:
        return f"{what}; there are {_quoted(sorted(beside)[:10])}"
    return f"{what}, nor any other; `kubectl reembed list -A` shows all"


async def _namespaces_of(place: Place) -> list[str]:
    """Return the namespaces that have a migration of that name, none where they may not be listed."""
    try:
        everywhere = await find_all(place.cluster, None)
    except Problem:
        return []
    return sorted(one.namespace for one in everywhere if one.name == place.name)


async def _missing_namespace(cluster: Cluster, namespace: str) -> str:
    """Return what to say if there is no such namespace; nothing if there is, or if that cannot be known."""
    try:
        if await cluster.get(kinds.NAMESPACE, "", namespace) is not None:
            return ""
        names = [one["metadata"]["name"] for one in await cluster.list(kinds.NAMESPACE, "")]
    except ClusterError:
        return ""
    close = get_close_matches(namespace, names, n=3)
    hint = f"did you mean {_quoted(close)}?" if close else "`kubectl get namespaces` lists them"
    return f"there is no namespace {namespace!r}; {hint}"


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names) if len(names) < 3 else ", ".join(repr(name) for name in names)
