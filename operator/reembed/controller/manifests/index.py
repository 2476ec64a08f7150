"""What an EmbeddingIndex runs: its query gateway and its store worker."""

from __future__ import annotations

from reembed.controller.manifests import pod
from reembed.controller.settings import Images
from reembed.core import names
from reembed.core.model import IndexSpec, Meta

GATEWAY_ACCOUNT = "reembed-gateway"
WORKER_ACCOUNT = "reembed-worker"

_POD_NAME = {"name": "REEMBED_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def gateway(meta: Meta, spec: IndexSpec, images: Images, leader_lease: str = "") -> pod.Manifest:
    """Return the gateway's Deployment; by the Lease `leader_lease` (namespace/name) it knows if an operator leads."""
    container = pod.Container(
        name="gateway",
        image=images.gateway,
        pull_policy=images.pull_policy,
        environment=_environment(meta) | ({"REEMBED_LEADER_LEASE": leader_lease} if leader_lease else {}),
        secrets={"REEMBED_DSN": spec.gateway_secret},
        requests=spec.gateway_requests,
        limits=spec.gateway_limits,
    )
    # Endpoints learn that a pod goes before it stops to answer: the process itself drains for a while.
    template = pod.template(
        container, gateway_labels(meta), account=GATEWAY_ACCOUNT, spec={"terminationGracePeriodSeconds": 30}
    )
    template["spec"]["containers"][0]["env"].append(_POD_NAME)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return pod.deployment(names.gateway(meta.name), meta.namespace, spec.gateway_replicas, template, strategy=strategy)


def gateway_service(meta: Meta) -> pod.Manifest:
    return pod.service(names.gateway(meta.name), meta.namespace, gateway_labels(meta))


def disruption_budget(meta: Meta) -> pod.Manifest:
    """Return the budget that keeps a gateway answering while nodes are drained."""
    with_labels = gateway_labels(meta)
    return {
        "metadata": {"name": names.gateway(meta.name), "namespace": meta.namespace, "labels": with_labels},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": with_labels}},
    }


def worker(meta: Meta, spec: IndexSpec, images: Images) -> pod.Manifest:
    """Return the store worker's Deployment: one at a time, since its SQL is for one hand."""
    container = pod.Container(
        name="worker",
        image=images.backfill,
        pull_policy=images.pull_policy,
        arguments=["worker"],
        environment=_environment(meta),
        secrets={"REEMBED_DSN": spec.owner_secret},
        requests={"cpu": "50m", "memory": "96Mi"},
        limits={"memory": "512Mi"},
    )
    template = pod.template(container, worker_labels(meta), account=WORKER_ACCOUNT)
    return pod.deployment(names.worker(meta.name), meta.namespace, 1, template, strategy={"type": "Recreate"})


def gateway_labels(meta: Meta) -> dict[str, str]:
    return pod.labels("gateway", **{names.LABEL_INDEX: meta.name})


def worker_labels(meta: Meta) -> dict[str, str]:
    return pod.labels("worker", **{names.LABEL_INDEX: meta.name})


def _environment(meta: Meta) -> dict[str, str]:
    return {
        "REEMBED_NAMESPACE": meta.namespace,
        "REEMBED_INDEX": meta.name,
        "REEMBED_PORT": str(names.PORT),
    }
