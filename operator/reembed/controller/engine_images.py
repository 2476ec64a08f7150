"""Which image the pods of a pool run: a newer operator replaces engines pool by pool, and none that a migration uses.

An engine of another version may be slower, or need more memory, and a migration compares what it measured before with
what it measures now. So a pool in a migration keeps its pods as they are until that has ended. The others change one
after the other, in the order of their names, each when the one before has all its new pods: an image that does not
start takes one pod of one pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reembed.cluster import kinds
from reembed.controller.cache import Cache, Object, labels_of
from reembed.controller.settings import Images
from reembed.core import names
from reembed.core.model import Device, Meta

_MIGRATION = f"{kinds.MIGRATION.name}/"


def wanted(images: Images) -> dict[Device, str]:
    """Return the images that the operator was given."""
    given = {Device.CPU: images.embedder, Device.GPU: images.embedder_gpu}
    return {device: image for device, image in given.items() if image}


def chosen(
    cache: Cache, meta: Meta, before: Mapping[Device, str], images: Images, used_by: Iterable[str]
) -> dict[Device, str]:
    """Return the images that a pool's pods run from now on; `before` are those that they run."""
    new = wanted(images)
    if not before or all(before.get(device) == image for device, image in new.items() if device in before):
        return {**before, **new}
    users = tuple(used_by)
    if users and (_migrates(users) or _waits(cache, meta, new)):
        return {**new, **before}
    return new


def kept(deployment: Object, replicas: int) -> dict[str, Any]:
    """Return a Deployment as it is but for its size: its template is of the operator that made it."""
    meta, spec = deployment["metadata"], deployment["spec"]
    return {
        "metadata": {name: meta[name] for name in ("name", "namespace", "labels") if name in meta} | _annotated(meta),
        "spec": {"replicas": replicas, **{name: spec[name] for name in ("selector", "template", "strategy")}},
    }


def _annotated(meta: Mapping[str, Any]) -> dict[str, Any]:
    digest = (meta.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE)
    return {"annotations": {names.ANNOTATION_TEMPLATE: digest}} if digest is not None else {}


def _migrates(users: Iterable[str]) -> bool:
    return any(user.startswith(_MIGRATION) for user in users)


def _waits(cache: Cache, meta: Meta, new: Mapping[Device, str]) -> bool:
    """Return whether another pool changes its image just now, or comes before."""
    others = [one for one in cache.all(kinds.POOL, meta.namespace) if one["metadata"]["name"] != meta.name]
    return any(_changes(cache, one, new) or _comes_first(one, meta.name, new) for one in others)


def _comes_first(pool: Object, name: str, new: Mapping[Device, str]) -> bool:
    status = pool.get("status") or {}
    users = status.get("inUseBy") or ()
    image = (status.get("images") or {}).get("embedder")
    outdated = image is not None and image != new.get(Device.CPU)
    return bool(users) and not _migrates(users) and outdated and pool["metadata"]["name"] < name


def _changes(cache: Cache, pool: Object, new: Mapping[Device, str]) -> bool:
    label = {names.LABEL_COMPONENT: "embedder", names.LABEL_POOL: names.fit(pool["metadata"]["name"])}
    lacking = {names.fit(one["name"]) for one in (pool.get("status") or {}).get("variants") or () if one.get("reason")}
    return any(
        _rolling(one, set(new.values()), placed=labels_of(one).get(names.LABEL_VARIANT) not in lacking)
        for one in cache.all(kinds.DEPLOYMENT, pool["metadata"]["namespace"], label)
    )


def _rolling(deployment: Object, new: set[str], *, placed: bool) -> bool:
    """Return whether a Deployment's new pods are not all ready yet; those that wait for a node tell of no image."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    size, status = deployment["spec"].get("replicas", 0), deployment.get("status") or {}
    done = status.get("updatedReplicas", size) >= size and (status.get("readyReplicas", 0) >= size or not placed)
    return container["image"] in new and size > 0 and not done
