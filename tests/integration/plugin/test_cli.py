"""`kubectl reembed` against a real API server: what it shows, writes and exits with.

The operator is played by the tests.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Refused
from tests.integration.plugin.conftest import Cli, Written
from tests.unit.plugin import stories
from tests.unit.plugin.stories import Object


def ended(state: str, reason: str, message: str) -> Object:
    return {
        **stories.RETAINING["status"],
        "state": state,
        "reason": reason,
        "message": message,
        "at": f"1/{state}",
        "timeline": [*stories.RETAINING["status"]["timeline"], {"state": state, "enteredAt": stories.ago("0s")}],
    }


SUCCEEDED = ended("Succeeded", "Promoted", "pool 'new' serves the index")
ROLLED_BACK = ended("RolledBack", "ErrorRate", "12 % of the candidate's queries failed, above 5 % for 180 s")
ERASE_LINE = "\x1b[2K"
CANARY = stories.IN_DANGER["status"]


async def in_thread(cli: Cli, *words: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(cli.run, *words)


async def test_list_shows_what_is_there(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    code, out, err = await in_thread(cli, "list")
    header, line = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split()[:5] == ["NAME", "INDEX", "FROM", "TO", "STATE"]
    assert line.split()[:7] == ["move", "docs", "minilm-l3", "minilm-l6", "Canary", "2/3", "10%/50%"]


async def test_list_of_all_namespaces_finds_it_too(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    code, out, _ = await in_thread(cli, "list", "-A", "-o", "json")
    found = [(one["namespace"], one["name"]) for one in json.loads(out)["migrations"]]
    assert (code, found.count((cli.namespace, "move"))) == (0, 1)


async def test_get_shows_pods_of_index_and_pools_and_the_running_trigger(cli: Cli, written: Written) -> None:
    arms = {side: {**CANARY[side], "pool": pool} for side, pool in (("serving", "old"), ("candidate", "new"))}
    await written.migration("move", {**CANARY, **arms})
    await written.status(kinds.INDEX, "docs", {"documents": 8674, "gateway": {"replicas": 2, "readyReplicas": 1}})
    await written.status(kinds.POOL, "new", {"desiredReplicas": 2, "readyReplicas": 2})
    code, out, err = await in_thread(cli, "get", "move")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert "├── index docs, 8,674 documents, 1/2 gateway pods ready" in lines
    assert "│ ├── serving old pods unknown 90 % of queries" in lines
    assert "│ └── candidate new 2/2 pods ready 10 % of queries" in lines
    assert "│ ├── ! Latency 1200 ms > 900 ms 1m10s of 2m ■■■■■□□□□□" in lines


async def test_json_of_a_migration_that_no_operator_looked_at(cli: Cli, written: Written) -> None:
    await written.migration("move", {})
    code, out, _ = await in_thread(cli, "get", "move", "-o", "json")
    found = json.loads(out)
    assert (code, found["state"], found["at"], found["candidate"]["pool"]) == (0, None, "1/Preflight", "new")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (SUCCEEDED, 0, "✔ move: Succeeded: Promoted: pool 'new' serves the index"),
        (ROLLED_BACK, 1, "✖ move: RolledBack: ErrorRate: 12 % of the candidate's queries failed"),
    ],
    ids=["succeeded", "rolled back"],
)
async def test_status_exits_with_how_it_ended(cli: Cli, written: Written, status: Object, code: int, told: str) -> None:
    await written.migration("move", status)
    found, out, err = await in_thread(cli, "status", "move", "--timeout", "30s")
    assert (found, err) == (code, "")
    assert out.startswith(told)


async def test_status_waits_for_the_end_and_tells_what_changes_meanwhile(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    waiting = asyncio.create_task(in_thread(cli, "status", "move", "--timeout", "50s", "-o", "json"))
    await asyncio.sleep(3)
    await written.migration("move", SUCCEEDED)
    code, out, err = await waiting
    assert (code, json.loads(out)["state"]) == (0, "Succeeded")
    assert [line.split(" ", 1)[1] for line in err.splitlines()] == [
        "Canary, step 2/3, weight 50 % (10 % actual), over the limit of MemoryPressure and PointerInconsistent: "
        f"Latency: {CANARY['message']}"
    ]


@pytest.mark.parametrize("limit", ["0s", "2s"])
async def test_status_exits_with_2_when_the_time_is_over(cli: Cli, written: Written, limit: str) -> None:
    await written.migration("move", CANARY)
    code, out, _ = await in_thread(cli, "status", "move", "--timeout", limit)
    assert code == 2
    assert out.startswith(f"! move has not ended {'now' if limit == '0s' else 'after 2s'}: Canary, step 2/3")


async def test_get_watch_prints_each_change_until_the_end(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    watching = asyncio.create_task(in_thread(cli, "get", "move", "--watch", "-o", "json"))
    await asyncio.sleep(3)
    await written.migration("move", SUCCEEDED)
    code, out, _ = await watching
    assert (code, [json.loads(line)["state"] for line in out.splitlines()]) == (0, ["Canary", "Succeeded"])


async def test_get_watch_prints_the_view_then_what_changed_then_the_view_again(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    watching = asyncio.create_task(in_thread(cli, "get", "move", "--watch"))
    await asyncio.sleep(3)
    await written.migration("move", stories.RETAINING["status"])
    await asyncio.sleep(3)
    await written.migration("move", SUCCEEDED)
    code, out, err = await watching
    states = [" ".join(line.split()[1:3]) for line in out.splitlines() if line.startswith("State:")]
    told = [line.split(" ", 1)[1] for line in out.splitlines() if line[:1].isdigit()]
    assert (code, err, states) == (0, "", ["! Canary,", "✔ Succeeded,"])
    assert told == [f"Retaining, weight 100 %: Retaining: {stories.RETAINING['status']['message']}"]


async def test_get_watch_redraws_a_terminal(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    watching = asyncio.create_task(asyncio.to_thread(cli.on_terminal, "get", "move", "--watch"))
    await asyncio.sleep(3)
    await written.migration("move", SUCCEEDED)
    code, shown = await watching
    first, last = shown.find("Canary, step 2/3"), shown.rfind("Succeeded")
    assert code == 0
    assert 0 < first < shown.find(ERASE_LINE) < last


async def test_a_command_is_bound_to_the_object_that_its_sender_saw(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    change = {"metadata": {"uid": "another", "annotations": {"reembed.dev/abort": "{}"}}}
    with pytest.raises(Refused, match="uid"):
        await written.cluster.patch(kinds.MIGRATION, written.namespace, "move", change, manager="test")


async def answered(written: Written, verb: str, outcome: str, message: str) -> Any:
    """Play the operator: wait for the annotation, and answer it. Return what it says."""
    key = f"reembed.dev/{verb}"
    async for _, found in written.cluster.watch(kinds.MIGRATION, written.namespace, name="move"):
        if key in found["metadata"].get("annotations", {}):
            break
    asked = json.loads(found["metadata"]["annotations"][key])
    answer = {"verb": verb, "time": stories.ago("0s"), "outcome": outcome, "message": message}
    commands = [{**answer, "nonce": asked["nonce"], "at": asked["at"]}]
    await written.migration("move", {**CANARY, "commands": commands})
    return asked


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "abort", "retry"])
async def test_a_command_reaches_the_operator_and_its_answer_is_told(cli: Cli, written: Written, verb: str) -> None:
    await written.migration("move", CANARY)
    (code, out, err), asked = await asyncio.gather(
        in_thread(cli, verb, "move"), answered(written, verb, "Accepted", "it goes on")
    )
    assert (code, out, err) == (0, "accepted: it goes on\n", "")
    assert {**asked, "nonce": ""} == {"uid": await written.uid("move"), "at": "1/Canary/1", "nonce": ""}


async def test_a_refused_command_exits_with_1_and_the_operators_reason(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    (code, out, _), _ = await asyncio.gather(
        in_thread(cli, "resume", "move", "-o", "json"), answered(written, "resume", "Refused", "it is not paused")
    )
    told = json.loads(out)
    assert (code, told["accepted"], told["message"]) == (1, False, "it is not paused")


async def test_a_command_that_nobody_answers_exits_with_2(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    code, out, _ = await in_thread(cli, "pause", "move", "--wait", "1s")
    assert code == 2
    assert out.startswith("no answer within 1s: the command stays and is answered when the operator looks")


async def test_a_command_may_be_sent_without_waiting(cli: Cli, written: Written) -> None:
    await written.migration("move", CANARY)
    code, out, _ = await in_thread(cli, "pause", "move", "--wait", "0s")
    assert (code, out.partition(";")[0]) == (0, "sent: pause for 1/Canary/1")
    assert "reembed.dev/pause" in await written.annotations("move")
