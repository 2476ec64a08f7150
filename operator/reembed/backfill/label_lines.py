"""Reads a ConfigMap with labelled queries for the evaluation; `stores.label_lines` says what is in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Refused
from reembed.core.model import ConfigMapKey, Problem
from reembed.stores.protocol import Unfit

# Reads one key, or raises Unfit.
ReadKey = Callable[[ConfigMapKey], Awaitable[str]]


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


def _unfit(reason: str, message: str) -> Unfit:
    return Unfit(Problem(reason, message))
