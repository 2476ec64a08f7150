"""A panel on real pods, agents that lie there, and forged routings: what the stories of panels do and look at."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.install import Release
from demo.kubectl import Kubectl
from demo.world import FIRST_EXAMPLES, FIRST_FILL, INDEX, World
from reembed.api import parse_index
from reembed.api.panel import Ballot, parse_ballot, parse_panel, render_decision
from reembed.api.specs import parse_terms
from reembed.core import names
from reembed.core.model import Arm
from reembed.core.quorum import certificates
from reembed.core.quorum.certificates import Certificate, Choice
from reembed.core.quorum.proposals import Kind, Proposal, Subject
from reembed.core.quorum.raising import split
from tests.e2e.plugin import reembed
from tests.e2e.story import example

NAMESPACE = "reembed-panel"
AGENTS = (
    "byzantine-coordinator",
    "configuration-manager",
    "embedding-specialist",
    "embeddings-validator",
    "memory-analyst",
    "parallelism-optimizer",
    "pattern-learner",
    "streaming-loader",
)
_STORES = "reembed-panel-stores"
_ROLE = "reembed_agent"
_FORGERIES = 5
_OPERATOR = "system:serviceaccount:reembed-system:reembed"
# One node has them all here.
_ON = {
    "panel.enabled": "true",
    "panel.createNamespace": "true",
    "panel.namespace": NAMESPACE,
    "panel.whenUnsatisfiable": "ScheduleAnyway",
}

# The agent's own program, with a judge that measures nothing.
_LIAR = """
import asyncio, sys
from contextlib import asynccontextmanager
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.judging import Judgement
from reembed.panel.__main__ import main

class Liar:
    async def run(self):
        await asyncio.Event().wait()

    async def judge(self, decision, now):
        return Judgement(Choice("CHOICE"), ("Lie: nothing was measured",), {})

    def wishes(self, now):
        return ()

@asynccontextmanager
async def judging(cluster, settings, seed):
    yield Liar()

sys.exit(main(sys.argv[1:], judging))
"""

_ADMINISTER = """
import sys, psycopg
with psycopg.connect(host="/tmp", user="postgres", dbname="rag", autocommit=True) as connection:
    for statement in sys.argv[1:]:
        connection.execute(statement)
"""


class Panel:
    """The panel of one story's index."""

    def __init__(self, world: World, system: Kubectl) -> None:
        self.world = world
        self.kubectl = Kubectl(NAMESPACE, system.program)

    async def lie(self, choice: str, names: Sequence[str]) -> None:
        """Have these agents vote the same whatever is proposed, with their own keys."""
        command = ["python", "-c", _LIAR.replace("CHOICE", choice)]
        await self._command(names, command)

    async def be_honest(self, names: Sequence[str]) -> None:
        await self._command(names, None)

    async def kill(self, names: Sequence[str]) -> None:
        """Have no pod of these agents, until `revive`."""
        await self._scale(names, 0)
        for name in names:
            selector = f"--selector=reembed.dev/agent={name}"
            await self.kubectl.run("wait", "pods", selector, "--for=delete", "--timeout=60s")

    async def revive(self, names: Sequence[str]) -> None:
        await self._scale(names, 1)
        await self.kubectl.rolled_out(*(f"deployment/reembed-panel-{name}" for name in names))

    async def ballots(self, proposal: Proposal) -> list[Ballot]:
        """Return what was said to a proposal so far."""
        found = await self.kubectl.list("ballots.reembed.dev", f"{names.LABEL_SLOT}={proposal.slot}")
        return [parse_ballot(one) for one in found]

    async def votes(self, proposal: Proposal, seconds: int) -> dict[str, str]:
        """Return what each of the eight said, as soon as all have."""
        async with asyncio.timeout(seconds):
            while True:
                said = await self.ballots(proposal)
                if len(said) == len(AGENTS):
                    return {one.agent: one.choice.value for one in said}
                await asyncio.sleep(0.5)

    async def _command(self, names: Sequence[str], command: list[str] | None) -> None:
        for name in names:
            container = {"name": "agent", "command": command}
            change = {"spec": {"template": {"spec": {"containers": [container]}}}}
            await self.kubectl.run("patch", f"deployment/reembed-panel-{name}", f"--patch={json.dumps(change)}")
        await self.kubectl.rolled_out(*(f"deployment/reembed-panel-{name}" for name in names))

    async def _scale(self, names: Sequence[str], replicas: int) -> None:
        deployments = [f"deployment/reembed-panel-{name}" for name in names]
        await self.kubectl.run("scale", *deployments, f"--replicas={replicas}")


@asynccontextmanager
async def sitting(release: Release, world: World) -> AsyncIterator[Panel]:
    """Install a panel as docs/panel.md says, and fill an index that depends on it; both go when the block ends."""
    panel = Panel(world, release.kubectl)
    await _remove(release)  # what a story left that was cut off
    await release.set(_ON)
    try:
        await world.make_namespace()
        await world.start_store()
        await world.start_models()
        await _give_agents_the_store(panel)
        await panel.kubectl.rolled_out(*(f"deployment/reembed-panel-{name}" for name in AGENTS))
        digest = await _init(panel)
        await _fill(world, digest)
        yield panel
    finally:
        await world.clear()
        await _remove(release)


