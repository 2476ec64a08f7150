"""What the repository shows its readers is what the API server takes, with the chart's schemas and policies.

The stories apply what can run beside each other; here every file is put to the server, so that one which no story needs
cannot rot. Only the Argo CD Application is left to its unit tests, since its kind comes with Argo CD, and values of the
chart to those of the chart.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from demo.install import Release
from demo.kubectl import Kubectl
from hack.cache import ROOT
from tests.e2e.conftest import NAMESPACES

ARGOCD = ROOT / "examples" / "argocd"
MANIFESTS = sorted(
    path for path in (ROOT / "examples").rglob("*.yaml") if path.parent != ARGOCD and path.name != "values.yaml"
)


@pytest.fixture
def kubectl(release: Release) -> Kubectl:
    return Kubectl.of_environment(NAMESPACES[0])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT / "examples")))
async def test_an_example_is_taken_by_the_api_server(kubectl: Kubectl, path: Path) -> None:
    taken = await kubectl.run("apply", "--server-side", "--dry-run=server", "--validate=strict", f"--filename={path}")
    assert "serverside-applied" in taken


async def test_the_patch_for_argo_cd_is_one(kubectl: Kubectl, tmp_path: Path) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "theirs"}}
    await kubectl.apply(json.dumps(made))
    patch = tmp_path / "patch.yaml"
    patch.write_bytes(await _printed(ARGOCD / "customizations.py"))

    await kubectl.run("patch", "configmap", "argocd-cm", f"--patch-file={patch}")

    patched = await kubectl.get("configmap", "argocd-cm")
    assert patched is not None
    assert patched["data"].pop("url") == "theirs"
    assert patched["data"] == json.loads(patch.read_text())["data"]
    await kubectl.run("delete", "configmap", "argocd-cm")


async def _printed(program: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(sys.executable, program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out
