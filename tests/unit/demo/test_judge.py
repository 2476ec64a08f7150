"""An answer is right only if its collection, its model and its arm belong together in its epoch."""

from typing import Any

import pytest

from demo.judge import Judgement, Truth, judge, seconds_until_zero

OLD = {"pool": "old", "collection": "c_old", "fingerprint": "fp-old"}
NEW = {"pool": "new", "collection": "c_new", "fingerprint": "fp-new"}


def truth() -> Truth:
    seen = Truth()
    for routing in (
        {"epoch": 1, "serving": OLD},
        {"epoch": 2, "serving": OLD, "candidate": NEW, "weight": 0},
        {"epoch": 3, "serving": OLD, "candidate": NEW, "weight": 10},
        {"epoch": 5, "serving": NEW},
    ):
        seen.record({"status": {"routing": routing}})
    return seen


def source(epoch: int, arm: str, side: dict[str, str], **changes: Any) -> dict[str, Any]:
    said = {"collection": side["collection"], "fingerprint": side["fingerprint"], "fellBack": False}
    return {"epoch": epoch, "arm": arm, **said, "answers": 4, "reciprocalRanks": 2.0, **changes}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(source(1, "serving", OLD), id="the old side before the migration"),
        pytest.param(source(3, "serving", OLD), id="the old side during the canary"),
        pytest.param(source(3, "candidate", NEW), id="the new side during the canary"),
        pytest.param(source(3, "serving", OLD, fellBack=True), id="the old side for the new"),
        pytest.param(source(4, "candidate", NEW), id="a known pair in an epoch that was not seen"),
        pytest.param(source(5, "serving", NEW), id="the new side after the migration"),
    ],
)
def test_right_answers(answer: dict[str, Any]) -> None:
    assert judge(truth(), [answer]).wrong == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(source(3, "candidate", NEW, fingerprint="fp-old"), "never a pair", id="vectors of another model"),
        pytest.param(source(4, "serving", {**OLD, "collection": "c_x"}), "never a pair", id="an unknown collection"),
        pytest.param(source(3, "serving", NEW), "the serving side was", id="the new side in the old one's name"),
        pytest.param(source(1, "candidate", NEW), "the candidate side was None", id="a candidate before there was one"),
        pytest.param(source(2, "candidate", NEW), "at weight 0 %", id="a candidate without a share"),
        pytest.param(source(3, "candidate", NEW, fellBack=True), "after a fall-back", id="a fall-back to the new side"),
    ],
)
def test_wrong_answers(answer: dict[str, Any], reason: str) -> None:
    found = judge(truth(), [answer])
    assert found.wrong == 4
    assert reason in found.reasons[0]


def test_live_retrieval_is_counted_for_each_collection_over_all_epochs() -> None:
    answers = [
        source(1, "serving", OLD),
        source(3, "serving", OLD, fellBack=True, answers=1, reciprocalRanks=0.5),
        source(3, "candidate", NEW, reciprocalRanks=3.0),
    ]
    assert judge(truth(), answers) == Judgement(0, (), 1, {"c_old": 0.5, "c_new": 0.75})


def test_the_time_to_weight_zero_ends_with_the_last_answer_at_a_weight() -> None:
    visits = [
        {"state": "Canary", "enteredAt": "2026-01-01T12:00:00Z"},
        {"state": "RollingBack", "enteredAt": "2026-01-01T12:00:30Z"},
    ]
    sources = [
        {"epoch": 3, "lastAnswered": 1767268830.4},
        {"epoch": 3, "lastAnswered": 1767268829.0},
        {"epoch": 5, "lastAnswered": 1767268900.0},
    ]
    assert seconds_until_zero({"status": {"timeline": visits}}, truth(), sources) == pytest.approx(0.4)
    assert seconds_until_zero({"status": {"timeline": visits[:1]}}, truth(), sources) is None
