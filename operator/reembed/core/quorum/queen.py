"""What the operator asks the panel, and what it may do with the answer.

The operator proposes and executes, and has no power over safety: whoever gives a candidate queries checks the votes
himself. What needs them follows from one rule (`raising.raises`) wherever in a migration's life a routing is written,
and from the states that say what they would go on to. A proposal is written into the status before it is put to the
panel, so that an operator that dies in between puts the same one again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reembed.core import reasons
from reembed.core.fingerprint import fingerprint
from reembed.core.migration import Migration, Seen, SeenIndex
from reembed.core.model import IndexStatus, PanelReport, Routing
from reembed.core.quorum import asked as asking
from reembed.core.quorum.asked import Asked
from reembed.core.quorum.certificates import Certificate
from reembed.core.quorum.counting import Standing, too_late
from reembed.core.quorum.proposals import OF_ROUTING, ROUTING, Kind, Proposal, Split, Subject, sequence
from reembed.core.quorum.raising import raises, split
from reembed.core.transitions import FINISHED, State
from reembed.core.triggers import Finding

# Nothing more is asked for.
_OVER = FINISHED | {State.ROLLING_BACK, State.UNWINDING}
# The candidate keeps no share, whoever gave it one.
_TAKEN_BACK = _OVER - {State.SUCCEEDED}


@dataclass(frozen=True, slots=True)
class Need:
    """A step that the operator would take if the panel agreed."""

    kind: Kind
    before: Split
    after: Split
    change: tuple[tuple[str, str], ...] = ()


def votes(index: SeenIndex | None) -> bool:
    """Return whether a panel decides over an index: its user says so, never a migration."""
    return index is not None and index.spec.panel is not None


def completing(migration: Migration, seen: Seen) -> Need | None:
    """Return the step from a candidate that has all queries to one that alone serves."""
    if seen.index is None or migration.status.candidate is None:
        return None
    wanted = replace(seen.index.status.routing, serving=migration.status.candidate, candidate=None, weight=0)
    return _need(Kind.COMPLETE, seen.index, wanted, seen)


def loading(migration: Migration, seen: Seen) -> Need | None:
    """Return the first step of a migration's attempt: pods embed with the model of its target, no traffic moves."""
    if seen.index is None or seen.target is None:
        return None
    pool = seen.target
    change = {
        "attempt": str(migration.status.attempt),
        "fingerprint": fingerprint(pool.spec.model),
        "pool": pool.meta.name,
        "poolUid": pool.meta.uid,
    }
    need = _need(Kind.LOAD_MODEL, seen.index, seen.index.status.routing, seen)
    return replace(need, change=tuple(sorted(change.items())))


def routed(index: SeenIndex, wanted: IndexStatus, seen: Seen) -> Need | None:
    """Return what a routing that is to be written needs votes for, None if it needs none."""
    if not votes(index) or not raises(index.status.routing, wanted.routing):
        return None
    kind = Kind.TRAFFIC if wanted.routing.serving == index.status.routing.serving else Kind.COMPLETE
    return _need(kind, index, wanted.routing, seen)


def heard(migration: Migration, seen: Seen, now: datetime) -> Asked | None:
    """Return the last proposal with what its ballots have come to by now."""
    last = migration.status.asked
    if last is None or seen.panel is None or seen.panel.count is None:
        return last
    return asking.told(last, seen.panel.count, now)


def ask(migration: Migration, need: Need | None, seen: Seen, now: datetime) -> Asked | None:
    """Return the proposal that should be before the panel, with what it has come to."""
    last = migration.status.asked
    if need is None or seen.index is None or seen.panel is None or not seen.panel.chain:
        # What an obstacle keeps from being wanted for a moment need not be asked again after it.
        return None if migration.status.state in _OVER and last is not None and not last.certified else last
    if last is not None and _stands(last, need, migration, seen.index, now):
        return last
    return Asked(_proposal(migration, need, seen.index, seen.panel, last, now), now)


