"""The cache holds the newest of each object, and nothing that is gone, in whatever order it hears of them."""

from __future__ import annotations

from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.controller.cache import Cache

LISTED_AT = 20


def pod(name: str, version: int, uid: str = "1") -> dict[str, Any]:
    return {"metadata": {"namespace": "rag", "name": name, "uid": uid, "resourceVersion": str(version)}}


class Told(Cache):
    """A cache that keeps the names of what it told of."""

    def __init__(self) -> None:
        super().__init__(lambda kind, obj, before: self.told.append(obj["metadata"]["name"]))
        self.told: list[str] = []


def cache(*objects: dict[str, Any]) -> Told:
    made = Told()
    for one in objects:
        made.put(kinds.POD, one)
    return made


def listed(into: Told, *objects: dict[str, Any], version: str = str(LISTED_AT)) -> list[str]:
    """Take a list of all pods in, and return the names of those that it changed."""
    into.told.clear()
    for one in objects:
        into.put(kinds.POD, one)
    into.settle(kinds.POD, "rag", {one["metadata"]["name"] for one in objects}, version)
    return into.told


def held(by: Cache) -> dict[str, str]:
    """Return the versions by name."""
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in by.all(kinds.POD, "rag")}


def test_a_list_that_says_nothing_new_changes_nothing() -> None:
    known = cache(pod("a", 10), pod("b", 20))
    assert (listed(known, pod("a", 10), pod("b", 20)), held(known)) == ([], {"a": "10", "b": "20"})


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        pytest.param(LISTED_AT - 1, {}, id="older than the list: it was deleted before"),
        pytest.param(LISTED_AT, {}, id="as old as the list: the same"),
        pytest.param(LISTED_AT + 1, {"a": "21"}, id="newer than the list: it was created or changed after"),
    ],
)
def test_what_a_list_does_not_contain_is_forgotten_unless_it_is_newer(version: int, kept: dict[str, str]) -> None:
    known = cache(pod("a", version))
    assert (listed(known), held(known)) == ([] if kept else ["a"], kept)


def test_what_a_list_has_newer_or_alone_is_taken() -> None:
    known = cache(pod("a", 10))
    assert (listed(known, pod("a", 12), pod("b", 13)), held(known)) == (["a", "b"], {"a": "12", "b": "13"})


def test_an_older_list_takes_nothing_back() -> None:
    known = cache(pod("a", 30, uid="2"))
    assert (listed(known, pod("a", 10, uid="1")), held(known)) == ([], {"a": "30"})


def test_what_was_deleted_while_the_list_was_under_way_stays_gone() -> None:
    known = cache(pod("a", 10))
    known.remove(kinds.POD, pod("a", 21))
    assert (listed(known, pod("a", 10)), held(known)) == ([], {})


def test_an_answer_that_comes_after_its_object_s_end_is_not_taken() -> None:
    known = cache(pod("a", 10))
    known.remove(kinds.POD, pod("a", 21))
    assert (known.put(kinds.POD, pod("a", 20)), held(known)) == (False, {})


def test_an_answer_that_comes_after_the_list_without_it_is_not_taken() -> None:
    known = cache(pod("a", 10))
    listed(known)
    assert (known.put(kinds.POD, pod("a", 12)), held(known)) == (False, {})


def test_a_new_object_of_a_name_that_was_deleted_is_taken() -> None:
    known = cache(pod("a", 10))
    known.remove(kinds.POD, pod("a", 21))
    assert (known.put(kinds.POD, pod("a", 22, uid="2")), held(known)) == (True, {"a": "22"})


def test_the_end_of_an_object_does_not_end_the_next_of_its_name() -> None:
    known = cache(pod("a", 22, uid="2"))
    known.remove(kinds.POD, pod("a", 21, uid="1"))
    assert held(known) == {"a": "22"}


def test_a_late_word_of_an_object_does_not_hide_the_next_of_its_name() -> None:
    known = cache(pod("a", 22, uid="2"))
    assert (known.put(kinds.POD, pod("a", 15, uid="1")), held(known)) == (False, {"a": "22"})


def test_a_list_concerns_its_own_kind_and_namespace_alone() -> None:
    known = cache(pod("a", 10))
    known.put(kinds.JOB, pod("a", 10))
    elsewhere = {"metadata": {**pod("a", 10)["metadata"], "namespace": "other"}}
    known.put(kinds.POD, elsewhere)
    listed(known)
    left = [list(known.all(kind, namespace)) for kind, namespace in ((kinds.JOB, "rag"), (kinds.POD, "other"))]
    assert left == [[pod("a", 10)], [elsewhere]]


def test_a_list_without_a_version_forgets_nothing() -> None:
    known = cache(pod("a", 10))
    assert (listed(known, version=""), held(known)) == ([], {"a": "10"})


def test_deleted_names_are_not_remembered_for_ever() -> None:
    known = cache()
    for number in range(100):
        known.put(kinds.POD, pod(f"p{number}", number + 1))
        known.remove(kinds.POD, pod(f"p{number}", number + 1))
    listed(known, version="1000")
    assert known._gone == {}
