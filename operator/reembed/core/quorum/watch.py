"""Who of a panel lives, and who does whose work: pure rules over what is seen of the agents' Leases.

`panel.heartbeats` puts every list of the Leases through `looked`. Nobody compares two clocks: an agent is dead if its
Lease was not seen to change for `DEAD` seconds of the looker's own, however wrong the times in there are. Whoever could
not look for a while (the API server was away, the process stood still) knows nothing of that time and begins anew: it
would take everybody for dead otherwise, and restart them all.

Each duty is one role's work. The agents of that role have it while one of them lives; else whoever of the living has
the highest hash with it, which moves no other duty. What the first in line leaves undone the next one does after
`TURN`, since an agent that beats may still be faulty.

Seconds are those of the caller's monotonic clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reembed.core.quorum.membership import Member, Role

BEAT = 10.0  # an agent renews its Lease this often
LOOK = 3.0  # and looks at all of them this often
DEAD = 30.0
# A look that comes so long after the one before it begins anew: three of them were missed.
GAP = 12.0
TURN = 15.0
# A dead agent's next pod may be deleted after this time only: it needs some of it to start.
AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was last seen of one Lease. `changed` is when; `beaten` whether it was seen to change at all."""

    said: str
    changed: float
    beaten: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """All that is known of the agents, since when without a gap, and when it was looked last."""

    pulses: Mapping[str, Pulse] = field(default_factory=dict)
    since: float = 0.0
    at: float | None = None


def looked(watch: Watch, said: Mapping[str, str], names: Iterable[str], now: float) -> Watch:
    """Return what is known after a look that was answered at `now`; `said` is what each Lease that exists says."""
    anew = watch.at is None or now - watch.at > GAP
    pulses = {name: _pulse(None if anew else watch.pulses.get(name), said.get(name, ""), now) for name in names}
    return Watch(pulses, now if anew else watch.since, now)


def _pulse(before: Pulse | None, said: str, now: float) -> Pulse:
    if before is None:
        return Pulse(said, now)
    # A Lease that somebody deleted is no sign of life; one that is there again is.
    if not said or said == before.said:
        return before
    return Pulse(said, now, beaten=True)


def dead(watch: Watch) -> tuple[str, ...]:
    """Return who was not seen to live for too long, as of the last look."""
    at = watch.at
    if at is None:
        return ()
    return tuple(sorted(name for name, pulse in watch.pulses.items() if at - pulse.changed >= DEAD))


def live(watch: Watch) -> tuple[str, ...]:
    """Return all others; who has just begun to look takes everybody for alive."""
    gone = set(dead(watch))
    return tuple(sorted(name for name in watch.pulses if name not in gone))


def settled(watch: Watch) -> bool:
    """Return whether it is known of everybody whether it lives."""
    if watch.at is None:
        return False
    return watch.at - watch.since >= DEAD or all(pulse.beaten for pulse in watch.pulses.values())


def recovered(before: Watch, after: Watch) -> dict[str, float]:
    """Return who was dead and is seen to live again, with the seconds from its last sign of life to the new one."""
    seen = {name: (before.pulses[name], after.pulses[name]) for name in dead(before) if name in after.pulses}
    return {name: new.changed - old.changed for name, (old, new) in seen.items() if new.beaten and new != old}


def line(duty: Role, members: Iterable[Member], alive: Iterable[str]) -> tuple[str, ...]:
    """Return the living members in the order in which they have a duty, who has it now first."""
    living = set(alive)

    def order(member: Member) -> tuple[bool, bytes]:
        return member.role is not duty, hashlib.sha256(f"{duty.value}/{member.name}".encode()).digest()

    return tuple(member.name for member in sorted(members, key=order) if member.name in living)


def place(duty: Role, name: str, members: Iterable[Member], alive: Iterable[str]) -> int | None:
    """Return how many have a duty before `name`; None for who is no living member."""
    waiting = line(duty, members, alive)
    return waiting.index(name) if name in waiting else None


def due(before: Mapping[str, float] | None, pods: Iterable[str], now: float) -> dict[str, float]:
    """Return from when on each of a dead agent's pods may be deleted; `before` is None if it has just been found dead.

    The pod that it died in may go at once. One that is there later was made after somebody's deletion.
    """
    if before is None:
        return dict.fromkeys(pods, now)
    return {pod: before.get(pod, now + AGAIN) for pod in pods}
