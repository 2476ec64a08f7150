"""The Indexed Job that fills a collection.

Its name holds a hash of its template, which Kubernetes does not let anybody change: an operator that builds another
template makes another Job instead of failing at every pass. Only `parallelism` changes in place. Done-ness is in the
store, never in the Job.
"""

from __future__ import annotations

from reembed.controller.manifests import pod
from reembed.core import elastic, names
from reembed.core.desired import BackfillJob
from reembed.core.model import SecretKey

# A shard's pod that dies goes on from its last page, so it may die often before the shard is given up.
_TRIES_PER_SHARD = 10
_KEEP_SECONDS = 3600


def job(of: BackfillJob, namespace: str, owner_secret: SecretKey, pull_policy: str) -> pod.Manifest:
    """Return the Job; with `parallelism` 0 none of its pods runs, and each goes on from its last page afterwards."""
    selector = pod.labels("backfill", **{names.LABEL_INDEX: of.index, names.LABEL_MIGRATION: of.migration})
    container = pod.Container(
        name="backfill",
        image=of.image,
        pull_policy=pull_policy,
        arguments=["shard"],
        environment={
            "REEMBED_COLLECTION": of.collection,
            "REEMBED_EMBEDDER_URL": names.embedder_url(of.pool, namespace),
            "REEMBED_FINGERPRINT": of.fingerprint,
            # Whose callers the backfill yields to; where there is none yet, nobody answers.
            "REEMBED_GATEWAY_URL": names.gateway_url(of.index, namespace),
        },
        secrets={"REEMBED_DSN": owner_secret},
        requests={"cpu": "50m", "memory": "96Mi"},
        limits={"memory": "300Mi"},
        serves=False,
    )
    template = pod.template(container, selector, spec={"restartPolicy": "Never"})
    fixed = {
        "completions": of.shards,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": _TRIES_PER_SHARD,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                # A Job that is lowered counts the pods that it ends itself as failures: a shard whose pod was paused or
                # sent away ten times would be given up.
                {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [elastic.SENT_AWAY]}},
            ]
        },
        "ttlSecondsAfterFinished": _KEEP_SECONDS,
        "template": template,
    }
    name = names.backfill_job(of.migration, of.attempt, fixed)
    # Unlike what serves, a Job may go with the migration that it worked for, at once.
    owner = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": "EmbeddingMigration",
        "name": of.migration,
        "uid": of.migration_uid,
        "controller": True,
    }
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": selector, "ownerReferences": [owner]},
        "spec": {**fixed, "parallelism": of.parallelism},
    }
