"""Installs the chart as its reader would, with the images that were built from this tree."""

from __future__ import annotations

import asyncio
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from demo.kubectl import Failed, Kubectl

SYSTEM = "reembed-system"
_IMAGES = ("operator", "embedder", "gateway", "backfill")
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

    async def install(self) -> None:
        """Install or upgrade, and wait until the operator is up."""
        values = {f"images.{image}.repository": f"{self.registry}/reembed-{image}" for image in _IMAGES}
        values |= {f"images.{image}.tag": self.tag for image in _IMAGES}
        values["watchNamespaces"] = f"{{{','.join(self.watched)}}}"
        settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        command = [*self.helm, "upgrade", "--install", "reembed", str(_CHART), f"--namespace={SYSTEM}"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, "--create-namespace", "--wait", "--timeout=3m", *settings, stdout=pipe, stderr=pipe
        )
        _, problem = await process.communicate()
        if process.returncode != 0:
            raise Failed(f"helm could not install the chart: {problem.decode().strip()}")
