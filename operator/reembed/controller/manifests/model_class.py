"""The ConfigMap of a class of pods (`core.model_class`)."""

from __future__ import annotations

from reembed.controller.manifests import pod
from reembed.core import names
from reembed.core.model_class import ModelClass

# The key that pods read; the others are for people.
PROBES = "probes"


def config_map(namespace: str, of: ModelClass) -> pod.Manifest:
    """Return what nobody can change, and nobody takes along: the vectors that it is about outlive their pool."""
    data = {"fingerprint": of.fingerprint, PROBES: of.probes, "weights": of.weights, "engine": of.engine, "pod": of.pod}
    return {
        "metadata": {
            "name": names.model_class(of.fingerprint),
            "namespace": namespace,
            "labels": pod.labels("class"),
        },
        "immutable": True,
        "data": data,
    }
