"""What a gateway takes from an index's status, where a panel votes: less for the candidate always, more by certificate.

Who answers is given by shares: the serving side has what the candidate has not. A change needs a certificate if any
side but the one that serves gains by it, or if another side is to serve. So a lowering is always obeyed, and naming a
candidate without weight gives it nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reembed.core.model.plans import Arm, Routing
from reembed.core.quorum.certificates import Refusal, refused
from reembed.core.quorum.membership import Verify
from reembed.core.quorum.proposals import OF_ROUTING, Proposal, Side, Split


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe: the index's UID, the digest in its panelRef, and the newest membership accepted so far."""

    index_uid: str
    anchor: str
    version: int = 0


def raises(held: Routing, told: Routing) -> bool:
    """Return whether `told` gives somebody more than `held` does, other than what serves already."""
    if told.serving != held.serving:
        return True
    before = held.weight if told.candidate == held.candidate else 0
    return told.weight > before


def uncertified(held: Routing, told: Routing, trust: Trust, now: datetime, verify: Verify) -> Refusal | None:
    """Return why `told` must not be followed by who follows `held`, None if it may.

    `held` is what was accepted with the highest epoch so far. What is older than it can at most be no raise; it is
    obeyed by `only_lowered`, and never takes the place of `held`, or epochs could be used twice.
    """
    if not raises(held, told):
        return None
    if told.epoch <= held.epoch:
        text = f"epoch {told.epoch} gives more than epoch {held.epoch} that was accepted before"
        return Refusal("EpochConsumed", text)
    certificate = told.certificate
    if certificate is None:
        text = f"epoch {told.epoch} gives more to {_named(told)}, and nobody has certified it"
        return Refusal("CertificateMissing", text)
    other = _other(certificate.proposal, told, trust) or _overtaken(certificate.proposal, held)
    return other or refused(certificate, trust.anchor, trust.version, now, verify)


def _other(proposal: Proposal, told: Routing, trust: Trust) -> Refusal | None:
    """Return where a certificate is of something else than what is told."""
    found = (
        ("kind", proposal.kind.value, "Traffic or Complete", proposal.kind in OF_ROUTING),
        ("index", proposal.subject.uid, trust.index_uid, proposal.subject.uid == trust.index_uid),
        ("epoch", proposal.epoch, told.epoch, proposal.epoch == proposal.after.epoch == told.epoch),
        ("weight", proposal.after.weight, told.weight, proposal.after.weight == told.weight),
        ("serving side", proposal.after.serving, told.serving, same(proposal.after.serving, told.serving)),
        ("candidate", proposal.after.candidate, told.candidate, same(proposal.after.candidate, told.candidate)),
    )
    wrong = next(((what, has, needs) for what, has, needs, fits in found if not fits), None)
    if wrong is None:
        return None
    what, has, needs = wrong
    return Refusal("CertificateOfOther", f"its {what} is {has}, and what is told needs {needs}")


def _overtaken(proposal: Proposal, held: Routing) -> Refusal | None:
    """Return whether a raise was voted on before what the caller knows: a lowering that its voters did not see.

    A raise may have skipped epochs in which no quorum was found, so that its own says nothing of that.
    """
    if proposal.before.epoch >= held.epoch:
        return None
    text = f"it was certified from epoch {proposal.before.epoch}, before epoch {held.epoch} that was accepted since"
    return Refusal("CertificateOvertaken", text)


def same(side: Side | None, arm: Arm | None) -> bool:
    """Return whether a proposal's side is a routing's arm."""
    if side is None or arm is None:
        return side is None and arm is None
    return (side.pool, side.collection, side.fingerprint) == (arm.pool, arm.collection, arm.fingerprint)


def split(routing: Routing, uids: Mapping[str, str]) -> Split:
    """Return what a routing means as a proposal says it; `uids` are those of the pools by their names."""
    return Split(routing.epoch, routing.weight, _side(routing.serving, uids), _side(routing.candidate, uids))


def only_lowered(held: Routing, told: Routing) -> Routing:
    """Return what is left of `told` for who must not follow it: `held`, with no more than either of both gives.

    What it lowers uses up its epoch: what was given before does not come back.
    """
    weight = min(held.weight, _share(told, held.candidate))
    epoch = max(held.epoch, told.epoch) if weight < held.weight else held.epoch
    return replace(held, epoch=epoch, weight=weight, shadow=min(held.shadow, told.shadow) if weight else 0.0)


def _share(routing: Routing, arm: Arm | None) -> int:
    if arm is None:
        return 0
    if arm == routing.serving:
        return 100 - routing.weight
    return routing.weight if arm == routing.candidate else 0


def _side(arm: Arm | None, uids: Mapping[str, str]) -> Side | None:
    return None if arm is None else Side(arm.pool, uids.get(arm.pool, ""), arm.collection, arm.fingerprint)


def _named(routing: Routing) -> str:
    arm = routing.candidate if routing.weight else routing.serving
    return f"pool {arm.pool!r}" if arm is not None else "nobody"
