"""What a gateway takes of an index whose `spec.panelRef` names a panel, beside what gateways accepted before.

`gateway.lease` asks here with each reading. A raise is first judged (`core.quorum.raising`), then written to the store,
and followed when it is there: the row says of which epoch and routing a certificate was found good, so a gateway that
starts later takes that one although it expired since, and no other. A lowering is followed at once and written
afterwards; it consumes its epoch all the same. What is refused is kept for the gateway's report, and leaves queries
where they were.

Gateways share the row, and whoever comes with the higher epoch wins. So what it says is put beside what this gateway
believes each time it is read, and the last reading is judged again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reembed.core.model import Arm, PanelRef, PointerPlan, RefusedRaise, Routing
from reembed.core.quorum.certificates import Refusal
from reembed.core.quorum.membership import Verify
from reembed.core.quorum.raising import Trust, only_lowered, raises, uncertified


@dataclass(frozen=True, slots=True)
class Accepted:
    """A routing that gateways accepted, without its certificate, and the newest members that had certified one.

    Versions count the memberships that follow from the one with the digest `anchor`; those of another panel are others.
    """

    routing: Routing
    anchor: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Witness:
    """What judging needs besides: the time of day, and whose signature is whose."""

    now: datetime
    verify: Verify


def _nobody(key: bytes, message: bytes, signature: bytes) -> bool:
    del key, message, signature
    return False


# Of who has no clock and knows no signatures: whatever needs a certificate is refused.
UNWITNESSED = Witness(datetime.min.replace(tzinfo=UTC), _nobody)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one reading of an index says of its traffic."""

    uid: str
    panel: PanelRef
    routing: Routing


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was accepted, as far as this gateway knows.

    `known`: the store was asked. `accepted` is its row, or a lowering that is newer; without one, `pointer` says what
    answers. `owed` is to be written: a raise that waits for it, or a lowering that is followed already.
    """

    known: bool = False
    accepted: Accepted | None = None
    pointer: PointerPlan | None = None
    owed: Accepted | None = None
    refused: RefusedRaise | None = None


def judged(state: Acceptance, in_force: Routing, asked: Asked, witness: Witness) -> tuple[Acceptance, Routing]:
    """Return what is known after a reading, and the routing to follow from now on."""
    if not asked.routing.weight:
        # Nobody has certified a candidate without a share, and shadow queries are callers' queries.
        asked = replace(asked, routing=replace(asked.routing, shadow=0.0))
    if not state.known:
        return state, only_lowered(in_force, asked.routing)
    base, told = _base(state, asked.routing), asked.routing
    # One that has just started, or was overtaken by the others, goes on from what they accepted.
    current = base if in_force.serving is None or base.epoch > in_force.epoch else in_force
    # What was accepted is no raise: its certificate may have expired since.
    refusal = _refusal(base, told, _trust(state, asked), witness)
    kept = replace(state, owed=_lowering(state), refused=_told(refusal, told))
    if refusal is not None or told.epoch < base.epoch:
        # Refused, or overtaken: a copy that lags, or an index restored from a backup. What it gives less is obeyed.
        left = only_lowered(current, told)
        return _lowered(kept, base, left, asked.panel), left
    if raises(base, told):
        return replace(kept, owed=_certified(state, asked)), only_lowered(current, told)
    return _lowered(kept, base, told, asked.panel), told


def needs_proof(state: Acceptance, asked: Asked) -> bool:
    """Return whether `judged` has to verify signatures, which takes its time."""
    base = _base(state, asked.routing)
    return (
        state.known
        and asked.routing.certificate is not None
        and asked.routing.epoch > base.epoch
        and raises(base, asked.routing)
    )


def remembering(state: Acceptance, row: Accepted | None, pointer: PointerPlan | None, in_force: Routing) -> Acceptance:
    """Return what is known after a look at the store; `in_force` is what this gateway follows now."""
    ours = state.accepted
    if not state.known and in_force.serving is not None:
        # The index names a panel since now. What was followed until now was the operator's to say.
        ours = Accepted(_plain(in_force))
    if row is not None and (ours is None or row.routing.epoch >= ours.routing.epoch):
        owed = state.owed if state.owed is not None and state.owed.routing.epoch > row.routing.epoch else None
        return replace(state, known=True, accepted=row, pointer=pointer, owed=owed)
    # The store knows of less: what it did not take yet, or lost.
    return replace(state, known=True, accepted=ours, pointer=pointer, owed=state.owed or ours)


def overtaken(state: Acceptance, told: Routing) -> bool:
    return state.accepted is not None and told.epoch < state.accepted.routing.epoch


def _refusal(base: Routing, told: Routing, trust: Trust, witness: Witness) -> Refusal | None:
    try:
        return uncertified(base, told, trust, witness.now, witness.verify)
    except (ValueError, OverflowError) as error:
        # A number or a text that has no canonical form: whoever writes the status must not end its readers by one.
        return Refusal("CertificateMalformed", f"it has no digest: {error}")


def _base(state: Acceptance, told: Routing) -> Routing:
    """Return what needs no certificate any more: what was accepted, else what the store's pointer names."""
    if state.accepted is not None:
        return state.accepted.routing
    # The pointer knows no pool: any that makes the collection's vectors will do, and its answers are checked for that.
    return Routing(serving=next((arm for arm in (told.serving, told.candidate) if _names(state.pointer, arm)), None))


def _names(pointer: PointerPlan | None, arm: Arm | None) -> bool:
    if pointer is None or arm is None:
        return False
    return (arm.collection, arm.fingerprint) == (pointer.collection, pointer.fingerprint)


def _plain(routing: Routing) -> Routing:
    return replace(routing, shadow=0.0, certificate=None)


def _trust(state: Acceptance, asked: Asked) -> Trust:
    return Trust(asked.uid, asked.panel.digest, _version(state, asked.panel.digest))


def _version(state: Acceptance, anchor: str) -> int:
    accepted = state.accepted
    return accepted.version if accepted is not None and accepted.anchor == anchor else 0


def _lowering(state: Acceptance) -> Accepted | None:
    """Return what is owed of what is followed already; a raise that is told no more is not written any more."""
    return state.owed if state.owed == state.accepted else None


def _certified(state: Acceptance, asked: Asked) -> Accepted:
    anchor, certificate = asked.panel.digest, asked.routing.certificate
    voted = certificate.chain[-1].membership.version if certificate is not None else 0
    return Accepted(_plain(asked.routing), anchor, max(voted, _version(state, anchor)))


def _lowered(state: Acceptance, base: Routing, routing: Routing, panel: PanelRef) -> Acceptance:
    """Return what is accepted and owed after a lowering to `routing`: it uses up its epoch."""
    if routing.serving is None or routing.epoch <= base.epoch:
        # Before anything answers there is nothing to keep, and one epoch has one row.
        return state
    before = state.accepted or Accepted(base, panel.digest)
    accepted = replace(before, routing=_plain(routing))
    return replace(state, accepted=accepted, owed=accepted)


def _told(refusal: Refusal | None, told: Routing) -> RefusedRaise | None:
    return None if refusal is None else RefusedRaise(told.epoch, refusal.reason, refusal.message)
