"""What must hold after every event of every life, each rule a function that says what is wrong, or nothing.

They are written to be believed and not to be fast or complete: each looks at the world's truth and at `History`, and
restates a promise without a line of the operator's own code. Where the operator cannot know better (a watch lags, a pod
is silent), a rule waits for as long as that lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reembed.cluster import kinds
from reembed.core import names
from reembed.core.transitions import TRANSITIONS, State
from tests.sim import (
    rules_of_classes,
    rules_of_gates,
    rules_of_hooks,
    rules_of_inspections,
    rules_of_names,
    rules_of_panels,
    rules_of_pools,
    rules_of_queries,
)
from tests.sim.api_server import Change, Object
from tests.sim.chamber import FORGER
from tests.sim.history import SEEN_LATE, WITH_TRAFFIC, History, status_of
from tests.sim.store import INDEX
from tests.sim.world import Event

Invariant = Callable[[History, Event], str]

_FINISHED = frozenset({"Succeeded", "RolledBack", "Failed", "Gone"})
_TAKES_BACK = frozenset({"RollingBack", "Unwinding", "RolledBack", "Failed"})
# Without any change an object is looked at each half minute; a failing pass waits as long.
_LONGEST_WAIT = 45.0
# For so many seconds limits are exceeded where nobody says for how long.
_UNTOLD = 300.0
_KNOWN_SOON = 1.5
# Triggers that are about who decides.
_OF_AGENTS = frozenset({"agents", "consensus"})
# A Lease of 15 s, a look at it every two seconds, a slow clock, and a request that was on its way before.
_LED_AGAIN = 30.0


def candidate_rises_only_through_its_gates(history: History, event: Event) -> str:
    """1: pods ready, probes without errors, gateways at the last weight, no trigger running, the hold held."""
    risen = _risen(event.change)
    if risen is None:
        return ""
    before, after = risen
    weight, arm = after.get("weight", 0), after.get("candidate")
    holder = history.holder()
    if holder is None and history.since("held") <= history.patience:
        return ""  # a write that was on its way while the holder vanished; the next pass takes it back
    if holder is None or arm is None:
        return f"the weight rose to {weight} % and nobody holds the index"
    status = status_of(holder)
    if _meant(holder) < weight:
        return f"the weight rose to {weight} % while the migration's status is at {status.get('at')}"
    if [one for one in status.get("triggers") or () if _counts(one)] or "emergency" in status:
        return f"the weight rose to {weight} % while {status.get('triggers') or status.get('emergency')}"
    return _lacking(history, "the weight rose", before.get("weight", 0))


def _counts(trigger: Object) -> bool:
    """Return whether a trigger keeps queries from moving: whether agents are there shows in their votes."""
    return not trigger.get("dryRun") and trigger["name"] not in {"AgentsUnreachable", "NoQuorum"}


def _lacking(history: History, what: str, told: int) -> str:
    """Say which gate was not open for longer than a pass may take."""
    if history.since("gateway") > history.patience:
        return f"{what} while no gateway was ready for {history.since('gateway'):.1f} s"
    if told and history.since("acknowledged before") > history.patience:
        return f"{what} while not all gateways served {told} % for {history.since('acknowledged before'):.1f} s"
    for side in ("candidate", "serving"):
        if history.since(f"{side} capacity") > history.patience and history.since("watches blind") > 70:
            return f"{what} while pods of the {side} pool were missing for {history.since(f'{side} capacity'):.1f} s"
        if history.since(f"{side} healthy") > history.patience:
            return f"{what} while the {side} model failed for {history.since(f'{side} healthy'):.1f} s"
    return ""


def steps_are_held(history: History, event: Event) -> str:
    """1: a step is left only after its hold, counted from when all gateways served its weight."""
    moved = _moved(event.change)
    if moved is None or moved[0].get("state") != "Canary" or moved[1].get("state") not in WITH_TRAFFIC:
        return ""
    raw = event.change.newest if event.change is not None else {}
    step = raw["spec"]["canary"]["steps"][moved[0].get("step", 0)]
    routing = history.world.routing()
    if not routing and event.at - history.emptied_at <= history.patience:
        return ""  # the pass had seen what somebody emptied since
    since = history.served_since(routing.get("epoch", -1), step["weight"])
    held = event.at - since if since is not None else 0.0
    promoted = _promoted(moved[0], moved[1])
    if step.get("approval") == "Required" and not promoted:
        return f"step {moved[0].get('at')} was left for {moved[1].get('at')}, and nobody approved that"
    if promoted or held >= float(step["hold"].rstrip("s")) - history.skew - 0.01:
        return ""
    return f"step {moved[0].get('at')} was left for {moved[1].get('at')} after {held:.2f} s of {step['hold']}"


def dependencies_come_first(history: History, event: Event) -> str:
    """Whoever depends on others begins after all of them have succeeded."""
    moved, change = _moved(event.change), event.change
    if moved is None or change is None or change.name != "move" or moved[1].get("state") != "Backfilling":
        return ""
    alone = history.since("dependencies")
    return f"it began {alone:.1f} s after what it depends on had last succeeded" if alone > history.patience else ""


def promoted_only_when_all_gateways_follow(history: History, event: Event) -> str:
    """1: what serves changes only after every gateway sent all queries to the candidate."""
    moved = _moved(event.change)
    if moved is None or moved[1].get("state") != "Promoting" or moved[0].get("state") != "Retaining":
        return ""
    if history.since("acknowledged") > history.patience:
        return f"promoted though not all gateways served 100 % for {history.since('acknowledged'):.1f} s"
    if history.since("candidate capacity") > history.patience and history.since("watches blind") > 70:
        return f"promoted though pods of the candidate were missing for {history.since('candidate capacity'):.1f} s"
    return ""


def nobody_routes_but_the_holder(history: History, event: Event) -> str:
    """2: one migration holds an index until it ended, and only its own candidate has queries."""
    change = event.change
    if change is None or change.kind != kinds.INDEX or change.after is None:
        return ""
    before, after = (status_of(one).get("activeMigration") for one in (change.before, change.after))
    if before is not None and after is not None and before != after:
        return f"the index went from {before['name']} to {after['name']} without being free"
    routing = status_of(change.after).get("routing") or {}
    if routing.get("weight") and after is None and change.by not in {"user", FORGER}:
        return f"the candidate has {routing['weight']} % and nobody holds the index"
    candidate = routing.get("candidate")
    if candidate is not None and after is not None and candidate["collection"] not in _own(after["uid"]):
        return f"{after['name']} holds the index, and {candidate} is not its candidate"
    return ""


def what_was_counted_stays_told(history: History, event: Event) -> str:
    """A store worker that is silent for a while takes no figure out of the index's status."""
    change = event.change
    if change is None or change.kind != kinds.INDEX or change.after is None or change.by != "reembed-indexes":
        return ""
    dropped = "documents" in status_of(change.before) and "documents" not in status_of(change.after)
    return "the number of documents left the index's status" if dropped else ""


