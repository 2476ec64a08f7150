"""A stream of objects is cut where objects end, wherever the bytes were cut."""

import asyncio

import pytest

from demo.follow import state_name
from demo.kubectl import Failed, Kubectl, objects


async def test_objects_that_arrive_in_pieces() -> None:
    stream = asyncio.StreamReader()
    text = '{"a": 1}\n{"b": "}ü{"}\n'.encode()
    for piece in range(len(text)):
        stream.feed_data(text[piece : piece + 1])
    stream.feed_eof()
    assert [version async for version in objects(stream, at_once=1)] == [{"a": 1}, {"b": "}ü{"}]


async def test_a_refusal_quotes_kubectl_and_not_what_was_applied() -> None:
    refusing = Kubectl("demo", ("sh", "-c", "cat >/dev/null; echo no such kind >&2; exit 1"))
    with pytest.raises(Failed) as refused:
        await refusing.apply("password")
    assert "no such kind" in str(refused.value)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        pytest.param({}, "", id="not looked at yet"),
        pytest.param({"state": "Backfilling"}, "Backfilling", id="a state"),
        pytest.param({"state": "Canary", "step": 1}, "Canary 50 %", id="a canary step by its weight"),
    ],
)
def test_states_are_named_as_the_report_names_them(status: dict[str, object], name: str) -> None:
    steps = [{"weight": 10}, {"weight": 50}]
    assert state_name({"spec": {"canary": {"steps": steps}}, "status": status}) == name
