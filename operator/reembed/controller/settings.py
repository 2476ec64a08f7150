"""What the operator's own Deployment tells it, from its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reembed.core.model import Device

_NEEDED = (
    "REEMBED_NAMESPACES",
    "REEMBED_IMAGE_EMBEDDER",
    "REEMBED_IMAGE_GATEWAY",
    "REEMBED_IMAGE_BACKFILL",
    "REEMBED_LEASE",
    "POD_NAMESPACE",
    "POD_NAME",
)


@dataclass(frozen=True, slots=True)
class Images:
    """The images that the operator runs, as full references."""

    embedder: str
    gateway: str
    backfill: str
    pull_policy: str
    embedder_gpu: str = ""  # of variants whose device is a GPU; empty if there is none

    def with_engines(self, engines: Mapping[Device, str]) -> Images:
        """Return these images with those that a pool's pods run."""
        return replace(self, embedder=engines[Device.CPU], embedder_gpu=engines.get(Device.GPU, ""))


@dataclass(frozen=True, slots=True)
class Election:
    """The Lease that decides which replica leads, and the name of this one in it."""

    namespace: str
    lease: str
    identity: str

    @property
    def reference(self) -> str:
        return f"{self.namespace}/{self.lease}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespaces` are those whose objects are served; the chart gives the operator rights in no other."""

    namespaces: tuple[str, ...]
    images: Images
    prometheus: str = ""  # where triggers of users' own are asked; empty if nowhere
    leader_lease: str = ""  # namespace/name of the Lease that tells gateways whether anybody leads; empty for none
    panel: str = ""  # namespace of the panel and its agents; empty if there is none


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: one is missing; the message names it.

    """
    missing = [name for name in _NEEDED if not environment.get(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set; the chart's Deployment sets each")
    namespaces = tuple(one.strip() for one in environment["REEMBED_NAMESPACES"].split(",") if one.strip())
    images = Images(
        embedder=environment["REEMBED_IMAGE_EMBEDDER"],
        gateway=environment["REEMBED_IMAGE_GATEWAY"],
        backfill=environment["REEMBED_IMAGE_BACKFILL"],
        pull_policy=environment.get("REEMBED_PULL_POLICY", "IfNotPresent"),
        embedder_gpu=environment.get("REEMBED_IMAGE_EMBEDDER_GPU", ""),
    )
    prometheus = environment.get("REEMBED_PROMETHEUS_URL", "")
    lease, panel = election_from(environment).reference, environment.get("REEMBED_PANEL_NAMESPACE", "")
    return Settings(namespaces, images, prometheus, lease, panel)


def election_from(environment: Mapping[str, str]) -> Election:
    return Election(environment["POD_NAMESPACE"], environment["REEMBED_LEASE"], environment["POD_NAME"])
