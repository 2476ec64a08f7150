"""API objects and reports <-> the core's types: the only place that reads raw dictionaries."""

from reembed.api.fields import InvalidField
from reembed.api.reports import (
    parse_gateway_report,
    parse_store_report,
    render_gateway_report,
    render_store_report,
)
from reembed.api.routing import parse_index, render_index_status
from reembed.api.specs import parse_migration, parse_pool
from reembed.api.status import parse_migration_status, render_migration_status
from reembed.api.values import format_duration, parse_duration, parse_quantity, parse_share

__all__ = [
    "InvalidField",
    "format_duration",
    "parse_duration",
    "parse_gateway_report",
    "parse_index",
    "parse_migration",
    "parse_migration_status",
    "parse_pool",
    "parse_quantity",
    "parse_share",
    "parse_store_report",
    "render_gateway_report",
    "render_index_status",
    "render_migration_status",
    "render_store_report",
]
