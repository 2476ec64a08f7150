"""What is not as its specification says: pods, gateways and the store's pointer against index and pools.

The configuration manager looks at every look and proposes to correct what it finds; whoever judges that looks again.
What changes is late for a while: whoever proposes waits until it found the same for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from reembed.core.fingerprint import model_of
from reembed.core.quorum import acting
from reembed.core.quorum.evidence import FRESH, Evidence
from reembed.core.triggers import Finding


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that is not as specified. `named` is what its correction says; empty where a spec has to change.

    Nobody but its user writes a spec, so what is wrong there no vote corrects.
    """

    reason: str
    message: str
    named: tuple[tuple[str, str], ...] = ()

    @property
    def change(self) -> tuple[tuple[str, str], ...]:
        """Return what a proposal to correct it must say."""
        return tuple(sorted((("drift", self.reason), *self.named)))

    @property
    def finding(self) -> Finding:
        return Finding(self.reason, self.message)


def drifts(evidence: Evidence, now: datetime) -> tuple[Drift, ...]:
    """Return what is not as it should be, the first one the gravest; nothing where nothing was looked at."""
    objects = evidence.objects
    if objects is None or now - objects.at > FRESH:
        return ()
    return tuple(found for look in _LOOKS for found in look(evidence))


def _of_arms(evidence: Evidence) -> Iterator[Drift]:
    """A pool whose spec names another model than the collection that it answers for."""
    if evidence.objects is None:
        return
    routing, pools = evidence.objects.index.status.routing, evidence.objects.pools
    for arm in (routing.serving, routing.candidate):
        pool = pools.get(arm.pool) if arm is not None else None
        if arm is None:
            continue
        if pool is None:
            yield Drift("PoolMissing", f"the index names pool {arm.pool!r}, which is not there")
        elif pool.fingerprint != model_of(arm.fingerprint):
            yield Drift(
                "ModelDrift", f"pool {arm.pool!r} has model {pool.fingerprint}, its collection {arm.fingerprint}"
            )


def _of_pods(evidence: Evidence) -> Iterator[Drift]:
    pools = evidence.objects.pools if evidence.objects is not None else {}
    for name, pods in evidence.pods.items():
        for pod, answers in pods.answers.items():
            if "fingerprint" in answers.problem and name in pools:
                named = (("pod", pod), ("pool", name), ("poolUid", pools[name].meta.uid))
                yield Drift(acting.POD, f"pod {pod} of pool {name!r}: {answers.problem}", named)


def _of_gateways(evidence: Evidence) -> Iterator[Drift]:
    if evidence.objects is None or evidence.gateways is None:
        return
    routing = evidence.objects.index.status.routing
    sides = {routing.serving, routing.candidate}
    for report in evidence.gateways.reports:
        if report.serving is not None and report.serving not in sides:
            text = f"gateway pod {report.pod} serves {report.serving.collection}, not named by the index"
            yield Drift(acting.GATEWAY, text, (("pod", report.pod),))


def _of_pointer(evidence: Evidence) -> Iterator[Drift]:
    if evidence.objects is None or evidence.stored is None:
        return
    planned, found = evidence.objects.index.status.plan.pointer, evidence.stored.pointer
    if planned is None or found == planned:
        return
    # A pointer that is one move behind is on its way.
    if found is None or found.generation != planned.generation - 1:
        name = found.collection if found is not None else "nothing"
        generation = found.generation if found is not None else 0
        yield Drift(
            acting.POINTER,
            f"the store's pointer names {name}, the plan {planned.collection}",
            (("collection", planned.collection), ("generation", str(generation))),
        )


_LOOKS: tuple[Callable[[Evidence], Iterator[Drift]], ...] = (_of_arms, _of_pods, _of_gateways, _of_pointer)
