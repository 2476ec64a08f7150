"""API objects and reports <-> the core's types: the only place that reads raw dictionaries."""

from reembed.api.fields import InvalidField
from reembed.api.pools import parse_pool_status, render_pool_status
from reembed.api.reports import (
    parse_gateway_report,
    parse_store_report,
    render_gateway_report,
    render_store_report,
)
from reembed.api.routing import parse_index, render_index_status
from reembed.api.specs import parse_migration, parse_pool
from reembed.api.status import parse_migration_status, render_migration_status
from reembed.api.values import (
    InvalidValue,
    format_duration,
    parse_duration,
    parse_exact_quantity,
    parse_quantity,
    parse_share,
)

__all__ = [
    "InvalidField",
    "InvalidValue",
    "format_duration",
    "parse_duration",
    "parse_exact_quantity",
    "parse_gateway_report",
    "parse_index",
    "parse_migration",
    "parse_migration_status",
    "parse_pool",
    "parse_pool_status",
    "parse_quantity",
    "parse_share",
    "parse_store_report",
    "render_gateway_report",
    "render_index_status",
    "render_migration_status",
    "render_pool_status",
    "render_store_report",
]
