"""Labelled queries of a ConfigMap, as an agent reads them for itself.

Agents may read those that the chart's `panel.labelConfigMaps` names, and no others. The operator may change none, and
make none but those of its classes of models, by a policy of the chart; so one that is named like those is refused here.
What is read is its writers' word, as a table of labels is its owner's; its digest stands in the ballot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Refused
from reembed.core import names
from reembed.core.model import ConfigMapKey
from reembed.stores.protocol import StoreError

# Reads one key of a namespace's ConfigMap, or raises StoreError.
ReadLines = Callable[[str, ConfigMapKey], Awaitable[str]]


def reader(cluster: Cluster) -> ReadLines:
    """Return what reads ConfigMaps with the agent's own rights."""

    async def read(namespace: str, reference: ConfigMapKey) -> str:
        named = f"ConfigMap '{reference.name}' of namespace '{namespace}'"
        if reference.name.startswith(names.CLASS_PREFIX):
            raise StoreError(f"{named} may be the operator's own, by its name; put the labels into another one")
        try:
            found = await cluster.get(kinds.CONFIG_MAP, namespace, reference.name)
        except Refused as error:
            text = f"agents may not read {named}; add its name to the chart's panel.labelConfigMaps"
            raise StoreError(text) from error
        except (ClusterError, OSError, TimeoutError) as error:
            raise StoreError(f"{named} was not read ({str(error) or type(error).__name__})") from error
        data: Mapping[str, str] = (found or {}).get("data") or {}
        if found is None or reference.key not in data:
            what = f"has no key '{reference.key}'" if found is not None else "does not exist"
            raise StoreError(f"{named} {what}; add the labels that the migration names")
        return data[reference.key]

    return read


async def without_cluster(namespace: str, reference: ConfigMapKey) -> str:
    """Refuse to read, where nobody gave the agent an API server."""
    raise StoreError(f"ConfigMap '{reference.name}' of namespace '{namespace}' was not read: there is no API server")