def certificate(migration: Migration, need: Need, seen: Seen) -> Certificate | None:
    """Return the panel's certificate for exactly this step, None if there is none."""
    last, count = migration.status.asked, seen.panel.count if seen.panel is not None else None
    if last is None or count is None or count.certificate is None or not last.certified or seen.index is None:
        return None
    found = count.certificate
    same = found.proposal == last.proposal and _about(last.proposal, need, migration, seen.index)
    return found if same else None


def allowed(migration: Migration, index: SeenIndex, wanted: IndexStatus, seen: Seen) -> IndexStatus:
    """Return what may be written of `wanted`: all of it, or without a raise that nobody has certified."""
    if not votes(index):
        return wanted
    now, need = index.status.routing, routed(index, wanted, seen)
    refused = _refused(now, seen) if _may_correct(migration, index) else None
    # Also before a raise: whoever votes on it asks gateways where it begins. What only takes needs no such help.
    if refused is not None and (need is not None or wanted.routing.epoch == now.epoch):
        weight = 0 if migration.status.state in _TAKEN_BACK else refused.weight
        return replace(wanted, routing=replace(refused, epoch=_newest(now, seen) + 1, weight=weight))
    if need is None:
        kept = now.certificate if (wanted.routing.weight, wanted.routing.epoch) == (now.weight, now.epoch) else None
        return replace(wanted, routing=replace(wanted.routing, certificate=kept, epoch=_above(now, wanted, seen)))
    found = certificate(migration, need, seen)
    if found is not None:
        return replace(wanted, routing=replace(wanted.routing, epoch=found.proposal.epoch, certificate=found))
    if wanted.routing.serving != now.serving or wanted.routing.candidate == now.candidate:
        return replace(wanted, routing=now)
    # A candidate that is named without weight has nothing: gateways probe it.
    named = replace(wanted, routing=replace(wanted.routing, weight=0, shadow=0.0, certificate=None))
    return replace(named, routing=replace(named.routing, epoch=_above(now, named, seen)))


def raised(migration: Migration, seen: Seen) -> bool:
    """Return whether the proposal that the status names is certified, so that its raise is about to be written."""
    last = migration.status.asked
    return last is not None and last.certified and seen.panel is not None and seen.panel.count is not None


def agreed(seen: Seen, kind: Kind) -> Proposal | None:
    """Return what agents themselves proposed for the migration, and a quorum of them agreed on."""
    found = seen.panel.agreed if seen.panel is not None else ()
    return next((one.proposal for one in found if one.proposal.kind is kind), None)


def waits(migration: Migration, seen: Seen) -> Finding:
    """Find what a step that needs votes waits for; none of the migration's own obstacles is left by then."""
    last = migration.status.asked
    if seen.panel is None:
        return Finding("PanelMissing", "the panel that the index names cannot be read; see docs/panel.md")
    if last is None or last.certified:
        return Finding(reasons.AWAITING_PANEL, "the next step is put to the panel")
    what = describe(last.proposal)
    if last.standing is Standing.REFUSED:
        why = f": {last.reasons[0]}" if last.reasons else ""
        text = f"{len(last.refused)} agents refuse {what}{why}; they are asked again"
        return Finding(reasons.PANEL_REFUSED, f"{text}. kubectl reembed panel status shows every vote")
    quorum = seen.panel.chain[-1].membership.quorum if seen.panel.chain else 0
    missing = f"; no word of {', '.join(last.missing)}" if last.missing else ""
    if last.standing is Standing.EXPIRED:
        return Finding(reasons.NO_QUORUM, f"{what} found {len(last.approved)} of {quorum} votes in time{missing}")
    return Finding(reasons.AWAITING_PANEL, f"{what} has {len(last.approved)} of {quorum} votes{missing}")


def describe(proposal: Proposal) -> str:
    """Return a proposal in a few words."""
    if proposal.kind is Kind.TRAFFIC:
        return f"{proposal.after.weight} % for the candidate (epoch {proposal.epoch})"
    if proposal.kind is Kind.COMPLETE:
        side = proposal.after.serving
        return f"that pool {side.pool if side is not None else ''!r} alone serves (epoch {proposal.epoch})"
    return f"{proposal.kind.value} (epoch {proposal.epoch})"


