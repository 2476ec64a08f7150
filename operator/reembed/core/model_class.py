"""Classes of vectors: which pods may answer for one collection. Pure.

A fingerprint names a model's file and how it is read. It does not name what multiplies: F32, F16 and BF16 of one file,
engines, CPUs and GPUs are one class as long as their vectors are, which is measured and not hashed. The first pod of a
fingerprint that is ready says what the probes' vectors are (`core.sketch`); every later one has to agree with it, also
after a pool was deleted and made again, since the vectors in its collections stayed.

Pods compare (`embedder.membership`), the operator keeps what the first one said (`controller.classes`), and hosted
models are compared at the same limit (`core.hosted`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reembed.core import names
from reembed.core.sketch import cosine

# BF16 weights have about 0.9999 to those of F16, engines and CPUs more.
LEAST_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class ModelClass:
    """What the first pod of a class said of itself."""

    fingerprint: str
    probes: str  # a sketch of their vectors
    weights: str = ""  # the type in which it multiplied
    engine: str = ""  # what multiplied, with its version
    pod: str = ""


def first(said: Mapping[str, ModelClass], fingerprint: str) -> ModelClass | None:
    """Return what the first pod by name said that has this fingerprint and probes that can be compared."""
    usable = (one for _, one in sorted(said.items()) if one.fingerprint == fingerprint)
    return next((one for one in usable if cosine(one.probes, one.probes) is not None), None)


def mismatch(fingerprint: str, found: float | None) -> str | None:
    """Return why a pod does not belong to a class, None if it does.

    `found` is the smallest cosine of its probes and those of the class, None if they cannot be compared.
    """
    if found is not None and found >= LEAST_COSINE:
        return None
    name = names.model_class(fingerprint)
    what = (
        f"the smallest cosine of a probe's vector here and in ConfigMap '{name}' is {found:.4f}, at least "
        f"{LEAST_COSINE} is needed"
        if found is not None
        else f"what ConfigMap '{name}' has of the probes' vectors cannot be compared with the vectors here"
    )
    return (
        f"{what}: with this pod queries would find less in what others of {fingerprint} stored, so it is never ready. "
        "The ConfigMap names the pod, engine and type of weights that were first: compare image and CPU, move the pod "
        "to another node, or go back to that image. To begin a new class, whose collections have to be filled anew, "
        "delete the ConfigMap and all pods of the pool"
    )
