"""What a pool remembers of itself in its status: why it has its pods, and what must outlive the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reembed.core.model.specs import Device


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A number of pods that was asked for lately and is larger than what is asked for now."""

    variant: str
    replicas: int
    at: datetime  # the last time


@dataclass(frozen=True, slots=True)
class VariantStatus:
    """The pods of one variant; `reason` is why some cannot run, empty if all can.

    `weight_types` are those in which its pods multiply the weights; pods on unequal CPUs may differ.
    """

    name: str
    desired: int
    ready: int
    reason: str = ""
    weight_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool in use. `reason` and `message` say why it has as many pods as it has, as of `at`."""

    variants: tuple[VariantStatus, ...] = ()
    reason: str = ""
    message: str = ""
    at: datetime | None = None
    floor: int = 0  # pods that migrations need at least
    recycling: str | None = None  # the pod that is being replaced
    standing: tuple[Recommendation, ...] = ()
    images: Mapping[Device, str] = field(default_factory=dict)  # that its pods run
