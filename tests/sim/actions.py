"""What faults and people do to a world, by the words of a script; an action may return how it is undone.

Words are `SUBJECT VERB [ARGUMENT]`. Each action is a few lines over the modules that play the parts; a new one is a
function and a line in `ACTIONS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reembed.api.inspections import render_asked
from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.controller.handlers import CHILDREN, OWN
from reembed.core import names
from reembed.core.model import AskedInspection
from tests.sim import actions_of_panels, actions_of_pools
from tests.sim.callers import PER_SECOND
from tests.sim.history import status_of
from tests.sim.hooks import CRON_JOB, cron_job, is_hook
from tests.sim.labelled import LABELLED
from tests.sim.line import Line
from tests.sim.manifests import another, moves, named
from tests.sim.process import LEASE, Process
from tests.sim.store import INDEX

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

Undo = Callable[[], None]
Action = Callable[["Simulation", str], Undo | None]

_PERSON = "user"
_KINDS = {kind.plural: kind for kind in (*OWN, *CHILDREN)}


def act(sim: Simulation, what: str) -> Undo | None:
    """Do what a line of a script says."""
    for length in (3, 2, 1):
        words = what.split(" ")
        found = ACTIONS.get(" ".join(words[:length]))
        if found is not None:
            return found(sim, " ".join(words[length:]))
    raise ValueError(f"no action is called {what!r}; known are {', '.join(ACTIONS)}")


def _replica(sim: Simulation, argument: str) -> Process:
    """Return the process that leads, or another one."""
    leader = sim.operators.leader
    others = [one for one in sim.operators.all if one is not leader]
    return others[0] if "other" in argument and others else leader


def _operator_dies(sim: Simulation, argument: str) -> Undo:
    """A process dies; what comes is a new pod, or the same one (`same`) under its old name."""
    process = _replica(sim, argument)
    sim.operators.kill(process)
    return lambda: sim.operators.begin(process, same="same" in argument)


def _operator_leaves(sim: Simulation, argument: str) -> Undo:
    """A process is told to end, as in a roll-out; `busy SECONDS` has a write on its way for so long."""
    process = _replica(sim, argument)

    def leave(line: Line) -> None:
        line.held_up = float(argument.rsplit(maxsplit=1)[-1])
        process.stop()

    if argument.startswith("busy"):
        process.as_it_writes = leave
    else:
        process.stop()
    return lambda: sim.operators.begin(process)


def _operator_frozen(sim: Simulation, argument: str) -> Undo:
    """A process stands still, and goes on later with what it had in hand; `busy` is in the middle of its effects."""
    process = _replica(sim, argument)
    if "busy" in argument:
        process.as_it_writes = lambda line: process.freeze()
    else:
        process.freeze()
    return process.thaw


def _operator_slow(sim: Simulation, argument: str) -> Undo:
    """What a process asks of the API server takes long, and of others not."""
    seconds, _, which = argument.partition(" ")
    process, slowed = _replica(sim, which), sim.world.weather.slowed
    slowed[process.name] = float(seconds)
    return lambda: slowed.pop(process.name, None) and None


def _operator_cut_off(sim: Simulation, argument: str) -> Undo:
    """A process does not reach the API server; it still reaches pods."""
    process, world = _replica(sim, argument), sim.world
    world.weather.apart.add(process.name)

    def again() -> None:
        world.weather.apart.discard(process.name)
        world.watches.joined(process.name)

    return again


def _clock_jumps(sim: Simulation, argument: str) -> None:
    """Somebody corrects the wall clock of a process's machine."""
    seconds, _, which = argument.partition(" ")
    _replica(sim, which).skew += timedelta(seconds=float(seconds))


def _lease_deleted(sim: Simulation, argument: str) -> None:
    sim.world.server.remove(kinds.LEASE, LEASE, _PERSON)


def _lease_taken(sim: Simulation, argument: str) -> None:
    """Somebody writes a name into the Lease that nobody has."""
    if sim.world.server.get(kinds.LEASE, LEASE) is not None:
        sim.world.server.patch(kinds.LEASE, LEASE, {"spec": {"holderIdentity": "somebody"}}, _PERSON)


