"""The cluster as the demo and the e2e stories use it: the `kubectl` that a user has, run as a program.

The demo does what its reader could type, so it takes no part of the product and no client library. `KUBECTL` names the
program (words are split, so that `kube kubectl` works), `KUBECONFIG` is passed on. Pods are reached through the API
server's proxy, which works on every cluster without a tunnel. What is applied may hold a Secret: it goes to standard
input, and errors quote kubectl, never its input.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "reembed.dev"
# The API server's proxy tries much longer to reach a pod that was killed a moment ago.
_POD_SECONDS = 5


class Failed(Exception):
    """kubectl refused; its own words are the message."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl in one namespace."""

    namespace: str
    program: tuple[str, ...] = ("kubectl",)

    @classmethod
    def of_environment(cls, namespace: str) -> Kubectl:
        return cls(namespace, tuple(shlex.split(os.environ.get("KUBECTL", "kubectl"))))

    async def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what kubectl prints."""
        command = [*self.program, f"--namespace={self.namespace}", *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        out, problem = await process.communicate(stdin.encode() if stdin is not None else None)
        if process.returncode != 0:
            raise Failed(f"kubectl {' '.join(arguments)}: {problem.decode().strip()}")
        return out.decode()

    async def apply(self, *manifests: str) -> None:
        await self.run("apply", "--server-side", "--filename=-", stdin="\n---\n".join(manifests))

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return one object, None if there is none of that name."""
        text = await self.run("get", kind, name, "--output=json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else None

    async def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return list(json.loads(await self.run("get", kind, f"--selector={selector}", "--output=json"))["items"])

    async def rolled_out(self, *names: str, seconds: int = 180) -> None:
        """Wait until Deployments are up."""
        for name in names:
            await self.run("rollout", "status", name, f"--timeout={seconds}s")

    async def raw(self, path: str, *options: str) -> str:
        return await self.run("get", "--raw", path, *options)

    async def pod(self, name: str, path: str, port: int = 8080) -> str:
        """GET a path of a pod through the API server."""
        proxy = f"/api/v1/namespaces/{self.namespace}/pods/{name}:{port}/proxy"
        return await self.raw(f"{proxy}/{path.lstrip('/')}", f"--request-timeout={_POD_SECONDS}s")

    async def watch(self, kind: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """Yield every version of one object, the present one first, until the caller has seen enough."""
        command = [*self.program, f"--namespace={self.namespace}", "get", kind, name, "--watch", "--output=json"]
        while True:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                assert process.stdout is not None
                async for version in objects(process.stdout):
                    yield version
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
            await asyncio.sleep(1.0)  # the watch ended, as every watch does; begin with the present version again


async def objects(stream: asyncio.StreamReader, at_once: int = 1 << 16) -> AsyncIterator[dict[str, Any]]:
    """Yield JSON objects from a stream that has nothing but white space between them."""
    decoder, characters, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")(), ""
    while chunk := await stream.read(at_once):
        text += characters.decode(chunk)
        while text := text.lstrip():
            try:
                version, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break  # the rest of it has not arrived
            text = text[end:]
            yield version


def ready(pods: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the pods that are ready and not about to go."""
    return [
        pod["metadata"]["name"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    ]