def one_epoch_is_one_routing(history: History, event: Event) -> str:
    """2: whoever obeys the same epoch sends the same share to the same candidate, or less."""
    routing = history.world.routing()
    if "epoch" in routing:
        known = history.routings.setdefault(routing["epoch"], routing)
        # Shadow queries are nobody's answer: their share is not of the epoch. A side that a forger named stays named
        # for a moment, without weight: fields of others are removed one by one.
        named = () if history.forged and not routing["weight"] else ("candidate",)
        sides = ("serving", "weight", *named)
        if any(known.get(name) != routing.get(name) for name in sides):
            return f"epoch {routing['epoch']} was {known} and is {routing}"
    if event.what != "gateway follows" or event.at - history.emptied_at < 60:
        return ""
    gateway = history.world.gateway(event.name)
    found = gateway.routing(event.at) if gateway is not None else None
    told = history.routings.get(found.epoch) if found is not None else None
    if found is None or told is None:
        return ""
    candidate = found.candidate.collection if found.candidate is not None else None
    if found.weight and (found.weight > told["weight"] or (told.get("candidate") or {}).get("collection") != candidate):
        return f"gateway {event.name} follows epoch {found.epoch} with {found.weight} % on {candidate}, told was {told}"
    return ""


def what_answers_keeps_its_pods(history: History, event: Event) -> str:
    """3: no Deployment of a pool that may get queries is scaled below what the pool asks for."""
    change = event.change
    if change is None or change.kind != kinds.DEPLOYMENT or change.before is None or change.by == "user":
        return ""
    pool = change.newest["metadata"]["labels"].get(names.LABEL_POOL)
    wanted = history.sim.script.replicas.get(pool or "", 1)
    has = change.after["spec"]["replicas"] if change.after is not None else 0
    if pool is None or has >= wanted or has >= change.before["spec"]["replicas"] or history.index_deleted():
        return ""
    if history.panel.forged:
        return ""  # whoever has the operator's account may take any pod away
    if pool in history.pools and history.pools[pool].desired() >= wanted:
        return ""  # its other variants have what this one gave up
    for who, user in _answering(history):
        if user["pool"] == pool:
            return f"pool {pool} was scaled to {has} of {wanted} while {who} sends queries to it"
    return ""


