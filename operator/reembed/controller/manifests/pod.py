"""What all pods of Reembed share: labels, restricted security, a writable /tmp, probes.

Pod Security's `restricted` level holds for each of them. What serves carries no ownerReference (a foreground deletion
of an owner would remove it at once, whatever finalizer the owner still has): labels say whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reembed.core import names
from reembed.core.model import SecretKey

Manifest = dict[str, Any]

# The user of the images; the file system of a pod belongs to its group.
_USER = 10001


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a Reembed pod, without what all of them share."""

    name: str
    image: str
    pull_policy: str
    environment: Mapping[str, str]
    secrets: Mapping[str, SecretKey] = field(default_factory=dict)
    optional_secrets: frozenset[str] = frozenset()  # names in `secrets` whose key may be missing
    arguments: Sequence[str] = ()
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Manifest] = ()
    serves: bool = True  # answers on the port: gets probes


def labels(component: str, **more: str) -> dict[str, str]:
    """Return the labels of one component's objects; values are cut to what a label holds."""
    return {
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_MANAGED_BY: names.PART_OF,
        names.LABEL_COMPONENT: component,
        **{key: names.fit(value) for key, value in more.items()},
    }


def template(
    of: Container,
    with_labels: Mapping[str, str],
    *,
    account: str | None = None,
    volumes: Sequence[Manifest] = (),
    spec: Mapping[str, Any] | None = None,
) -> Manifest:
    """Return a pod template; without `account` the pod gets no token for the API."""
    access: Manifest = {"automountServiceAccountToken": account is not None}
    if account is not None:
        access["serviceAccountName"] = account
    return {
        "metadata": {
            "labels": dict(with_labels),
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(names.PORT)},
        },
        "spec": {
            **access,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(of)],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
            **(spec or {}),
        },
    }


def deployment(name: str, namespace: str, replicas: int, pod: Manifest, **spec: Any) -> Manifest:
    """Return a Deployment whose selector is all labels of its pods."""
    with_labels = pod["metadata"]["labels"]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": with_labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": with_labels}, "template": pod, **spec},
    }


def service(name: str, namespace: str, selector: Mapping[str, str]) -> Manifest:
    """Return a Service on the port that all components serve."""
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(selector)},
        "spec": {
            "selector": dict(selector),
            "ports": [{"name": "http", "port": names.PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _container(of: Container) -> Manifest:
    secrets = [
        {"name": name, "valueFrom": {"secretKeyRef": _reference(key, optional=name in of.optional_secrets)}}
        for name, key in sorted(of.secrets.items())
    ]
    container: Manifest = {
        "name": of.name,
        "image": of.image,
        "imagePullPolicy": of.pull_policy,
        "env": [
            *({"name": name, "value": _literal(value)} for name, value in sorted(of.environment.items())),
            *secrets,
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": dict(of.requests), "limits": dict(of.limits)},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *of.mounts],
        "terminationMessagePolicy": "File",
    }
    if of.arguments:
        container["args"] = list(of.arguments)
    if of.serves:
        container |= {
            "ports": [{"name": "http", "containerPort": names.PORT, "protocol": "TCP"}],
            "readinessProbe": _probe("/ready", period=2, failures=3),
            "livenessProbe": _probe("/health", period=10, failures=6),
        }
    return container


def _reference(key: SecretKey, *, optional: bool) -> Manifest:
    return {"name": key.name, "key": key.key, **({"optional": True} if optional else {})}


def _literal(value: str) -> str:
    """Return a value that Kubernetes hands on as it is: it would expand $(NAME), and a prefix must not change."""
    return value.replace("$", "$$")


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