def _operator_flaps(sim: Simulation, argument: str) -> Undo:
    """The operator dies again and again, so many seconds after each start."""
    flapping = [True]

    def die() -> None:
        if flapping[0]:
            process = sim.operators.leader
            sim.operators.kill(process)
            sim.operators.begin(process, same=True)
            sim.later(float(argument), die)

    die()
    return lambda: flapping.__setitem__(0, False)


def _touching(sim: Simulation, argument: str) -> Undo:
    """Somebody writes to the objects again and again, every so many seconds."""
    touching = [True]

    def touch() -> None:
        if touching[0]:
            _touched(sim, "")
            sim.later(float(argument), touch)

    touch()
    return lambda: touching.__setitem__(0, False)


def _api_down(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.weather, down=True)


def _api_refuses(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.weather, refused=_share(argument))


def _api_loses(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.weather, lost=_share(argument))


def _api_slow(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.weather, slow=float(argument))


def _watches_lag(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.weather, lag=float(argument))


def _watch_cut(sim: Simulation, argument: str) -> Undo:
    kind = _KINDS[argument]
    sim.world.watches.cut(kind)
    return lambda: sim.world.watches.again(kind)


def _gateway(**fields: bool) -> Action:
    def action(sim: Simulation, argument: str) -> Undo | None:
        live = list(sim.world.gateways.live.values())
        return _set(live[int(argument) % len(live)], **fields) if live else None

    return action


def _query(sim: Simulation, argument: str) -> Undo:
    """A user's own query gives another value, or nan: `QUERY VALUE`."""
    query, value = argument.split()
    sim.world.prometheus.found[query] = float(value)
    return lambda: sim.world.prometheus.found.pop(query, None) and None


def _prometheus_silent(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.prometheus, silent=True)


def _callers(sim: Simulation, argument: str) -> Undo:
    """Callers ask each gateway so often in a second."""
    gateways = sim.world.gateways
    gateways.ask(float(argument))
    return lambda: gateways.ask(PER_SECOND)


def _retrieval_loses(sim: Simulation, argument: str) -> Undo:
    """The candidate finds less of what the labelled queries ask for."""
    labelled = sim.world.worker.labelled
    labelled.change(loss=_share(argument))
    return lambda: labelled.change(loss=0.0)


def _labels_rest(sim: Simulation, argument: str) -> Undo:
    """Nobody puts labelled queries to both sides."""
    labelled = sim.world.worker.labelled
    labelled.change(per_second=0.0)
    return lambda: labelled.change(per_second=LABELLED)


def _no_room(sim: Simulation, argument: str) -> Undo:
    """No node has room: what is lost does not come again."""
    deployment = names.gateway(INDEX) if argument == "gateway" else names.embedder(argument, "cpu")
    sim.world.kubelet.full.add(deployment)
    return lambda: sim.world.kubelet.room(deployment)


def _lost(*, all_of_them: bool) -> Action:
    """Lose pods that do not come again before it is over."""

    def action(sim: Simulation, argument: str) -> Undo:
        undo = _no_room(sim, argument)
        component = "gateway" if argument == "gateway" else "embedder"
        found = [
            pod
            for pod in sim.world.kubelet.of(component)
            if component == "gateway" or pod.labels[names.LABEL_POOL] == argument
        ]
        for pod in found if all_of_them else found[:1]:
            sim.world.kubelet.lose(pod)
        return undo

    return action


def _gateway_lost(sim: Simulation, argument: str) -> None:
    pods = sim.world.kubelet.of("gateway")
    for pod in pods[int(argument or 0) :][:1]:
        sim.world.kubelet.lose(pod)


def _gateway_restarts(sim: Simulation, argument: str) -> None:
    pods = sim.world.kubelet.of("gateway")
    if pods:
        sim.world.kubelet.restart(pods[int(argument or 0) % len(pods)], out_of_memory=False)


def _worker_silent(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.worker, silent=True)


def _worker_problem(sim: Simulation, argument: str) -> Undo:
    problem = {"reason": "StoreUnreachable", "message": "the database does not answer"}
    return _set(sim.world.worker, problem=problem)


