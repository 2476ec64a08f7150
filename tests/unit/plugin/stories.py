"""Migrations as the API server returns them, at the points of their life that views tell apart.

Times are given as how long ago they were at `NOW`. Stories named for an operator's age show what older and newer ones
leave out or add.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
NAMESPACE = "rag"

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def ago(text: str) -> str:
    """Return the time that was `1h2m` before `NOW`, as the API writes it."""
    seconds = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def timeline(*visits: str) -> list[Object]:
    """Return a timeline of `Backfilling 40m` and `Canary/1 5m`: state, step, and how long ago it was entered."""
    found: list[Object] = []
    for visit in visits:
        where, entered = visit.split()
        state, _, step = where.partition("/")
        found.append({"state": state, "enteredAt": ago(entered), **({"step": int(step)} if step else {})})
    return found


def migration(name: str, status: Object | None = None, *, age: str = "2h", **spec: Any) -> Object:
    steps = [
        {"weight": 10, "hold": "10m", "approval": "None"},
        {"weight": 50, "hold": "10m", "approval": "Required"},
        {"weight": 100, "hold": "30m", "approval": "None"},
    ]
    return {
        "apiVersion": "reembed.dev/v1alpha1",
        "kind": "EmbeddingMigration",
        "metadata": {"namespace": NAMESPACE, "name": name, "uid": f"uid-of-{name}", "creationTimestamp": ago(age)},
        "spec": {
            "indexRef": {"name": "docs"},
            "target": {"poolRef": {"name": "minilm-l6"}},
            "canary": {"steps": steps},
            **spec,
        },
        **({"status": status} if status is not None else {}),
    }


def arm(pool: str) -> Object:
    return {"pool": pool, "collection": f"c_{pool}", "fingerprint": f"fp-{pool}"}


SIDES = {"serving": arm("minilm-l3"), "candidate": arm("minilm-l6")}
FILLED = {"documents": 8671, "total": 8674, "rejected": 3, "documentsPerSecond": 52.13, "job": "backfill-1"}
NO_WORSE = {
    "id": "e1",
    "verdict": "NonInferior",
    "queries": 2000,
    "k": 10,
    "mrrServing": 0.807,
    "mrrCandidate": 0.812,
    "low": -0.004,
    "high": 0.014,
    "message": "MRR@10 0.812, was 0.807: the difference is between -0.004 and +0.014, no worse within 0.02",
}
METRICS = [
    {"name": "MRR@10", "serving": 0.807, "candidate": 0.812, "low": -0.004, "high": 0.014},
    {"name": "recall@10", "serving": 0.914, "candidate": 0.921, "low": -0.002, "high": 0.016},
]
SLICES = [
    {
        "name": "tenant-7",
        "verdict": "Suspect",
        "queries": 120,
        "serving": 0.71,
        "candidate": 0.62,
        "low": -0.17,
        "high": -0.01,
        "message": "likely to be worse by more than 0.05: the difference is between -0.170 and -0.010",
    },
    {
        "name": "de",
        "verdict": "TooFewQueries",
        "queries": 9,
        "serving": 0.7,
        "candidate": 0.8,
        "message": "9 queries, below 30",
    },
    *(
        {"name": name, "verdict": "NoHarmSeen", "queries": 400, "serving": 0.8, "candidate": 0.8, "message": "none"}
        for name in ("en", "fr", "es")
    ),
]
TO_CANARY = ("Preflight 1h50m", "Backfilling 1h49m", "Indexing 1h1m", "Evaluating 58m", "Canary/0 56m")

PENDING = migration("pending", age="5s", **{"from": {"poolRef": {"name": "minilm-l3"}}})

PREFLIGHT_REFUSED = migration(
    "refused",
    {
        "state": "Failed",
        "reason": "DimensionsTooLarge",
        "message": "the model's vectors have 4096 dimensions, above the 4000 that an HNSW index of pgvector can hold; "
        "name a pool with fewer `dimensions`",
        "attempt": 1,
        "step": 0,
        "at": "1/Failed",
        "triggers": [],
        "weight": {"set": 0},
        "timeline": timeline("Preflight 2h", "Failed 1h59m"),
    },
)

BACKFILLING = migration(
    "filling",
    {
        "state": "Backfilling",
        "reason": "Embedding",
        "message": "embedding 1204331 documents with pool 'minilm-l6'",
        "attempt": 1,
        "step": 0,
        "at": "1/Backfilling",
        **SIDES,
        "backfill": {
            "documents": 512_300,
            "total": 1_204_331,
            "rejected": 12,
            "documentsPerSecond": 233.71,
            "eta": "49m20s",
            "bottleneck": "embed",
            "job": "backfill-1",
        },
        "triggers": [],
        "weight": {"set": 0, "actual": 0},
        "timeline": timeline("Preflight 38m", "Backfilling 37m10s"),
    },
)

UNDECIDED = migration(
    "undecided",
    {
        "state": "Evaluating",
        "reason": "RetrievalInconclusive",
        "message": "the difference is between -0.031 and +0.012; about 1400 more queries decide it. To go on all the "
        "same, promote it",
        "attempt": 1,
        "step": 0,
        "at": "1/Evaluating",
        **SIDES,
        "backfill": FILLED,
        "evaluation": {
            **NO_WORSE,
            "metrics": METRICS,
            "slices": SLICES,
            "verdict": "Inconclusive",
            "message": "the difference is between -0.031 and +0.012; about 1400 more queries decide it",
        },
        "triggers": [],
        "weight": {"set": 0, "actual": 0},
        "timeline": timeline("Preflight 1h50m", "Backfilling 1h49m", "Indexing 1h1m", "Evaluating 58m"),
    },
)

AWAITING_APPROVAL = migration(
    "awaiting",
    {
        "state": "Canary",
        "reason": "AwaitingApproval",
        "message": "50 % was held and every gate holds; promote it to go on, or abort it",
        "attempt": 1,
        "step": 1,
        "at": "1/Canary/1",
        **SIDES,
        "backfill": FILLED,
        "evaluation": NO_WORSE,
        "triggers": [],
        "weight": {"set": 50, "actual": 50},
        "gates": [
            {"name": "overlap", "standing": "Holds", "message": "overlap at least 78 %, limit 70 %, 412 queries"},
            {"name": "labelled", "standing": "Holds", "message": "loses at most 0.011 of MRR@10, limit 0.02"},
        ],
        "hooks": [
            {"name": "warm-up", "at": "0/Pre", "job": "", "startedAt": ago("3h"), "state": "Failed", "message": "500"},
            {
                "name": "freeze-deploys",
                "at": "1/Pre",
                "job": "",
                "startedAt": ago("1h50m"),
                "state": "Succeeded",
                "message": "204 No Content",
            },
            {
                "name": "smoke",
                "at": "1/EachStep/1",
                "job": "hook-smoke-5d2",
                "startedAt": ago("25m"),
                "state": "Succeeded",
                "message": "",
            },
        ],
        "commands": [
            {
                "verb": "pause",
                "nonce": "n1",
                "at": "1/Canary/0",
                "time": ago("50m"),
                "outcome": "Accepted",
                "message": "paused; rollback triggers are watched as before",
            },
            {
                "verb": "promote",
                "nonce": "n2",
                "at": "1/Canary/0",
                "time": ago("24m"),
                "outcome": "Refused",
                "message": "it is meant for 1/Canary/0, and the migration is at 1/Canary/1; look at it, and "
                "command again",
            },
        ],
        "timeline": timeline(*TO_CANARY, "Canary/1 25m"),
    },
)

IN_DANGER = migration(
    "danger",
    {
        "state": "Canary",
        "reason": "Latency",
        "message": "the candidate's p95 is 1200 ms, above 900 ms for 70 s; the weight stays until it is not",
        "attempt": 1,
        "step": 1,
        "stepAcknowledgedAt": ago("4m2s"),
        "at": "1/Canary/1",
        **SIDES,
        "backfill": FILLED,
        "evaluation": {**NO_WORSE, "metrics": METRICS, "slices": SLICES[2:]},
        "triggers": [
            {
                "name": "Latency",
                "since": ago("1m10s"),
                "held": "1m10s",
                "lastSeen": ago("0s"),
                "for": "2m",
                "value": "1200 ms",
                "threshold": "900 ms",
            },
            {
                "name": "MemoryPressure",
                "since": ago("30s"),
                "held": "30s",
                "lastSeen": ago("0s"),
                "for": "5m",
                "value": "93 %",
                "threshold": "90 %",
            },
            {
                "name": "PointerInconsistent",
                "since": ago("4s"),
                "held": "4s",
                "lastSeen": ago("0s"),
                "for": "1m",
                "value": "yes",
                "threshold": "no",
            },
            {
                "name": "Prometheus_clicks",
                "since": ago("3m"),
                "held": "3m",
                "lastSeen": ago("0s"),
                "for": "2m",
                "value": "0.31",
                "threshold": "0.5",
                "dryRun": True,
            },
        ],
        "emergency": {
            "since": ago("12s"),
            "reason": "Latency",
            "message": "Latency has held for 70 s of 120 s",
        },
        "weight": {"set": 50, "actual": 10},
        "gates": [
            {"name": "errors", "standing": "Fails", "message": "at least 3.1 % of the queries fail, limit 2 %"},
            {
                "name": "overlap",
                "standing": "Undecided",
                "message": "between 64 and 81 %, limit 70 %: 900 more queries",
            },
        ],
        "hooks": [
            {
                "name": "smoke",
                "at": "1/EachStep/1",
                "job": "hook-smoke-5d2",
                "startedAt": ago("4m"),
                "state": "Running",
                "message": "",
            }
        ],
        "timeline": timeline(*TO_CANARY, "Canary/1 4m10s"),
    },
    rollback={"triggers": {"prometheus": [{"name": "clicks", "query": "q", "operator": "Below", "threshold": 0.5}]}},
)

PAUSED = migration(
    "paused",
    {
        "state": "Canary",
        "reason": "Paused",
        "message": "paused: by command; resume lets it go on. Where it stands: 10 % until 12:04:00 UTC",
        "attempt": 1,
        "step": 0,
        "at": "1/Canary/0",
        "paused": True,
        **SIDES,
        "backfill": FILLED,
        "triggers": [],
        "weight": {"set": 10, "actual": 10},
        "timeline": timeline(*TO_CANARY),
    },
)

JUST_COMMANDED = {
    **PAUSED,
    "metadata": {
        **PAUSED["metadata"],
        "name": "commanded",
        "annotations": {
            "reembed.dev/resume": '{"uid": "uid-of-commanded", "at": "1/Canary/0", "nonce": "n9"}',
            "reembed.dev/pause": '{"uid": "uid-of-commanded", "at": "1/Canary/0", "nonce": "n8"}',
        },
    },
    "status": {
        **PAUSED["status"],
        "commands": [
            {
                "verb": "pause",
                "nonce": "n8",
                "at": "1/Canary/0",
                "time": ago("4m"),
                "outcome": "Accepted",
                "message": "paused; rollback triggers are watched as before",
            }
        ],
    },
}

PAUSED_IN_SPEC = migration(
    "paused-in-spec",
    {
        **PAUSED["status"],
        "paused": False,
        "message": "paused: spec.paused is true. Where it stands: 10 % until 12:04:00 UTC",
    },
    paused=True,
)

RETAINING = migration(
    "retaining",
    {
        "state": "Retaining",
        "reason": "Retaining",
        "message": "the old side can take the queries back until 2026-03-07 11:40:00 UTC",
        "rollbackNotReady": "the application does not keep column 'embedding' of docs fresh: of 20 documents whose "
        "text changed more than 1 min ago 12 have no vector",
        "attempt": 1,
        "step": 2,
        "at": "1/Retaining",
        **SIDES,
        "backfill": FILLED,
        "evaluation": NO_WORSE,
        "triggers": [],
        "weight": {"set": 100, "actual": 100},
        "timeline": timeline(*TO_CANARY, "Canary/1 46m", "Canary/2 36m", "Retaining 6m"),
    },
)

ROLLING_BACK = migration(
    "taking-back",
    {
        "state": "RollingBack",
        "reason": "ErrorRate",
        "message": "12.5 % of the candidate's queries failed, above 5 % for 180 s",
        "waitingFor": "gateway pod docs-7f9 does not answer: delete it if its node is gone",
        "attempt": 1,
        "step": 1,
        "at": "1/RollingBack",
        **SIDES,
        "backfill": FILLED,
        "triggers": [],
        "weight": {"set": 0, "actual": 50},
        "timeline": timeline(*TO_CANARY, "Canary/1 9m", "RollingBack 8s"),
    },
)

ROLLED_BACK = migration(
    "rolled-back",
    {
        "state": "RolledBack",
        "reason": "ErrorRate",
        "message": "12.5 % of the candidate's queries failed, above 5 % for 180 s",
        "attempt": 2,
        "step": 1,
        "at": "2/RolledBack",
        **SIDES,
        "backfill": FILLED,
        "evaluation": NO_WORSE,
        "triggers": [],
        "weight": {"set": 0, "actual": 0},
        "commands": [
            {
                "verb": "retry",
                "nonce": "n1",
                "at": "1/RolledBack",
                "time": ago("2h10m"),
                "outcome": "Accepted",
                "message": "a new attempt begins",
            }
        ],
        "timeline": timeline(
            "Preflight 1d3h", "Backfilling 1d3h", "RollingBack 1d", "RolledBack 1d",
            "Preflight 2h10m", "Backfilling 2h9m", "Indexing 1h20m", "Evaluating 1h15m", "Canary/0 1h10m",
            "Canary/1 1h", "RollingBack 52m5s", "RolledBack 52m",
        ),
    },
    age="1d3h",
)  # fmt: skip

SUCCEEDED = migration(
    "done",
    {
        "state": "Succeeded",
        "reason": "Promoted",
        "message": "pool 'minilm-l6' serves the index",
        "attempt": 1,
        "step": 2,
        "at": "1/Succeeded",
        **SIDES,
        "backfill": FILLED,
        "evaluation": NO_WORSE,
        "triggers": [],
        "weight": {"set": 100, "actual": 100},
        "timeline": timeline(
            "Preflight 4d2h", "Backfilling 4d2h", "Indexing 4d1h", "Evaluating 4d1h", "Canary/0 4d", "Canary/1 3d23h",
            "Canary/2 3d22h", "Retaining 3d21h", "Promoting 21h10m4s", "Succeeded 21h10m",
        ),
    },
    age="4d2h",
)  # fmt: skip

FIRST_FILL = migration(
    "first-fill",
    {
        "state": "Indexing",
        "reason": "BuildingIndex",
        "message": "building the vector index over 8671 documents",
        "attempt": 1,
        "step": 0,
        "at": "1/Indexing",
        "candidate": arm("minilm-l6"),
        "backfill": FILLED,
        "triggers": [],
        "weight": {"set": 0},
        "timeline": timeline("Preflight 10m", "Backfilling 9m", "Indexing 20s"),
    },
)

# Before commands, gates, hooks and triggers' limits were told.
OLDER_OPERATOR = migration(
    "older",
    {
        "state": "Canary",
        "phase": "Canary 10%",
        "reason": "Latency",
        "message": "the candidate's p95 is 1200 ms, above 900 ms for 70 s; the weight stays until it is not",
        "attempt": 1,
        "step": 0,
        "stepText": "1/3",
        **SIDES,
        "backfill": {key: value for key, value in FILLED.items() if key != "job"},
        "triggers": [{"name": "Latency", "since": ago("1m10s"), "held": "1m10s", "lastSeen": ago("0s")}],
        "weight": {"set": 10},
        "timeline": timeline(*TO_CANARY),
    },
)

NEWER_OPERATOR = migration(
    "newer",
    {
        "state": "Rehearsing",
        "reason": "DrillRuns",
        "message": "a failure drill of the candidate runs",
        "attempt": 1,
        "step": 0,
        "at": "1/Rehearsing",
        **SIDES,
        "backfill": FILLED,
        "evaluation": {"verdict": "Better"},
        "gates": [{"name": "drill", "standing": "Rehearsed", "message": ""}],
        "hooks": [{"name": "audit", "at": "1/Rehearsing", "state": "Queued", "message": ""}],
        "commands": [
            {"verb": "rehearse", "nonce": "n", "at": "1/Canary/0", "time": ago("1m"), "outcome": "Accepted"},
        ],
        "triggers": [],
        "weight": {"set": 0, "actual": 0},
        "timeline": timeline("Preflight 1h50m", "Backfilling 1h49m", "Indexing 1h1m", "Rehearsing 58m"),
    },
)

DELETED = {
    **ROLLING_BACK,
    "metadata": {**ROLLING_BACK["metadata"], "name": "deleted", "deletionTimestamp": ago("9s")},
    "status": {**ROLLING_BACK["status"], "state": "Unwinding", "timeline": timeline(*TO_CANARY, "Unwinding 8s")},
}

# A panel votes on its second step.
VOTING = migration(
    "voting",
    {
        "state": "Canary",
        "reason": "AwaitingPanel",
        "message": "3 of 6 votes for 50 %, 1 refuses; the weight stays at 10 % until the panel has decided",
        "attempt": 1,
        "step": 1,
        "at": "1/Canary/1",
        **SIDES,
        "weight": {"set": 10, "actual": 10},
        "triggers": [],
        "proposal": {
            "kind": "Traffic",
            "standing": "Open",
            "epoch": 5,
            "digest": "c" * 64,
            "decision": f"d{'c' * 40}",
            "expires": (NOW + timedelta(minutes=3, seconds=20)).isoformat().replace("+00:00", "Z"),
            "approved": ["configuration-manager", "embedding-specialist", "pattern-learner"],
            "refused": ["memory-analyst"],
            "missing": ["byzantine-coordinator", "embeddings-validator", "parallelism-optimizer", "streaming-loader"],
            "reasons": ["MemoryHigh: 96 % of the candidate's memory is in use, above 85 %; give it more"],
        },
        "timeline": timeline(*TO_CANARY, "Canary/1 1m10s"),
    },
)

ALL: tuple[Object, ...] = (
    PENDING,
    PREFLIGHT_REFUSED,
    BACKFILLING,
    UNDECIDED,
    AWAITING_APPROVAL,
    IN_DANGER,
    PAUSED,
    JUST_COMMANDED,
    PAUSED_IN_SPEC,
    RETAINING,
    ROLLING_BACK,
    ROLLED_BACK,
    SUCCEEDED,
    FIRST_FILL,
    OLDER_OPERATOR,
    NEWER_OPERATOR,
    DELETED,
)
