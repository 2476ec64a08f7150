"""People at their keyboards: commands by `kubectl reembed`, each at the moment of a migration at which it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from demo.kubectl import Kubectl
from demo.migration import Disturbance
from demo.world import MIGRATION
from tests.e2e.plugin import accepted, reembed
from tests.e2e.story import canary_step


def approves(kubectl: Kubectl) -> Disturbance:
    """Look at what awaits an approval, and give it."""

    async def act() -> None:
        listed = await reembed(kubectl, "list")
        # A gate that held may want more queries by now; the approval counts all the same.
        waits = any(reason in listed.out for reason in ("AwaitingApproval", "GateUndecided"))
        assert (listed.code, MIGRATION in listed.out, waits) == (0, True, True), listed
        undecided = await reembed(kubectl, "status", MIGRATION, "--timeout", "0s")
        assert (undecided.code, "has not ended" in undecided.out) == (2, True), undecided
        await accepted(kubectl, "promote", MIGRATION)

    return Disturbance("somebody approves", _in(lambda status: status.get("reason") == "AwaitingApproval"), act)


def pauses_and_resumes(kubectl: Kubectl, step: int) -> Disturbance:
    async def act() -> None:
        await accepted(kubectl, "pause", MIGRATION)
        shown = (await reembed(kubectl, "get", MIGRATION, "--output", "json")).json
        assert (shown["paused"], shown["unansweredCommands"]) == (True, [])
        assert (await reembed(kubectl, "pause", MIGRATION)).code == 1  # refused: it is paused already
        await accepted(kubectl, "resume", MIGRATION)

    return Disturbance("somebody pauses", _in(lambda status: canary_step(status, step)), act)


def ends_the_window(kubectl: Kubectl) -> Disturbance:
    """Promote once the old side is only kept."""

    def act() -> Awaitable[None]:
        return accepted(kubectl, "promote", MIGRATION)

    return Disturbance("somebody promotes", _in(lambda status: status.get("reason") == "Retaining"), act)


def _in(wanted: Callable[[Mapping[str, Any]], bool]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda migration: wanted(migration.get("status", {}))
