"""Named mistakes in what stands between the operator's word and the queries where a panel votes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reembed.core import acceptance, triggers
from reembed.core.quorum import certificates, queen, raising
from reembed.core.quorum.certificates import Choice
from reembed.core.triggers import Finding
from reembed.gateway import accepting

Original = Callable[..., Any]


def _returns(value: Any) -> Callable[[Original], Original]:
    return lambda _: lambda *args, **kwargs: value


def _each_signature(original: Original) -> Original:
    """Count signatures in the place of keys."""

    def supporters(votes: Any, proposal: Any, membership: Any, verify: Any) -> Any:
        return [vote for vote in votes if certificates.signed(vote, Choice.APPROVE, proposal, membership, verify)]

    return supporters


def _waits_to_lower(original: Original) -> Original:
    def judged(state: Any, in_force: Any, asked: Any, witness: Any) -> Any:
        lowered = asked.routing.weight < in_force.weight and asked.routing.certificate is None
        return (state, in_force) if lowered else original(state, in_force, asked, witness)

    return judged


def _to_oneself(original: Original) -> Original:
    """Believe that the store took what is owed, and ask it for nothing but its pointer."""

    async def look(store: Any, uid: str, state: Any) -> Any:
        _, pointer = await store.accepted(uid)
        return state.owed, pointer

    return look


def _impatient(original: Original) -> Original:
    """Take queries back as soon as agents are gone."""

    def changed(one: Any) -> Any:
        at_once = replace(one.limit, hold=timedelta(0))
        return replace(one, limit=at_once) if one.reason == "AgentsUnreachable" else one

    return lambda *args: tuple(changed(one) for one in original(*args))


MUTATIONS: Mapping[str, tuple[Any, Any, Callable[[Any], Any]]] = {
    "gateways ask for no certificate": (acceptance, "uncertified", _returns(None)),
    "a signature is a vote": (certificates, "supporters", _each_signature),
    "any certificate will do": (raising, "_other", _returns(None)),
    "any members will do": (certificates, "broken_chain", _returns(None)),
    "gateways keep what they accept to themselves": (accepting, "_look", _to_oneself),
    "the operator asks for no votes": (queen, "routed", _returns(None)),
    "a lowering waits for a certificate": (acceptance, "judged", _waits_to_lower),
    "nobody says that votes are missing": (queen, "waits", _returns(Finding("WaitingForGateways", "it waits"))),
    "what was refused or expired is not asked anew": (queen, "_stands", _returns(True)),
    "what gateways refuse is left in the index": (queen, "_refused", _returns(None)),
    "agents that are gone take queries back at once": (triggers, "readings", _impatient),
}
