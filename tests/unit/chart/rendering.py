"""Renders the chart with the helm of the binary that the test cluster runs from, and compares what comes out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hack.cache import ROOT

CHART = ROOT / "charts" / "reembed"
CRDS = ROOT / "crds"

Manifest = dict[str, Any]


def template(kube: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Run `helm template` as release `reembed` of namespace `reembed-system`; each setting is a KEY=VALUE."""
    values = [word for setting in settings for word in ("--set", setting)]
    command = [str(kube), "helm", "template", "reembed", str(CHART), "--namespace", "reembed-system", *values]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def render(kube: Path, *settings: str) -> list[Manifest]:
    """Return what the chart installs."""
    done = template(kube, *settings)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def of_kind(manifests: list[Manifest], kind: str) -> Iterator[Manifest]:
    yield from (one for one in manifests if one["kind"] == kind)


def operator_pod(manifests: list[Manifest]) -> Manifest:
    """Return the spec of the operator's pod."""
    (deployment,) = of_kind(manifests, "Deployment")
    pod: Manifest = deployment["spec"]["template"]["spec"]
    return pod
