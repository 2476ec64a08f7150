"""Each role stops a raise by its own deep check, and proposes by itself what its field is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.load import Load, Reading, Sampled
from reembed.core.model import PointerPlan
from reembed.core.quorum import roles
from reembed.core.quorum.acted import Act
from reembed.core.quorum.certificates import Choice
from reembed.core.quorum.evidence import Evidence, Loading, Pods, Prediction, Sample
from reembed.core.quorum.judging import judge
from reembed.core.quorum.membership import Role
from reembed.core.quorum.proposals import Kind
from reembed.core.transitions import State
from tests.builders import NEW, NOON, OLD
from tests.evidence import evidence, migration, objects, pods, proposal, retrieval, stored


def reason(role: Role, known: Evidence) -> str:
    found = judge(proposal(), known, NOON, roles.deep(role, Kind.TRAFFIC))
    return found.reasons[0].partition(":")[0]


def load(of: Mapping[str, list[Sampled]], every: float = 20) -> Load:
    """Return what pods said at the last looks, the newest now."""
    found = Load()
    count = max(map(len, of.values()))
    for place in range(count):
        at = NOON - timedelta(seconds=every * (count - 1 - place))
        found = found.add({pod: said[place] for pod, said in of.items()}, list(of), at)
    return found


def growing(to: float, looks: int = 60) -> list[Sampled]:
    """A pod whose memory grew to a share of its room over twenty minutes."""
    return [Sampled(memory=to - 0.005 * (looks - 1 - place), room=1e9, busy=0.0, process=1.0) for place in range(looks)]


def working(speed: float) -> list[Sampled]:
    return [Sampled(memory=0.5, room=1e9, busy=float(place), computed=speed * place, process=1.0) for place in range(4)]


def candidate(**changes: object) -> Evidence:
    found: Pods = replace(pods("new"), **changes)  # type: ignore[arg-type]
    return evidence(pods={"old": pods("old"), "new": found})


def loading(**changes: object) -> Evidence:
    return candidate(loading={"new-1": replace(Loading(), **changes)})  # type: ignore[arg-type]


def prediction(seen: float | None, predicted: float | None = 0.1) -> Evidence:
    return evidence(prediction=Prediction(10, predicted, seen, None, None))


SMALL_SAMPLE = replace(evidence().sample, cosines=(1.0,) * 49)  # type: ignore[type-var]
CASES = {
    "a text that is nearer to another": (
        Role.EMBEDDING_SPECIALIST,
        evidence(pods={"old": pods("old"), "new": pods("new", nearest=0.75)}),
        "Inaccurate",
    ),
    "references that are missed": (Role.EMBEDDING_SPECIALIST, loading(accuracy=0.99), "Inaccurate"),
    "a pod apart from its class": (Role.EMBEDDING_SPECIALIST, loading(class_cosine=0.99), "OtherClass"),
    "references that are met": (Role.EMBEDDING_SPECIALIST, loading(accuracy=1.0, class_cosine=1.0), "Measured"),
    "a leak": (Role.MEMORY_ANALYST, candidate(load=load({"new-1": growing(0.85)})), "MemoryLeak"),
    "memory that stays": (Role.MEMORY_ANALYST, candidate(load=load({"new-1": working(1.0)})), "Measured"),
    "a queue": (
        Role.PARALLELISM_OPTIMIZER,
        candidate(load=load({"new-1": [Sampled(memory=0.5, room=1e9, queue=20_000.0)] * 3}, every=2)),
        "QueueLong",
    ),
    "pods of unequal speed": (
        Role.PARALLELISM_OPTIMIZER,
        candidate(load=load({"new-1": working(100.0), "new-2": working(200.0)}, every=2)),
        "SpeedVaries",
    ),
    "pods of one speed": (
        Role.PARALLELISM_OPTIMIZER,
        candidate(load=load({"new-1": working(100.0), "new-2": working(110.0)}, every=2)),
        "Measured",
    ),
    "a source that is left alone": (Role.STREAMING_LOADER, loading(breaker="open"), "BreakerOpen"),
    "a slow source": (Role.STREAMING_LOADER, loading(done=1.0, size=2.0, bytes_per_second=9e6), "LoadingSlow"),
    "half a model": (Role.STREAMING_LOADER, loading(done=1.0, size=2.0), "ModelIncomplete"),
    "a process as large as its model": (
        Role.STREAMING_LOADER, loading(done=2e9, size=2e9, transient=1.2e9), "FootprintLarge",
    ),
    "a whole model": (Role.STREAMING_LOADER, loading(done=2e9, size=2e9, transient=1e8), "Measured"),
    "fewer vectors than it draws": (Role.EMBEDDINGS_VALIDATOR, evidence(sample=SMALL_SAMPLE), "SampleTooSmall"),
    "a twentieth of other vectors": (
        Role.EMBEDDINGS_VALIDATOR,
        evidence(sample=replace(SMALL_SAMPLE, cosines=(1.0,) * 58 + (0.9,) * 3 + (1.0,) * 19)),
        "Measured",
    ),
    "a little more than a twentieth": (
        Role.EMBEDDINGS_VALIDATOR,
        evidence(sample=replace(SMALL_SAMPLE, cosines=(1.0,) * 95 + (0.9,) * 5)),
        "Measured",
    ),
    "a pool with another model": (
        Role.CONFIGURATION_MANAGER,
        evidence(objects=replace(objects(), pools={
            name: replace(one, fingerprint="fp-x") if name == "old" else one for name, one in objects().pools.items()
        })),
        "ModelDrift",
    ),
    "an outcome that nobody foresaw": (Role.PATTERN_LEARNER, prediction(0.31), "Unforeseen"),
    "an outcome as foreseen": (Role.PATTERN_LEARNER, prediction(0.29), "Measured"),
    "no outcome yet": (Role.PATTERN_LEARNER, prediction(None), "Measured"),
    "no prediction yet": (Role.PATTERN_LEARNER, prediction(9.0, None), "Measured"),
}  # fmt: skip


@pytest.mark.parametrize(("role", "known", "expected"), CASES.values(), ids=CASES.keys())
def test_a_role_stops_what_it_looks_at(role: Role, known: Evidence, expected: str) -> None:
    assert reason(role, known) == expected


@pytest.mark.parametrize("role", Role, ids=[role.value for role in Role])
def test_every_role_approves_a_healthy_raise(role: Role) -> None:
    assert reason(role, evidence()) == "Measured"


@pytest.mark.parametrize(("role", "known", "expected"), CASES.values(), ids=CASES.keys())
def test_no_other_role_runs_it(role: Role, known: Evidence, expected: str) -> None:
    """Deep checks are one vote of eight: who has none looks at what everybody does."""
    del role, expected
    assert judge(proposal(), known, NOON, roles.deep(Role.BYZANTINE_COORDINATOR, Kind.TRAFFIC)).choice is Choice.APPROVE


def test_a_pool_above_its_target_gets_careful_limits_proposed() -> None:
    full = evidence(pods={"old": pods("old"), "new": pods("new", memory=0.75)})
    (wish,) = roles.wishes(Role.MEMORY_ANALYST, full, NOON)
    assert (wish.kind, dict(wish.change)) == (Kind.MEMORY, {"pool": "new", "poolUid": "uid-new"})
    assert roles.wishes(Role.MEMORY_ANALYST, evidence(), NOON) == ()


def test_a_drift_is_proposed_to_be_corrected() -> None:
    drifted = evidence(stored=replace(stored(), pointer=PointerPlan("c_x", "fp-x", 9)))
    (wish,) = roles.wishes(Role.CONFIGURATION_MANAGER, drifted, NOON)
    named = {"drift": "PointerDrift", "collection": OLD.collection, "generation": "9"}
    assert (wish.kind, dict(wish.change)) == (Kind.CORRECT, named)


def test_what_only_a_user_can_mend_is_proposed_to_nobody() -> None:
    drifted = evidence(objects=replace(objects(), pools={"old": objects().pools["old"]}))
    assert roles.wishes(Role.CONFIGURATION_MANAGER, drifted, NOON) == ()


@pytest.mark.parametrize(
    ("queues", "ready", "tuned", "wanted"),
    [
        pytest.param((20_000.0, 17_000.0), 2, None, "2", id="half as many for a pool that does not follow"),
        pytest.param((20_000.0, 16_000.0), 2, None, None, id="not while one pod follows"),
        pytest.param((20_000.0,), 1, None, None, id="not while more pods of the pool may come"),
        pytest.param((8_000.0, 0.0), 2, "1", "2", id="twice as many once it follows"),
        pytest.param((8_000.0, 0.0), 2, "3", "4", id="no more than the user allows"),
        pytest.param((9_000.0, 0.0), 2, "1", None, id="not while more than half is waiting"),
        pytest.param((8_000.0, None), 2, "1", None, id="not unmeasured"),
        pytest.param((8_000.0, 0.0), 2, None, None, id="nothing more than the user allows"),
    ],
)
def test_as_many_pods_are_proposed_to_fill_as_the_pool_can_follow(
    queues: tuple[float | None, ...], ready: int, tuned: str | None, wanted: str | None
) -> None:
    acts = (Act(Kind.TUNING, 1, "d1", NOON, 1, "", (("parallelism", tuned),)),) if tuned is not None else ()
    filling = migration(State.BACKFILLING, spec={"parallelism": 4}, executed=acts)
    target = objects().pools["new"]
    variants = (replace(target.spec.variants[0], max_replicas=2),)
    target = replace(
        target, spec=replace(target.spec, variants=variants), ready=tuple(f"new-{n}" for n in range(ready))
    )
    known = replace(objects(), migration=filling, pools={**objects().pools, "new": target})
    load = Load(readings={f"new-{number}": Reading(queue=one) for number, one in enumerate(queues)})
    found = roles.wishes(
        Role.PARALLELISM_OPTIMIZER, evidence(objects=known, pods={"new": replace(pods("new"), load=load)}), NOON
    )
    expected = [(Kind.TUNING, {"parallelism": wanted})] if wanted is not None else []
    assert [(one.kind, dict(one.change)) for one in found] == expected


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        pytest.param(
            evidence(retrieval=retrieval((-0.1,) * 400 + (0.0,) * 100)), "RetrievalInferior", id="a loss that is proven"
        ),
        pytest.param(evidence(retrieval=retrieval((-0.3, 0.25) * 250)), None, id="a loss that is not proven"),
        pytest.param(
            evidence(sample=Sample(NOON, NEW.collection, (0.5,) * 60)), "VectorsNotReproduced", id="vectors of others"
        ),
        pytest.param(evidence(retrieval=None, sample=None), None, id="nothing was measured"),
        pytest.param(
            evidence(
                retrieval=retrieval((-0.1,) * 400 + (0.0,) * 100),
                objects=replace(objects(), migration=migration(State.EVALUATING)),
            ),
            None,
            id="nothing has moved",
        ),
        pytest.param(evidence(), None, id="a good model"),
    ],
)
def test_who_validates_proposes_to_go_back_from_what_is_proven_worse(known: Evidence, reason: str | None) -> None:
    found = roles.wishes(Role.EMBEDDINGS_VALIDATOR, known, NOON)
    expected = [(Kind.ROLLBACK, {"reason": reason})] if reason is not None else []
    assert [(one.kind, dict(one.change)) for one in found] == expected


def test_one_pod_at_a_time_that_answers_wrongly_is_proposed_to_be_replaced() -> None:
    answers = pods("new").answers["new-1"]
    known = replace(objects().pools["new"], ready=("new-1", "new-2", "new-3"))
    lost = replace(answers, problem="no answer")
    looked = Pods(NOON, {"new-1": answers, "new-2": lost, "new-3": lost})
    seen = evidence(objects=replace(objects(), pools={"new": known}), pods={"new": looked})
    (wish,) = roles.wishes(Role.BYZANTINE_COORDINATOR, seen, NOON)
    assert (wish.kind, dict(wish.change)) == (Kind.RECOVER, {"pod": "new-2", "pool": "new", "poolUid": "uid-new"})
    assert roles.wishes(Role.BYZANTINE_COORDINATOR, evidence(), NOON) == ()


def test_who_has_read_nothing_proposes_nothing() -> None:
    assert [roles.wishes(role, Evidence(), NOON) for role in Role] == [()] * len(Role)