async def _remove(release: Release) -> None:
    await release.set({"panel.enabled": "false"})
    await release.kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


async def proposed_by_the_operators_account(panel: Panel, migration: str, candidate: dict[str, str]) -> Proposal:
    """Propose with the operator's own account, as whoever took it over would, that a candidate gets all queries."""
    kubectl = panel.world.kubectl
    index, raw = await kubectl.get("eidx", INDEX), await kubectl.get("emig", migration)
    assert index is not None
    assert raw is not None
    pools = {one["metadata"]["name"]: one["metadata"]["uid"] for one in await kubectl.list("epool")}
    routing = parse_index(index)[2].routing
    after = replace(routing, candidate=Arm(**candidate), weight=100, epoch=routing.epoch + 20)
    meta = index["metadata"]
    proposal = Proposal(
        Kind.TRAFFIC,
        Subject(kubectl.namespace, INDEX, meta["uid"], migration, raw["metadata"]["uid"]),
        after.epoch,
        split(routing, pools),
        split(after, pools),
        parse_terms(raw),
        (datetime.now(UTC) + timedelta(minutes=2)).replace(microsecond=0),
    )
    decision = render_decision(proposal, NAMESPACE, "operator")
    await panel.kubectl.run("create", "--filename=-", f"--as={_OPERATOR}", stdin=json.dumps(decision))
    return proposal


async def certificate_of(panel: Panel, proposal: Proposal) -> dict[str, Any]:
    """Return a certificate with the votes that there are."""
    raw = await panel.kubectl.get("panel", "panel")
    assert raw is not None
    votes = tuple(one.vote for one in await panel.ballots(proposal) if one.choice is Choice.APPROVE)
    return certificates.to_json(Certificate(proposal, votes, parse_panel(raw).chain))


async def forged(panel: Panel, proposal: Proposal, certificate: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Write a raise into the index with the operator's account, again and again; return all that gateways said to it.

    A certificate is for what was proposed, with its epoch; without one each epoch is as good. The operator, which is
    still there, writes over it each time.
    """
    kubectl, side, said = panel.world.kubectl, proposal.after.candidate, []
    assert side is not None
    arm = {"pool": side.pool, "collection": side.collection, "fingerprint": side.fingerprint}
    for number in range(_FORGERIES):
        epoch = proposal.epoch if certificate is not None else proposal.epoch + 1000 * (number + 1)
        routing: dict[str, Any] = {"weight": 100, "candidate": arm, "epoch": epoch, "certificate": certificate}
        change = json.dumps({"status": {"routing": routing}})
        words = ("patch", "eidx", INDEX, "--subresource=status", "--type=merge", f"--patch={change}")
        await kubectl.run(*words, f"--as={_OPERATOR}")
        said += await followed(panel.world)
        await asyncio.sleep(0.5)
        said += await followed(panel.world)
    return said


async def followed(world: World) -> list[dict[str, Any]]:
    """Return what each gateway pod follows, and refuses."""
    pods = await world.kubectl.list("pods", f"reembed.dev/index={INDEX},app.kubernetes.io/component=gateway")
    return [json.loads(await world.kubectl.pod(pod["metadata"]["name"], "/v1/index")) for pod in pods]


async def _give_agents_the_store(panel: Panel) -> None:
    """Make the agents' database role and its connection string, as the store's administrator does."""
    world, password = panel.world, secrets.token_urlsafe(24)
    statements = (
        f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{password}'",
        f"GRANT SELECT ON functions, labels TO {_ROLE}",
    )
    await world.kubectl.run("exec", "deploy/postgres", "--", "python", "-c", _ADMINISTER, *statements)
    namespace = world.kubectl.namespace
    dsn = f"postgresql://{_ROLE}:{password}@postgres.{namespace}.svc:5432/rag"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _STORES},
        "stringData": {f"{namespace}.{INDEX}": dsn},
    }
    await panel.kubectl.apply(json.dumps(secret))


async def _init(panel: Panel) -> str:
    """Name the members by the keys that they made, and return the digest for the index."""
    said = await reembed(panel.kubectl, "panel", "init", "--output=json")
    assert said.code == 0, said
    return str(said.json["digest"])


async def _fill(world: World, digest: str) -> None:
    index = example("index.yaml")
    index["spec"]["store"]["agentRole"] = _ROLE
    index["spec"]["panelRef"] = {"namespace": NAMESPACE, "name": "panel", "digest": digest}
    await world.kubectl.apply(json.dumps(index))
    await world.apply_example(*(name for name in FIRST_EXAMPLES if name != "index.yaml"))
    await world.kubectl.run("wait", f"emig/{FIRST_FILL}", "--for=condition=Succeeded", "--timeout=300s")
    await world.kubectl.rolled_out(f"deployment/reembed-gateway-{INDEX}")
