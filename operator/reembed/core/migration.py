"""A migration as decisions see it: what its user wrote, how far it is, and what one pass saw of the world.

`Status` is what survives a restart of the operator; everything else is looked at anew on each pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reembed.core.hooks import HookReport, HookRun
from reembed.core.measures import Counts
from reembed.core.model import (
    Arm,
    ArmMeasure,
    Command,
    Consumed,
    Emergency,
    EvaluationReport,
    Excused,
    GateStanding,
    GatewayReport,
    IndexSpec,
    IndexStatus,
    JobReport,
    Lowered,
    Meta,
    MigrationSpec,
    PanelReport,
    PoolReport,
    PoolSpec,
    StoreReport,
    TriggerState,
)
from reembed.core.quorum.acted import Act
from reembed.core.quorum.asked import Asked
from reembed.core.sequences import Sample
from reembed.core.transitions import State


@dataclass(frozen=True, slots=True)
class Baseline:
    """How the serving model answered before anything was moved."""

    p95: timedelta
    requests: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Backfill:
    """How far the backfill is."""

    documents: int
    total: int
    rejected: int
    documents_per_second: float
    eta: timedelta | None
    bottleneck: str | None
    job: str


@dataclass(frozen=True, slots=True)
class Visit:
    """When a state, or a step of the canary, was entered."""

    state: State
    entered_at: datetime
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a migration's past; written to its status, read back after a restart.

    `serving` and `candidate` are recorded when the index is claimed and hold for the attempt. `step` counts the
    canary's steps from 0. `acknowledged_at` is when every gateway said that it serves the step's weight.
    """

    state: State = State.PREFLIGHT
    reason: str = ""
    message: str = ""
    waiting: str = ""  # what taking back still waits for; reason and message go on to say why it is done
    attempt: int = 1
    step: int = 0
    acknowledged_at: datetime | None = None
    serving: Arm | None = None
    candidate: Arm | None = None
    backfill_image: str | None = None
    baseline: Baseline | None = None
    backfill: Backfill | None = None
    lowered: Lowered | None = None  # how many of its pods run, where that is fewer than the user allows
    evaluation: EvaluationReport | None = None
    triggers: Mapping[str, TriggerState] = field(default_factory=dict)
    paused: bool = False  # by command; `spec.paused` is the other way
    promoted: str = ""  # where somebody said to go on
    commands: tuple[Consumed, ...] = ()
    emergency: Emergency | None = None
    no_way_back: str = ""  # why what served is none, while queries go to the candidate
    tolerated: int | None = None  # percent of memory that pods keep although what can wait had stopped
    excused: Excused = field(default_factory=Excused)
    gates: tuple[GateStanding, ...] = ()
    hooks: tuple[HookRun, ...] = ()
    asked: Asked | None = None  # of the panel, at last
    executed: tuple[Act, ...] = ()  # at the word of the panel's agents, the newest last
    weight: int = 0  # that gateways were told
    weight_acknowledged: int | None = None  # the largest that a gateway serves; None if nobody answered
    timeline: tuple[Visit, ...] = ()
    observed_generation: int = 0

    @property
    def at(self) -> str:
        """Return the point of the migration's life that a command is meant for: attempt, state and step."""
        step = f"/{self.step}" if self.state is State.CANARY else ""
        return f"{self.attempt}/{self.state.value}{step}"

    @property
    def started_at(self) -> datetime | None:
        return self.timeline[0].entered_at if self.timeline else None

    @property
    def attempted_at(self) -> datetime | None:
        """When the present attempt began; a migration begins each in Preflight."""
        begun = [visit.entered_at for visit in self.timeline if visit.state is State.PREFLIGHT]
        return begun[-1] if begun else self.started_at

    @property
    def entered_at(self) -> datetime | None:
        """When the present state was entered; a later step of the canary counts as entered anew."""
        return self.timeline[-1].entered_at if self.timeline else None


@dataclass(frozen=True, slots=True)
class Migration:
    """One EmbeddingMigration."""

    meta: Meta
    spec: MigrationSpec
    status: Status
    asked: tuple[Command, ...] = ()  # by annotation, answered or not
    terms: str = ""  # digest of target, steps, gates, triggers and evaluation: what a panel's votes hold for

    @property
    def paused(self) -> bool:
        return self.spec.paused or self.status.paused


@dataclass(frozen=True, slots=True)
class SeenIndex:
    """The migration's index and what serves it."""

    meta: Meta
    spec: IndexSpec
    status: IndexStatus


@dataclass(frozen=True, slots=True)
class SeenPool:
    """A pool and its pods."""

    meta: Meta
    spec: PoolSpec
    report: PoolReport


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another migration of the namespace, as far as one that depends on it cares."""

    state: State
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """The world as one pass saw it. None is "not there" or "could not be measured", never zero.

    `gateways` holds a report of every gateway pod that answered, `gateway_pods` the names of all that may still answer
    queries, those on their way out too.
    `arms` and `probes` are keyed by collection: callers' queries, and the gateways' own. `neighbours` are those that
    this one depends on, directly or not, by name. `step` is what callers saw of each collection since the present step
    began, `overlap` the share of results that shadow queries had in common, `found` the losses of reciprocal rank on
    labelled queries, both since then; `hooks` the Jobs of hooks by name.
    `queries` are the values of the user's PromQL triggers by their name, without those that have none; None where the
    operator has no Prometheus to ask.
    """

    index: SeenIndex | None
    target: SeenPool | None
    source: SeenPool | None  # the pool that served when the index was claimed
    store: StoreReport | None
    gateways: tuple[GatewayReport, ...] = ()
    gateway_pods: tuple[str, ...] = ()
    arms: Mapping[str, ArmMeasure] = field(default_factory=dict)
    probes: Mapping[str, ArmMeasure] = field(default_factory=dict)
    job: JobReport | None = None
    backfill_image: str = ""
    neighbours: Mapping[str, Neighbour] = field(default_factory=dict)
    panel: PanelReport | None = None  # None where no panel votes
    step: Mapping[str, Counts] = field(default_factory=dict)
    overlap: Sample | None = None
    found: Sample | None = None
    hooks: Mapping[str, HookReport] = field(default_factory=dict)
    queries: Mapping[str, float] | None = None
    schema: int | None = None  # of the CRDs that are installed
