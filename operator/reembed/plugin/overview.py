"""What the views show of a migration: read from its object and from what surrounds it, and nothing else.

Views are pure functions of an `Overview` and the time. The plugin is upgraded apart from the operator, so that states,
reasons and verdicts are texts here: what an older operator does not write is absent, and a word of a newer one is shown
as it is. Reading is in `plugin.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reembed.core.migration import Backfill
from reembed.core.model import Emergency

SUCCEEDED = "Succeeded"
ENDED = frozenset({SUCCEEDED, "RolledBack", "Failed", "Gone"})
BAD = frozenset({"RollingBack", "RolledBack", "Failed"})


@dataclass(frozen=True, slots=True)
class Pods:
    """How many of the wanted pods answer."""

    ready: int
    desired: int


@dataclass(frozen=True, slots=True)
class Index:
    """The migration's index as its own status tells of it."""

    documents: int | None = None
    gateway: Pods | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Objects beside the migration; what is missing or may not be read is left out, and `hidden` says why."""

    index: Index | None = None
    pools: Mapping[str, Pods] = field(default_factory=dict)
    hidden: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the canary."""

    weight: int
    hold: timedelta
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """When a state, or a step of the canary, was entered."""

    state: str
    entered_at: datetime
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of both models; the difference lies between `low` and `high`."""

    name: str
    serving: float | None
    candidate: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """What the labelled queries of one tenant, language or kind say."""

    name: str
    verdict: str
    message: str = ""
    queries: int | None = None
    serving: float | None = None
    candidate: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Outcome of the offline gate."""

    verdict: str
    message: str = ""
    queries: int | None = None
    k: int | None = None
    mrr_serving: float | None = None
    mrr_candidate: float | None = None
    metrics: tuple[Metric, ...] = ()
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rollback trigger whose limit is exceeded; it acts when `held` reaches `hold`."""

    name: str
    held: timedelta
    hold: timedelta | None
    value: str = ""
    threshold: str = ""
    below: bool = False  # exceeded when below the threshold
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to hold before the migration goes on."""

    name: str
    standing: str  # Holds, Undecided or Fails
    message: str = ""


@dataclass(frozen=True, slots=True)
class Hook:
    """One run of a hook; `at` is attempt, moment and step, as `1/EachStep/0`."""

    name: str
    at: str
    state: str
    job: str = ""
    started_at: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was last put to the panel for the migration, by the operator's count."""

    decision: str  # name of the Decision
    kind: str = ""
    standing: str = ""  # Open, Certified, Refused or Expired
    epoch: int | None = None
    expires: datetime | None = None
    approved: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()  # of those who refused, the commonest first


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator answered to a command."""

    verb: str
    nonce: str
    at: str
    time: datetime
    accepted: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec asks for, as far as views show it."""

    index: str
    pool: str
    from_pool: str | None = None
    steps: tuple[Step, ...] = ()
    paused: bool = False
    depends_on: tuple[str, ...] = ()
    cut: str = ""  # how documents are cut, in words; empty if they are not


@dataclass(frozen=True, slots=True)
class Overview:
    """One migration. None is "not told", never zero; an empty `state` is "not looked at by an operator yet"."""

    namespace: str
    name: str
    uid: str
    created_at: datetime
    wanted: Wanted
    state: str = ""
    reason: str = ""
    message: str = ""
    waiting_for: str = ""
    at: str = ""
    attempt: int = 1
    step: int = 0
    paused: bool = False  # by command; `wanted.paused` is the other way
    serving: str | None = None  # pool
    candidate: str | None = None
    acknowledged_at: datetime | None = None  # since when every gateway follows, which is when a hold begins
    weight: int | None = None  # that gateways were told
    weight_actual: int | None = None  # the largest that a gateway serves
    backfill: Backfill | None = None
    evaluation: Evaluation | None = None
    triggers: tuple[Trigger, ...] | None = None
    gates: tuple[Gate, ...] = ()
    hooks: tuple[Hook, ...] = ()
    proposal: Proposal | None = None
    answers: tuple[Answer, ...] = ()
    unanswered: tuple[str, ...] = ()  # verbs of commands that the operator has not looked at
    emergency: Emergency | None = None
    no_way_back: str = ""  # why what served is none
    timeline: tuple[Visit, ...] = ()
    deleting: bool = False
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def in_canary(self) -> bool:
        return self.state == "Canary"

    @property
    def step_text(self) -> str:
        """Return `2/3` in the canary, else nothing."""
        return f"{self.step + 1}/{len(self.wanted.steps)}" if self.in_canary and self.wanted.steps else ""

    @property
    def entered_at(self) -> datetime | None:
        return self.timeline[-1].entered_at if self.timeline else None

    @property
    def attempt_timeline(self) -> tuple[Visit, ...]:
        """Return the visits of the present attempt: each begins in Preflight."""
        begun = [place for place, visit in enumerate(self.timeline) if visit.state == "Preflight"]
        return self.timeline[begun[-1] :] if begun else self.timeline

    @property
    def embedded(self) -> int | None:
        """Return the percentage of documents that are done with, rejected ones too."""
        if self.backfill is None or self.backfill.total <= 0:
            return None
        return min((self.backfill.documents + self.backfill.rejected) * 100 // self.backfill.total, 100)
