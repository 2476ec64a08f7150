"""The Job that inspects a collection: one pod that reads, asks the pool for a few vectors, and ends."""

from __future__ import annotations

from reembed.controller.manifests import pod
from reembed.core import names
from reembed.core.inspection_orders import Order
from reembed.core.model import SecretKey

# It does all of it again each time.
_TRIES = 3
_SECONDS = 3600
# One that failed is made again after that; what it found is in the store.
_KEEP_SECONDS = 600


def job(order: Order, namespace: str, owner_secret: SecretKey, image: str, pull_policy: str) -> pod.Manifest:
    """Return the Job of an order."""
    selector = pod.labels("inspect", **{names.LABEL_INDEX: order.index})
    embedder = {} if order.pool is None else {"REEMBED_EMBEDDER_URL": names.embedder_url(order.pool, namespace)}
    container = pod.Container(
        name="inspect",
        image=image,
        pull_policy=pull_policy,
        arguments=["inspect"],
        environment={
            "REEMBED_INSPECTION": order.id,
            "REEMBED_COLLECTION": order.collection,
            "REEMBED_FINGERPRINT": order.fingerprint,
            **embedder,
        },
        secrets={"REEMBED_DSN": owner_secret},
        requests={"cpu": "50m", "memory": "96Mi"},
        limits={"memory": "300Mi"},
        serves=False,
    )
    spec = {
        "backoffLimit": _TRIES,
        "activeDeadlineSeconds": _SECONDS,
        "ttlSecondsAfterFinished": _KEEP_SECONDS,
        "template": pod.template(container, selector, spec={"restartPolicy": "Never"}),
    }
    owner = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": "EmbeddingIndex",
        "name": order.index,
        "uid": order.index_uid,
        "controller": True,
    }
    name = names.inspection_job(order.index, spec)
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": selector, "ownerReferences": [owner]},
        "spec": spec,
    }
