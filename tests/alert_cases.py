"""For each alert what makes it fire, and what it must not fire for: series as Prometheus would have scraped them.

A series is scraped every 15 seconds; `1x20` is a 1 that stays for 20 scrapes more, `0+3x20` grows by 3, `_` is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]

PODS = tuple(f"agent-{number}" for number in range(8))
LATE = "CertificateExpired"
FORGED = "QuorumMissing"


@dataclass(frozen=True)
class Case:
    """One alert: it fires `at` with these labels and this summary for `fires`, and for none of `quiet`."""

    alert: str
    at: str
    fires: Series
    summary: str
    severity: str
    labels: Mapping[str, str] = field(default_factory=dict)
    quiet: Mapping[str, Series] = field(default_factory=dict)


def told(name: str, values: str, pods: int = 8, labels: str = "", offset: int = 0) -> dict[str, str]:
    """Return what so many agents tell."""
    more = f",{labels}" if labels else ""
    return {f'{name}{{namespace="p",pod="{pod}"{more}}}': values for pod in PODS[offset : offset + pods]}


def state(of: str, reason: str, values: str = "1x250") -> dict[str, str]:
    return {f'reembed_migration_state{{namespace="rag",migration="move",state="{of}",reason="{reason}"}}': values}


def documents(values: str) -> dict[str, str]:
    return {'reembed_migration_backfilled_documents{namespace="rag",migration="move"}': values}


def ended(outcome: str, values: str) -> dict[str, str]:
    return {f'reembed_migrations_ended_total{{namespace="rag",outcome="{outcome}"}}': values}


def passes(failed: str, all_of_them: str, kind: str = "EmbeddingMigration") -> dict[str, str]:
    return {
        f'reembed_operator_pass_failures_total{{kind="{kind}"}}': failed,
        f'reembed_operator_pass_seconds_count{{kind="{kind}"}}': all_of_them,
    }


def leaders(*values: str) -> dict[str, str]:
    return {f'reembed_operator_leader{{pod="op-{number}"}}': value for number, value in enumerate(values)}


def answers(failed: str, answered: str) -> dict[str, str]:
    results = (("failed", failed), ("answered", answered))
    return {f'reembed_gateway_answers_total{{namespace="rag",result="{name}"}}': values for name, values in results}


def scaled(reason: str) -> dict[str, str]:
    return {f'reembed_pool_scaling_reason{{namespace="rag",pool="old",reason="{reason}"}}': "1x60"}


def alive(values: str, pods: int = 7) -> dict[str, str]:
    return told("reembed_panel_agent_alive", values, pods, 'agent="agent-7"')


def panel(reachable: str, pods: int = 8, liars: int = 0) -> dict[str, str]:
    """Return what living agents tell of themselves; the first so many say that nobody lives."""
    return {
        **told("reembed_panel_agents", "8x40", pods),
        **told("reembed_panel_quorum", "6x40", pods),
        **told("reembed_panel_agents_reachable", reachable, pods),
        **told("reembed_panel_agents_reachable", "0x40", liars),
    }


def recovered(within: str, pods: int = 7) -> dict[str, str]:
    """Return that another agent came back, and what each counts of it as within a minute."""
    return {
        **told("reembed_panel_recovery_seconds_count", "0x4 1x40", pods),
        **told("reembed_panel_recovery_seconds_bucket", within, pods, 'le="60.0"'),
    }


def lies(pods: int) -> dict[str, str]:
    return told("reembed_panel_lies", "1x4", pods, 'agent="agent-7",why="Forged"')


def waits(deadline: int, reason: str = "NoQuorum") -> dict[str, str]:
    labels = '{namespace="rag",migration="move"}'
    return {
        **state("Canary", reason),
        f"reembed_migration_panel_waiting_since_timestamp_seconds{labels}": "0x40",
        f"reembed_migration_panel_deadline_seconds{labels}": f"{deadline}x40",
    }


def refused(reason: str, values: str) -> dict[str, str]:
    return {f'reembed_gateway_certificates_refused_total{{namespace="rag",pod="gw",reason="{reason}"}}': values}


MOVE = {"namespace": "rag", "migration": "move"}
PANEL = {"namespace": "p"}


def of_operator() -> Iterator[Case]:
    yield Case(
        "ReembedOperatorAbsent",
        "6m",
        {},
        "Prometheus has heard of no operator of Reembed for 5 minutes.",
        "critical",
        quiet={"one on standby": leaders("0x40")},
    )
    yield Case(
        "ReembedOperatorWithoutLeader",
        "3m",
        leaders("0x40", "0x40"),
        "No replica of the operator has led for 2 minutes.",
        "critical",
        quiet={"one leads": leaders("0x40", "1x40"), "another took over": leaders("1x2 0x40", "0x4 1x40")},
    )
    yield Case(
        "ReembedOperatorNotReconciling",
        "16m",
        {**state("Canary", "Holding"), **passes("0x80", "5x80")},
        "The operator has looked at no migration for 10 minutes, and 1 are under way.",
        "critical",
        quiet={
            "passes go on": {**state("Canary", "Holding"), **passes("0x80", "0+3x80")},
            "nothing is under way": passes("0x80", "5x80"),
        },
    )
    yield Case(
        "ReembedOperatorPassesFail",
        "21m",
        passes("0+6x100", "0+10x100"),
        "60% of the operator's passes of EmbeddingMigration fail.",
        "warning",
        {"kind": "EmbeddingMigration"},
        quiet={"two in five": passes("0+4x100", "0+10x100")},
    )
    yield Case(
        "ReembedNamespaceNotListed",
        "11m",
        {'reembed_operator_namespace_ready{namespace="rag"}': "0x60"},
        "The operator could not list namespace rag for 10 minutes.",
        "warning",
        {"namespace": "rag"},
        quiet={"listed after a while": {'reembed_operator_namespace_ready{namespace="rag"}': "0x8 1x60"}},
    )


def of_migrations() -> Iterator[Case]:
    for outcome, words in (("Failed", "migrations failed"), ("RolledBack", "migrations were rolled back")):
        yield Case(
            f"ReembedMigration{outcome}",
            "3m",
            ended(outcome, "0x4 1x40"),
            f"1 {words} in namespace rag.",
            "warning",
            {"namespace": "rag"},
            quiet={"long ago": ended(outcome, "1x40"), "it went well": ended("Succeeded", "0x4 1x40")},
        )
    stands = documents("0+10x4 40x200")
    yield Case(
        "ReembedMigrationStalled",
        "35m",
        {**stands, **state("Backfilling", "Filling")},
        "Migration rag/move embeds nothing.",
        "warning",
        MOVE,
        quiet={
            "it embeds": {**documents("0+10x200"), **state("Backfilling", "Filling")},
            "it is paused": {**stands, **state("Backfilling", "Paused")},
            "it is filled": {**stands, **state("Canary", "Holding")},
        },
    )
    yield Case(
        "ReembedMigrationNeedsHelp",
        "2m",
        state("RollingBack", "NowhereToGo"),
        "Migration rag/move needs help: NowhereToGo.",
        "critical",
        {**MOVE, "state": "RollingBack", "reason": "NowhereToGo"},
        quiet={"it holds a step": state("Canary", "Holding")},
    )
    yield Case(
        "ReembedMigrationWaitsForPeople",
        "61m",
        state("Canary", "AwaitingApproval"),
        "Migration rag/move waits for somebody: AwaitingApproval.",
        "info",
        {**MOVE, "state": "Canary", "reason": "AwaitingApproval"},
        quiet={"for half an hour": state("Canary", "AwaitingApproval", "_x120 1x130")},
    )
    yield Case(
        "ReembedBudgetSpent",
        "6m",
        state("Backfilling", "BudgetSpent"),
        "Migration rag/move has spent its pool's budget.",
        "warning",
        {**MOVE, "state": "Backfilling", "reason": "BudgetSpent"},
        quiet={"its pool is slow": state("Backfilling", "PoolNotReady")},
    )
    yield Case(
        "ReembedRollbackSlow",
        "16m",
        state("RollingBack", "GatewaysSilent"),
        "Migration rag/move has been rolling back for 15 minutes.",
        "warning",
        {**MOVE, "state": "RollingBack", "reason": "GatewaysSilent"},
        quiet={"it was quick": state("RollingBack", "GatewaysSilent", "1x8 _x100")},
    )


def of_data() -> Iterator[Case]:
    lag = 'reembed_follower_lag_seconds{namespace="rag",collection="c_old"}'
    yield Case(
        "ReembedFollowerLagHigh",
        "6m",
        {lag: "600x40"},
        "Collection c_old is 10m 0s behind live writes.",
        "warning",
        {"namespace": "rag", "collection": "c_old"},
        quiet={"four minutes": {lag: "240x40"}, "a burst": {lag: "600x8 0x40"}},
    )
    yield Case(
        "ReembedQueriesFail",
        "5m",
        answers("0+2x40", "0+98x40"),
        "2% of queries fail in namespace rag.",
        "critical",
        {"namespace": "rag"},
        quiet={"one in a thousand": answers("0+1x40", "0+999x40"), "nobody asks": answers("3x40", "5x40")},
    )
    for alert, reason, words in (
        ("ReembedPoolAtItsMaximum", "AtMaximum", "needs more pods than it may have."),
        ("ReembedPoolIsBlind", "NoMetrics", ""),
    ):
        yield Case(
            alert,
            "11m",
            scaled(reason),
            f"Pool rag/old {words}" if words else "Pods of pool rag/old are not measured.",
            "warning",
            {"namespace": "rag", "pool": "old", "reason": reason},
            quiet={"another reason": scaled("Fewer")},
        )


def of_panel() -> Iterator[Case]:
    yield Case(
        "ReembedPanelAgentDead",
        "45s",
        alive("0x10"),
        "Agent agent-7 of the panel has been dead for a minute.",
        "warning",
        {**PANEL, "agent": "agent-7"},
        quiet={"two say so, who may lie": {**alive("1x10"), **alive("0x10", 2)}, "it came back": alive("0x1 1x10")},
    )
    yield Case(
        "ReembedPanelNotWhole",
        "45s",
        panel("7x40", pods=7),
        "The panel is not whole after a minute, 1 of its agents are gone.",
        "warning",
        PANEL,
        quiet={"it is": panel("8x40"), "two say so, who may lie": panel("8x40", liars=2), "a moment": panel("7x1 8x9")},
    )
    yield Case(
        "ReembedPanelBelowQuorum",
        "45s",
        panel("5x40", pods=5),
        "The panel decides nothing, only 5 of its agents live.",
        "critical",
        PANEL,
        quiet={"six live": panel("6x40", pods=6), "and two of them lie": panel("6x40", pods=6, liars=2)},
    )
    yield Case(
        "ReembedPanelRecoverySlow",
        "3m",
        recovered("0x44"),
        "An agent of the panel took longer than a minute to come back.",
        "info",
        PANEL,
        quiet={"within a minute": recovered("0x4 1x40"), "two say so, who may lie": recovered("0x44", pods=2)},
    )
    yield Case(
        "ReembedPanelAgentLies",
        "30s",
        lies(3),
        "Agent agent-7 of the panel is proved to lie: Forged.",
        "critical",
        {**PANEL, "agent": "agent-7", "why": "Forged"},
        quiet={"two say so, who may lie": lies(2)},
    )
    yield Case(
        "ReembedPanelAgentsNotScraped",
        "6m",
        panel("8x40", pods=4),
        "Prometheus reads only 4 agents of the panel, and more of them live.",
        "warning",
        PANEL,
        quiet={"all are": panel("8x40"), "no more live": panel("5x40", pods=5)},
    )
    yield Case(
        "ReembedPanelAbsent",
        "6m",
        {},
        "Prometheus has heard of no agent of the panel for 5 minutes.",
        "critical",
        quiet={"one is scraped": panel("8x40", pods=1)},
    )


def of_certificates() -> Iterator[Case]:
    yield Case(
        "ReembedMigrationWaitsForPanel",
        "3m",
        waits(120),
        "Migration rag/move waits for the panel: NoQuorum.",
        "warning",
        {**MOVE, "reason": "NoQuorum"},
        quiet={"it has longer": waits(600, "AwaitingPanel"), "it does not wait": state("Canary", "Holding")},
    )
    for reason, severity, words in (
        (LATE, "warning", "Gateways refused a certificate that came too late"),
        (FORGED, "critical", "Gateways refused a raise that the panel did not agree to"),
    ):
        yield Case(
            "ReembedGatewayRefusedCertificate",
            "11m",
            refused(reason, "_x30 1x20"),
            f"{words}: {reason}.",
            severity,
            {"namespace": "rag", "reason": reason},
            quiet={"long ago": refused(reason, "1x60")},
        )
        yield Case(
            "ReembedGatewayRefusedCertificate",
            "15m",
            refused(reason, "1x40 2x40"),
            f"{words}: {reason}.",
            severity,
            {"namespace": "rag", "reason": reason},
        )


CASES = (*of_operator(), *of_migrations(), *of_data(), *of_panel(), *of_certificates())
