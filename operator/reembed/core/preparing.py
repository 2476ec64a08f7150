"""What a migration waits for before it moves a query: Preflight, Backfilling, Indexing and Evaluating.

Nothing of this can cost a caller anything, so that what cannot be healed fails, and nothing has to be taken back in a
hurry. `states` has the rest of a migration's life, and the table of all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reembed.core import desired, elastic, outcomes, preflight, reasons, traffic, triggers, vector_index
from reembed.core.migration import Baseline, Migration, Seen, Status
from reembed.core.model import CollectionReport
from reembed.core.outcomes import Outcome
from reembed.core.quorum import acting, queen
from reembed.core.transitions import Event


def preflighting(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status = migration.status
    obstacle = preflight.first_obstacle(preflight.BEFORE_THERE, migration, seen)
    if obstacle is None and preflight.target_serves(migration, seen):
        pool = migration.spec.pool
        return Outcome(status, "AlreadyThere", f"pool {pool!r} serves the index already", Event.ALREADY_THERE)
    obstacle = obstacle or preflight.first_obstacle(preflight.BEFORE_CLAIM, migration, seen)
    if obstacle is None and desired.holds(migration, seen.index):
        status = _recorded(migration, seen)
        obstacle = preflight.first_obstacle(preflight.AFTER_CLAIM, replace(migration, status=status), seen)
    elif obstacle is None:
        return Outcome(status, "ClaimingIndex", f"taking hold of index {migration.spec.index!r}")
    if obstacle is not None:
        event = Event.REFUSED if obstacle.permanent else None
        return Outcome(status, obstacle.reason, obstacle.message, event)
    hooked = outcomes.hooked(replace(migration, status=status), seen, now, Event.REFUSED)
    if hooked is not None:
        return hooked
    ready = replace(status, baseline=_baseline(status, seen, now))
    voted = outcomes.voted(replace(migration, status=ready), seen, queen.loading(migration, seen))
    if voted is not None:
        return voted
    return Outcome(
        ready, "Ready", f"everything the migration needs is there{preflight.room(migration, seen)}", Event.PASSED
    )


def _recorded(migration: Migration, seen: Seen) -> Status:
    """Record both sides of the migration, once the index is held and nobody else can change what serves."""
    status = migration.status
    if status.candidate is not None or seen.index is None or seen.target is None:
        return status
    return replace(
        status,
        serving=seen.index.status.routing.serving,
        candidate=desired.candidate_arm(migration, seen.target),
        backfill_image=seen.backfill_image,
    )


def _baseline(status: Status, seen: Seen, now: datetime) -> Baseline | None:
    measure = seen.arms.get(status.serving.collection) if status.serving is not None else None
    if measure is None or measure.p95 is None:
        return None
    return Baseline(p95=measure.p95, requests=measure.requests, at=now)


def backfilling(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, report = migration.status, desired.own_collection(migration, seen)
    if report is None:
        return outcomes.waits_for_store(
            migration, seen, "CreatingCollection", "the store worker creates the collection"
        )
    hopeless = _backfill_refused(migration, seen, report)
    if hopeless is not None:
        return Outcome(status, hopeless.reason, hopeless.message, Event.REFUSED)
    if report.problem is not None:
        return Outcome(status, report.problem.reason, report.problem.message)
    if report.shards_done == report.shards:
        return Outcome(status, "Filled", f"{report.written} documents have a vector", Event.PASSED)
    waits = _backfill_waits(migration, seen)
    if waits is not None:
        return Outcome(status, waits.reason, waits.message)
    text = f"embedding {report.total} documents with pool {migration.spec.pool!r}"
    return Outcome(status, "Embedding", f"{text}{_fewer_pods(migration)}")


def _fewer_pods(migration: Migration) -> str:
    lowered, most = migration.status.lowered, acting.most(migration)
    if desired.pods(migration) == migration.spec.parallelism:
        return ""
    why = "the panel agreed on that"
    if lowered is not None and lowered.pods < most:
        why = elastic.SUFFERS.get(lowered.by, f"{lowered.by} suffers")
    return f"; {desired.pods(migration)} of {migration.spec.parallelism} pods may run, since {why}"


def _backfill_waits(migration: Migration, seen: Seen) -> triggers.Finding | None:
    """Find what keeps documents from being embedded for now."""
    due = triggers.first_due(migration, seen, migration.status.triggers)
    if due is not None:
        return triggers.Finding(due.reason, f"{due.message}; the backfill pauses until it is over")
    unreadable = triggers.unreadable_source(seen)
    if unreadable is not None:
        return replace(unreadable, message=f"{unreadable.message}; the backfill pauses until that is mended")
    problem = seen.job.problem if seen.job is not None and seen.job.active else None
    hosted = seen.target.report.problem if seen.target is not None else None
    if hosted is not None and hosted.reason in reasons.OF_ENDPOINT:
        problem = hosted
    return triggers.Finding(problem.reason, f"{problem.message}; the backfill waits for it") if problem else None


def _backfill_refused(migration: Migration, seen: Seen, report: CollectionReport) -> triggers.Finding | None:
    """Find what no further waiting would fill."""
    if report.rejected > migration.spec.rejected_share * max(report.total, 1):
        limit = f"{migration.spec.rejected_share:.1%} of {report.total}"
        text = f"{report.rejected} documents cannot be embedded, above {limit}; table reembed.rejected lists them"
        return triggers.Finding("TooManyRejected", text)
    if seen.job is not None and seen.job.exhausted and report.shards_done < report.shards:
        return triggers.Finding("BackfillFailed", f"Job {seen.job.name} gave up: {seen.job.message}")
    return None


def indexing(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    status, report = migration.status, desired.own_collection(migration, seen)
    if report is None:
        return outcomes.waits_for_store(migration, seen, "CollectionMissing", "the store worker reports the collection")
    if report.problem is not None:
        return Outcome(status, report.problem.reason, report.problem.message)
    if report.state != "Indexed":
        return Outcome(status, "BuildingIndex", vector_index.progress(report))
    low = vector_index.finds_too_little(migration, seen, report)
    if low is not None:
        return Outcome(status, low.reason, low.message)
    unverified = traffic.unverified(migration, seen)
    if unverified is not None:
        return Outcome(status, unverified.reason, unverified.message)
    return Outcome(status, "Indexed", "the vector index is valid", Event.PASSED)


def evaluating(migration: Migration, seen: Seen, now: datetime) -> Outcome:
    if migration.spec.evaluation is not None:
        waiting = _evaluation(migration, seen)
        if waiting is not None:
            return waiting
    report = seen.store.evaluation if seen.store is not None and migration.spec.evaluation is not None else None
    status = replace(migration.status, evaluation=report)
    if status.serving is None:
        return Outcome(status, "NothingServed", "nothing answered before: no canary is needed", Event.NOTHING_SERVES)
    obstacle = traffic.obstacle(replace(migration, status=status), seen)
    if obstacle is not None:
        return Outcome(status, obstacle.reason, obstacle.message)
    # Other triggers have little to judge by before the candidate answers callers; a query of the user's has.
    unknown = preflight.query_without_value(migration, seen)
    if unknown is not None:
        return Outcome(status, unknown.reason, unknown.message)
    hooked = outcomes.hooked(replace(migration, status=status), seen, now, Event.REFUSED)
    if hooked is not None:
        return hooked
    why = report.message if report is not None else "no evaluation is asked for"
    return Outcome(status, "Evaluated", why, Event.PASSED)


def _evaluation(migration: Migration, seen: Seen) -> Outcome | None:
    """Return why the offline gate does not let the migration pass, None if it does."""
    status = migration.status
    report = seen.store.evaluation if seen.store is not None else None
    if seen.store is not None and seen.store.problem is not None:
        return Outcome(status, seen.store.problem.reason, seen.store.problem.message)
    if report is None or report.id != desired.evaluation_id(migration):
        return Outcome(status, "Evaluating", "putting the labelled queries to both models")
    judged = replace(status, evaluation=report)
    if report.verdict == "Inferior":
        return Outcome(judged, "RetrievalInferior", report.message, Event.REFUSED)
    if report.verdict in {"Better", "NonInferior", "NoBaseline"} or status.promoted == status.at:
        return None
    return Outcome(judged, f"Retrieval{report.verdict}", f"{report.message}. To go on all the same, promote it")