def _worker_lost(sim: Simulation, argument: str) -> None:
    for pod in sim.world.kubelet.of("worker"):
        sim.world.kubelet.lose(pod)


def _worker_stops(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.worker, stops_at=argument)


def _worker_rejects(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.worker, rejects=int(argument))


def _verdict(sim: Simulation, argument: str) -> None:
    sim.world.worker.verdict = argument


def _reproduces(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.worker, reproduces=argument == "yes")


def _inspects(sim: Simulation, argument: str) -> Undo:
    return _set(sim.world.worker, inspects=argument == "yes")


def _inspect(sim: Simulation, argument: str) -> None:
    index = sim.world.index()
    if index is not None:
        key, value = render_asked(AskedInspection(index["metadata"]["uid"], argument or "once"))
        sim.world.server.patch(kinds.INDEX, INDEX, {"metadata": {"annotations": {key: value}}}, _PERSON)


def _answers(name: str, read: Callable[[str], float], well: float) -> Action:
    def action(sim: Simulation, argument: str) -> Undo:
        pool, value = argument.split(" ")
        gateways = sim.world.gateways
        gateways.change(pool, **{name: read(value)})
        return lambda: gateways.change(pool, **{name: well})

    return action


def _pod_lost(sim: Simulation, argument: str) -> None:
    for pod in sim.world.kubelet.of("embedder", names.LABEL_POOL, argument)[:1]:
        sim.world.kubelet.lose(pod)


def _out_of_memory(sim: Simulation, argument: str) -> None:
    for pod in sim.world.kubelet.of("embedder", names.LABEL_POOL, argument)[:1]:
        sim.world.kubelet.restart(pod, out_of_memory=True)


def _held(sim: Simulation, argument: str) -> Undo:
    deployment, held = names.embedder(argument, "cpu"), sim.world.kubelet.held
    held.add(deployment)
    return lambda: held.discard(deployment)


def _applied(sim: Simulation, argument: str) -> None:
    sim.apply_manifests()


def _deleted(sim: Simulation, argument: str) -> None:
    sim.world.server.delete(kinds.MIGRATION, argument, by=_PERSON)


def _recreated(sim: Simulation, argument: str) -> None:
    """Somebody deletes an object and makes it anew as soon as it is gone; a pool then runs another model."""
    word, _, name = argument.partition(" ")
    kind = {"migration": kinds.MIGRATION, "pool": kinds.POOL, "index": kinds.INDEX}[word]
    before = sim.world.server.get(kind, name)
    held = (before or {}).get("status", {})
    if before is None or held.get("inUseBy") or (held.get("activeMigration") or {}).get("name") == "rival":
        return  # a policy refuses to delete a pool that somebody uses; an index waits until its migration is deleted
    if kind == kinds.POOL:
        sim.manifests[kind, name] = named(name, another(sim.manifests[kind, name]["spec"]))
    sim.world.server.delete(kind, name, by=_PERSON)

    def make() -> None:
        found = sim.world.server.get(kind, name)
        if found is None:
            sim.world.server.apply(kind, sim.manifests[kind, name], _PERSON)
        elif found["metadata"]["uid"] == before["metadata"]["uid"]:
            sim.later(0.01, make)

    make()


def _replaced(sim: Simulation, argument: str) -> None:
    """Somebody takes a migration's finalizer off, and makes it anew in the same moment."""
    if sim.world.server.get(kinds.MIGRATION, argument) is not None:
        sim.world.server.remove(kinds.MIGRATION, argument, _PERSON)
        sim.world.server.apply(kinds.MIGRATION, sim.manifests[kinds.MIGRATION, argument], _PERSON)


def _rival(sim: Simulation, argument: str) -> None:
    if sim.world.server.get(kinds.MIGRATION, "rival") is None:  # the target of one that is there cannot be changed
        sim.world.server.apply(kinds.MIGRATION, named("rival", moves(argument)), _PERSON)


