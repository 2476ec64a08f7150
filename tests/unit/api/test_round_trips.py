"""What is written to the API or over the network is read back as the same value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from reembed.api import (
    parse_gateway_report,
    parse_index,
    parse_migration_status,
    parse_pool_status,
    parse_store_report,
    render_gateway_report,
    render_index_status,
    render_migration_status,
    render_pool_status,
    render_store_report,
)
from reembed.core.migration import Status
from reembed.core.model import GatewayReport, IndexStatus, PoolStatus, StoreReport
from tests.builders import migration
from tests.unit.api.complete import INDEXES
from tests.unit.api.strategies import gateway_reports, index_statuses, migration_statuses, pool_statuses, store_reports


def sent(value: Any) -> Any:
    """Return what arrives as JSON on the other side."""
    return json.loads(json.dumps(value))


@given(index_statuses)
def test_an_index_status(status: IndexStatus) -> None:
    assert parse_index({**INDEXES[0], "status": sent(render_index_status(status))})[2] == status


@given(migration_statuses)
def test_a_migration_status(status: Status) -> None:
    written = render_migration_status(status, migration().spec)
    assert parse_migration_status({"status": sent(written)}) == status


@given(pool_statuses)
def test_a_pool_status(status: PoolStatus) -> None:
    rendered = {name: value for name, value in render_pool_status(status).items() if value is not None}
    assert parse_pool_status({"status": sent(rendered)}) == status


@pytest.mark.parametrize(
    "status",
    [{"variants": "many"}, {"scaling": {"floor": "3"}}, {"scaling": {"at": "noon"}}, {"images": ["a"]}],
    ids=["variants", "floor", "time", "images"],
)
def test_a_pool_status_that_somebody_spoilt_is_forgotten(status: dict[str, Any]) -> None:
    assert parse_pool_status({"status": status}) == PoolStatus()


@given(store_reports)
def test_a_store_report(report: StoreReport) -> None:
    assert parse_store_report(sent(render_store_report(report))) == report


@given(gateway_reports)
def test_a_gateway_report(report: GatewayReport) -> None:
    assert parse_gateway_report(sent(render_gateway_report(report)), report.pod) == report
