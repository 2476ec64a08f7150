"""Labelled queries from a ConfigMap: for who has no table of them, or keeps them in Git beside the migration.

One line of JSON a query: {"query": "how do I ...", "relevant": ["17", "23"], "slice": "de"}; `slice` may be left out.
The evaluation reads them once; the API server holds no ConfigMap above 1 MiB, some thousands of queries. A wrong line
refuses all of them: an evaluation without the queries that somebody meant to ask is not the one that was asked for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Refused
from reembed.core.model import ConfigMapKey, Problem
from reembed.stores.protocol import Labels, Unfit

_EXPECTED = '{"query": "text", "relevant": ["id", ...], "slice": "name, if any"}'
_FIELDS = frozenset({"query", "relevant", "slice"})

# Reads one key, or raises Unfit.
ReadKey = Callable[[ConfigMapKey], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the lines say, before anybody looked whether the documents exist."""

    relevant: Mapping[str, frozenset[str]]
    slices: Mapping[str, frozenset[str]]

    def without(self, vanished: Collection[str]) -> Labels:
        """Return the labels of documents that exist, and how many were left out."""
        kept = {query: relevant - frozenset(vanished) for query, relevant in sorted(self.relevant.items())}
        left_out = sum(len(relevant) - len(kept[query]) for query, relevant in self.relevant.items())
        return Labels({query: relevant for query, relevant in kept.items() if relevant}, left_out, self.slices)


def reader(cluster: Cluster, namespace: str) -> ReadKey:
    """Return what reads ConfigMaps of a namespace."""

    async def read(reference: ConfigMapKey) -> str:
        try:
            found = await cluster.get(kinds.CONFIG_MAP, namespace, reference.name)
        except Refused as error:
            raise _unfit(
                "PrivilegesMissing",
                f"the store worker may not read ConfigMap '{reference.name}' ({error}), so the models cannot be "
                "compared; install the chart's Role for it again",
            ) from error
        except (ClusterError, OSError, TimeoutError) as error:
            raise _unfit(
                "EvaluationConfigMapUnread",
                f"ConfigMap '{reference.name}' was not read ({error}), so the models are not compared yet; it is tried "
                "again in a minute",
            ) from error
        if found is None:
            raise _unfit(
                "EvaluationConfigMapMissing",
                f"ConfigMap '{reference.name}' does not exist, so the models cannot be compared; create it, or another "
                "EmbeddingMigration that names the right one",
            )
        data: Mapping[str, str] = found.get("data") or {}
        if reference.key not in data:
            keys = ", ".join(f"'{key}'" for key in sorted(data)) or "none"
            raise _unfit(
                "EvaluationConfigMapMissing",
                f"ConfigMap '{reference.name}' has no key '{reference.key}' (its keys: {keys}), so the models cannot "
                "be compared; add it",
            )
        return data[reference.key]

    return read


async def without_cluster(reference: ConfigMapKey) -> str:
    """Refuse to read, where nobody gave the evaluation an API server."""
    raise _unfit(
        "EvaluationConfigMapUnread",
        f"ConfigMap '{reference.name}' was not read, since this process knows no API server; name a table instead",
    )


def labelled(text: str, reference: ConfigMapKey) -> Labelled:
    """Return the queries of a key's lines; lines of the same query are put together.

    Raises:
        Unfit: a line is not what it should be; the first is named.

    """
    relevant: dict[str, set[str]] = defaultdict(set)
    slices: dict[str, set[str]] = defaultdict(set)
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            query, documents, name = _parsed(line)
        except ValueError as error:
            wrong.append((number, str(error)))
            continue
        relevant[query].update(documents)
        slices[query].update([name] if name is not None else [])
    if wrong:
        raise _unfit("EvaluationLabelsInvalid", _invalid(wrong, reference))
    return Labelled(
        {query: frozenset(found) for query, found in relevant.items()},
        {query: frozenset(found) for query, found in slices.items()},
    )


def _parsed(line: str) -> tuple[str, list[str], str | None]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    if unknown := sorted(set(found) - _FIELDS):
        raise ValueError(f"has an unknown field '{unknown[0]}'")
    return _query(found), _relevant(found), _slice(found)


def _query(found: Mapping[str, Any]) -> str:
    query = found.get("query")
    if not isinstance(query, str) or not query.strip():
        raise ValueError("has no text in 'query'")
    return query


def _relevant(found: Mapping[str, Any]) -> list[str]:
    relevant = found.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise ValueError("has no list of document ids in 'relevant'")
    # A bool is an int to Python; ids that are numbers are as often written without quotes.
    if not all(isinstance(one, str | int) and not isinstance(one, bool) and str(one) for one in relevant):
        raise ValueError("has something else than a text or a whole number in 'relevant'")
    return [str(one) for one in relevant]


def _slice(found: Mapping[str, Any]) -> str | None:
    name = found.get("slice")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError("has no text in 'slice'")
    return name


def _invalid(wrong: list[tuple[int, str]], reference: ConfigMapKey) -> str:
    number, why = wrong[0]
    more = f" (and {len(wrong) - 1} more lines are wrong)" if len(wrong) > 1 else ""
    return (
        f"line {number} of key '{reference.key}' of ConfigMap '{reference.name}' {why}{more}, so the models cannot be "
        f"compared; each line must be {_EXPECTED}"
    )


def _unfit(reason: str, message: str) -> Unfit:
    return Unfit(Problem(reason, message))
