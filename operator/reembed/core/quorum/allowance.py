"""How many of one agent's proposals are looked at at a time: one that lies may make as many as it likes.

Everybody counts for himself, what he sees first, and leaves out the excess: agents vote on none of it, the operator
counts none of it. Nobody honest comes near the limit: an agent proposes the same again after ten minutes only. Steps of
a migration are the operator's, and not counted; changes of members are compared with the Panel's own wish instead.
"""

from __future__ import annotations

from datetime import datetime

from reembed.core.quorum.certificates import LONGEST_OPEN

MOST_OPEN = 16


class Allowance:
    """The open proposals of each agent, by their names, and until when each counts."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, datetime]] = {}

    def admits(self, proposer: str, name: str, expires: datetime, now: datetime) -> bool:
        """Return whether a proposal is one of those to look at, and count it if it is.

        One that was deleted counts on: who may delete could make another one in its place.
        """
        found = {one: until for one, until in self._open.get(proposer, {}).items() if until > now}
        admitted = name in found or len(found) < MOST_OPEN
        if admitted and name not in found:
            found[name] = min(expires, now + LONGEST_OPEN)
        self._open[proposer] = found
        return admitted
