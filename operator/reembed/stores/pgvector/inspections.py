"""Outcomes of inspections in the index's own database: written by a Job, read by the store worker at each pass.

The last few of each collection are kept, and go with it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from reembed.core.model import Finding, InspectionReport, Norms, Reproduced
from reembed.stores.pgvector.connection import Pool, transaction, using

_SECONDS = 15.0
_KEPT = 5


async def record(connections: Pool, report: InspectionReport) -> None:
    """Keep an outcome; the first one of its id holds. Of a collection that was dropped meanwhile nothing is kept."""
    async with transaction(connections, _SECONDS) as connection:
        await connection.execute(
            "INSERT INTO reembed.inspection (id, collection, at, report)"
            " SELECT %s, name, %s, %s FROM reembed.collection WHERE name = %s ON CONFLICT (id) DO NOTHING",
            [report.id, report.at, Jsonb(_written(report)), report.collection],
        )
        await connection.execute(
            "DELETE FROM reembed.inspection WHERE collection = %(name)s AND id NOT IN (SELECT id FROM"
            " reembed.inspection WHERE collection = %(name)s ORDER BY at DESC, id LIMIT %(kept)s)",
            {"name": report.collection, "kept": _KEPT},
        )


async def recorded(connections: Pool, owner: tuple[str, str]) -> tuple[InspectionReport, ...]:
    """Return the outcomes that are kept of the index's collections, the newest first."""
    async with using(connections, _SECONDS) as connection:
        cursor = await connection.execute(
            "SELECT i.at, i.report FROM reembed.inspection i JOIN reembed.collection c ON c.name = i.collection"
            " WHERE c.index_key = %s AND c.uid = %s ORDER BY i.at DESC, i.id",
            owner,
        )
        return tuple([_read(at, report) for at, report in await cursor.fetchall()])


def _written(report: InspectionReport) -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if name != "at"}


def _read(at: datetime, report: dict[str, Any]) -> InspectionReport:
    findings = [Finding(**{**one, "examples": tuple(one["examples"])}) for one in report.pop("findings")]
    reproduced, norms = report.pop("reproduced"), report.pop("norms")
    return InspectionReport(
        **report,
        at=at.astimezone(UTC),
        findings=tuple(findings),
        reproduced=Reproduced(**reproduced) if reproduced is not None else None,
        norms=Norms(**norms) if norms is not None else None,
    )
