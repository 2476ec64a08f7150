"""The kinds that Reembed reads or writes, with what their URLs need."""

from __future__ import annotations

from dataclasses import dataclass

from reembed.core import names


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API."""

    group: str  # "" for the core group
    version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str | None = None) -> str:
        """Return the URL path of the collection or of one object."""
        root = f"/apis/{self.group}" if self.group else "/api"
        scope = f"namespaces/{namespace}/" if self.namespaced else ""
        path = f"{root}/{self.version}/{scope}{self.plural}"
        return path if name is None else f"{path}/{name}"


POOL = Kind(names.GROUP, names.VERSION, "embedderpools", "EmbedderPool")
INDEX = Kind(names.GROUP, names.VERSION, "embeddingindexes", "EmbeddingIndex")
MIGRATION = Kind(names.GROUP, names.VERSION, "embeddingmigrations", "EmbeddingMigration")
PANEL = Kind(names.GROUP, names.VERSION, "panels", "Panel")
DECISION = Kind(names.GROUP, names.VERSION, "decisions", "Decision")
BALLOT = Kind(names.GROUP, names.VERSION, "ballots", "Ballot")
CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
POD = Kind("", "v1", "pods", "Pod")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODE = Kind("", "v1", "nodes", "Node", namespaced=False)
EVENT = Kind("", "v1", "events", "Event")
JOB = Kind("batch", "v1", "jobs", "Job")
CRON_JOB = Kind("batch", "v1", "cronjobs", "CronJob")
DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")


def eviction(pod: str) -> Kind:
    """Return the kind whose creation ends a pod as far as its disruption budget allows; its group is policy/v1."""
    return Kind("", "v1", f"pods/{pod}/eviction", "Eviction")
