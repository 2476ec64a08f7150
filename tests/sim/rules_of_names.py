"""What must hold where an object is deleted and another of the same name made: nothing of the old one is the new one's.

Also of what a migration leaves when it is gone: who is let go is asked, and what was made for it does not stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from reembed.api import parse_pool
from reembed.cluster import kinds
from reembed.core.fingerprint import fingerprint
from tests.sim.api_server import Object
from tests.sim.history import History, status_of
from tests.sim.world import Event

# Of which attempts collections are known by name.
_ATTEMPTS = range(1, 9)
# The store worker reads the plan every ten seconds, and what it began it ends.
_WORKED_OFF = 15.0


def nothing_of_a_namesake_is_in_a_status(history: History, event: Event) -> str:
    """Whatever a migration's status says began after the migration was created, and names what is its own."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.name not in history.recreated:
        return ""
    status, meta = status_of(change.after), change.after["metadata"]
    created = datetime.fromisoformat(meta["creationTimestamp"]) - timedelta(seconds=1 + history.skew)
    before = [f"{path}: {text}" for path, text in _times(status, "") if datetime.fromisoformat(text) < created]
    if before:
        return f"{meta['uid']} was created at {meta['creationTimestamp']}, and its status says {before}"
    own, candidate = collections(meta["uid"]), (status.get("candidate") or {}).get("collection")
    if candidate is not None and candidate not in own:
        return f"the candidate of {meta['uid']} is {candidate}, and its own collections are {sorted(own)}"
    judged = (status.get("evaluation") or {}).get("id", meta["uid"])
    if not judged.startswith(meta["uid"]):
        return f"{meta['uid']} is judged by evaluation {judged}"
    # One that is deleted before anybody looked at it has nothing but that to say.
    first = {None, "1/Unwinding"} if "deletionTimestamp" in meta else {None, "1/Preflight"}
    began = status_of(change.before).get("at") or status.get("at") in first
    there = status.get("reason") == "AlreadyThere"
    return "" if began or there else f"{meta['uid']} begins at {status['at']}"


def nobody_works_for_who_is_gone(history: History, event: Event) -> str:
    """No Job is made, and no collection, for a migration that does not exist any more."""
    change = event.change
    if change is not None and change.kind == kinds.JOB and change.before is None and change.after is not None:
        (owner,) = change.after["metadata"]["ownerReferences"]
        late = event.at - history.gone_at.get(owner["uid"], event.at)
        return f"Job {change.name} is made for {owner['uid']}, gone for {late:.1f} s" if late > history.patience else ""
    if event.what != "create" or history.let_down:
        return ""
    for uid, at in history.gone_at.items():
        if event.name in collections(uid) and event.at - at > _WORKED_OFF:
            return f"collection {event.name} is made for {uid}, gone for {event.at - at:.1f} s"
    return ""


def what_is_let_go_was_given_up_by_all(history: History, event: Event) -> str:
    """No collection that had queries goes before every gateway that may have sent some said that it does no more."""
    if event.what not in {"withdraw", "drop"} or event.name not in history.lowered_at:
        return ""
    lowered, heard = history.lowered_at[event.name], history.heard_at.get(event.name, {})
    for name, gateway in history.world.gateways.live.items():
        if gateway.pod.started_at < lowered and name not in heard:
            return f"{event.what} of {event.name}; gateway {name} never said that it sends nothing there"
    return ""


def an_arm_is_the_model_of_its_pool(history: History, event: Event) -> str:
    """Whoever has queries is run by a pool of the model that made its vectors."""
    change = event.change
    if change is None or change.after is None or change.kind not in {kinds.INDEX, kinds.POOL} or not history.recreated:
        return ""
    routing = history.world.routing()
    for arm in (routing.get("serving"), routing.get("candidate") if routing.get("weight") else None):
        pool = history.world.server.get(kinds.POOL, arm["pool"]) if arm is not None else None
        if arm is not None and pool is not None and _fingerprint(pool) != arm["fingerprint"]:
            return f"{arm['collection']} is of model {arm['fingerprint']}, and pool {arm['pool']} runs another one now"
    return ""


def what_is_routed_can_answer(history: History, event: Event) -> str:
    """An index sends queries only to collections that its own store holds, with an index over them."""
    change = event.change
    if change is None or change.kind != kinds.INDEX or change.after is None or change.by == "user":
        return ""
    if history.panel.forged:
        return ""  # nobody obeys it; whoever writes it again writes what gateways follow
    if "deletionTimestamp" in change.after["metadata"]:
        return ""  # its store has let it go
    routing, held = history.world.routing(), history.world.worker.store.collections
    for arm in (routing.get("serving"), routing.get("candidate") if routing.get("weight") else None):
        state = held[arm["collection"]].state if arm is not None and arm["collection"] in held else "nowhere"
        if arm is not None and state != "Indexed":
            return f"queries are sent to {arm['collection']}, which is {state}"
    return ""


RULES = (
    nothing_of_a_namesake_is_in_a_status,
    nobody_works_for_who_is_gone,
    what_is_let_go_was_given_up_by_all,
    an_arm_is_the_model_of_its_pool,
    what_is_routed_can_answer,
)


def left_behind(history: History) -> str:
    """At the end of a life the store fills or keeps nothing for a migration that is gone, but what answers."""
    store, routing = history.world.worker.store, history.world.routing()
    answers = {arm["collection"] for arm in (routing.get("serving"), store.pointer) if arm is not None}
    gone = {name: uid for uid in history.gone_at for name in collections(uid)}
    left = {name: one.state for name, one in store.collections.items() if name in gone and name not in answers}
    kept = {name: state for name, state in left.items() if state != "Withdrawn"}
    return f"migrations {sorted(gone[name] for name in kept)} are gone, and the store holds {kept}" if kept else ""


@lru_cache(maxsize=256)
def collections(uid: str) -> set[str]:
    """Return the names of a migration's collections; who stands in for nobody known has one's as its UID."""
    return {uid, *(f"c_{sha256(f'{uid}/{attempt}'.encode()).hexdigest()[:16]}" for attempt in _ATTEMPTS)}


def _times(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield everything in a status that is a time, with where it stands."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _times(one, f"{path}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _times(one, path)
    elif isinstance(value, str) and value[:4].isdigit() and value.endswith("Z"):
        yield path, value


def _fingerprint(pool: Object) -> str:
    return fingerprint(parse_pool(pool)[1].model)
