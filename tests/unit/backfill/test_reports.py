"""The report tells what the store holds and what could not be made."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.backfill.follower import Lag
from reembed.backfill.reports import Measured, Paces, collection_reports, dropped
from reembed.core.model import BuildReport, CollectionReport, Desired, Problem
from reembed.core.throttle import LEAST
from reembed.stores.protocol import Held
from tests.fixtures.stores import PLAN

HELD = Held("c_new", "fp-new", 8, "Filling", 4, 1, 90, 10, 400, ({"embed": 0.9, "read": 0.2},))
REPORT = CollectionReport("c_new", "fp-new", 8, "Filling", 4, 1, 90, 10, 400, 12.5, "embed", verified=True)
RATED = Measured(rates={"c_new": 12.5})
PROBLEM = Problem("IndexBuildFailed", "why")


def test_a_collection_is_reported_with_its_rate_and_bottleneck() -> None:
    assert collection_reports([HELD], [PLAN], {}, RATED) == (REPORT,)


def test_a_collection_that_is_followed_says_how_far_it_is_behind() -> None:
    (report,) = collection_reports([replace(HELD, verified=False)], [PLAN], {}, Measured(lags={"c_new": Lag(3, 1.5)}))
    behind = replace(REPORT, documents_per_second=0.0, owed=3, lag=timedelta(seconds=1.5), verified=False)
    assert report == behind


def test_how_much_its_pods_ask_for_and_for_whose_sake_is_told_with_a_collection() -> None:
    stages = ({"requests": LEAST, "throttled_by_store": 1.0}, {"requests": 1.0, "throttled_by_store": 1.0})
    (report,) = collection_reports([replace(HELD, stages=stages)], [PLAN], {}, RATED)
    assert (report.requests, report.yields_to) == (0.5625, "store")


def test_a_collection_that_was_measured_says_what_it_takes() -> None:
    (report,) = collection_reports([HELD], [PLAN], {}, replace(RATED, sizes={"c_new": 4096}))
    assert report == replace(REPORT, size=4096)


def test_an_index_that_is_built_says_how_far_it_is_and_one_that_was_built_what_it_finds() -> None:
    build = BuildReport("loading tuples", 40, 90)
    (report,) = collection_reports([replace(HELD, recall=0.97)], [PLAN], {}, replace(RATED, building={"c_new": build}))
    assert report == replace(REPORT, building=build, recall=0.97)


def test_a_collection_whose_shards_are_done_is_filled() -> None:
    done = replace(HELD, shards_done=4, stages=())
    assert [one.state for one in collection_reports([done], [PLAN], {}, Measured())] == ["Filled"]


def test_a_problem_is_told_with_its_collection() -> None:
    assert collection_reports([HELD], [PLAN], {"c_new": PROBLEM}, RATED) == (replace(REPORT, problem=PROBLEM),)


def test_a_collection_that_could_not_be_made_is_reported_and_one_that_is_on_its_way_is_not() -> None:
    assert collection_reports([], [PLAN, replace(PLAN, name="c_slow")], {"c_new": PROBLEM}, Measured()) == (
        CollectionReport("c_new", "fp-new", 8, "Filling", 4, 0, 0, 0, 0, 0.0, problem=PROBLEM),
    )


def test_a_collection_that_was_never_made_is_gone_once_it_shall_be_dropped() -> None:
    assert collection_reports([], [replace(PLAN, desired=Desired.DROPPED)], {"c_new": PROBLEM}, Measured()) == ()


@pytest.mark.parametrize(
    ("desired", "there", "works", "said"),
    [
        pytest.param(Desired.DROPPED, False, False, {"c_new"}, id="it is gone"),
        pytest.param(Desired.DROPPED, True, False, set(), id="it is there"),
        pytest.param(Desired.DROPPED, False, True, set(), id="it is just being made"),
        pytest.param(Desired.PRESENT, False, False, set(), id="it was not to be dropped"),
    ],
)
def test_only_what_is_gone_and_comes_no_more_is_said_to_be_dropped(
    desired: Desired, there: bool, works: bool, said: set[str]
) -> None:
    held = [HELD] if there else []
    assert dropped(held, [replace(PLAN, desired=desired)], lambda name: works and name == "c_new") == said


def test_only_what_is_being_filled_has_a_rate() -> None:
    paces = Paces()
    paces.read([HELD], now=0.0)
    moved = replace(HELD, written=190)
    done = replace(moved, shards_done=4)
    assert [paces.read([moved], now=10.0), paces.read([done], now=20.0)] == [{"c_new": 10.0}, {}]
