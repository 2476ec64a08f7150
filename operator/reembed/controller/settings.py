"""What the operator's own Deployment tells it, from its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Images:
    """The images that the operator runs, as full references."""

    embedder: str
    gateway: str
    backfill: str
    pull_policy: str


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespaces` are those whose objects are served; the chart gives the operator rights in no other."""

    namespaces: tuple[str, ...]
    images: Images
    prometheus: str = ""  # where triggers of users' own are asked; empty if nowhere


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: one is missing; the message names it.

    """
    names = ("REEMBED_NAMESPACES", "REEMBED_IMAGE_EMBEDDER", "REEMBED_IMAGE_GATEWAY", "REEMBED_IMAGE_BACKFILL")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set; the chart's Deployment sets each")
    namespaces = tuple(one.strip() for one in environment["REEMBED_NAMESPACES"].split(",") if one.strip())
    images = Images(
        embedder=environment["REEMBED_IMAGE_EMBEDDER"],
        gateway=environment["REEMBED_IMAGE_GATEWAY"],
        backfill=environment["REEMBED_IMAGE_BACKFILL"],
        pull_policy=environment.get("REEMBED_PULL_POLICY", "IfNotPresent"),
    )
    return Settings(namespaces, images, environment.get("REEMBED_PROMETHEUS_URL", ""))
