"""Whether a migration ends as its model deserves, with real models and with queries that never stop.

All three models give vectors of 384 numbers, so that nothing but retrieval tells them apart: no dimension, no error and
no latency does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.models import LARGE, NARROW, SMALL
from tests.integration.stories.world import DOCUMENTS, Outcome, World, pool, running

JUDGED = ("Preflight", "Backfilling", "Indexing", "Evaluating")
PROMOTED = (*JUDGED, "Canary", "Canary", "Retaining", "Promoting", "Succeeded")
NO_TRIGGER: frozenset[str] = frozenset()


@pytest.mark.parametrize("old", [SMALL, NARROW])
async def test_a_better_model_takes_over(old: str, world: World, apiserver_with_crds: Path) -> None:
    found = await moved(world, apiserver_with_crds, old, LARGE)
    assert found == promoted(old, LARGE)
    assert within(found, {SMALL: (0.55, 0.72), NARROW: (0.12, 0.35)}[old], (0.68, 0.84))


async def test_a_worse_model_of_the_same_dimension_gets_no_query(world: World, apiserver_with_crds: Path) -> None:
    found = await moved(world, apiserver_with_crds, LARGE, NARROW)
    assert found == refused(LARGE)
    assert within(found, (0.68, 0.84), (0.12, 0.35))


async def test_nothing_else_speaks_against_that_model(world: World, apiserver_with_crds: Path) -> None:
    """Whoever allows any loss of retrieval gets it: no error, no latency and no dimension stops it."""
    found = await moved(world, apiserver_with_crds, LARGE, NARROW, margin=1)
    assert found == promoted(LARGE, NARROW, verdict="NonInferior")
    assert found.mrr[NARROW] < found.mrr[LARGE] - 0.2


async def test_a_worse_model_that_somebody_let_pass_is_found_out_by_live_queries_and_taken_back(
    world: World, apiserver_with_crds: Path
) -> None:
    held = {"canary": {"steps": [{"weight": 50, "hold": "10m"}, {"weight": 100, "hold": "10m"}]}}
    async with running(world, apiserver_with_crds, LARGE) as tally:
        await world.move(LARGE, NARROW, {"minQueries": 1000}, **held)
        await world.until(lambda status: status.get("reason") == "RetrievalTooFewQueries")
        await world.promote()
        status, index = await world.ended(), await world.released()
    found = world.outcome(status, tally, index)
    assert found == replace(
        refused(LARGE),
        reason="RetrievalRegression",
        states=(*JUDGED, "Canary", "RollingBack", "RolledBack"),
        verdict="TooFewQueries",
        weights=(0, 50, 0),
        triggers=NO_TRIGGER,  # this one needs no time: it is acted upon before it is told
        answered_by=frozenset({LARGE, NARROW}),
    )
    assert found.message.startswith("the candidate loses at least ")
    assert found.mrr[NARROW] < found.mrr[LARGE] - 0.2


@pytest.mark.parametrize("cut_first", [False, True], ids=["to parts", "from parts"])
async def test_a_model_and_how_documents_are_cut_change_in_one_migration(
    cut_first: bool, world: World, apiserver_with_crds: Path
) -> None:
    """Documents are compared, whichever side has them in parts."""
    parts = {"chunking": {"maxTokens": 64, "overlapTokens": 16, "at": "Line"}}
    before, after = (parts, {}) if cut_first else ({}, parts)
    async with running(world, apiserver_with_crds, SMALL, before) as tally:
        await world.move(SMALL, LARGE, {}, target={"poolRef": {"name": pool(LARGE)}, **after})
        status, index = await world.ended(), await world.released()
    found = world.outcome(status, tally, index)
    assert found == promoted(SMALL, LARGE)
    cut_side, whole_side = ("serving", "candidate") if cut_first else ("candidate", "serving")
    assert status[cut_side]["fingerprint"].endswith("+64-16-Line")
    assert "+" not in status[whole_side]["fingerprint"]
    rows, documents = world.held(status[cut_side]["collection"])
    assert documents == DOCUMENTS
    assert rows > 1.5 * documents


@pytest.mark.parametrize(("old", "new", "better"), [(SMALL, LARGE, True), (LARGE, NARROW, False)])
async def test_vectors_of_an_application_answer_until_a_better_model_takes_over(
    old: str, new: str, better: bool, world: World, apiserver_with_crds: Path
) -> None:
    async with running(world, apiserver_with_crds, old, adopted="Reembed") as tally:
        await world.move(old, new, {})
        status, index = await world.ended(), await world.released()
    found = world.outcome(status, tally, index)
    assert found == (promoted(old, new) if better else refused(old))
    assert status["serving"]["collection"].startswith("a_")


async def test_no_query_goes_to_a_better_model_while_the_application_does_not_keep_its_vectors(
    world: World, apiserver_with_crds: Path
) -> None:
    a_while_ago = "UPDATE reembed.watched SET at = at - interval '2 minutes'"
    async with running(world, apiserver_with_crds, SMALL, adopted="Application") as tally:
        world.run("ALTER TABLE functions ADD kept vector(384); UPDATE functions SET kept = embedding")
        kept = await world.told("RollbackReady", "True")
        world.run("UPDATE functions SET body = body || ' ', embedding = NULL WHERE id % 10 = 0")
        await world.noted(20)
        world.run(a_while_ago)
        lost = await world.told("RollbackReady", "False")
        await world.move(SMALL, LARGE, {})
        held = await world.until(lambda status: status.get("reason") == "RollbackNotReady")
        world.run("UPDATE functions SET embedding = kept")
        status, index = await world.ended(), await world.released()
    found = world.outcome(status, tally, index)
    assert (kept["reason"], lost["reason"], held["state"]) == ("KeptByApplication", "RollbackNotReady", "Evaluating")
    assert "of 20 documents whose text changed more than 1 min ago 20 have no vector" in lost["message"]
    assert (found.end, found.states, found.failed) == ("Succeeded", PROMOTED, 0)


async def test_of_one_model_how_documents_are_cut_can_change_alone(world: World, apiserver_with_crds: Path) -> None:
    """The pool that serves both sides goes on all the time."""
    target = {"poolRef": {"name": pool(LARGE)}, "chunking": {"maxTokens": 64, "at": "Line"}}
    async with running(world, apiserver_with_crds, LARGE) as tally:
        await world.move(LARGE, LARGE, {"margin": 1}, target=target)
        status, index = await world.ended(), await world.released()
    found = world.outcome(status, tally, index)
    assert (found.end, found.states, found.failed, found.wrong) == ("Succeeded", PROMOTED, 0, ())
    assert status["candidate"]["fingerprint"] == f"{status['serving']['fingerprint']}+64-0-Line"
    assert index["status"]["routing"]["serving"] == status["candidate"]


async def moved(world: World, kubeconfig: Path, old: str, new: str, **evaluation: Any) -> Outcome:
    """Return what a migration from one model to the other comes to."""
    async with running(world, kubeconfig, old) as tally:
        await world.move(old, new, evaluation)
        status, index = await world.ended(), await world.released()
        assert min(await world.agreed()) > 0.9999
    return world.outcome(status, tally, index)


def promoted(old: str, new: str, verdict: str = "Better") -> Outcome:
    """Return how it ends if the new model takes all queries over, in two steps."""
    return Outcome(
        end="Succeeded",
        reason="Promoted",
        states=PROMOTED,
        verdict=verdict,
        serves=new,
        weights=(0, 50, 100, 0),
        triggers=NO_TRIGGER,
        failed=0,
        wrong=(),
        answered_by=frozenset({old, new}),
    )


def refused(old: str) -> Outcome:
    """Return how it ends if the new model is seen to be worse before it gets a query."""
    return Outcome(
        end="RolledBack",
        reason="RetrievalInferior",
        states=(*JUDGED, "RollingBack", "RolledBack"),
        verdict="Inferior",
        serves=old,
        weights=(0,),
        triggers=NO_TRIGGER,
        failed=0,
        wrong=(),
        answered_by=frozenset({old}),
    )


def within(found: Outcome, serving: tuple[float, float], candidate: tuple[float, float]) -> bool:
    """Return whether the models find as much as these models do, of all labelled queries and the first ten answers."""
    report = found.evaluation
    sides = ((report["mrrServing"], serving), (report["mrrCandidate"], candidate))
    return (report["queries"], report["k"]) == (300, 10) and all(low < mrr < high for mrr, (low, high) in sides)
