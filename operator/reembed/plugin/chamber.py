"""The view of `kubectl reembed panel status`: who is in office and lives, and what is voted on. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from reembed.api.values import format_time
from reembed.core.quorum.certificates import Certified
from reembed.core.quorum.membership import Member
from reembed.core.quorum.proposals import Kind, Proposal
from reembed.plugin.checks import remaining
from reembed.plugin.council import Council, Open, Said, differing
from reembed.plugin.wording import (
    AHEAD,
    ALARM,
    BROKEN,
    BUSY,
    DONE,
    QUIET_STYLE,
    WAITING,
    Mark,
    Row,
    columns,
    hanging,
    joined,
    marked,
    spell,
)

# Of those that are settled; the others are in `kubectl get decisions`.
_LATEST = 5
_MARKS = {"Certified": DONE, "Refused": BROKEN, "Expired": WAITING, "Open": BUSY}
_LONGEST_REASON = 200


def short(key: bytes) -> str:
    """Return what people compare keys by: the first digits of the SHA-256 of the public key."""
    return hashlib.sha256(key).hexdigest()[:16]


def chamber(council: Council, now: datetime) -> RenderableType:
    """Return the view of one panel."""
    members, meta = council.members, council.panel.meta
    alive = sum(council.reachable(one, now) for one in members.members)
    mark = ALARM if alive < members.quorum else WAITING if alive < len(members.members) else DONE
    root = Tree(marked(mark, Text(f"panel {meta.name}", "bold")), guide_style=QUIET_STYLE)
    office = f"membership {members.version}" if council.panel.active is not None else "not in office yet"
    root.add(Text(joined(office, f"{alive} of {len(members.members)} reachable", f"{members.quorum} votes decide")))
    root.add(Text(f"digest {council.anchor}", QUIET_STYLE))
    if council.doubt:
        root.add(marked(ALARM, council.doubt))
    for reason, message in council.conditions:
        root.add(Text(f"{reason}: {message}", mark.style))
    _branch(root, "agents", columns([_agent(council, one, now) for one in members.members]))
    _branch(root, "memberships", [*columns(_memberships(council.panel.chain)), *_wish(council)])
    for one in _shown(council, now):
        is_open = one.standing(council.members, now) == "Open"
        _branch(root, _title(one, council, now), hanging(_votes(one, council, is_open=is_open)))
    return Group(root)


def _branch(root: Tree, title: str | Text, lines: Sequence[RenderableType]) -> None:
    if not lines:
        return
    branch = root.add(title)
    for line in lines:
        branch.add(line)


def _agent(council: Council, member: Member, now: datetime) -> Row:
    found = council.agents.get(member.name)
    beat = f"{spell(now - found.beat)} ago" if found is not None and found.beat is not None else "never"
    other = ""
    if found is not None and found.key is not None and found.key != member.key:
        other = f"wants to be known by {short(found.key)}"
    mark = DONE if council.reachable(member, now) else BROKEN
    return [marked(mark, member.name), f"key {short(member.key)}", f"heartbeat {beat}", other]


def _memberships(chain: Sequence[Certified]) -> list[Row]:
    rows: list[Row] = []
    for place, one in enumerate(chain):
        size = f"{len(one.membership.members)} members"
        if not place:
            rows.append([f"{one.membership.version}", size, "the first"])
            continue
        names = ", ".join(differing(chain[place - 1].membership, one.membership)) or "nobody"
        rows.append([f"{one.membership.version}", size, f"{len(one.votes)} votes of those before; changed: {names}"])
    return rows


def _wish(council: Council) -> list[Text]:
    changed = council.changed()
    if not changed:
        return []
    text = f"wished for: changes of {', '.join(changed)}; {council.members.quorum} votes of those in office are needed"
    return [marked(WAITING, text)]


def _shown(council: Council, now: datetime) -> list[Open]:
    """Return all that are open, and the newest that are not."""
    is_open = [one.standing(council.members, now) == "Open" for one in council.decisions]
    settled = [one for one, yes in zip(council.decisions, is_open, strict=True) if not yes]
    return [*(one for one, yes in zip(council.decisions, is_open, strict=True) if yes), *settled[:_LATEST]]


def _title(one: Open, council: Council, now: datetime) -> Text:
    standing = one.standing(council.members, now)
    left = remaining(one.proposal.expires, now) if standing in {"Open", "Expired"} and _ends(one.proposal) else ""
    subject = f"{one.proposal.kind.value} of {one.proposal.subject.namespace}/{one.proposal.subject.name}"
    by = f"by {one.decision.proposer}"
    line = joined(f"{standing}: {subject}", _what(one.proposal), f"epoch {one.proposal.epoch}", by, left)
    mark: Mark = _MARKS[standing]
    return marked(mark, line).append(f"  {one.decision.meta.name[:13]}", QUIET_STYLE)


def _ends(proposal: Proposal) -> bool:
    """Return whether it can be too late: a change of members waits for as long as it takes."""
    return proposal.kind is not Kind.MEMBERSHIP


def _what(proposal: Proposal) -> str:
    if proposal.before == proposal.after:
        shown = [(name, value) for name, value in proposal.change if name != "poolUid"]
        return ", ".join(f"{name} {value}" for name, value in shown) if proposal.kind in _BY_AGENTS else ""
    to = proposal.after.candidate or proposal.after.serving
    return f"{proposal.before.weight} % → {proposal.after.weight} %{f' to {to.pool}' if to is not None else ''}"


# What agents propose, and who votes on it wants to know of which pod.
_BY_AGENTS = frozenset({Kind.MEMORY, Kind.TUNING, Kind.RECOVER, Kind.ROLLBACK, Kind.CORRECT})


def _votes(one: Open, council: Council, *, is_open: bool) -> list[Row]:
    approving, refusing = one.of(approving=True), one.of(approving=False)
    said = {vote.agent for vote in one.said}
    silent = [member.name for member in council.members.members if member.name not in said]
    rows: list[Row] = []
    if approving or is_open:
        rows.append(
            [
                marked(DONE if approving else AHEAD, f"{len(approving)} of {council.members.quorum} approve"),
                _names(approving),
            ]
        )
    rows += [[marked(BROKEN, f"{vote.agent} refuses"), vote.reason[:_LONGEST_REASON]] for vote in refusing]
    if silent and is_open:
        rows.append([marked(WAITING, f"{len(silent)} silent"), ", ".join(silent)])
    return rows


def _names(said: Sequence[Said]) -> str:
    return ", ".join(vote.agent for vote in said)


def document(council: Council, now: datetime) -> dict[str, Any]:
    """Return the same for programs."""
    members, office = council.members, council.panel.active
    return {
        "namespace": council.panel.meta.namespace,
        "name": council.panel.meta.name,
        "digest": council.anchor,
        "doubt": council.doubt or None,
        "version": office.version if office is not None else None,
        "faulty": members.faulty,
        "quorum": members.quorum,
        "members": [_member(council, one, now) for one in members.members],
        "wished": list(council.changed()),
        "decisions": [
            {
                "name": one.decision.meta.name,
                "kind": one.proposal.kind.value,
                "subject": f"{one.proposal.subject.namespace}/{one.proposal.subject.name}",
                "epoch": one.proposal.epoch,
                "proposer": one.decision.proposer,
                "expires": format_time(one.proposal.expires),
                "standing": one.standing(members, now),
                "approved": [vote.agent for vote in one.of(approving=True)],
                "refused": [{"agent": vote.agent, "reason": vote.reason} for vote in one.of(approving=False)],
            }
            for one in council.decisions
        ],
    }


def _member(council: Council, member: Member, now: datetime) -> dict[str, Any]:
    found = council.agents.get(member.name)
    return {
        "name": member.name,
        "role": member.role.value,
        "key": short(member.key),
        "published": short(found.key) if found is not None and found.key is not None else None,
        "reachable": council.reachable(member, now),
        "heartbeat": format_time(found.beat) if found is not None and found.beat is not None else None,
    }
