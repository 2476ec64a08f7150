"""Hooks as their receiver saw them, beside the weights that the index told its gateways meanwhile.

The receiver runs in a pod (`receiver.py`) and writes down when it answered; weights are noted here as they are seen,
which is never before they were set. Both clocks are the same where the node is this machine.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from demo.kubectl import Kubectl
from demo.world import INDEX, World

PROGRAMS = ("receiver.py", "teller.py")
_HERE = Path(__file__).resolve().parent
_PAGE = _HERE.parents[1] / "docs" / "hooks.md"
_LABELS = {"app.kubernetes.io/part-of": "reembed-demo"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the receiver answered."""

    answered: float
    status: int
    key: str
    hook: str
    at: str  # attempt/moment[/step]

    @classmethod
    def of(cls, told: dict[str, Any]) -> Call:
        body = told["body"]
        step = f"/{body['step']}" if body["step"] is not None else ""
        at = f"{body['attempt']}/{body['when']}{step}"
        return cls(told["answered"], told["status"], told["key"], body["hook"], at)


@dataclass(frozen=True, slots=True)
class Told:
    """The weight that the index told its gateways, and when that was seen."""

    seen: float
    weight: int


async def start_receiver(world: World) -> None:
    """Start the receiver and make what hooks refer to."""
    programs = {name: (_HERE / name).read_text() for name in PROGRAMS} | {"signature.py": documented_check()}
    metadata = {"name": "hook-programs", "labels": _LABELS}
    key = {"reembed": secrets.token_hex(32)}
    await world.kubectl.apply(
        json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": programs}),
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "hook-keys", "labels": _LABELS},
                "stringData": key,
            }
        ),
        Template((_HERE / "manifests" / "hooks.yaml").read_text()).substitute({"IMAGE": world.image}),
    )
    await world.kubectl.run("wait", "pod/hooks", "--for=condition=Ready", "--timeout=60s")


def documented_check() -> str:
    """Return the check of a signature that docs/hooks.md gives its readers."""
    return _PAGE.read_text().split("```python\n")[1].split("```")[0]


async def calls(kubectl: Kubectl) -> list[Call]:
    """Return the receiver's record, in the order of its answers."""
    return [Call.of(told) for told in json.loads(await kubectl.pod("hooks", "/record"))]


@asynccontextmanager
async def weights(kubectl: Kubectl) -> AsyncIterator[list[Told]]:
    """Collect the index's weights until the block ends."""
    found: list[Told] = []

    async def follow() -> None:
        async for index in kubectl.watch("embeddingindex", INDEX):
            routing = index.get("status", {}).get("routing") or {}
            found.append(Told(time.time(), routing.get("weight", 0)))

    task = asyncio.create_task(follow())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def then_every_run_was_repeated_with_one_key(heard: Sequence[Call], uid: str, runs: Sequence[str]) -> None:
    """Compare what was heard with `runs`, moment/hook each, in their order: a run's key is its migration's and its own.

    What the receiver turned away came again with the same key, and no signature was refused.
    """
    assert [call.key for call in heard if call.status == 200] == [f"{uid}/{run}" for run in runs]
    assert all(call.key == f"{uid}/{call.at}/{call.hook}" for call in heard)
    assert {call.status for call in heard} <= {200, 503}
    assert {call.key for call in heard if call.status == 503} == {
        call.key for call in heard if "/Post/" not in call.key
    }


def then_no_weight_rose_before_its_hook_succeeded(
    heard: Sequence[Call], seen: Sequence[Told], steps: Sequence[int]
) -> None:
    for number, weight in enumerate(steps):
        allowed = next(call.answered for call in heard if (call.at, call.status) == (f"1/EachStep/{number}", 200))
        assert [told for told in seen if told.weight >= weight and told.seen < allowed] == []
        assert any(told.weight == weight for told in seen)


def recorded(migration: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the runs of status.hooks: moment, hook, how it ended, and its last words."""
    runs = migration["status"]["hooks"]
    return [(run["at"], run["name"], run["state"], run.get("message", "")) for run in runs]
