"""Deterministic names of everything Reembed makes: the same object asks for the same name after every restart.

Kubernetes refuses names above 63 characters for Services and label values, so a name that would be longer is cut and
closed with a hash of the whole.
"""

from __future__ import annotations

import hashlib
import json

GROUP = "reembed.dev"
VERSION = "v1alpha1"
# Of the CRDs that this version of the operator needs; they carry theirs in an annotation.
SCHEMA = 1
ANNOTATION_SCHEMA = f"{GROUP}/schema"
FINALIZER = f"{GROUP}/unwind"
PART_OF = "reembed"
LABEL_COMPONENT = "app.kubernetes.io/component"  # embedder, gateway, worker, backfill, inspect or class
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_POOL = f"{GROUP}/pool"
LABEL_INDEX = f"{GROUP}/index"
LABEL_MIGRATION = f"{GROUP}/migration"
LABEL_SLOT = f"{GROUP}/slot"
LABEL_VARIANT = f"{GROUP}/variant"
CLASS_PREFIX = "reembed-class-"  # of ConfigMaps, the only ones that the operator may make
AGENT_PREFIX = "reembed-panel-"  # of an agent's account, Deployment, Secret and Lease; its name follows
ANNOTATION_TEMPLATE = f"{GROUP}/template"  # digest of the pod template that a pool's Deployment was given
# On a Panel: the digest of its first members, written by who named them. A status is any one agent's to write.
ANNOTATION_FIRST = f"{GROUP}/first-members"
ANNOTATION_FORCE_STABLE = f"{GROUP}/force-stable"
PORT = 8080

_LONGEST = 63
# Of what Kubernetes makes a pod's name of; five characters of chance follow.
_LONGEST_BASE = 58
_HASH = 8


def fit(name: str) -> str:
    """Return `name`, or a prefix of it with a hash of the whole where it is too long for a label value."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - _HASH - 1].rstrip('-.')}-{_digest(name)[:_HASH]}"


def embedder(pool: str, variant: str) -> str:
    """Deployment of one variant of a pool."""
    return fit(f"reembed-embedder-{pool}-{variant}")


def pods_of(deployment: str) -> str:
    """Return what the names of a Deployment's pods begin with."""
    return f"{deployment}-"[:_LONGEST_BASE]


def embedder_service(pool: str) -> str:
    """Service over all pods of a pool."""
    return fit(f"reembed-embedder-{pool}")


def embedder_url(pool: str, namespace: str) -> str:
    return f"http://{embedder_service(pool)}.{namespace}.svc:{PORT}"


def model_class(fingerprint: str) -> str:
    """ConfigMap of what makes pods of a fingerprint one class; a policy of the chart knows how its name begins."""
    return fit(f"{CLASS_PREFIX}{fingerprint}")


def at(address: str, port: int = PORT) -> str:
    """Return a pod's address as URLs have it, with its port; in tests an address may have one of its own."""
    if address.count(":") > 1 and not address.startswith("["):
        return f"[{address}]:{port}"  # of IPv6
    return address if ":" in address.rpartition("]")[2] else f"{address}:{port}"


def gateway(index: str) -> str:
    """Deployment, Service and PodDisruptionBudget of an index's gateway."""
    return fit(f"reembed-gateway-{index}")


def gateway_url(index: str, namespace: str) -> str:
    return f"http://{gateway(index)}.{namespace}.svc:{PORT}"


def worker(index: str) -> str:
    """Deployment of an index's store worker."""
    return fit(f"reembed-worker-{index}")


def index_key(namespace: str, index: str) -> str:
    """What names an index in the store, where several clusters and namespaces may meet."""
    return f"{namespace}/{index}"


def collection(migration_uid: str, attempt: int) -> str:
    """Table of one migration's vectors, a new one for every attempt."""
    return f"c_{_digest(f'{migration_uid}/{attempt}')[:16]}"


def adopted(index_uid: str) -> str:
    """Collection whose vectors are in a column of the application's own table."""
    return f"a_{_digest(f'{index_uid}/adopted')[:16]}"


def backfill_job(migration: str, attempt: int, template: object) -> str:
    """Job of one attempt. A Job's template is immutable, so another template (JSON-ready) asks for another name."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return f"{fit(f'reembed-backfill-{migration}-{attempt}')[:52]}-{_digest(text)[:_HASH]}"


def inspection_job(index: str, template: object) -> str:
    """Job of one inspection: its template names the order."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return f"{fit(f'reembed-inspect-{index}')[:52]}-{_digest(text)[:_HASH]}"


def digest(value: object) -> str:
    """Return what names a JSON-ready value."""
    return _digest(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str))[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