def triggers_roll_back(history: History, event: Event) -> str:
    """4: what is beyond its limit for its whole time, and can be seen, leads back within a pass."""
    if not history.bad_for:
        return ""
    holder = history.holder() or {}
    limits = holder["spec"]["rollback"]["triggers"].items()
    told = [float(one["for"].rstrip("s")) for name, one in limits if one and "for" in one and name not in _OF_AGENTS]
    longest = max(told, default=_UNTOLD)
    total = history.bad_before + max(history.bad_for - SEEN_LATE, 0.0)
    return (
        f"the candidate was beyond a limit for {total:.1f} s; it is at {status_of(holder).get('at')}"
        if total > longest
        else ""
    )


def lowering_comes_first(history: History, event: Event) -> str:
    """4: whoever reads that queries go back finds that they do."""
    moved = _moved(event.change)
    if moved is None or moved[1].get("state") not in {"RollingBack", "Unwinding"} or event.change is None:
        return ""
    index = status_of(history.world.index())
    held = index.get("activeMigration") or {}
    if held.get("uid") == event.change.newest["metadata"]["uid"] and history.world.routing().get("weight"):
        return f"the status says {moved[1].get('at')} and the weight is still {history.world.routing()['weight']} %"
    return ""


def states_follow_the_table(history: History, event: Event) -> str:
    """5: no move but those of the table; the end stays, but for a command to begin anew, or deletion."""
    moved = _moved(event.change)
    if moved is None or event.change is None or not moved[0]:
        return ""
    before, after = State(moved[0]["state"]), State(moved[1]["state"])
    if after is before or after in TRANSITIONS[before].values():
        deleted = after is State.UNWINDING and "deletionTimestamp" not in event.change.newest["metadata"]
        again = (
            before.value in _FINISHED and after is State.PREFLIGHT and moved[1]["attempt"] != moved[0]["attempt"] + 1
        )
        return f"{before.value} went to {after.value} without a reason" if deleted or again else ""
    return f"{before.value} went to {after.value}, which the table does not know"


def waiting_has_a_reason_and_an_end(history: History, event: Event) -> str:
    """6: whatever is not finished says why, and is looked at again."""
    change = event.change
    if change is not None and change.kind == kinds.MIGRATION and change.after is not None:
        status = status_of(change.after)
        if status and not status.get("reason"):
            return f"migration {change.name} is at {status.get('at')} without a reason"
    process = history.sim.operators.leader
    operator = process.operator
    if event.what != "tick" or operator is None or not process.leads or event.at - process.began < _LONGEST_WAIT:
        return ""
    known = operator.cache.keys()
    for key in known:
        raw = operator.cache.get(key.kind, key.namespace, key.name)
        if key.kind != kinds.MIGRATION or status_of(raw).get("state") in _FINISHED:
            continue
        waits = event.at - max(process.passed.get(key, process.began), history.disturbed_at())
        if waits > _LONGEST_WAIT:
            return f"nobody looked at {key.name} for {waits:.0f} s; it is at {status_of(raw).get('at')}"
    return ""