def _force_stable(sim: Simulation, argument: str) -> Undo:
    def annotate(value: str | None) -> None:
        change = {"metadata": {"annotations": {names.ANNOTATION_FORCE_STABLE: value}}}
        if sim.world.index() is not None:
            sim.world.server.patch(kinds.INDEX, INDEX, change, _PERSON)

    annotate("true")
    return lambda: annotate(None)


def _status_emptied(sim: Simulation, argument: str) -> None:
    if sim.world.index() is not None:
        sim.world.server.patch(kinds.INDEX, INDEX, {"status": None}, _PERSON)


def _holder_vanishes(sim: Simulation, argument: str) -> None:
    held = (sim.world.index() or {}).get("status", {}).get("activeMigration")
    if held is not None:
        sim.world.server.remove(kinds.MIGRATION, held["name"], _PERSON)


def _abandoned(sim: Simulation, argument: str) -> None:
    """Somebody frees the index by hand, and takes the migration away with its finalizer."""
    held = (sim.world.index() or {}).get("status", {}).get("activeMigration")
    if held is not None:
        sim.world.server.patch(kinds.INDEX, INDEX, {"status": {"activeMigration": None}}, _PERSON)
        sim.world.server.remove(kinds.MIGRATION, held["name"], _PERSON)


def _touched(sim: Simulation, argument: str) -> None:
    """Somebody writes a label that nobody reads: whoever saw the object before has an old version."""
    for kind in (kinds.INDEX, kinds.MIGRATION):
        for obj in sim.world.server.all(kind):
            change = {"metadata": {"labels": {"touched": str(sim.world.server.version)}}}
            sim.world.server.patch(kind, obj["metadata"]["name"], change, _PERSON)


def _commanded(sim: Simulation, argument: str) -> None:
    """Command by a verb, and how: rightly, for a place it has left, for another object, or what was said before."""
    verb, _, how = argument.partition(" ")
    raw = sim.world.server.get(kinds.MIGRATION, "move")
    if raw is None or "at" not in raw.get("status", {}):
        return
    sent, meta = sim.history.sent, raw["metadata"]
    value = {"uid": meta["uid"], "at": raw["status"]["at"], "nonce": f"{verb}-{sim.world.server.version}"}
    value |= {"stale": {"at": "7/Preflight"}, "foreign": {"uid": "uid-0-move"}}.get(how, {})
    said = [one for (name, _), one in sent.items() if name == verb]
    if how == "replayed" and said:
        value = dict(said[0])
    sent[verb, value["nonce"]] = value
    text = "now!" if how == "garbled" else json.dumps(value)
    change = {"metadata": {"annotations": {f"reembed.dev/{verb}": text}}}
    sim.world.server.patch(kinds.MIGRATION, "move", change, _PERSON)


def _paused_by_command(sim: Simulation, argument: str) -> Undo:
    """Pause, and resume again and again until that is so: somebody who reads what is answered."""

    def resume() -> None:
        if status_of(sim.world.server.get(kinds.MIGRATION, "move")).get("paused"):
            _commanded(sim, "resume")
        sim.later(5.0, resume)  # an operator that was away answers the first command later

    _commanded(sim, "pause")
    return resume


def _approver(sim: Simulation, argument: str) -> None:
    """Somebody approves what waits for that, every few seconds."""

    def look() -> None:
        if status_of(sim.world.server.get(kinds.MIGRATION, "move")).get("reason") == "AwaitingApproval":
            _commanded(sim, "promote")
        sim.later(5.0, look)

    look()


def _hooks_fail(sim: Simulation, argument: str) -> Undo:
    """Whom hooks of a moment call refuses."""
    failing = sim.world.hooks.failing
    failing.add(argument)
    return lambda: failing.discard(argument)


def _hooks_take(sim: Simulation, argument: str) -> Undo:
    hooks = sim.world.hooks
    hooks.seconds = float(argument)
    return lambda: setattr(hooks, "seconds", 0.5)


def _hook_jobs_vanish(sim: Simulation, argument: str) -> None:
    """Somebody deletes the Jobs of hooks, whatever becomes of their calls."""
    for job in sim.world.server.all(kinds.JOB):
        if is_hook(job):
            sim.world.server.delete(kinds.JOB, job["metadata"]["name"], by=_PERSON)


