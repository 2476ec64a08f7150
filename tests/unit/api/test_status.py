"""Statuses fit their schemas, field for field, and say to people what the types say to programs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from reembed.api import (
    render_index_status,
    render_migration_status,
    render_pool_status,
)
from reembed.api.fields import Fields
from reembed.api.hosted import parse_hosted_status, render_hosted_status
from reembed.api.inspections import parse_inspection, render_inspection
from reembed.core.hooks import HookRun, RunState
from reembed.core.hosted import HostedStatus, PodSaid
from reembed.core.migration import Backfill, Baseline, Status, Visit
from reembed.core.model import (
    CollectionPlan,
    ConfigMapKey,
    Consumed,
    Desired,
    Device,
    Emergency,
    EvaluationPlan,
    EvaluationReport,
    Excused,
    Finding,
    GateStanding,
    Holder,
    IndexStatus,
    InspectionReport,
    Lowered,
    MetricReport,
    Norms,
    PointerPlan,
    PoolStatus,
    Recommendation,
    Reproduced,
    Routing,
    SliceReport,
    StorePlan,
    TriggerState,
    VariantStatus,
    Verb,
)
from reembed.core.quorum.acted import Act
from reembed.core.quorum.asked import Asked
from reembed.core.quorum.counting import Standing
from reembed.core.quorum.proposals import Kind
from reembed.core.transitions import State
from tests import panels
from tests.builders import EVALUATION, NEW, NOON, OLD, after, migration
from tests.unit.api.schemas import closed, leaves, paths, schema_of

SPEC = migration().spec
SLICED = replace(EVALUATION, slice_column="lang", config_map=ConfigMapKey("labels", "a"))
_MINUTES = timedelta(minutes=3)

INDEX = IndexStatus(
    active_migration=Holder("move", "u-1"),
    routing=Routing(7, OLD, NEW, 50, 0.05, panels.agents().certificate(panels.raising(10, 50))),
    plan=StorePlan(
        collections=(CollectionPlan(NEW.collection, NEW.pool, NEW.fingerprint, 384, 8, Desired.INDEXED),),
        pointer=PointerPlan(OLD.collection, OLD.fingerprint, 3),
        evaluation=EvaluationPlan("e-1", OLD, NEW, SLICED, live=True),
    ),
)
MIGRATION = Status(
    state=State.ROLLED_BACK,
    reason="ErrorRate",
    message="8.0% of the candidate's queries failed",
    waiting="gateway pods b do not answer",
    attempt=2,
    step=1,
    asked=Asked(panels.raising(10, 50), NOON, Standing.REFUSED, ("a",), ("b",), ("c",), ("ProbesFail: 2 of 5",), NOON),
    executed=(Act(Kind.TUNING, 7, "d1", NOON, 2, "t", (("parallelism", "9"),), "the migration is paused"),),
    acknowledged_at=NOON,
    serving=OLD,
    candidate=NEW,
    backfill_image="backfill:1",
    baseline=Baseline(timedelta(milliseconds=40), 500, NOON),
    backfill=Backfill(620, 1000, 10, 51.5, timedelta(seconds=8), "embed", "reembed-backfill-move-2"),
    lowered=Lowered(3, "store", NOON),
    evaluation=EvaluationReport(
        *("e-1", "Better", 200, 10, 0.8, 0.9, 0.05, 0.15, "better"),
        metrics=(MetricReport("MRR@10", 0.8, 0.9, 0.05, 0.15),),
        slices=(SliceReport("de", "NoHarmSeen", 40, 0.8, 0.9, -0.1, 0.2, "no harm was seen"),),
    ),
    triggers={"ErrorRate": TriggerState(NOON, _MINUTES, NOON, _MINUTES, "8 %", "5 %", dry_run=True, shared_at=NOON)},
    paused=True,
    hooks=(HookRun("warm", "2/EachStep/0", "job-1", RunState.FAILED, NOON, "503"),),
    gates=(GateStanding("p95", "Undecided", "share of answers"),),
    promoted="2/Canary/0",
    commands=(Consumed(Verb.PROMOTE, "n-1", "2/Canary/0", NOON, accepted=True, message="it goes on"),),
    emergency=Emergency(NOON, "Memory", "memory is at 90 %", after(30)),
    no_way_back="the application does not keep the column",
    tolerated=87,
    excused=Excused(timedelta(minutes=2), timedelta(minutes=1), NOON),
    weight=0,
    weight_acknowledged=0,
    timeline=(Visit(State.PREFLIGHT, NOON), Visit(State.CANARY, after(60), 1), Visit(State.ROLLED_BACK, after(90))),
    observed_generation=4,
)

POOL = PoolStatus(
    variants=(VariantStatus("gpu", 2, 1, "Unschedulable"), VariantStatus("cpu", 1, 1, "", ("BF16", "F16"))),
    reason="Latency",
    message="p95 of live requests 812 ms for 500 ms, which needs 4 pods",
    at=NOON,
    floor=2,
    recycling="cpu-1",
    standing=(Recommendation("cpu", 3, NOON),),
    images={Device.CPU: "engine:1", Device.GPU: "gpu:1"},
)
# Written with the rest of a pool's pass, from what its pods say.
HOSTED = HostedStatus(
    1000,
    "AAAA",
    0.99987,
    1,
    1_795_953_600,
    (1_795_950_000, 1_795_953_600),
    {"embed-new-external-a": PodSaid(600, 1_795_953_600, granted=700)},
)
BY_THE_POOL = {"phase", "message", "readyReplicas", "desiredReplicas", "fingerprint", "inUseBy", "observedGeneration"}
BY_THE_POOL |= {"class.configMap"}
INSPECTION = InspectionReport(
    "i-1",
    NOON,
    "c_old",
    "fp",
    1000,
    500,
    (Finding("VectorsZero", 2, 0.004, ("7", "9"), "2 vectors are zero"),),
    Reproduced(200, 0.9994, 0.99, 1.0),
    Norms(0.9, 1.0, 1.1, 3, 498),
)


def written(status: dict[str, Any]) -> set[str]:
    return {path.removeprefix("status.") for path in paths(status, "status")}


# Written by the index's own loop, which is not the migration's.
BY_THE_INDEX = {
    *("phase", "documents", "observedGeneration", "gateway.replicas", "gateway.readyReplicas"),
    *("liveWrites.lagSeconds", "liveWrites.owed", "liveWrites.verified"),
    *(f"collections[].{name}" for name in ("name", "state", "bytes", "recall", "orphaned")),
    *(f"inspection.asked.{name}" for name in ("nonce", "outcome", "message")),
    *(f"inspection.{name}" for name in written(render_inspection(INSPECTION))),
}
# A step's text is there only during a canary.
STEP_TEXT = "stepText"


def known(plural: str) -> set[str]:
    """Return the fields of a status, without its conditions, which every kind has."""
    found = leaves(schema_of(plural)["properties"]["status"], "status")
    return {path.removeprefix("status.") for path, _ in found if not path.startswith("status.conditions")}


def errors(plural: str, status: dict[str, Any]) -> list[str]:
    schema = closed(schema_of(plural)["properties"]["status"])
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(status)]


def test_every_field_of_an_index_s_status_has_one_writer() -> None:
    # What a certificate holds is hashed as it is, so that the schema keeps it whole.
    certificate = {".".join(path.split(".")[:3]) for path in written(render_index_status(INDEX))}
    certificate = {path.removesuffix("[]") for path in certificate if path.startswith("routing.certificate")}
    rest = {path for path in written(render_index_status(INDEX)) if not path.startswith("routing.certificate")}
    assert rest | certificate | BY_THE_INDEX == known("embeddingindexes")


def test_every_field_of_a_migration_s_status_is_written() -> None:
    # A proposal is hashed as it is, so that the schema keeps it whole, and what it changes.
    kept = (".content.", ".change.")
    paths = written(render_migration_status(MIGRATION, SPEC))
    found = {path for path in paths if not any(one in path for one in kept)}
    assert found | {STEP_TEXT, "proposal.content", "executed[].change"} == known("embeddingmigrations")


def test_every_field_of_a_pool_s_status_has_one_writer() -> None:
    found = written(render_pool_status(POOL)) | written({"external": render_hosted_status(HOSTED)})
    assert found | BY_THE_POOL == known("embedderpools")


@pytest.mark.parametrize("status", [HostedStatus(), HOSTED], ids=["new", "full"])
def test_what_is_said_of_an_endpoint_is_what_its_schema_allows_and_is_read_back(status: HostedStatus) -> None:
    rendered = render_hosted_status(status)
    assert errors("embedderpools", {"external": rendered}) == []
    assert parse_hosted_status({"status": {"external": rendered}}) == status


@pytest.mark.parametrize("wrong", [7, {"spentTokens": "x"}, {"cosine": "x"}, {"pods": [{}]}])
def test_an_endpoint_s_status_that_somebody_broke_is_none(wrong: Any) -> None:
    assert parse_hosted_status({"status": {"external": wrong}}) == HostedStatus()


@pytest.mark.parametrize("status", [PoolStatus(), POOL], ids=["idle", "full"])
def test_a_pool_s_status_is_what_its_schema_allows(status: PoolStatus) -> None:
    rendered = {name: value for name, value in render_pool_status(status).items() if value is not None}
    assert errors("embedderpools", rendered) == []


@pytest.mark.parametrize("status", [IndexStatus(), INDEX], ids=["new", "full"])
def test_an_index_s_status_is_what_its_schema_allows(status: IndexStatus) -> None:
    assert errors("embeddingindexes", render_index_status(status)) == []


def test_an_inspection_is_what_its_schema_allows_and_is_read_back() -> None:
    rendered = render_inspection(INSPECTION)
    assert errors("embeddingindexes", {"inspection": rendered}) == []
    assert parse_inspection(Fields(rendered, "inspection")) == INSPECTION


def test_an_id_that_is_too_long_for_a_status_is_cut() -> None:
    finding = Finding("VectorsZero", 1, 0.1, ("x" * 5000,), "y" * 5000)
    rendered = render_inspection(replace(INSPECTION, findings=(finding,)))
    assert errors("embeddingindexes", {"inspection": rendered}) == []


@pytest.mark.parametrize(
    "status",
    [Status(), MIGRATION, replace(MIGRATION, state=State.CANARY)],
    ids=["new", "full", "canary"],
)
def test_a_migration_s_status_is_what_its_schema_allows(status: Status) -> None:
    assert errors("embeddingmigrations", render_migration_status(status, SPEC)) == []


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status(), {"phase": "Preflight", "weight": {"set": 0}}),
        (
            Status(state=State.CANARY, step=1, weight=50, weight_acknowledged=10),
            {"phase": "Canary 50%", "stepText": "2/3", "weight": {"set": 50, "actual": 10}},
        ),
        (MIGRATION, {"phase": "RolledBack", "progress": "63%", "weight": {"set": 0, "actual": 0}}),
    ],
    ids=["new", "canary", "rolled back"],
)
def test_people_see_how_far_it_is(status: Status, shown: dict[str, Any]) -> None:
    rendered = render_migration_status(status, SPEC)
    assert {
        name: rendered.get(name) for name in ("phase", "stepText", "progress", "weight") if name in rendered
    } == shown


@pytest.mark.parametrize(
    ("state", "finished_at"), [(State.ROLLED_BACK, "2026-01-01T12:01:30.000Z"), (State.RETAINING, None)]
)
def test_only_what_ended_has_an_end(state: State, finished_at: str | None) -> None:
    assert render_migration_status(replace(MIGRATION, state=state), SPEC).get("finishedAt") == finished_at


@pytest.mark.parametrize(
    ("backfill", "progress"),
    [((0, 1000, 0), "0%"), ((999, 1000, 0), "99%"), ((990, 1000, 20), "100%"), ((0, 0, 0), None)],
    ids=["begun", "almost", "more than there were", "nothing to do"],
)
def test_progress_is_the_share_that_needs_no_more_work(backfill: tuple[int, int, int], progress: str | None) -> None:
    status = Status(backfill=Backfill(*backfill, 10.0, None, None, "job"))
    assert render_migration_status(status, SPEC).get("progress") == progress


def test_a_baseline_too_short_to_measure_is_written_as_one_millisecond() -> None:
    status = Status(baseline=Baseline(timedelta(microseconds=20), 500, NOON))
    assert render_migration_status(status, SPEC)["baseline"]["p95"] == "1ms"