def _refused(now: Routing, seen: Seen) -> Routing | None:
    """Return what gateways serve that do not take what the index says for certified, None if all of them do.

    A certificate may expire while the store is away in which gateways note what they accept, and nobody would ever
    follow it then. So the index says again what is served, and the step is put to the panel anew.
    """
    found = [one for one in seen.gateways if one.refused is not None and one.refused.epoch == now.epoch]
    if not found:
        return None
    least = min(found, key=lambda one: one.weight)
    return Routing(now.epoch, least.serving, least.candidate, least.weight)


def _may_correct(migration: Migration, index: SeenIndex) -> bool:
    """Return whether nobody else holds the index: one that has ended says nothing of another's candidate."""
    holder = index.status.active_migration
    return holder is None or holder.uid == migration.meta.uid


def _newest(now: Routing, seen: Seen) -> int:
    return max(now.epoch, _proposed(seen), *(one.epoch for one in seen.gateways))


def _above(now: Routing, wanted: IndexStatus, seen: Seen) -> int:
    """Every change that needs no votes consumes the epochs of what is still before the panel."""
    if wanted.routing.epoch == now.epoch:
        return wanted.routing.epoch
    return max(wanted.routing.epoch, _proposed(seen) + 1)


def _proposed(seen: Seen) -> int:
    """Return the highest epoch that was ever proposed for the index's traffic, 0 if none was."""
    return seen.panel.newest.get(ROUTING, 0) if seen.panel is not None else 0


def _need(kind: Kind, index: SeenIndex, wanted: Routing, seen: Seen) -> Need:
    uids = _uids(seen)
    after = split(wanted, uids)
    return Need(kind, split(index.status.routing, uids), after)


def _uids(seen: Seen) -> Mapping[str, str]:
    return {pool.meta.name: pool.meta.uid for pool in (seen.source, seen.target) if pool is not None}


def _proposal(
    migration: Migration, need: Need, index: SeenIndex, panel: PanelReport, last: Asked | None, now: datetime
) -> Proposal:
    known = last.proposal.epoch if last is not None and last.proposal.kind is need.kind else 0
    newest = panel.newest.get(sequence(need.kind), 0)
    if need.kind in OF_ROUTING:
        number = max(need.before.epoch, need.after.epoch - 1, newest, known) + 1
        after = replace(need.after, epoch=number)
    else:
        number, after = max(newest, known) + 1, need.before
    return Proposal(
        kind=need.kind,
        subject=subject(migration, index),
        epoch=number,
        before=need.before,
        after=after,
        terms=migration.terms,
        # Whole seconds: what is hashed must be what is read back.
        expires=(now + migration.spec.consensus.deadline).replace(microsecond=0),
        change=need.change,
    )


def subject(migration: Migration, index: SeenIndex) -> Subject:
    """Return what a proposal about the migration must name."""
    meta = migration.meta
    return Subject(meta.namespace, index.meta.name, index.meta.uid, meta.name, meta.uid)


def _stands(last: Asked, need: Need, migration: Migration, index: SeenIndex, now: datetime) -> bool:
    """Return whether the last proposal is the one to wait for."""
    if not _about(last.proposal, need, migration, index):
        return False
    if last.closed:
        return last.closed_at is not None and now - last.closed_at < asking.PAUSE
    return not too_late(last.proposal, now)


def _about(proposal: Proposal, need: Need, migration: Migration, index: SeenIndex) -> bool:
    """Return whether a proposal is of this step, with everything as it was when it was made."""
    same = (proposal.kind, proposal.subject, proposal.terms, proposal.before, proposal.change) == (
        need.kind,
        subject(migration, index),
        migration.terms,
        need.before,
        need.change,
    )
    return same and replace(proposal.after, epoch=0) == replace(need.after, epoch=0)
