"""What the demo prints at its end, and the same as one flat object for build/bench/demo.json. Pure.

Figures carry their unit in the key. A figure that was not measured is None and is printed as a dash or as unknown,
never as zero. `rss` is resident memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEAST_QUERIES_PER_S = 20.0
# The operator and the embedder may embed a few texts of their own as documents before they trust a model.
PROBE_TEXTS = 16
_WIDTH = 42


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. `seconds` is the whole of it, `migration_seconds` from apply to the end of the migration."""

    phase: str
    documents: int
    documents_embedded: int | None
    documents_per_s: float | None
    queries: int
    queries_per_s: float
    queries_failed: int
    queries_wrong_collection: int
    queries_fell_back: int
    rollback_seconds: float | None
    query_p50_ms: float | None
    query_p95_ms: float | None
    mrr_old: float | None
    mrr_new: float | None
    operator_rss_mib: float | None
    gateway_rss_mib: float | None
    embedder_anonymous_mib: float | None
    migration_seconds: float
    seconds: float
    machine: str
    date: str

    def json(self) -> dict[str, Any]:
        """Return the flat object, figures rounded to what the measurement is worth."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the demo, or a state of the migration, and how long it took."""

    name: str
    seconds: float


def table(figures: Figures, preparation: Sequence[Step], migration: Sequence[Step]) -> str:
    """Return the final table."""
    sections: Mapping[str, Sequence[tuple[str, str]]] = {
        "Preparation": [(step.name, f"{step.seconds:.1f} s") for step in preparation],
        "Migration": [(step.name, f"{step.seconds:.1f} s") for step in migration],
        f"Result: {figures.phase}": _results(figures),
    }
    lines: list[str] = []
    for title, rows in sections.items():
        lines += ["", title, *(f"  {name:<{_WIDTH}} {value:>14}" for name, value in rows)]
    return "\n".join([*lines[1:], "", f"{figures.machine}, {figures.date}"])


def _results(figures: Figures) -> list[tuple[str, str]]:
    return [
        ("documents re-embedded", _embedded(figures)),
        ("documents/s", _number(figures.documents_per_s, 1)),
        ("queries answered", f"{figures.queries - figures.queries_failed:,}"),
        ("queries failed", f"{figures.queries_failed:,}"),
        ("queries answered by the wrong collection", f"{figures.queries_wrong_collection:,}"),
        ("queries answered by falling back", f"{figures.queries_fell_back:,}"),
        *_taken_back(figures),
        ("queries/s", _number(figures.queries_per_s, 1)),
        ("latency p50 / p95", f"{_number(figures.query_p50_ms, 0)} / {_number(figures.query_p95_ms, 0)} ms"),
        ("MRR@10 old -> new", f"{_number(figures.mrr_old, 3)} -> {_number(figures.mrr_new, 3)}"),
        ("operator resident memory", _number(figures.operator_rss_mib, 0, " MiB")),
        ("gateway resident memory, largest pod", _number(figures.gateway_rss_mib, 0, " MiB")),
        ("embedder anonymous memory, largest pod", _number(figures.embedder_anonymous_mib, 0, " MiB")),
        ("migration", f"{figures.migration_seconds:.0f} s"),
        ("whole demo", f"{figures.seconds:.0f} s"),
    ]


def _taken_back(figures: Figures) -> list[tuple[str, str]]:
    if figures.rollback_seconds is None:
        return []
    return [("from the decision to weight 0 everywhere", _number(figures.rollback_seconds, 2, " s"))]


def shortfalls(figures: Figures, wanted: str) -> list[str]:
    """Return what keeps a run from being a success; empty if nothing does."""
    found = []
    if figures.phase != wanted:
        found.append(f"the migration ended {figures.phase}, not {wanted}")
    if figures.queries == 0:
        found.append("no query was sent, so nothing is known of them")
    if figures.queries_failed:
        found.append(f"{figures.queries_failed} of {figures.queries} queries failed")
    if figures.queries_wrong_collection:
        found.append(f"{figures.queries_wrong_collection} answers came from a collection that should not have answered")
    if figures.queries_per_s < LEAST_QUERIES_PER_S:
        found.append(f"only {figures.queries_per_s:.1f} queries/s were sent, below {LEAST_QUERIES_PER_S}")
    if figures.documents_embedded is None:
        if wanted == "Succeeded":  # a rollback is for pods that are lost, and the count may be lost with them
            found.append("how many documents were embedded is unknown: an embedder was lost or restarted meanwhile")
    elif not 0 <= figures.documents_embedded - figures.documents <= PROBE_TEXTS:
        found.append(f"{figures.documents_embedded} documents were embedded for an index of {figures.documents}")
    return found


def progress(seconds: float, migration: Mapping[str, Any], tally: Mapping[str, Any]) -> str:
    """Return one line about a running migration."""
    status = migration.get("status", {})
    said = f"{seconds:4.0f} s  {status.get('state', 'Pending'):<12}  {_doing(status):<34}"
    return f"{said}  {tally['sent']:>5} queries, {tally['failed']} failed"


def _doing(status: Mapping[str, Any]) -> str:
    backfill, weight = status.get("backfill"), status.get("weight") or {}
    if status.get("state") == "Backfilling" and backfill:
        rate = float(backfill.get("documentsPerSecond", 0))
        return f"{backfill['documents']}/{backfill['total']} documents, {rate:.0f}/s"
    if status.get("state") in {"Canary", "Retaining"}:
        return f"{weight.get('set', 0)} % of queries to the new model"
    return str(status.get("reason", ""))


def _embedded(figures: Figures) -> str:
    known = figures.documents_embedded is not None
    return f"{figures.documents_embedded:,} of {figures.documents:,}" if known else "unknown"


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"
