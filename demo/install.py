"""Installs the chart as its reader would, with the images that were built from this tree."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.kubectl import Failed, Kubectl

SYSTEM = "reembed-system"
_IMAGES = ("operator", "embedder", "gateway", "backfill", "panel")
_CHART = Path(__file__).resolve().parent.parent / "charts" / "reembed"


@dataclass(frozen=True, slots=True)
class Release:
    """The operator's release: where it runs, what it watches, and the images it is made of."""

    kubectl: Kubectl
    watched: tuple[str, ...]
    registry: str
    tag: str
    helm: tuple[str, ...]

    @classmethod
    def of_environment(cls, *watched: str) -> Release:
        return cls(
            kubectl=Kubectl.of_environment(SYSTEM),
            watched=watched,
            registry=os.environ.get("REEMBED_REGISTRY", "localhost"),
            tag=os.environ.get("REEMBED_TAG", "dev"),
            helm=tuple(shlex.split(os.environ.get("HELM", "helm"))),
        )

    def image(self, name: str) -> str:
        return f"{self.registry}/reembed-{name}:{self.tag}"

    async def install(self, **more: str) -> None:
        """Install or upgrade, and wait until the operator is up; `more` names images by their keys in the values."""
        values = {f"images.{image}.repository": f"{self.registry}/reembed-{image}" for image in _IMAGES}
        values |= {f"images.{image}.tag": self.tag for image in _IMAGES}
        for key, name in more.items():
            values |= {f"images.{key}.repository": f"{self.registry}/reembed-{name}", f"images.{key}.tag": self.tag}
        # As strings: a tag may have digits alone.
        settings = [word for key, value in values.items() for word in ("--set-string", f"{key}={value}")]
        settings += ["--set", f"watchNamespaces={{{','.join(self.watched)}}}"]
        await self._helm("upgrade", "--install", "reembed", str(_CHART), "--create-namespace", *settings)

    async def upgrade(self, key: str, value: str) -> None:
        """Change one value of what is installed."""
        await self._helm("upgrade", "reembed", str(_CHART), "--reuse-values", "--set-string", f"{key}={value}")

    async def set(self, values: Mapping[str, str]) -> None:
        """Change values of what is installed, each as Helm reads it."""
        settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        await self._helm("upgrade", "reembed", str(_CHART), "--reuse-values", *settings)

    async def roll_back(self) -> None:
        """Go back to the revision before the last one."""
        await self._helm("rollback", "reembed")

    async def _helm(self, *words: str) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.helm, *words, f"--namespace={SYSTEM}", "--wait", "--timeout=3m", stdout=pipe, stderr=pipe
        )
        _, problem = await process.communicate()
        if process.returncode != 0:
            raise Failed(f"helm {words[0]} failed: {problem.decode().strip()}")