def what_answers_is_kept(history: History, event: Event) -> str:
    """9: no collection is withdrawn or dropped that a gateway or the pointer sends anybody to."""
    if event.what not in {"withdraw", "drop"}:
        return ""
    pointer = history.world.worker.store.pointer
    if pointer is not None and pointer["collection"] == event.name:
        return f"{event.what} of {event.name}, which the pointer names"
    for who, user in _answering(history):
        if user["collection"] == event.name:
            return f"{event.what} of {event.name}, to which {who} sends queries"
    return ""


def commands_are_answered_once(history: History, event: Event) -> str:
    """A nonce is answered once, and accepted only where it was meant for this object and this point of its life."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None:
        return ""
    before, uid = status_of(change.before), change.after["metadata"]["uid"]
    for one in status_of(change.after).get("commands") or ():
        key, answer = (uid, one["verb"], one["nonce"]), (one["outcome"], one["time"])
        if history.answered.setdefault(key, answer) != answer:
            return f"{one['verb']} {one['nonce']} was answered {history.answered[key]}, and then {answer}"
        if one in (before.get("commands") or ()) or one["outcome"] != "Accepted":
            continue
        sent, at = history.sent.get((one["verb"], one["nonce"])), str(before.get("at"))
        if sent is None or sent["uid"] != uid or sent["at"].partition("/")[0] != at.partition("/")[0]:
            return f"{one['verb']} was accepted at {at}, and what was sent is {sent}"
        if one["verb"] in {"promote", "retry"} and sent["at"] != at:
            return f"{one['verb']} for {sent['at']} was accepted at {at}"
    return ""


def refused_commands_change_nothing(history: History, event: Event) -> str:
    """Only what was accepted in the same write pauses, resumes, promotes or begins anew."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None or change.before is None:
        return ""
    before, after = status_of(change.before), status_of(change.after)
    old = before.get("commands") or ()
    new = {one["verb"] for one in after.get("commands") or () if one not in old and one["outcome"] == "Accepted"}
    again = before and after.get("attempt", 1) != before.get("attempt", 1)
    if bool(after.get("paused")) != bool(before.get("paused")) and not again:
        needed = {"pause"} if after.get("paused") else {"resume"}
    elif after.get("promoted") and after.get("promoted") != before.get("promoted"):
        needed = {"promote"}
    elif again:
        needed = {"retry"}
    elif after.get("reason") == "Aborted" != before.get("reason"):
        needed = {"abort"}
    else:
        return ""
    return "" if needed <= new else f"it needed {needed} for {after.get('at')}; accepted was {sorted(new) or 'nothing'}"


def paused_goes_no_further(history: History, event: Event) -> str:
    """What is paused is not sent to a later step, nor promoted."""
    moved = _moved(event.change)
    if moved is None or event.change is None or moved[1].get("state") not in {*WITH_TRAFFIC, "Promoting"}:
        return ""
    before, raw = event.change.before or {}, event.change.newest
    # A pass that had begun before knows nothing of the manifest yet; its version has to be the one it wrote over.
    paused = moved[1].get("paused") or (before.get("spec", {}).get("paused") and raw["spec"].get("paused"))
    return f"it is paused, and went from {moved[0].get('at')} to {moved[1].get('at')}" if paused else ""


def acknowledged_is_known_soon(history: History, event: Event) -> str:
    """Where nothing is in the way, it is noted within a second and a half that every gateway follows."""
    change = event.change
    if change is None or change.kind != kinds.MIGRATION or change.after is None:
        return ""
    before, after, routing = status_of(change.before), status_of(change.after), history.world.routing()
    # Retaining has the routing of the step before it.
    if after.get("state") != "Canary" or not after.get("stepAcknowledgedAt") or not history.undisturbed:
        return ""
    if before.get("stepAcknowledgedAt") or before.get("reason") != "WaitingForGateways":
        return ""
    late = event.at - history.first_acknowledged.get((routing.get("epoch", -1), routing.get("weight", 0)), event.at)
    return f"all gateways followed for {late:.1f} s before it was noted" if late > _KNOWN_SOON else ""


def who_wrote_before_a_new_leader_writes_no_more(history: History, event: Event) -> str:
    """2: after the first write of a new leader nothing of an old one lands."""
    if event.what != "writes from now on:" or history.writers.count(event.name) < 2:
        return ""
    return f"a write of {event.name} landed after {history.writers[-2]} had begun to write"


