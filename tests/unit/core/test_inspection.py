"""What is a finding and what is none, whether a pool made the vectors, and which inspection counts for a migration."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reembed.core.inspection import MAX_AGE, judge, of_attempt, recent, refused, reproduction, told
from reembed.core.model import Counted, Finding, InspectionReport, Norms, Reproduced, Survey
from tests.builders import NEW, NOON, OLD

UNIT = Norms(0.9999, 1.0, 1.0001, 0, 1000)
SOUND = Survey("c_old", "fp", "Cosine", 1000, 1000, 1000, {384: 1000}, norms=UNIT)
GOOD = [0.9995] * 200
FEW = Counted(2, ("3", "7"))


def found(survey: Survey, cosines: list[float] | None = None) -> list[tuple[str, int, float]]:
    findings, _ = judge(survey, cosines)
    return [(one.reason, one.count, one.share) for one in findings]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        pytest.param({"dimensions": {384: 998, 3: 2}}, ("MixedDimensions", 2, 0.002), id="two dimensions"),
        pytest.param({"not_finite": FEW}, ("VectorsNotFinite", 2, 0.002), id="not finite"),
        pytest.param({"zero": FEW}, ("VectorsZero", 2, 0.002), id="zero"),
        pytest.param(
            {"norms": replace(UNIT, outside=2), "not_unit": FEW}, ("VectorsUnnormalised", 2, 0.002), id="mixed lengths"
        ),
        pytest.param(
            {"norms": replace(UNIT, outside=1000), "not_unit": Counted(1000), "metric": "InnerProduct"},
            ("VectorsUnnormalised", 1000, 1.0),
            id="long ones, compared by product",
        ),
        pytest.param({"repeated": Counted(101)}, ("VectorsRepeated", 101, 0.101), id="one vector of many"),
        pytest.param({"shared": Counted(11), "most_texts": 2}, ("VectorsShared", 11, 0.011), id="many texts share"),
        pytest.param({"shared": Counted(10), "most_texts": 11}, ("VectorsShared", 10, 0.01), id="one shared by many"),
        pytest.param({"without_vector": FEW}, ("DocumentsWithoutVector", 2, 0.002), id="no vector"),
        pytest.param({"without_document": FEW}, ("VectorsWithoutDocument", 2, 0.002), id="no document"),
        pytest.param({"without_text": FEW}, ("DocumentsWithoutText", 2, 0.002), id="no text"),
    ],
)
def test_a_defect_is_one_finding(changes: dict[str, object], finding: tuple[str, int, float]) -> None:
    assert found(replace(SOUND, **changes), GOOD) == [finding]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="sound"),
        pytest.param({"norms": replace(UNIT, outside=1000), "not_unit": Counted(1000)}, id="all long, by cosine"),
        pytest.param({"shared": Counted(10), "most_texts": 10}, id="a few texts share"),
        pytest.param({"norms": None, "vectors": 0, "dimensions": {}}, id="empty"),
    ],
)
def test_what_may_well_be_is_no_finding(changes: dict[str, object]) -> None:
    assert found(replace(SOUND, **changes), GOOD) == []  # type: ignore[arg-type]


def test_a_finding_has_examples_and_says_how_many() -> None:
    (one,), _ = judge(replace(SOUND, zero=FEW), None)
    text = "2 vectors are zero: they have no direction, so that no query finds them by cosine"
    assert one == Finding("VectorsZero", 2, 0.002, ("3", "7"), text)


def test_the_gravest_finding_comes_first() -> None:
    everything = replace(SOUND, dimensions={384: 998, 3: 2}, zero=FEW, without_text=FEW, without_vector=FEW)
    reasons = [reason for reason, *_ in found(everything, [0.1] * 200)]
    assert reasons == [
        "VectorsNotReproduced",
        "MixedDimensions",
        "VectorsZero",
        "DocumentsWithoutVector",
        "DocumentsWithoutText",
    ]


def test_a_sample_comes_to_its_median_its_twentieth_and_the_share_that_is_near() -> None:
    cosines = [n / 100 for n in range(1, 101)]
    assert reproduction(cosines) == Reproduced(100, 0.505, 0.05, 0.03)
    assert reproduction([0.7]) == Reproduced(1, 0.7, 0.7, 0.0)


@pytest.mark.parametrize(
    ("cosines", "findings"),
    [
        pytest.param([0.98] * 200, [], id="just near enough"),
        pytest.param([0.9799] * 200, [("VectorsNotReproduced", 200, 1.0)], id="just not"),
        pytest.param([0.99] * 101 + [0.1] * 99, [("VectorsPartlyReproduced", 99, 0.495)], id="half of another model"),
        pytest.param([0.99] * 99 + [0.1] * 101, [("VectorsNotReproduced", 101, 0.505)], id="more than half"),
        pytest.param([0.99] * 190 + [0.1] * 10, [], id="a twentieth changed unseen"),
        pytest.param([0.99] * 189 + [0.1] * 11, [("VectorsPartlyReproduced", 11, 0.055)], id="more than a twentieth"),
    ],
)
def test_a_pool_made_the_vectors_if_it_makes_them_again(
    cosines: list[float], findings: list[tuple[str, int, float]]
) -> None:
    assert found(SOUND, cosines) == findings


@pytest.mark.parametrize("cosines", [None, []], ids=["no pool", "no document"])
def test_without_a_sample_nothing_is_said_of_the_pool(cosines: list[float] | None) -> None:
    assert judge(SOUND, cosines) == ((), None)


def report(name: str = "i", hours: float = 1, cosine: float = 0.999, **changes: object) -> InspectionReport:
    """Return an inspection of what serves, so many hours before noon."""
    at = NOON - timedelta(hours=hours)
    made = InspectionReport(
        name, at, OLD.collection, OLD.fingerprint, 1000, 1000, (), Reproduced(200, cosine, cosine, 1.0)
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reports", "counts"),
    [
        pytest.param([], None, id="none"),
        pytest.param([report()], "i", id="of an hour ago"),
        pytest.param([report(hours=MAX_AGE / timedelta(hours=1))], "i", id="of a day ago"),
        pytest.param([report(hours=24.1)], None, id="too old"),
        pytest.param([report(collection=NEW.collection)], None, id="of another collection"),
        pytest.param([report(fingerprint=NEW.fingerprint)], None, id="of another model"),
        pytest.param([report("b", 1), report("a", 2)], "b", id="the newest"),
        pytest.param([report(cosine=0.5)], None, id="one that refused another attempt"),
        pytest.param([report("own", 0, cosine=0.5), report("b", 2)], "own", id="one's own that refuses"),
        pytest.param([report("own", 30, cosine=0.5)], None, id="one of its name that refused before it began"),
        pytest.param([report(reproduced=None)], None, id="another that embedded nothing"),
        pytest.param([report("own", reproduced=None)], "own", id="one's own that embedded nothing"),
        pytest.param([report("own", hours=48)], "own", id="one's own, whatever clocks say"),
    ],
)
def test_an_inspection_counts_for_a_migration_for_a_day(reports: list[InspectionReport], counts: str | None) -> None:
    one = recent(reports, OLD, "own", NOON)
    assert (one.id if one is not None else None) == counts


def test_each_attempt_has_an_inspection_of_its_own_name() -> None:
    names = {of_attempt("u", uid, attempt, arm) for uid in "ab" for attempt in (1, 2) for arm in (OLD, NEW)}
    assert len(names) == 8


def test_only_a_median_that_is_too_low_refuses() -> None:
    assert [refused(report(cosine=cosine)) for cosine in (0.9799, 0.98)] == [True, False]
    assert not refused(report(reproduced=None))


def test_an_outcome_is_told_in_a_sentence() -> None:
    assert told(report()) == (
        "1000 of 1000 documents were looked at: nothing is wrong; 200 embedded again have a median cosine of 0.9990"
    )
    finding = Finding("VectorsZero", 2, 0.002, (), "2 vectors are zero")
    assert told(report(findings=(finding, replace(finding, message="and so on")))) == "2 vectors are zero; and so on"
