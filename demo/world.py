"""A place where migrations can be shown: one namespace with a database, a model server, pools and an index.

`demo.run` makes one and leaves it for its reader to look around; every e2e story makes its own. What a user of Reembed
would write comes from examples/, unchanged; what stands for the user's own systems comes from demo/manifests/.
Passwords are made here, live in the Secret alone and are never printed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from demo.kubectl import Failed, Kubectl

INDEX = "functions"
OLD_POOL = "minilm-l3"
NEW_POOL = "minilm-l6"
FIRST_FILL = "functions-first-fill"
MIGRATION = "functions-to-l6"
FIRST_EXAMPLES = ("pool-old.yaml", "pool-new.yaml", "index.yaml", "first-fill.yaml")
LAST_EXAMPLE = "migration.yaml"
# Applied by the stories of pools: what the demo's machine has no GPU for.
GPU_EXAMPLE = "pool-gpu-first.yaml"
HOSTED_EXAMPLE = "pool-external.yaml"
HOSTED_POOL = "openai-small"
_OURS = "app.kubernetes.io/part-of=reembed-demo"
_ROOT = Path(__file__).resolve().parent.parent
_MANIFESTS = _ROOT / "demo" / "manifests"
_EXAMPLES = _ROOT / "examples"


@dataclass(frozen=True, slots=True)
class World:
    """One namespace. `documents` and `rate` size what it holds and how often it is asked."""

    kubectl: Kubectl
    image: str
    documents: int
    rate: float

    async def clear(self) -> None:
        """Delete what an earlier run left; migrations go first, while what unwinds them is still there."""
        await self.kubectl.run("delete", "embeddingmigrations", "--all", "--timeout=120s")
        await self.kubectl.run("delete", "embeddingindexes", "--all", "--timeout=120s")
        await self._delete_pools()
        await self.kubectl.run("delete", "deployments,pods,services,secrets", f"--selector={_OURS}", "--timeout=60s")

    async def make_namespace(self) -> None:
        """Make the namespace, in which only restricted pods may run."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": self.kubectl.namespace, "labels": labels}
        await self.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    async def start_store(self) -> None:
        """Start PostgreSQL and load the corpus."""
        await self.kubectl.apply(self.credentials(), self.manifest("postgres.yaml"))
        await self.kubectl.rolled_out("deployment/postgres")

    async def start_models(self) -> None:
        await self.kubectl.apply(self.manifest("models.yaml"))
        await self.kubectl.rolled_out("deployment/models")

    async def apply_example(self, *names: str) -> None:
        await self.kubectl.apply(*((_EXAMPLES / name).read_text() for name in names))

    async def migrate(self) -> str:
        """Ask for the migration of examples/ and return its name."""
        await self.apply_example(LAST_EXAMPLE)
        return MIGRATION

    async def migrate_impatiently(self) -> str:
        """Ask for the same with triggers that need seconds instead of minutes, and return its name."""
        await self.kubectl.apply(self.manifest("rollback.yaml"))
        return MIGRATION

    async def fill(self, seconds: int = 300) -> None:
        """Give the index its first vectors and wait for its gateway."""
        await self.apply_example(*FIRST_EXAMPLES)
        await self.kubectl.run("wait", f"emig/{FIRST_FILL}", "--for=condition=Succeeded", f"--timeout={seconds}s")
        await self.kubectl.rolled_out(f"deployment/reembed-gateway-{INDEX}")

    async def start_load(self) -> None:
        """Start the steady queries; they go on until `stop_load`."""
        await self.kubectl.apply(self.manifest("load.yaml"))
        await self.kubectl.run("wait", "pod/load", "--for=condition=Ready", "--timeout=60s")

    async def start_writer(self, per_second: float) -> None:
        """Have an application change documents; it goes on until `stop_writer`."""
        await self.kubectl.apply(self.manifest("writer.yaml", WRITES=str(per_second)))
        await self.kubectl.run("wait", "pod/writer", "--for=condition=Ready", "--timeout=60s")

    async def stop_writer(self) -> dict[str, Any]:
        """Stop the writer and return its tally."""
        return await self._ended("writer")

    async def tally(self) -> dict[str, Any]:
        """Return what the load pod has counted so far."""
        return dict(json.loads(await self.kubectl.pod("load", "/tally")))

    async def stop_load(self) -> dict[str, Any]:
        """Stop the queries, wait until each was answered or failed, and return the final tally."""
        return await self._ended("load")

    async def _ended(self, pod: str) -> dict[str, Any]:
        await self.kubectl.run("exec", pod, "--", "sh", "-c", "kill -TERM 1")
        await self.kubectl.run("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
        return dict(json.loads((await self.kubectl.run("logs", pod)).splitlines()[-1]))

    async def sql(self, query: str) -> list[list[Any]]:
        """Return the rows of a query, asked as an administrator inside the database's pod."""
        program = "import json, sys, psycopg; " + (
            "connection = psycopg.connect(host='/tmp', user='postgres', dbname='rag'); "
            "print(json.dumps(connection.execute(sys.argv[1]).fetchall()))"
        )
        return list(json.loads(await self.kubectl.run("exec", "deploy/postgres", "--", "python", "-c", program, query)))

    async def _delete_pools(self) -> None:
        """Delete the pools once nobody uses them, which they learn a moment after their index is gone."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.kubectl.run("delete", "embedderpools", "--all", "--timeout=60s")
                    return
                except Failed as refusal:
                    if "is in use by" not in str(refusal):
                        raise
                    await asyncio.sleep(1.0)

    def manifest(self, name: str, **more: str) -> str:
        values = {"IMAGE": self.image, "DOCUMENTS": str(self.documents), "RATE": str(self.rate), **more}
        return Template((_MANIFESTS / name).read_text()).substitute(values)

    def credentials(self) -> str:
        host = f"postgres.{self.kubectl.namespace}.svc:5432"
        logins = {"owner": "reembed_owner", "gateway": "reembed_gateway", "application": "application"}
        values = {key: f"postgresql://{role}:{secrets.token_urlsafe(24)}@{host}/rag" for key, role in logins.items()}
        metadata = {"name": "functions-store", "labels": dict([_OURS.split("=")])}
        return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
