"""What people see of a migration at each point of its life, as golden files: see tests/unit/plugin/golden.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from reembed.api import render_migration_status
from reembed.core.migration import Status
from reembed.plugin import document
from reembed.plugin.lines import line
from reembed.plugin.output import plain
from reembed.plugin.overview import Index, Overview, Pods, Surroundings
from reembed.plugin.reading import read_migration
from reembed.plugin.table import table
from reembed.plugin.tree import tree
from tests.builders import migration as core_migration
from tests.unit.api.strategies import migration_statuses
from tests.unit.plugin import stories
from tests.unit.plugin.golden import expected
from tests.unit.plugin.stories import NOW, Object

AROUND = Surroundings(Index(8674, Pods(2, 2)), {"minilm-l3": Pods(1, 1), "minilm-l6": Pods(1, 2)})


def name_of(raw: Object) -> str:
    return str(raw["metadata"]["name"])


def drawn(overview: Overview, width: int = 100) -> str:
    return plain(tree(overview, NOW), width)


@pytest.mark.parametrize("raw", stories.ALL, ids=name_of)
def test_get_shows(raw: Object) -> None:
    text = drawn(read_migration(raw, AROUND))
    assert text == expected(f"get-{name_of(raw)}.txt", text)


def test_get_says_how_documents_are_cut() -> None:
    target = {"poolRef": {"name": "minilm-l6"}, "chunking": {"maxTokens": 128, "overlapTokens": 16, "at": "Line"}}
    text = drawn(read_migration(stories.migration("parts", target=target), AROUND))
    assert "minilm-l6, documents in parts of 128 tokens, 16 of them repeated" in text


def test_get_shows_what_a_panel_votes_on() -> None:
    text = drawn(read_migration(stories.VOTING, AROUND))
    assert text == expected("get-voting.txt", text)


def test_what_a_panel_votes_on_is_told_to_programs_as_far_as_it_is_told() -> None:
    told = document.migration(read_migration(stories.VOTING), NOW)["proposal"]
    assert (told["epoch"], len(told["approved"]), told["refused"]) == (5, 3, ["memory-analyst"])
    bare = stories.migration("bare", {"state": "Canary", "proposal": {"decision": "d1"}})
    nothing = {"kind": None, "standing": None, "epoch": None, "expires": None}
    nothing |= {"approved": [], "refused": [], "missing": [], "reasons": []}
    assert document.migration(read_migration(bare), NOW)["proposal"] == {"decision": "d1", **nothing}


def test_get_shows_a_proposal_of_which_hardly_anything_is_told() -> None:
    bare = stories.migration("bare", {"state": "Canary", "proposal": {"decision": "d1"}})
    assert "panel: Open  d1" in drawn(read_migration(bare))


def test_get_fits_a_narrow_terminal() -> None:
    text = drawn(read_migration(stories.IN_DANGER, AROUND), width=72)
    assert text == expected("get-danger-narrow.txt", text)


def test_get_says_why_pods_are_not_shown() -> None:
    hidden = Surroundings(hidden="pods cannot be shown: the API server answered 403: no")
    text = drawn(read_migration(stories.PAUSED, hidden))
    assert text == expected("get-without-rights.txt", text)


def test_get_shows_a_promoted_pool_as_the_one_that_serves_and_the_old_one_without_pods() -> None:
    around = replace(AROUND, pools={"minilm-l3": Pods(0, 0), "minilm-l6": Pods(2, 2)})
    text = drawn(read_migration(stories.SUCCEEDED, around))
    assert text == expected("get-released.txt", text)


def test_list_shows_a_line_for_each() -> None:
    found = [read_migration(raw) for raw in stories.ALL]
    text = "\n".join(line.plain for line in table(found, NOW))
    assert text == expected("list.txt", text)


def test_list_of_all_namespaces_names_them() -> None:
    other = {**stories.PAUSED, "metadata": {**stories.PAUSED["metadata"], "namespace": "a"}}
    found = [read_migration(raw) for raw in (stories.PAUSED, other)]
    text = "\n".join(line.plain for line in table(found, NOW, all_namespaces=True))
    assert text == expected("list-all-namespaces.txt", text)


def test_lines_tell_where_it_is_and_why() -> None:
    text = "\n".join(line(read_migration(raw)) for raw in stories.ALL)
    assert text == expected("lines.txt", text)


@pytest.mark.parametrize("raw", [stories.IN_DANGER, stories.OLDER_OPERATOR, stories.PENDING], ids=name_of)
def test_json_has(raw: Object) -> None:
    text = json.dumps(document.migration(read_migration(raw, AROUND), NOW), indent=2, ensure_ascii=False)
    assert text == expected(f"{name_of(raw)}.json", text)


@pytest.mark.parametrize("raw", stories.ALL, ids=name_of)
def test_json_has_the_same_keys_whatever_the_operator_tells(raw: Object) -> None:
    complete = document.migration(read_migration(stories.IN_DANGER, AROUND), NOW)
    assert list(document.migration(read_migration(raw), NOW)) == list(complete)


def test_json_of_list_is_sorted_by_namespace_and_name() -> None:
    found = document.migrations([read_migration(stories.RETAINING), read_migration(stories.BACKFILLING)], NOW)
    assert [one["name"] for one in found["migrations"]] == ["filling", "retaining"]


def test_a_message_cannot_command_the_terminal() -> None:
    status: dict[str, Any] = {**stories.PAUSED["status"], "message": "a\x1b]0;owned\x07\n[red]b[/red]"}
    overview = read_migration({**stories.PAUSED, "status": status})
    assert line(overview).endswith("Paused: a\ufffd]0;owned\ufffd [red]b[/red]")


@settings(deadline=None)  # drawing a whole status takes longer than that on a busy machine
@given(migration_statuses)
def test_whatever_this_version_of_the_operator_writes_can_be_shown(status: Status) -> None:
    written = json.loads(json.dumps(render_migration_status(status, core_migration().spec)))
    overview = read_migration(stories.migration("any", written))
    shown = (drawn(overview), line(overview), table([overview], NOW), document.migration(overview, NOW)["state"])
    assert shown[-1] == status.state.value
