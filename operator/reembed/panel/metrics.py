"""What Prometheus reads of an agent, and its small HTTP server: liveness, readiness, metrics.

`/health` says that the process turns, and is what restarts it; `/ready` whether it has its key, knows the Panel and
beats.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from reembed import monitoring
from reembed.monitoring import Report

# From what a vote takes with warm evidence to the time that a judge has.
_VOTE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
# Around what is promised: found dead by 33 s, whole again by 60 s.
_RECOVERY_SECONDS = (30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0, 75.0, 90.0, 120.0, 300.0)


class Metrics:
    """One agent's figures; `judge` may add its own to the registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        made = self.registry
        self.votes = Counter("reembed_panel_votes", "Ballots cast by this agent", ["kind", "choice"], registry=made)
        self.vote_seconds = Histogram(
            "reembed_panel_vote_seconds",
            "From a Decision seen to the Ballot cast",
            buckets=_VOTE_SECONDS,
            registry=made,
        )
        self.members = Gauge("reembed_panel_agents", "Agents in office", registry=made)
        self.reachable = Gauge(
            "reembed_panel_agents_reachable", "Of them, whose heartbeat this agent sees", registry=made
        )
        self.alive = Gauge(
            "reembed_panel_agent_alive",
            "1 if this agent sees the heartbeat of a member, else 0",
            ["agent"],
            registry=made,
        )
        self.lies = Gauge(
            "reembed_panel_lies",
            "Slots in which a Ballot that is there proves that an agent lied",
            ["agent", "why"],
            registry=made,
        )
        self.quorum = Gauge("reembed_panel_quorum", "Votes that decide", registry=made)
        self.version = Gauge("reembed_panel_membership_version", "Of the membership in office", registry=made)
        self.duties = Gauge(
            "reembed_panel_duty", "1 if this agent does the role's work, else 0", ["role"], registry=made
        )
        self.recovery = Histogram(
            "reembed_panel_recovery_seconds",
            "From a dead agent's last heartbeat to the next one",
            buckets=_RECOVERY_SECONDS,
            registry=made,
        )
        self.restarts = Counter(
            "reembed_panel_restarts", "Pods of dead agents deleted by this agent", ["agent"], registry=made
        )
        self.beat_failures = Counter(
            "reembed_panel_heartbeat_failures", "Heartbeats that were not answered", registry=made
        )
        self.garbage = Counter(
            "reembed_panel_decisions_deleted", "Closed Decisions deleted by this agent", registry=made
        )


def served(report: Report, metrics: Metrics, port: int) -> AbstractAsyncContextManager[None]:
    """Answer while the block runs."""
    return monitoring.served(monitoring.application(report, metrics.registry, "/health"), port)
