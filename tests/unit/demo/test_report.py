"""The table and the figures of a run say everything, and a run that fell short says how."""

from dataclasses import replace
from typing import Any

import pytest

from demo.report import Figures, Step, progress, shortfalls, table

GOOD = Figures(
    phase="Succeeded",
    documents=2000,
    documents_embedded=2003,
    documents_per_s=41.26,
    queries=3021,
    queries_per_s=25.0,
    queries_failed=0,
    queries_wrong_collection=0,
    queries_fell_back=2,
    rollback_seconds=None,
    query_p50_ms=21.4,
    query_p95_ms=88.0,
    mrr_old=0.5123,
    mrr_new=0.6181,
    operator_rss_mib=91.2,
    gateway_rss_mib=75.0,
    embedder_anonymous_mib=None,
    migration_seconds=101.5,
    seconds=160.2,
    machine="2 cores, 24 GiB, Linux x86_64",
    date="2026-01-31",
)

TABLE = """\
Preparation
  operator                                            4.3 s

Migration
  Preflight                                           1.2 s
  Canary 10 %                                        10.1 s

Result: Succeeded
  documents re-embedded                      2,003 of 2,000
  documents/s                                          41.3
  queries answered                                    3,021
  queries failed                                          0
  queries answered by the wrong collection                0
  queries answered by falling back                        2
  queries/s                                            25.0
  latency p50 / p95                              21 / 88 ms
  MRR@10 old -> new                          0.512 -> 0.618
  operator resident memory                           91 MiB
  gateway resident memory, largest pod               75 MiB
  embedder anonymous memory, largest pod                  -
  migration                                           102 s
  whole demo                                          160 s

2 cores, 24 GiB, Linux x86_64, 2026-01-31"""


def test_the_final_table() -> None:
    steps = [Step("Preflight", 1.23), Step("Canary 10 %", 10.06)]
    assert table(GOOD, [Step("operator", 4.31)], steps) == TABLE


def test_the_figures_are_one_flat_object() -> None:
    figures = GOOD.json()
    assert figures["documents_per_s"] == 41.26
    assert figures["embedder_anonymous_mib"] is None
    assert all(value is None or isinstance(value, str | int | float) for value in figures.values())


def test_a_good_run_has_no_shortfall() -> None:
    assert shortfalls(GOOD, "Succeeded") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"phase": "RolledBack"}, "ended RolledBack, not Succeeded", id="another end"),
        pytest.param({"queries": 0}, "nothing is known", id="no data is not success"),
        pytest.param({"queries_failed": 1}, "1 of 3021 queries failed", id="a failed query"),
        pytest.param({"queries_wrong_collection": 1}, "should not have answered", id="a wrong answer"),
        pytest.param({"queries_per_s": 19.9}, "19.9 queries/s", id="too little load"),
        pytest.param({"documents_embedded": 4000}, "4000 documents were embedded", id="work done twice"),
        pytest.param({"documents_embedded": 1999}, "1999 documents were embedded", id="work not done"),
        pytest.param({"documents_embedded": None}, "documents were embedded is unknown", id="work not counted"),
    ],
)
def test_a_run_that_fell_short_says_how(changes: dict[str, Any], said: str) -> None:
    (only,) = shortfalls(replace(GOOD, **changes), "Succeeded")
    assert said in only


@pytest.mark.parametrize(
    ("embedded", "said"),
    [
        pytest.param(2000, [], id="once"),
        pytest.param(None, [], id="unknown"),
        pytest.param(4000, ["4000 documents were embedded for an index of 2000"], id="twice"),
    ],
)
def test_a_rollback_may_lose_the_count_but_not_embed_twice(embedded: int | None, said: list[str]) -> None:
    assert shortfalls(replace(GOOD, phase="RolledBack", documents_embedded=embedded), "RolledBack") == said


def test_a_count_that_was_lost_is_unknown_and_not_zero() -> None:
    (row,) = (line for line in table(replace(GOOD, documents_embedded=None), [], []).splitlines() if "re-emb" in line)
    assert row.split()[-1] == "unknown"


@pytest.mark.parametrize(
    ("status", "doing"),
    [
        pytest.param({}, "Pending       ", id="no status yet"),
        pytest.param(
            {"state": "Backfilling", "backfill": {"documents": 80, "total": 200, "documentsPerSecond": 40.2}},
            "Backfilling   80/200 documents, 40/s",
            id="backfill",
        ),
        pytest.param(
            {"state": "Canary", "weight": {"set": 10, "actual": 0}},
            "Canary        10 % of queries to the new model",
            id="canary",
        ),
        pytest.param(
            {"state": "Evaluating", "reason": "Probing", "weight": {"set": 0}},
            "Evaluating    Probing",
            id="another state",
        ),
    ],
)
def test_progress(status: dict[str, Any], doing: str) -> None:
    line = progress(7.2, {"status": status}, {"sent": 9, "failed": 0})
    assert line == f"   7 s  {doing:<48}      9 queries, 0 failed"
