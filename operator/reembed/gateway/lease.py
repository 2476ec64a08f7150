"""What a gateway believes of the routing, and for how long: pure rules, with `now` as an argument.

`follow` puts every reading of the index through `renewed` or `changed` and keeps the resulting `Lease`; each request
takes one `effective` routing from it. The rules are one-sided on purpose. Going back to what serves is always obeyed,
at once, from any reading and without one; giving traffic to a candidate needs a reading that is recent and that no
later one has overtaken. So a gateway that lost the API server, an old copy of the index, or an operator that is gone
can only ever leave more traffic on the model that answered before.

An operator that leads renews its own Lease every two seconds, and judges a candidate for as long as it does; a gateway
looks at that Lease with each reading (`Leader`). It never compares its clock with the times in there. What counts is
when the Lease was last seen to change, and before it was, a gateway that has just started does not know whether anybody
leads.

Where the index names a panel, more for a candidate needs the panel's certificate too, and what serves changes only by
one. `core.acceptance` judges that; what it needs of the store is asked and written by `memory`, and put here by
`remembered`.

Seconds are those of the caller's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reembed.core import acceptance, traffic
from reembed.core.acceptance import UNWITNESSED, Acceptance, Accepted, Asked, Witness
from reembed.core.model import Arm, PanelRef, PointerPlan, Routing

# The index is read this often, and a candidate's weight is given up after three readings that brought no answer.
READ_EVERY = 10.0
LEASE = traffic.LEASE.total_seconds()
# Without an operator for so long, nobody would notice that a candidate fails. Longer than any restart and roll-out.
LEADERLESS = 120.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the index said. `force_stable` is the annotation that takes all traffic back.

    `panel` is whose certificates count; None where the operator decides alone. It is the user's to say.
    """

    uid: str
    routing: Routing
    force_stable: bool = False
    panel: PanelRef | None = None


@dataclass(frozen=True, slots=True)
class Leader:
    """The operator's Lease, as far as it was seen: its version, None before it was read, and when it last changed."""

    version: str | None = None
    changed: float | None = None


# What a gateway looks at that was not told of any Lease: as if somebody led for ever.
UNWATCHED = Leader(changed=float("inf"))


def seen(leader: Leader, version: str | None, now: float) -> Leader:
    """Return what is known after a look at the operator's Lease; `version` is None if it could not be read."""
    if version is None or version == leader.version:
        return leader
    return Leader(version, now if leader.version is not None else None)


def leaderless(leader: Leader, now: float) -> bool:
    return leader.changed is None or now - leader.changed >= LEADERLESS


@dataclass(frozen=True, slots=True)
class Lease:
    """The routing in force. `answered` is when the last answered reading was asked for, None before the first.

    `told` is the last reading of an index with a panel, which is judged again when the store was asked.
    """

    uid: str = ""
    routing: Routing = field(default_factory=Routing)
    force_stable: bool = False
    answered: float | None = None
    acceptance: Acceptance = field(default_factory=Acceptance)
    told: Reading | None = None

    @property
    def known(self) -> bool:
        """Whether it is known what answers: the index was read and, if it has a panel, the store was asked."""
        return self.answered is not None and (self.told is None or self.acceptance.known)


def renewed(lease: Lease, reading: Reading | None, asked: float, witness: Witness = UNWITNESSED) -> Lease:
    """Return the lease after the API server answered a reading that was asked for at `asked`; None: no such index."""
    # From when it was asked and not from when it came: an answer may have been under way for long.
    return replace(changed(lease, reading, witness), answered=asked)


def changed(lease: Lease, reading: Reading | None, witness: Witness = UNWITNESSED) -> Lease:
    """Return the lease after a watch told of a change. It does not prolong the lease: a watch may lag behind."""
    if reading is None:
        # The index is deleted; what served it goes on until this pod ends.
        return replace(lease, routing=replace(lease.routing, candidate=None, weight=0, shadow=0.0), told=None)
    if reading.panel is not None:
        return _judged(lease, reading, reading.panel, witness)
    # Without a panel, or without one since now: nothing that was accepted counts any more but the epochs.
    lease = replace(lease, acceptance=Acceptance(), told=None)
    if reading.uid != lease.uid:
        # Epochs are ordered within the life of one object.
        return replace(lease, uid=reading.uid, routing=reading.routing, force_stable=reading.force_stable)
    if reading.routing.epoch >= lease.routing.epoch:
        return replace(lease, routing=reading.routing, force_stable=reading.force_stable)
    # Overtaken: a copy that lags, or an index restored from a backup. It may only lower; the epoch seen stays, so
    # that whoever reads this gateway's report learns from where to go on.
    lowered = min(lease.routing.weight, _weight_for(lease.routing, reading.routing))
    shadow = min(lease.routing.shadow, reading.routing.shadow) if lowered else 0.0
    return replace(
        lease,
        routing=replace(lease.routing, weight=lowered, shadow=shadow),
        force_stable=lease.force_stable or reading.force_stable,
    )


def remembered(lease: Lease, row: Accepted | None, pointer: PointerPlan | None, witness: Witness) -> Lease:
    """Return the lease after the store told which routing gateways accepted, and what its pointer names."""
    if lease.told is None:
        return lease
    state = acceptance.remembering(lease.acceptance, row, pointer, lease.routing)
    return changed(replace(lease, acceptance=state), lease.told, witness)


def needs_proof(lease: Lease, reading: Reading | None) -> bool:
    """Return whether signatures are to be verified for a reading."""
    if reading is None or reading.panel is None or reading.uid != lease.uid:
        return False
    return acceptance.needs_proof(lease.acceptance, Asked(reading.uid, reading.panel, reading.routing))


def _judged(lease: Lease, reading: Reading, panel: PanelRef, witness: Witness) -> Lease:
    if reading.uid != lease.uid:
        # Nothing that another object of this name was certified for counts for this one.
        lease = Lease(reading.uid, answered=lease.answered)
    asked = Asked(reading.uid, panel, reading.routing)
    state, routing = acceptance.judged(lease.acceptance, lease.routing, asked, witness)
    kept = lease.force_stable and acceptance.overtaken(state, reading.routing)
    return replace(lease, routing=routing, force_stable=reading.force_stable or kept, acceptance=state, told=reading)


def effective(lease: Lease, now: float, leader: Leader = UNWATCHED) -> Routing:
    """Return what a request at `now` has to follow: the candidate is asked only while somebody answers for it.

    Shadow queries end with its weight: nobody is left to stop them if its pods, or the store, are short of room.
    """
    asked = lease.routing.weight or lease.routing.shadow
    if asked and (lease.force_stable or expired(lease, now) or leaderless(leader, now)):
        return replace(lease.routing, weight=0, shadow=0.0)
    return lease.routing


def expired(lease: Lease, now: float) -> bool:
    return lease.answered is None or now - lease.answered >= LEASE


def _weight_for(ours: Routing, told: Routing) -> int:
    """Return the weight that `told` gives to our candidate beside our serving arm; none, if it speaks of others."""
    return told.weight if _arms(told) == _arms(ours) else 0


def _arms(routing: Routing) -> tuple[Arm | None, Arm | None]:
    return routing.serving, routing.candidate
