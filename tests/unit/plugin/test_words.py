"""Durations, marks, advice and exit codes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reembed.plugin import exits
from reembed.plugin.advice import advice
from reembed.plugin.reading import read_migration
from reembed.plugin.wording import mark_of, spell
from tests.unit.plugin import stories
from tests.unit.plugin.stories import Object


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0.9, "0s"), (59, "59s"), (70, "1m10s"), (3600, "1h"), (3605, "1h"), (90_060, "1d1h"), (86_400, "1d")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert spell(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("raw", "sign"),
    [
        (stories.PENDING, "·"),
        (stories.BACKFILLING, "▶"),
        (stories.AWAITING_APPROVAL, "‖"),
        (stories.PAUSED_IN_SPEC, "‖"),
        (stories.IN_DANGER, "!"),
        (stories.ROLLING_BACK, "↩"),
        (stories.DELETED, "↩"),
        (stories.ROLLED_BACK, "✖"),
        (stories.SUCCEEDED, "✔"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["metadata"]["name"],
)
def test_a_sign_says_how_it_stands(raw: Object, sign: str) -> None:
    assert mark_of(read_migration(raw)).sign == sign


def helps(raw: Object) -> list[tuple[str, bool]]:
    return [(one.command, one.needed) for one in advice(read_migration(raw))]


def with_reason(reason: str, **spec: Any) -> Object:
    return stories.migration("m", {**stories.RETAINING["status"], "reason": reason}, **spec)


@pytest.mark.parametrize(
    ("raw", "commands"),
    [
        (stories.PENDING, []),
        (stories.BACKFILLING, [("kubectl reembed pause", False), ("kubectl reembed abort", False)]),
        (stories.UNDECIDED, [("kubectl reembed promote", True), ("kubectl reembed abort", False)]),
        (stories.AWAITING_APPROVAL, [("kubectl reembed promote", True), ("kubectl reembed abort", False)]),
        (stories.IN_DANGER, [("kubectl reembed pause", False), ("kubectl reembed abort", False)]),
        (stories.PAUSED, [("kubectl reembed resume", True), ("kubectl reembed abort", False)]),
        (stories.PAUSED_IN_SPEC, [("kubectl edit emig", True), ("kubectl reembed abort", False)]),
        (stories.RETAINING, [("kubectl reembed promote", False), ("kubectl reembed abort", False)]),
        (stories.ROLLING_BACK, []),
        (stories.ROLLED_BACK, [("kubectl reembed retry", False)]),
        (stories.PREFLIGHT_REFUSED, [("kubectl reembed retry", False)]),
        (stories.SUCCEEDED, []),
        (stories.DELETED, []),
    ],
    ids=lambda value: value["metadata"]["name"] if isinstance(value, dict) else "",
)
def test_the_command_that_helps_comes_first(raw: Object, commands: list[tuple[str, bool]]) -> None:
    name = raw["metadata"]["name"]
    assert helps(raw) == [(f"{command} {name} -n rag", needed) for command, needed in commands]


def test_a_migration_that_waits_for_another_points_to_it() -> None:
    raw = with_reason("WaitingForDependency", dependsOn=[{"name": "first"}])
    assert helps(raw)[0] == ("kubectl reembed get first -n rag", False)


@pytest.mark.parametrize(("reason", "change"), [("NowhereToGo", "=true"), ("GatewaysWithhold", "-")])
def test_where_commands_do_not_help_the_lever_of_the_index_does(reason: str, change: str) -> None:
    command = f"kubectl annotate eidx docs -n rag reembed.dev/force-stable{change}"
    assert helps(with_reason(reason))[0] == (command, True)


@pytest.mark.parametrize(
    ("raw", "code"),
    [(stories.SUCCEEDED, 0), (stories.ROLLED_BACK, 1), (stories.PREFLIGHT_REFUSED, 1), (stories.ROLLING_BACK, 2)],
    ids=["succeeded", "rolled back", "failed", "not ended"],
)
def test_the_exit_code_says_how_it_ended(raw: Object, code: int) -> None:
    assert exits.of_end(read_migration(raw)) == code