def one_process_leads(history: History, event: Event) -> str:
    """2: no two processes may write at the same moment, as far as each knows."""
    leading = [one.name for one in history.sim.operators.all if one.leads]
    return f"processes {leading} lead at once" if len(leading) > 1 else ""


def somebody_leads(history: History, event: Event) -> str:
    """8: where a process can lead, one does as soon as the last Lease has run out."""
    if not history.sim.operators.elected:
        return ""
    alone = min(history.since("led"), history.since("nobody could lead"))
    return f"nobody has led for {alone:.1f} s" if alone > _LED_AGAIN else ""


def passes_do_not_fail(history: History, event: Event) -> str:
    """No pass raises anything but what the weather explains."""
    return f"{event.name} failed" if event.what == "pass fails" else ""


INVARIANTS: tuple[Invariant, ...] = (
    candidate_rises_only_through_its_gates,
    steps_are_held,
    dependencies_come_first,
    promoted_only_when_all_gateways_follow,
    nobody_routes_but_the_holder,
    what_was_counted_stays_told,
    one_epoch_is_one_routing,
    what_answers_keeps_its_pods,
    triggers_roll_back,
    lowering_comes_first,
    states_follow_the_table,
    waiting_has_a_reason_and_an_end,
    what_answers_is_kept,
    commands_are_answered_once,
    refused_commands_change_nothing,
    paused_goes_no_further,
    acknowledged_is_known_soon,
    who_wrote_before_a_new_leader_writes_no_more,
    one_process_leads,
    somebody_leads,
    passes_do_not_fail,
    *rules_of_classes.RULES,
    *rules_of_gates.RULES,
    *rules_of_hooks.RULES,
    *rules_of_inspections.RULES,
    *rules_of_names.RULES,
    *rules_of_panels.RULES,
    *rules_of_pools.RULES,
    *rules_of_queries.RULES,
)


def _risen(change: Change | None) -> tuple[Object, Object] | None:
    """Return the routing before and after, where a candidate got more."""
    if change is None or change.kind != kinds.INDEX or change.after is None or change.by == FORGER:
        return None
    before, after = (status_of(one).get("routing") or {} for one in (change.before, change.after))
    more = after.get("weight", 0) > (
        before.get("weight", 0) if before.get("candidate") == after.get("candidate") else 0
    )
    return (before, after) if more else None


def _moved(change: Change | None) -> tuple[Object, Object] | None:
    """Return a migration's status before and after, where it came to another place."""
    if change is None or change.kind != kinds.MIGRATION or change.after is None:
        return None
    before, after = status_of(change.before), status_of(change.after)
    return (before, after) if before.get("at") != after.get("at") and after else None


def _promoted(before: Object, after: Object) -> bool:
    """Return whether somebody commanded to leave the place where the migration was."""
    answered = [one for one in after.get("commands") or () if one["verb"] == "promote" and one["outcome"] == "Accepted"]
    return any(one["at"] == before.get("at") for one in answered)


def _meant(raw: Object) -> int:
    """Return the weight that a migration's place means."""
    status = status_of(raw)
    if status.get("state") == "Canary":
        weight: int = raw["spec"]["canary"]["steps"][status.get("step", 0)]["weight"]
        return weight
    return 100 if status.get("state") == "Retaining" else 0


def _answering(history: History) -> Iterator[tuple[str, Object]]:
    """Yield who sends queries where: the index for new gateways, and every gateway that lives."""
    routing = history.world.routing()
    for arm in (routing.get("serving"), routing.get("candidate") if routing.get("weight") else None):
        if arm is not None and not history.panel.forged:
            yield f"index {INDEX}", arm
    now = history.world.now()
    for gateway in history.world.gateways.live.values():
        found = gateway.routing(now)
        for side in (found.serving, found.candidate if found.weight else None):
            if side is not None:
                yield f"gateway {gateway.pod.name}", {"pool": side.pool, "collection": side.collection}


def _own(uid: str) -> set[str]:
    """Return the collections of a holder; one that stands in for nobody known has the UID of what was left behind."""
    return rules_of_names.collections(uid)
