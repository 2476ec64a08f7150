"""Giving a command: an annotation for one state of one migration, and the operator's answer in its status.

Whether a command applies is the operator's word alone: it knows more than its status tells. The change is bound to the
object's UID, and the command to where the migration was when its sender looked.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from reembed.api.commands import render_command
from reembed.cluster import kinds
from reembed.core.model import Command, Verb
from reembed.plugin.lookup import Place, find, find_or_none
from reembed.plugin.overview import Answer, Overview
from reembed.plugin.problems import Problem, Vanished, explained, passing

_MANAGER = "kubectl-reembed"
_INTERVAL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that is on its migration."""

    verb: Verb
    at: str
    nonce: str


async def send(place: Place, verb: Verb) -> Sent:
    """Annotate the migration with a command for the point of its life at which it is now.

    Raises:
        Vanished: it went while its annotation was written; nothing was commanded.
        Problem: it is not there, or may not be looked at or changed.

    """
    overview = await find(place)
    command = Command(verb, overview.uid, overview.at, secrets.token_hex(8))
    key, value = render_command(command)
    change = {"metadata": {"uid": overview.uid, "annotations": {key: value}}}
    try:
        with explained(f"{verb.value} migration {place.name!r}", place.namespace):
            await place.cluster.patch(kinds.MIGRATION, place.namespace, place.name, change, manager=_MANAGER)
    except Problem as problem:
        # A UID that does not fit is refused like any other wrong field.
        there = await find_or_none(place)
        if there is not None and there.uid == overview.uid:
            raise
        gone = f"migration {place.name!r} was deleted or made anew a moment ago; nothing was commanded"
        raise Vanished(gone) from problem
    return Sent(verb, command.at, command.nonce)


async def answer(place: Place, sent: Sent, seconds: float) -> Answer | None:
    """Return what the operator answers within `seconds`, None if nothing.

    Raises:
        Vanished: the migration is gone.

    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await _look(place, sent)
                if found is not None:
                    return found
                await asyncio.sleep(_INTERVAL_SECONDS)
    except TimeoutError:
        return None


async def _look(place: Place, sent: Sent) -> Answer | None:
    """Return the answer if it is there; a server that is silent for a moment keeps nobody from waiting."""
    try:
        overview = await find_or_none(place)
    except Problem as problem:
        if passing(problem):
            return None
        raise
    if overview is None:
        raise Vanished(f"migration {place.name!r} was deleted before the operator answered")
    return _answered(overview, sent)


def _answered(overview: Overview, sent: Sent) -> Answer | None:
    """Return the answer to a command, None if there is none yet."""
    return next((one for one in overview.answers if (one.verb, one.nonce) == (sent.verb.value, sent.nonce)), None)
