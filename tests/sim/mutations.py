"""Named mistakes in the real code, each to be caught by some life: what the invariants are worth.

A mutation replaces one function or method while lives are lived. Those of the kind "forget a check" make a function say
that all is well; the others do things in another order or leave one out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from reembed.cluster.client import Conflict
from reembed.controller import migrations as migrations_module
from reembed.controller import observe as observe_module
from reembed.controller import pools as pools_module
from reembed.controller.cache import Cache
from reembed.controller.leading import Fenced, Term
from reembed.controller.looks import Looks
from reembed.controller.operator import Operator
from reembed.controller.vanished import Vanished
from reembed.controller.writer import Writer
from reembed.core import (
    canary,
    commands,
    desired,
    emergency,
    hooks,
    inspection,
    leading,
    names,
    preflight,
    readings,
    states,
    traffic,
    triggers,
)
from reembed.core import decide as decide_module
from reembed.core.model import Approval, Desired, GateKind
from reembed.core.sequences import Standing
from reembed.core.transitions import FINISHED, WITH_TRAFFIC
from tests.sim import gateways as gateways_module
from tests.sim import mutations_of_panels, mutations_of_pools

Original = Callable[..., Any]


def _returns(value: Any) -> Callable[[Original], Original]:
    return lambda _: lambda *args, **kwargs: value


def _without_version(original: Original) -> Original:
    async def status(self: Any, kind: Any, meta: Any, wanted: Any, manager: str) -> None:
        newest = await self._cluster.get(kind, meta.namespace, meta.name)
        if newest is not None:
            await original(
                self, kind, replace(meta, resource_version=newest["metadata"]["resourceVersion"]), wanted, manager
            )

    return status


def _conflict_ignored(original: Original) -> Original:
    async def status(*args: Any) -> None:
        try:
            await original(*args)
        except Conflict:
            return

    return status


def _after_first(original: Original) -> Original:
    """Give and take before the status is written."""

    def changed(*args: Any) -> Any:
        before, after = original(*args)
        return (*before, *after), ()

    return changed


def _before_last(original: Original) -> Original:
    """Give and take after the status is written."""

    def changed(*args: Any) -> Any:
        before, after = original(*args)
        return (), (*before, *after)

    return changed


def _forgets_held(original: Original) -> Original:
    return lambda before, now: original(None, now)


def _forgets_acknowledgement(original: Original) -> Original:
    def rendered(status: Any, spec: Any) -> Any:
        return {name: value for name, value in original(status, spec).items() if name != "stepAcknowledgedAt"}

    return rendered


def _forgets_triggers(original: Original) -> Original:
    return lambda status, spec: {**original(status, spec), "triggers": []}


def _acknowledged_at_once(original: Original) -> Original:
    def canary(migration: Any, seen: Any, now: Any) -> Any:
        known = migration.status.acknowledged_at or now
        return original(replace(migration, status=replace(migration.status, acknowledged_at=known)), seen, now)

    return canary


def _same_epoch(original: Original) -> Original:
    return lambda migration, now, seen: replace(original(migration, now, seen), epoch=max(now.epoch, 1))


def _released_at_once(original: Original) -> Original:
    """Withdraw the old collection with the promotion, before gateways follow."""
    return lambda migration, seen: seen.index is not None and migration.status.candidate is not None


def _drops_what_serves(original: Original) -> Original:
    def collections(migration: Any, candidate: Any, index: Any, seen: Any) -> Any:
        found, serving = original(migration, candidate, index, seen), migration.status.serving
        if serving is None or migration.status.state is not states.State.PROMOTING:
            return found
        return tuple(
            replace(one, desired=Desired.WITHDRAWN) if one.name == serving.collection else one for one in found
        )

    return collections


def _only_routed(original: Original) -> Original:
    return lambda pool, indexes, migrations, before=(): original(pool, [], migrations, ())


def _keeps_deleted(original: Original) -> Original:
    return lambda self, kind, namespace, listed: [obj for obj in listed.objects if self.put(kind, obj)]


def _never_again(original: Original) -> Original:
    def look(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        return None if found == triggers.INTERVAL else found

    return look


def _without(reason: str) -> Callable[[Original], Original]:
    return lambda original: lambda *args: tuple(one for one in original(*args) if one.reason != reason)


def _without_holder(checks: Any) -> Any:
    return tuple(check for check in checks if check is not preflight.index_held)


def _believes(original: Original) -> Original:
    async def look(self: Any, migration: Any, around: Any, now: Any) -> Any:
        known = self._last.get(migration.meta.uid) or await original(self, migration, around, now)
        self._last[migration.meta.uid] = replace(known, at=now)
        return known

    return look


def _sure(original: Original) -> Original:
    def read(self: Any, key: Any, now: Any) -> Any:
        self._unsure.clear()
        return original(self, key, now)

    return read


def _answers_forgotten(original: Original) -> Original:
    return lambda commands, migration: ()


def _never_the_same(original: Original) -> Original:
    numbers = count()
    return lambda uid, when, hook: f"{original(uid, when, hook)}-{next(numbers)}"


def _jobs_first(original: Original) -> Original:
    """Make Jobs before the status is written, as soon as they are due."""

    def changed(following: Any, seen: Any) -> Any:
        before, after = original(following, seen)
        made = tuple(one for one in after if isinstance(one, hooks.RunHook))
        return (*before, *made), tuple(one for one in after if one not in made)

    return changed


def _approves(original: Original) -> Original:
    def canary(migration: Any, seen: Any, now: Any) -> Any:
        steps = tuple(replace(step, approval=Approval.NONE) for step in migration.spec.steps)
        return original(replace(migration, spec=replace(migration.spec, steps=steps)), seen, now)

    return canary


def _hooks_go_on(original: Original) -> Original:
    def unless_paused(migration: Any, outcome: Any) -> Any:
        found = original(migration, outcome)
        return replace(found, status=replace(found.status, hooks=outcome.status.hooks))

    return unless_paused


def _without_inspections(original: Any) -> Any:
    return tuple(one for one in original if one is not preflight.not_inspected)


def _without_dependencies(checks: Any) -> Any:
    return tuple(check for check in checks if check is not preflight.dependency_unfinished)


def _but_the_last(original: Original) -> Original:
    return lambda migration, seen: original(migration, seen)[:-1]


def _holds_anyway(original: Original) -> Original:
    """Judge a gate by a limit that everything keeps."""
    return lambda gate, *args: original(replace(gate, share=0.0), *args)


def _unless_promoted(original: Original) -> Original:
    return lambda migration: None if migration.status.promoted == migration.status.at else original(migration)


def _failures_wait(original: Original) -> Original:
    """Take a gate that fails for one that is not decided yet."""
    undecided = Standing.UNDECIDED.value

    def standings(migration: Any, seen: Any) -> Any:
        found = original(migration, seen)
        return tuple(replace(one, standing=undecided) if one.standing == Standing.FAILS.value else one for one in found)

    return standings


def _shadows_in_emergencies(original: Original) -> Original:
    return lambda migration: migration.spec.shadow if migration.status.state in WITH_TRAFFIC else 0.0


def _keeps_shadow(original: Original) -> Original:
    return lambda lease, now: replace(original(lease, now), shadow=lease.routing.shadow)


def _reads(change: Callable[[Any], Any]) -> Callable[[Original], Original]:
    return lambda original: lambda *args: tuple(change(one) for one in original(*args))


def _in_earnest(reading: Any) -> Any:
    return replace(reading, limit=replace(reading.limit, dry_run=False))


def _missing_is_well(original: Original) -> Original:
    return lambda reading, migration, *, shared: reading.known and reading.exceeded


def _rests(original: Original) -> Original:
    return lambda migration, seen: migration.status.state in FINISHED and not migration.meta.deleting


def _remembers_names(original: Original) -> Original:
    known: dict[Any, Any] = {}

    def read(self: Any, key: Any, now: Any) -> Any:
        """Go on with the status that the last migration of this name had."""
        found, before = original(self, key, now), known.get(key)
        if found is not None and before is not None and before.meta.uid != found.meta.uid:
            self._decided[found.meta.uid] = before.status
            found = replace(found, status=before.status)
        known[key] = found or before
        return found

    return read


def _held_by_other_names(checks: Any) -> Any:
    def held(migration: Any, seen: Any) -> Any:
        holder = seen.index.status.active_migration
        own = holder is not None and holder.name == migration.meta.name
        return None if own else preflight.index_held(migration, seen)

    return tuple(held if check is preflight.index_held else check for check in checks)


async def _unfenced(self: Any, write: Callable[[], Any]) -> Any:
    return await write()


def _until_told(original: Original) -> Original:
    return lambda self: self._renewed is not None and not self.over.is_set()


async def _nothing(*args: Any) -> None:
    return None


# name -> (where, what, how)
MUTATIONS: Mapping[str, tuple[Any, Any, Callable[[Any], Any]]] = {
    **mutations_of_panels.MUTATIONS,
    **mutations_of_pools.MUTATIONS,
    "triggers are not looked at": (triggers, "first_due", _returns(None)),
    "errors are no trigger": (triggers, "readings", _without("ErrorRate")),
    "memory is no trigger": (triggers, "readings", _without("MemoryPressure")),
    "latency is no trigger": (triggers, "readings", _without("Latency")),
    "held time is not added up": (triggers, "_held", _forgets_held),
    "held time does not survive a restart": (migrations_module, "render_migration_status", _forgets_triggers),
    "the acknowledgement does not survive a restart": (
        migrations_module,
        "render_migration_status",
        _forgets_acknowledgement,
    ),
    "statuses are written over what somebody wrote": (Writer, "status", _without_version),
    "conflicts are ignored": (Writer, "status", _conflict_ignored),
    "effects come before the status": (decide_module, "effects", _after_first),
    "lowering comes after the status": (decide_module, "effects", _before_last),
    "no gateway is an acknowledgement": (traffic, "missing", _returns(None)),
    "gateways are not asked": (traffic, "behind", _returns(None)),
    "silent gateways count as well": (traffic, "silent", _returns(())),
    "capacity is not looked at": (traffic, "_capacity", _returns(None)),
    "probes are not looked at": (traffic, "_probes", _returns(None)),
    "running triggers do not hold": (traffic, "first_running", _returns(None)),
    "nothing keeps a weight from rising": (traffic, "obstacle", _returns(None)),
    "a step counts from when it began": (states.STATES, states.State.CANARY, _acknowledged_at_once),
    "epochs do not grow": (desired, "_routing", _same_epoch),
    "the old collection is released at once": (desired, "promoted", _released_at_once),
    "what is let go is not asked of gateways": (desired, "let_go", _returns(True)),
    "the old collection is withdrawn while promoting": (desired, "_collections", _drops_what_serves),
    "pools are claimed by migrations alone": (pools_module, "claims", _only_routed),
    "who holds the index is not looked at": (preflight, "BEFORE_CLAIM", _without_holder),
    "lists do not tell what is gone": (Cache, "settle", _keeps_deleted),
    "nobody looks again": (decide_module, "_look_again", _never_again),
    "vanished holders are left alone": (Vanished, "unwind", lambda _: _nothing),
    "a doubt is not cast": (Looks, "doubt", _returns(None)),
    "a look is believed for ever": (Looks, "look", _believes),
    "news wake nobody": (Operator, "_news", _returns(None)),
    "a write without an answer counts as not done": (migrations_module.Migrations, "_read", _sure),
    "answers to commands are forgotten": (commands, "_kept", _answers_forgotten),
    "any command applies": (commands, "_refusal", _returns("")),
    "paused means nothing": (decide_module, "_unless_paused", lambda _: lambda migration, outcome: outcome),
    "hooks are not waited for": (hooks, "check", lambda _: lambda situation, runs, now: hooks.Standing(runs)),
    "a hook that failed is as good": (hooks, "counts", _returns(False)),
    "each pass has hooks' keys of its own": (hooks, "idempotency_key", _never_the_same),
    "a hook is called before it is recorded": (decide_module, "effects", _jobs_first),
    "what was paused starts its hooks": (decide_module, "_unless_paused", _hooks_go_on),
    "rollback hooks wait for nobody": (states, "_taking_back", _returns("")),
    "steps need no approval": (states.STATES, states.State.CANARY, _approves),
    "dependencies are not looked at": (preflight, "BEFORE_CLAIM", _without_dependencies),
    "gates are not waited for": (states, "_undecided", _returns(None)),
    "a gate that fails is waited for": (canary, "standings", _failures_wait),
    "the last gate is forgotten": (canary, "standings", _but_the_last),
    "what both sides find is no gate": (canary._LOOKS, GateKind.SHADOW_OVERLAP, _holds_anyway),
    "a command replaces gates": (states, "_undecided", _unless_promoted),
    "shadow queries go on in an emergency": (desired, "_shadow", _shadows_in_emergencies),
    "shadow queries outlive a gateway's lease": (gateways_module, "effective", _keeps_shadow),
    "users' own queries are not looked at": (readings, "_prometheus", _returns(())),
    "on which side of its threshold a query is means nothing": (
        readings,
        "_prometheus",
        _reads(lambda one: replace(one, below=False)),
    ),
    "what is tried out acts": (triggers, "readings", _reads(_in_earnest)),
    "what was not measured is well": (triggers, "first_missing", _returns(None)),
    "what was not measured never counts": (triggers, "_counts", _missing_is_well),
    "a finished migration rests too early": (observe_module, "at_rest", _rests),
    "collections are named after migrations": (
        names,
        "collection",
        lambda _: lambda uid, attempt: f"c_{uid.rpartition('-')[2]}{attempt}",
    ),
    "evaluations are named after migrations": (
        desired,
        "evaluation_id",
        lambda _: lambda migration: f"{migration.meta.name}-{migration.status.attempt}",
    ),
    "a namesake's status is one's own": (migrations_module.Migrations, "_read", _remembers_names),
    "what a namesake holds is one's own": (preflight, "BEFORE_CLAIM", _held_by_other_names),
    "anybody may write": (Fenced, "_sent", lambda _: _unfenced),
    "a Lease is handed over with a write on its way": (Term, "written", lambda _: _nothing),
    "a leader waits to be told that it leads no more": (Term, "leads", _until_told),
    "a leader writes for longer than its Lease": (leading, "RENEW_DEADLINE", lambda _: 17.0),
    "a Lease is free at once": (leading, "until_free", _returns(0.0)),
    "what serves is not looked at": (preflight, "AFTER_CLAIM", _without_inspections),
    "whoever made the vectors is well": (inspection, "refused", _returns(False)),
    "emergencies never end": (emergency, "_CLEAR_FOR", lambda _: timedelta(days=1)),
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Live with a mistake."""
    where, what, how = MUTATIONS[name]
    mistake = (
        patch.dict(where, {what: how(where[what])})
        if isinstance(where, dict)
        else patch.object(where, what, how(getattr(where, what)))
    )
    with mistake:
        yield
