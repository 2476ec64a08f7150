"""Deployments and Service of an EmbedderPool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reembed.controller.manifests import pod
from reembed.controller.manifests.model_class import PROBES
from reembed.controller.settings import Images
from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Device, Meta, PoolSpec, SecretKey, Validation, Variant

_CACHE = "/cache"
_MODELS = "/models"
_KEY = "/key"
_REFERENCES = "/references"
_CLASS = "/class"
# The variable that names another place, by the URI's scheme, and the keys of a Secret that say who asks.
_ENDPOINTS = {"hf": "HF_ENDPOINT", "s3": "AWS_ENDPOINT_URL"}
_SESSION = "AWS_SESSION_TOKEN"
_KEYS = {"hf": ("HF_TOKEN",), "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", _SESSION)}


def deployment(meta: Meta, spec: PoolSpec, variant: Variant, replicas: int, images: Images) -> pod.Manifest:
    """Return the Deployment of one variant."""
    container = pod.Container(
        name="embedder",
        image=image(variant.device, images),
        pull_policy=images.pull_policy,
        environment={**_environment(spec, variant.device), **_download(spec), **_endpoint(spec, variant)},
        secrets=_credentials(spec),
        optional_secrets=frozenset({_SESSION}),
        requests=variant.requests,
        limits=variant.limits,
        mounts=_mounts(spec),
    )
    volumes: list[pod.Manifest] = [{"name": "cache", **_cache(spec)}]
    if spec.claim_name is not None:
        claim = {"claimName": spec.claim_name, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    placement: dict[str, Any] = {
        "nodeSelector": dict(variant.node_selector),
        "tolerations": [dict(one) for one in variant.tolerations],
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": [_spread(labels(meta, variant))],
    }
    if (key := _key(spec)) is not None:
        volumes.append({"name": "key", "secret": _secret(key)})
    if spec.validation is not None:
        volumes.append({"name": "references", "configMap": _references(spec.validation)})
    if spec.external is None:
        volumes.append({"name": "class", "configMap": _model_class(spec)})
    selector = labels(meta, variant)
    template = pod.template(container, selector, volumes=volumes, spec=placement)
    name = names.embedder(meta.name, variant.name)
    made = pod.deployment(name, meta.namespace, replicas, template, strategy=_strategy(variant.device))
    # The API server writes quantities in its own way, so that two templates cannot be compared by themselves.
    made["metadata"]["annotations"] = {names.ANNOTATION_TEMPLATE: names.digest(template)}
    return made


def image(device: Device, images: Images) -> str:
    """Return the image that computes on a device, empty if there is none."""
    return images.embedder_gpu if device is Device.GPU else images.embedder


def disruption_budget(meta: Meta, stuck: int) -> pod.Manifest:
    """Return the budget of a pool: nodes are drained a pod at a time.

    Pods that no node has room for (`stuck`) are disruptions that last, and would use it up: then no node with a pod of
    the pool could be drained for as long.

    A pool of one pod can be drained as well, or one small pool would hold up every upgrade of a node. Pods that never
    became ready hold up nothing.
    """
    with_labels = pool_labels(meta)
    return {
        "metadata": {"name": names.embedder_service(meta.name), "namespace": meta.namespace, "labels": with_labels},
        "spec": {
            "maxUnavailable": 1 + stuck,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": with_labels},
        },
    }


def service(meta: Meta) -> pod.Manifest:
    """Return the Service over all variants."""
    return pod.service(names.embedder_service(meta.name), meta.namespace, pool_labels(meta))


def labels(meta: Meta, variant: Variant) -> dict[str, str]:
    return {**pool_labels(meta), names.LABEL_VARIANT: names.fit(variant.name)}


def pool_labels(meta: Meta) -> dict[str, str]:
    return pod.labels("embedder", **{names.LABEL_POOL: meta.name})


def _strategy(device: Device) -> pod.Manifest:
    """Return how pods are replaced: a pool that answers queries keeps its capacity meanwhile.

    A GPU that is held by the old pod is not there for a new one, which would wait for it for ever.
    """
    surge, unavailable = (0, 1) if device is Device.GPU else (1, 0)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _spread(selector: Mapping[str, str]) -> pod.Manifest:
    """Return that pods go to different nodes where they can: a node that goes takes few of them along."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selector)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def _environment(spec: PoolSpec, device: Device) -> dict[str, str]:
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
        "REEMBED_DEVICE": device.value,
    }
    if spec.validation is not None:
        environment["REEMBED_REFERENCES"] = f"{_REFERENCES}/references"
        environment["REEMBED_MIN_COSINE"] = f"{spec.validation.min_cosine:g}"
    if spec.external is None:
        environment["REEMBED_CLASS"] = f"{_CLASS}/{PROBES}"
    if spec.default_input_type is not None:
        environment["REEMBED_DEFAULT_INPUT_TYPE"] = spec.default_input_type.value
    return environment


