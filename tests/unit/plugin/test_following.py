"""Looking again and again, waiting for an end, and waiting for an answer, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reembed.cluster.client import ClusterError, Refused
from reembed.core.model import Verb
from reembed.plugin import command
from reembed.plugin.follow import looks
from reembed.plugin.lookup import Place
from reembed.plugin.problems import Problem, Vanished
from tests.unit.plugin import stories
from tests.unit.plugin.fakes import Answer, ScriptedCluster, index, pool
from tests.unit.plugin.stories import NAMESPACE, Object

pytestmark = pytest.mark.looptime

SILENT = ClusterError(0, "the API server did not answer")


def place(*answers: Answer, **more: Any) -> Place:
    return Place(ScriptedCluster(*answers, **more), NAMESPACE, "m")


async def first(number: int, at: Place, *, surroundings: bool = False) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async for look in looks(at, surroundings=surroundings):
        found.append((look.overview.state, look.problem))
        if len(found) == number:
            break
    return found


async def test_a_silent_server_is_told_with_what_was_seen_last_and_asked_again(looptime: Any) -> None:
    found = await first(4, place(stories.PAUSED, SILENT, SILENT, stories.SUCCEEDED | {"metadata": META}))
    assert [(state, bool(problem)) for state, problem in found] == [
        ("Canary", False),
        ("Canary", True),
        ("Canary", True),
        ("Succeeded", False),
    ]
    assert looptime == 3


META = stories.PAUSED["metadata"]


async def test_a_server_that_is_silent_for_a_minute_ends_it(looptime: Any) -> None:
    with pytest.raises(Problem, match="did not answer"):
        await first(100, place(stories.PAUSED, SILENT))
    assert looptime == 60


async def test_a_right_that_is_taken_away_ends_it_at_once(looptime: Any) -> None:
    with pytest.raises(Problem, match="you may not get migration 'm'"):
        await first(2, place(stories.PAUSED, Refused(403, "no")))
    assert looptime == 1


async def test_a_deleted_migration_ends_it() -> None:
    with pytest.raises(Vanished, match=r"was deleted; it was in Canary"):
        await first(2, place(stories.PAUSED, None))


async def test_another_migration_of_the_same_name_is_not_taken_for_it() -> None:
    with pytest.raises(Vanished, match="was deleted and made anew"):
        await first(2, place(stories.PAUSED, stories.SUCCEEDED))


async def test_pods_are_looked_at_every_fifth_time() -> None:
    cluster = ScriptedCluster(stories.PAUSED, others=(index(), pool("minilm-l3", 1, 1)))
    seen = []
    async for look in looks(Place(cluster, NAMESPACE, "m"), surroundings=True):
        seen.append(look.overview.surroundings.pools["minilm-l3"].ready)
        cluster.others = (index(), pool("minilm-l3", 0, 1))
        if len(seen) == 6:
            break
    assert seen == [1, 1, 1, 1, 1, 0]


def with_answers(*answers: Object) -> Object:
    return {**stories.PAUSED, "status": {**stories.PAUSED["status"], "commands": list(answers)}}


def answer_to(nonce: str, outcome: str = "Accepted") -> Object:
    time = stories.ago("1s")
    return {"verb": "pause", "nonce": nonce, "at": "1/Canary/0", "time": time, "outcome": outcome, "message": "so"}


async def test_a_command_names_the_object_and_where_it_was() -> None:
    cluster = ScriptedCluster(stories.PAUSED)
    sent = await command.send(Place(cluster, NAMESPACE, "m"), Verb.PAUSE)
    (patch,) = cluster.patches
    value = json.loads(patch["metadata"]["annotations"]["reembed.dev/pause"])
    assert patch["metadata"]["uid"] == "uid-of-paused"
    assert value == {"uid": "uid-of-paused", "at": "1/Canary/0", "nonce": sent.nonce}


@pytest.mark.parametrize(("raw", "at"), [(stories.PENDING, "1/Preflight"), (stories.OLDER_OPERATOR, "1/Canary/0")])
async def test_where_no_position_is_told_a_command_names_the_one_that_the_operator_would(raw: Object, at: str) -> None:
    assert (await command.send(place(raw), Verb.ABORT)).at == at


async def test_two_commands_never_have_the_same_nonce() -> None:
    at = place(stories.PAUSED)
    assert len({(await command.send(at, Verb.PAUSE)).nonce for _ in range(20)}) == 20


async def test_only_the_answer_to_the_own_nonce_counts(looptime: Any) -> None:
    sent = command.Sent(Verb.PAUSE, "1/Canary/0", "mine")
    at = place(with_answers(answer_to("other")), with_answers(answer_to("other"), answer_to("mine", "Refused")))
    found = await command.answer(at, sent, 10)
    assert found is not None
    assert (found.nonce, found.accepted, found.message) == ("mine", False, "so")
    assert looptime == 0.25


async def test_an_operator_that_does_not_answer_is_waited_for_no_longer_than_asked(looptime: Any) -> None:
    sent = command.Sent(Verb.PAUSE, "1/Canary/0", "mine")
    assert await command.answer(place(stories.PAUSED), sent, 10) is None
    assert looptime == 10


async def test_a_server_that_is_silent_for_a_moment_is_asked_for_the_answer_again(looptime: Any) -> None:
    sent = command.Sent(Verb.PAUSE, "1/Canary/0", "mine")
    found = await command.answer(place(SILENT, SILENT, with_answers(answer_to("mine"))), sent, 10)
    assert found is not None
    assert looptime == 0.5


@pytest.mark.parametrize(("status", "after"), [(404, None), (422, stories.SUCCEEDED)], ids=["deleted", "made anew"])
async def test_a_migration_that_goes_while_it_is_commanded_is_told(status: int, after: Answer) -> None:
    with pytest.raises(Vanished, match="nothing was commanded"):
        await command.send(place(stories.PAUSED, after, patch=ClusterError(status, "no")), Verb.ABORT)


async def test_a_policy_that_refuses_a_command_is_told_in_its_own_words() -> None:
    policy = Refused(403, "the API server answered 403: policy 'approvers' denied request: only leads approve")
    with pytest.raises(Problem, match=r"may not promote migration 'm'.*only leads approve"):
        await command.send(place(stories.PAUSED, patch=policy), Verb.PROMOTE)


async def test_a_migration_that_goes_before_it_answers_is_told() -> None:
    sent = command.Sent(Verb.ABORT, "1/Canary/0", "mine")
    with pytest.raises(Vanished, match="deleted before the operator answered"):
        await command.answer(place(stories.PAUSED, None), sent, 10)
