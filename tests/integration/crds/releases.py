"""Installing the chart by a real `helm install`, and who its accounts are."""

from __future__ import annotations

import subprocess

from tests.integration.crds.objects import Kubectl

# The API server takes a new policy up within a second or two.
PATIENCE_SECONDS = 30


def helm(kubectl: Kubectl, *words: str) -> None:
    command = [str(kubectl.binary), "helm", f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
    done = subprocess.run([*command, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def account(kubectl: Kubectl, name: str) -> str:
    return f"system:serviceaccount:{kubectl.namespace}:{name}"
