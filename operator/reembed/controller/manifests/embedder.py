"""Deployments and Service of an EmbedderPool."""

from __future__ import annotations

from typing import Any

from reembed.controller.manifests import pod
from reembed.controller.settings import Images
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Meta, PoolSpec, Variant

_CACHE = "/cache"
_MODELS = "/models"


def deployment(meta: Meta, spec: PoolSpec, variant: Variant, replicas: int, images: Images) -> pod.Manifest:
    """Return the Deployment of one variant."""
    container = pod.Container(
        name="embedder",
        image=images.embedder,
        pull_policy=images.pull_policy,
        environment=_environment(spec),
        requests=variant.requests,
        limits=variant.limits,
        mounts=[{"name": "cache", "mountPath": _CACHE}, *_model_mounts(spec)],
    )
    volumes: list[pod.Manifest] = [{"name": "cache", "emptyDir": {}}]
    if spec.claim_name is not None:
        claim = {"claimName": spec.claim_name, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    placement: dict[str, Any] = {
        "nodeSelector": dict(variant.node_selector),
        "tolerations": [dict(one) for one in variant.tolerations],
        "terminationGracePeriodSeconds": 60,
    }
    selector = labels(meta, variant)
    template = pod.template(container, selector, volumes=volumes, spec=placement)
    # A pool that answers queries keeps its capacity while its pods are replaced.
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return pod.deployment(
        names.embedder(meta.name, variant.name), meta.namespace, replicas, template, strategy=strategy
    )


def service(meta: Meta) -> pod.Manifest:
    """Return the Service over all variants."""
    return pod.service(names.embedder_service(meta.name), meta.namespace, pool_labels(meta))


def labels(meta: Meta, variant: Variant) -> dict[str, str]:
    return {**pool_labels(meta), names.LABEL_VARIANT: names.fit(variant.name)}


def pool_labels(meta: Meta) -> dict[str, str]:
    return pod.labels("embedder", **{names.LABEL_POOL: meta.name})


def _environment(spec: PoolSpec) -> dict[str, str]:
    model = spec.model
    environment = {
        "REEMBED_MODEL_URI": model.uri,
        "REEMBED_MODEL_SHA256": model.sha256,
        "REEMBED_POOLING": model.pooling.value,
        "REEMBED_DIMENSIONS": str(model.dimensions),
        "REEMBED_MAX_TOKENS": str(model.max_tokens),
        "REEMBED_TRUNCATE": model.truncate.value,
        "REEMBED_QUERY_PREFIX": model.query_prefix,
        "REEMBED_DOCUMENT_PREFIX": model.document_prefix,
        "REEMBED_FINGERPRINT": fingerprint(model),
        "REEMBED_CACHE_DIR": _CACHE,
        "REEMBED_PORT": str(names.PORT),
        "REEMBED_WEIGHTS": spec.weight_type.value,
        "REEMBED_TEXT_CACHE_BYTES": str(spec.text_cache),
    }
    if spec.default_input_type is not None:
        environment["REEMBED_DEFAULT_INPUT_TYPE"] = spec.default_input_type.value
    return environment


def _model_mounts(spec: PoolSpec) -> list[pod.Manifest]:
    return [{"name": "models", "mountPath": _MODELS, "readOnly": True}] if spec.claim_name is not None else []
