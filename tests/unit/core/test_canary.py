"""Canary gates let traffic move on certainty alone, and say what would bring it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reembed.core.canary import standings
from reembed.core.decide import decide
from reembed.core.measures import Counts
from reembed.core.migration import Migration, Seen
from reembed.core.model import CanaryGate, GateKind
from reembed.core.sequences import Sample
from reembed.core.transitions import State
from tests import builders as b

ERRORS = CanaryGate("errors", GateKind.ERROR_RATE, share=0.02)
LATENCY = CanaryGate("p95", GateKind.LATENCY, factor=2.0)
OVERLAP = CanaryGate("overlap", GateKind.SHADOW_OVERLAP, share=0.6)
RETRIEVAL = CanaryGate("live", GateKind.RETRIEVAL, share=0.02)


def gated(*gates: CanaryGate) -> Migration:
    return b.migration(State.CANARY, spec={"gates": gates}, acknowledged_at=b.NOON, weight=10)


def answered(requests: int, errors: int = 0, slow: int = 0) -> Counts:
    """Count answers; `slow` of them took longer than 80 ms, twice the baseline."""
    return Counts(requests - errors, errors, {0.05: requests - slow, 0.1: requests, math.inf: requests})


def world(candidate: Counts | None = None, serving: Counts | None = None, **changes: object) -> Seen:
    sides = {b.NEW.collection: candidate, b.OLD.collection: serving}
    step = {name: counts for name, counts in sides.items() if counts is not None}
    return replace(b.seen(b.index(10)), step=step, **changes)  # type: ignore[arg-type]


def found(gate: CanaryGate, seen: Seen) -> str:
    (standing,) = standings(gated(gate), seen)
    return standing.standing


@pytest.mark.parametrize(
    ("gate", "seen", "standing"),
    [
        pytest.param(ERRORS, world(answered(2000, errors=2)), "Holds", id="hardly any errors"),
        pytest.param(ERRORS, world(answered(40)), "Undecided", id="none among a few"),
        pytest.param(ERRORS, world(answered(2000, errors=200)), "Fails", id="many errors"),
        pytest.param(LATENCY, world(answered(2000, slow=20)), "Holds", id="hardly any slow answer"),
        pytest.param(LATENCY, world(answered(100, slow=5)), "Undecided", id="as many as may be"),
        pytest.param(LATENCY, world(answered(2000, slow=400)), "Fails", id="many slow answers"),
        pytest.param(OVERLAP, world(overlap=Sample.of([0.9, 0.8] * 300)), "Holds", id="alike"),
        pytest.param(OVERLAP, world(overlap=Sample.of([0.9, 0.8] * 3)), "Undecided", id="few were compared"),
        pytest.param(OVERLAP, world(overlap=Sample.of([0.1, 0.3] * 300)), "Fails", id="unlike"),
        pytest.param(ERRORS, world(), "Undecided", id="nothing was measured"),
    ],
)
def test_a_gate_stands_where_its_bounds_say(gate: CanaryGate, seen: Seen, standing: str) -> None:
    assert found(gate, seen) == standing


@pytest.mark.parametrize(
    ("losses", "standing"),
    [([0.0, -0.1] * 400, "Holds"), ([0.5, -0.5] * 20, "Undecided"), ([0.1, 0.2] * 400, "Fails")],
)
def test_labelled_queries_are_judged_by_their_loss(losses: list[float], standing: str) -> None:
    seen = replace(world(), found=Sample.of(losses))
    assert found(RETRIEVAL, seen) == standing


def test_what_the_serving_side_fails_as_well_is_not_the_candidates_fault() -> None:
    bad = answered(2000, errors=200)
    (standing,) = standings(gated(ERRORS), world(bad, bad))
    assert standing.standing == "Undecided"
    assert "the serving side fails as well" in standing.message


def test_a_gate_that_holds_lets_the_step_be_left() -> None:
    assert decide(gated(ERRORS), world(answered(2000, errors=2)), b.after(600)).status.step == 1


def test_a_gate_that_is_undecided_holds_the_step_and_says_what_would_decide_it() -> None:
    status = decide(gated(ERRORS), world(answered(40)), b.after(600)).status
    assert (status.step, status.reason) == (0, "GateUndecided")
    (gate,) = status.gates
    assert "more queries would decide" in gate.message


def test_a_gate_that_fails_gives_the_queries_back() -> None:
    status = decide(gated(OVERLAP), world(overlap=Sample.of([0.1, 0.3] * 300)), b.after(600)).status
    assert (status.state, status.reason) == (State.ROLLING_BACK, "GateFails")
    assert status.message.startswith("gate 'overlap' fails: share of results that both sides give: 0.2000 over 600")


def test_the_next_step_is_judged_by_itself() -> None:
    status = decide(gated(ERRORS), world(answered(2000, errors=2)), b.after(600)).status
    assert (status.step, status.gates) == (1, ())


def test_more_gates_ask_for_more_certainty() -> None:
    seen = world(answered(520, errors=1))
    alone, among = found(ERRORS, seen), standings(gated(*[replace(ERRORS, name=str(n)) for n in range(16)]), seen)[0]
    assert (alone, among.standing) == ("Holds", "Undecided")
