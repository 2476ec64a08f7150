"""Which command helps: what a migration waits for from people, and what else they can do where it stands.

This only points at commands; whether one applies is the operator's word (`core.commands`), which `promote` and the
others print. Called by the views of `get` and `status`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reembed.core import reasons
from reembed.plugin.overview import ENDED, Overview

_MOVING = frozenset({"Preflight", "Backfilling", "Indexing", "Evaluating", "Canary"})


@dataclass(frozen=True, slots=True)
class Advice:
    """A command that can be copied, and what it does; `needed` where nothing goes on without somebody's word."""

    command: str
    effect: str
    needed: bool = False


def advice(overview: Overview) -> tuple[Advice, ...]:
    """Return what helps most first."""
    if overview.deleting:
        return ()
    if overview.state in {"Failed", "RolledBack"}:
        return (_verb("retry", overview, "begins a new attempt once the cause is gone"),)
    if overview.state in ENDED or overview.state == "RollingBack" or not overview.state:
        return ()
    needed = _for_people(overview) or _repair(overview)
    if needed is not None:
        return (needed, *_back(overview))
    return (*_on(overview), *_stay(overview), *_back(overview))


def _for_people(overview: Overview) -> Advice | None:
    reason = overview.reason
    if reason == reasons.AWAITING_APPROVAL:
        return _verb("promote", overview, "approves this step", needed=True)
    if reason in reasons.UNDECIDED:
        return _verb("promote", overview, "goes on although the labelled queries do not decide", needed=True)
    if overview.wanted.paused:
        edit = f"kubectl edit emig {overview.name} -n {overview.namespace}"
        return Advice(edit, "set spec.paused to false, in its manifest too", needed=True)
    if overview.paused:
        return _verb("resume", overview, "goes on", needed=True)
    return None


def _repair(overview: Overview) -> Advice | None:
    reason = overview.reason
    if reason == reasons.WAITING_FOR_DEPENDENCY and overview.wanted.depends_on:
        other = overview.wanted.depends_on[0]
        return Advice(f"kubectl reembed get {other} -n {overview.namespace}", "shows what this one waits for")
    if reason == "NowhereToGo":
        annotate = f"kubectl annotate eidx {overview.wanted.index} -n {overview.namespace}"
        return Advice(f"{annotate} reembed.dev/force-stable=true", "takes the queries back all the same", needed=True)
    if reason == "GatewaysWithhold":
        annotate = f"kubectl annotate eidx {overview.wanted.index} -n {overview.namespace}"
        return Advice(f"{annotate} reembed.dev/force-stable-", "lets gateways follow again", needed=True)
    return None


def _on(overview: Overview) -> tuple[Advice, ...]:
    if any(not one.dry_run for one in overview.triggers or ()):
        # Promoting would change nothing while a limit is exceeded.
        return ()
    if overview.in_canary:
        return (_verb("promote", overview, "skips the rest of the hold; every gate still has to hold"),)
    if overview.state == "Retaining":
        return (_verb("promote", overview, "ends the retention window now"),)
    return ()


def _stay(overview: Overview) -> tuple[Advice, ...]:
    if overview.state not in _MOVING or overview.wanted.paused or overview.paused:
        return ()
    return (_verb("pause", overview, "stays here; rollback triggers are watched on"),)


def _back(overview: Overview) -> tuple[Advice, ...]:
    if overview.in_canary or overview.state == "Retaining":
        to = f" to {overview.serving}" if overview.serving else ""
        return (_verb("abort", overview, f"takes all queries back{to}"),)
    if overview.state in _MOVING:
        return (_verb("abort", overview, "gives up and withdraws what was made"),)
    return ()


def _verb(verb: str, overview: Overview, effect: str, *, needed: bool = False) -> Advice:
    return Advice(f"kubectl reembed {verb} {overview.name} -n {overview.namespace}", effect, needed)
