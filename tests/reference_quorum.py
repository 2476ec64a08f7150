"""The panel's rules a second time, from their design and not from the code: plain values, lists, loops and no thought
of speed, so that it shares no mistake with `reembed.core.quorum`.

A signature is known here by who made it: `signed` is the list of all that any key's owner ever signed, and a signature
that does not stand there is none.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Value = dict[str, Any]
Signed = list[tuple[str, bytes, str]]  # (key, message, signature), keys and signatures in base64


def text_of(domain: str, value: Any) -> bytes:
    """Members of objects in the order of their names, no blanks, UTF-8; none of our values has more to it."""
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b"reembed.dev/" + domain.encode() + b"/v1\n" + plain.encode()


def digest_of(domain: str, value: Any) -> str:
    return hashlib.sha256(text_of(domain, value)).hexdigest()


def slot_of(proposal: Value) -> str:
    kind = proposal["kind"]
    if kind in ("Traffic", "Complete"):
        kind = "Routing"
    text = proposal["subject"]["uid"] + "/" + kind + "/" + str(proposal["epoch"])
    return "s" + hashlib.sha256(text.encode()).hexdigest()[:32]


def members_of(membership: Value) -> Value:
    """What of a written membership is hashed: not the votes for it."""
    people = sorted(membership["members"], key=lambda one: str(one["name"]))
    return {"version": membership["version"], "faulty": membership["faulty"], "members": people}


def quorum_of(membership: Value) -> int:
    """Count up to the first number of which two sets share more members than may be faulty."""
    count, quorum = len(membership["members"]), 1
    while not 2 * quorum - count > membership["faulty"]:
        quorum += 1
    return quorum


def said(choice: str, vote: Value, proposal: Value, membership: Value, signed: Signed) -> bool:
    """Whether a member signed this choice for this proposal in its slot."""
    message = text_of(
        "ballot",
        {
            "proposal": digest_of("proposal", proposal),
            "slot": slot_of(proposal),
            "choice": choice,
            "evidence": vote["evidence"],
        },
    )
    is_member = False
    for member in membership["members"]:
        if member["publicKey"] == vote["publicKey"]:
            is_member = True
    return is_member and (vote["publicKey"], message, vote["signature"]) in signed


def approvals(votes: list[Value], proposal: Value, membership: Value, signed: Signed) -> int:
    keys = []
    for vote in votes:
        if said("Approve", vote, proposal, membership, signed) and vote["publicKey"] not in keys:
            keys.append(vote["publicKey"])
    return len(keys)


def sound(membership: Value) -> bool:
    people, faulty = membership["members"], membership["faulty"]
    for at, one in enumerate(people):
        for other in people[at + 1 :]:
            if one["name"] == other["name"] or one["publicKey"] == other["publicKey"]:
                return False
    return membership["version"] >= 1 and faulty >= 0 and 3 * faulty < len(people) <= 16


def follows(before: Value, after: Value, signed: Signed) -> bool:
    """Whether those before chose those after, and no quorum of one contradicts one of the other."""
    proposal = after.get("proposal")
    if proposal is None or proposal["kind"] != "Membership":
        return False
    if not (after["version"] > before["version"] and proposal["epoch"] == after["version"]):
        return False
    digests = [digest_of("membership", members_of(one)) for one in (before, after)]
    if proposal["change"] != {"before": digests[0], "after": digests[1]}:
        return False
    names = {one["name"] for one in before["members"]} | {one["name"] for one in after["members"]}
    least_shared = quorum_of(before) + quorum_of(after) - len(names)
    if least_shared <= before["faulty"] or least_shared <= after["faulty"]:
        return False
    return approvals(after["votes"], proposal, before, signed) >= quorum_of(before)


def certified(certificate: Value, anchor: str, least: int, now: float, expires: float, signed: Signed) -> bool:
    """Whether a certificate lets anybody do anything; times in seconds."""
    chain = certificate["memberships"]
    if not chain or digest_of("membership", members_of(chain[0])) != anchor:
        return False
    for at, one in enumerate(chain):
        if not sound(one):
            return False
        if at > 0 and not follows(chain[at - 1], one, signed):
            return False
    if chain[-1]["version"] < least:
        return False
    # A proposal waits ten minutes at most, and two clocks differ by thirty seconds at most.
    if not -30 <= expires - now <= 600 + 30:
        return False
    proposal = certificate["proposal"]
    return approvals(certificate["votes"], proposal, chain[-1], signed) >= quorum_of(chain[-1])


def standing(proposal: Value, ballots: list[Value], membership: Value, late: bool, signed: Signed) -> str:
    """What ballots come to; each is a vote with `proposal` (a digest) and `choice`."""
    digest = digest_of("proposal", proposal)
    approving, refusing = [], []
    for ballot in ballots:
        if ballot["proposal"] == digest and said(ballot["choice"], ballot, proposal, membership, signed):
            (approving if ballot["choice"] == "Approve" else refusing).append(ballot["publicKey"])
    yes = len(set(approving))
    no = len([key for key in set(refusing) if key not in approving])
    quorum, count = quorum_of(membership), len(membership["members"])
    if yes >= quorum:
        return "Certified"
    if no > membership["faulty"] or count - no < quorum:
        return "Refused"
    return "Expired" if late else "Open"


def answers(routing: Value) -> list[tuple[Any, int]]:
    """Who answers how much of a hundred queries."""
    found = [(routing.get("serving"), 100 - routing["weight"])]
    if routing.get("candidate") is not None or routing["weight"]:
        found.append((routing.get("candidate"), routing["weight"]))
    return found


def gives_more(held: Value, told: Value) -> bool:
    """Whether somebody gains who does not serve already, or another side is to serve."""
    if told.get("serving") != held.get("serving"):
        return True
    for who, share in answers(told)[1:]:
        had = 0
        for other, much in answers(held)[1:]:
            if other == who:
                had = much
        if share > had:
            return True
    return False


def of_this(proposal: Value, told: Value, index: str) -> bool:
    """Whether exactly this was voted on."""
    if proposal["kind"] not in ("Traffic", "Complete") or proposal["subject"]["uid"] != index:
        return False
    after = proposal["after"]
    if not proposal["epoch"] == after["epoch"] == told["epoch"] or after["weight"] != told["weight"]:
        return False
    for side in ("serving", "candidate"):
        voted, meant = after.get(side), told.get(side)
        if voted is not None:
            voted = {field: voted[field] for field in ("pool", "collection", "fingerprint")}
        if voted != meant:
            return False
    return True


def may_follow(held: Value, told: Value, proposal: Value | None, index: str, good: bool) -> bool:
    """Whether who follows `held` may follow `told`; `good` says whether its certificate is one."""
    if not gives_more(held, told):
        return True
    if told["epoch"] <= held["epoch"] or proposal is None or not good:
        return False
    return proposal["before"]["epoch"] >= held["epoch"] and of_this(proposal, told, index)