def _cron_job_missing(sim: Simulation, argument: str) -> Undo:
    server = sim.world.server
    server.remove(kinds.CRON_JOB, CRON_JOB, _PERSON)
    return lambda: server.put(kinds.CRON_JOB, CRON_JOB, cron_job(), _PERSON) and None


def _spec(sim: Simulation, argument: str) -> None:
    try:
        sim.world.server.patch(kinds.MIGRATION, "move", {"spec": json.loads(argument)}, _PERSON)
    except ClusterError:
        return  # it is gone


def _paused(sim: Simulation, argument: str) -> Undo:
    _spec(sim, '{"paused": true}')
    return lambda: _spec(sim, '{"paused": false}')


def _nothing(sim: Simulation, argument: str) -> None:
    """A life lasts until then."""


# Faults may overlap: each is undone to what is normal, not to what was there when it began.
_CALM: Mapping[str, Any] = {
    "down": False,
    "refused": 0.0,
    "lost": 0.0,
    "slow": 0.0,
    "lag": 0.05,
    "silent": False,
    "apart": False,
    "problem": None,
    "stops_at": "",
    "rejects": 0,
    "reproduces": True,
    "inspects": True,
}


def _set(thing: Any, **fields: Any) -> Undo:
    _assign(thing, fields)
    return lambda: _assign(thing, {name: _CALM[name] for name in fields})


def _assign(thing: Any, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        setattr(thing, name, value)


def _share(text: str) -> float:
    return float(text.rstrip("%")) / 100


ACTIONS: Mapping[str, Action] = {
    "operator dies": _operator_dies,
    "operator flaps": _operator_flaps,
    "operator leaves": _operator_leaves,
    "operator frozen": _operator_frozen,
    "operator cut off": _operator_cut_off,
    "operator slow": _operator_slow,
    "clock jumps": _clock_jumps,
    "lease deleted": _lease_deleted,
    "lease taken": _lease_taken,
    "api is down": _api_down,
    "api refuses": _api_refuses,
    "api loses": _api_loses,
    "api slow": _api_slow,
    "watches lag": _watches_lag,
    "watch cut": _watch_cut,
    "query": _query,
    "prometheus silent": _prometheus_silent,
    "callers": _callers,
    "retrieval loses": _retrieval_loses,
    "labels rest": _labels_rest,
    "gateway silent": _gateway(silent=True),
    "gateway apart": _gateway(apart=True),
    "gateway cut off": _gateway(silent=True, apart=True),
    "gateway lost": _gateway_lost,
    "all lost": _lost(all_of_them=True),
    "one lost": _lost(all_of_them=False),
    "no room": _no_room,
    "gateway restarts": _gateway_restarts,
    "worker silent": _worker_silent,
    "worker problem": _worker_problem,
    "worker lost": _worker_lost,
    "worker stops": _worker_stops,
    "worker rejects": _worker_rejects,
    "verdict": _verdict,
    "reproduces": _reproduces,
    "inspects": _inspects,
    "inspect": _inspect,
    "errors": _answers("errors", _share, 0.0),
    "slow": _answers("seconds", float, 0.04),
    "memory": _answers("memory", _share, 0.5),
    "overlap": _answers("overlap", _share, 0.9),
    "pod lost": _pod_lost,
    "out of memory": _out_of_memory,
    "pods held": _held,
    "apply": _applied,
    "delete": _deleted,
    "recreate": _recreated,
    "replace": _replaced,
    "rival": _rival,
    "force stable": _force_stable,
    "status emptied": _status_emptied,
    "holder vanishes": _holder_vanishes,
    "abandoned": _abandoned,
    "touched": _touched,
    "touching": _touching,
    "command": _commanded,
    "paused by command": _paused_by_command,
    "approver": _approver,
    "hooks fail": _hooks_fail,
    "hooks take": _hooks_take,
    "hook jobs vanish": _hook_jobs_vanish,
    "cron job missing": _cron_job_missing,
    "spec": _spec,
    "paused": _paused,
    **actions_of_panels.ACTIONS,
    **actions_of_pools.ACTIONS,
    "nothing": _nothing,
}