def _mounts(spec: PoolSpec) -> list[pod.Manifest]:
    cache = {"name": "cache", "mountPath": _CACHE}
    return [cache, *_model_mounts(spec), *_key_mounts(spec), *_reference_mounts(spec), *_class_mounts(spec)]


def _model_mounts(spec: PoolSpec) -> list[pod.Manifest]:
    return [{"name": "models", "mountPath": _MODELS, "readOnly": True}] if spec.claim_name is not None else []


def _secret(key: SecretKey) -> pod.Manifest:
    """Return a Secret's volume; without it the pod starts and says what is missing, which a mount cannot."""
    return {"secretName": key.name, "items": [{"key": key.key, "path": "key"}], "optional": True}


def _references(validation: Validation) -> pod.Manifest:
    """Return the ConfigMap's volume; without it the pod starts and says what is missing, which a mount cannot."""
    items = [{"key": validation.config_map.key, "path": "references"}]
    return {"name": validation.config_map.name, "items": items, "optional": True}


def _reference_mounts(spec: PoolSpec) -> list[pod.Manifest]:
    mount = {"name": "references", "mountPath": _REFERENCES, "readOnly": True}
    return [mount] if spec.validation is not None else []


def _model_class(spec: PoolSpec) -> pod.Manifest:
    """Return the ConfigMap's volume; it is made of what the first pods say, and comes to those that run."""
    items = [{"key": PROBES, "path": PROBES}]
    return {"name": names.model_class(fingerprint(spec.model)), "items": items, "optional": True}


def _class_mounts(spec: PoolSpec) -> list[pod.Manifest]:
    # As a whole: a file that is mounted by itself would not come later.
    return [{"name": "class", "mountPath": _CLASS, "readOnly": True}] if spec.external is None else []


def _key(spec: PoolSpec) -> SecretKey | None:
    return spec.external.secret if spec.external is not None else None


def _key_mounts(spec: PoolSpec) -> list[pod.Manifest]:
    return [{"name": "key", "mountPath": _KEY, "readOnly": True}] if _key(spec) is not None else []


def _endpoint(spec: PoolSpec, variant: Variant) -> dict[str, str]:
    """Return how pods ask for a hosted model's vectors; the pool's limits are divided among them."""
    hosted, external = spec.model.hosted, spec.external
    if hosted is None or external is None:
        return {}
    limits = {"REQUESTS": external.requests_per_minute, "TOKENS": external.tokens_per_minute}
    shares = {name: limit / variant.max_replicas for name, limit in limits.items() if limit is not None}
    key = {"REEMBED_KEY_FILE": f"{_KEY}/key"} if external.secret is not None else {}
    return {
        "REEMBED_HOSTED_MODEL": hosted.name,
        "REEMBED_MAX_CHARACTERS": str(hosted.max_characters),
        "REEMBED_GENERATION": str(hosted.generation),
        "REEMBED_SEND_DIMENSIONS": str(hosted.send_dimensions).lower(),
        "REEMBED_BUDGETED": str(external.budget_tokens is not None).lower(),
        **{f"REEMBED_{name}_PER_MINUTE": f"{share:g}" for name, share in shares.items()},
        **key,
    }


def _cache(spec: PoolSpec) -> pod.Manifest:
    if spec.cache_claim is None:
        return {"emptyDir": {}}
    return {"persistentVolumeClaim": {"claimName": spec.cache_claim}}


def _download(spec: PoolSpec) -> dict[str, str]:
    """Return where a file is asked for, in the variables that the hub's and S3's own tools read."""
    download, endpoint = spec.download, _ENDPOINTS.get(_scheme(spec))
    environment = {"AWS_REGION": download.region} if download.region is not None else {}
    if endpoint is not None and download.endpoint is not None:
        environment[endpoint] = download.endpoint
    return environment


def _credentials(spec: PoolSpec) -> dict[str, SecretKey]:
    if spec.download.secret_name is None:
        return {}
    return {key: SecretKey(spec.download.secret_name, key) for key in _KEYS.get(_scheme(spec), ())}


def _scheme(spec: PoolSpec) -> str:
    return spec.model.uri.partition("://")[0]
