"""The offline gate proves no harm or says what it would take."""

import re

import numpy as np
import pytest

from reembed.core.gates import Gate, Needed, Outcome, Verdict, bounds, judge, queries_needed
from reembed.core.model import MetricReport
from reembed.core.slices import SliceRule

GATE = Gate(k=10, margin=0.02, min_queries=100)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def spread(mean: float, deviation: float, queries: int) -> np.ndarray:
    """Values of exactly this mean and deviation."""
    values = rng().standard_normal(queries)
    return mean + deviation * (values - values.mean()) / values.std()


def columns(values: np.ndarray) -> np.ndarray:
    """The same by every metric."""
    return np.repeat(values[:, None], 3, axis=1)


def judged(difference: float, deviation: float, queries: int) -> Outcome:
    serving = np.full(queries, 0.5)
    candidate = serving + spread(difference, deviation, queries)
    return judge(columns(serving), columns(candidate), [()] * queries, GATE, rng())


@pytest.mark.parametrize(
    ("difference", "deviation", "queries", "expected"),
    [
        pytest.param(0.07, 0.2, 1000, Verdict.BETTER, id="clearly better"),
        pytest.param(0.0, 0.0, 400, Verdict.NON_INFERIOR, id="the same answers"),
        pytest.param(0.0, 0.0, 200, Verdict.INCONCLUSIVE, id="the same answers to too few to rule out a rare loss"),
        pytest.param(-0.005, 0.1, 1000, Verdict.NON_INFERIOR, id="a little worse within the margin"),
        pytest.param(-0.05, 0.2, 1000, Verdict.INFERIOR, id="proven worse than the margin"),
        pytest.param(0.08, 0.3, 120, Verdict.NON_INFERIOR, id="a gain that so few queries do not prove"),
        pytest.param(0.0, 0.2, 100, Verdict.INCONCLUSIVE, id="no difference, seen too dimly"),
        pytest.param(-0.02, 0.2, 4000, Verdict.INCONCLUSIVE, id="on the margin"),
        pytest.param(0.07, 0.2, 99, Verdict.TOO_FEW_QUERIES, id="fewer queries than asked for"),
    ],
)
def test_a_verdict_follows_from_the_bounds(
    difference: float, deviation: float, queries: int, expected: Verdict
) -> None:
    assert judged(difference, deviation, queries).verdict is expected


def test_only_proof_of_no_harm_passes_without_approval() -> None:
    passing = {one for one in Verdict if one.passes}
    assert passing == {Verdict.BETTER, Verdict.NON_INFERIOR, Verdict.NO_BASELINE}


def test_a_first_model_has_nothing_to_be_worse_than() -> None:
    candidate = np.tile([0.25, 0.5, 0.4], (100, 1))
    assert judge(None, candidate, [("de",)] * 100, GATE, rng()) == Outcome(
        Verdict.NO_BASELINE,
        100,
        "MRR@10 0.250 over 100 queries; nothing answers yet that it could be compared with",
        (
            MetricReport("MRR@10", None, 0.25),
            MetricReport("Recall@10", None, 0.5),
            MetricReport("nDCG@10", None, pytest.approx(0.4)),
        ),
    )


def test_without_labelled_queries_nothing_is_judged() -> None:
    outcome = judge(None, np.zeros((0, 3)), [], GATE, rng())
    assert (outcome.verdict, outcome.message) == (
        Verdict.TOO_FEW_QUERIES,
        "0 labelled queries, below the 100 asked for; add queries or lower minQueries",
    )


def test_the_message_tells_the_numbers() -> None:
    outcome = judge(np.full((400, 3), 0.25), np.full((400, 3), 0.5), [()] * 400, GATE, rng())
    assert re.fullmatch(
        r"MRR@10 0.500 after 0.250 over 400 queries: difference \+0.250, between \+0.2\d\d and \+0.2\d\d; margin 0.02",
        outcome.message,
    )


def test_each_metric_has_its_own_bounds_and_the_first_decides() -> None:
    differences = np.stack([spread(0.07, 0.2, 1000), spread(-0.07, 0.2, 1000), spread(0.0, 0.2, 1000)], axis=1)
    outcome = judge(np.full((1000, 3), 0.5), 0.5 + differences, [()] * 1000, GATE, rng())
    signs = [(one.name, np.sign(one.low), np.sign(one.high)) for one in outcome.metrics]
    assert outcome.verdict is Verdict.BETTER
    assert signs == [("MRR@10", 1, 1), ("Recall@10", -1, -1), ("nDCG@10", -1, 1)]


def test_an_inconclusive_message_says_what_is_likely_to_decide() -> None:
    assert re.search(
        r"; about 1,200 more queries are likely to decide \(110 or many more in 8 of 10 such cases\); add some, or "
        r"approve it$",
        judged(-0.002, 0.2, 150).message,
    )


def test_no_forecast_is_made_on_the_margin_itself() -> None:
    assert judged(-0.02, 0.2, 1000).message.endswith(
        "the difference is too near to the margin for a forecast (4,700 more queries or many times as many would "
        "decide); approve it, or widen the margin"
    )


def test_what_the_gate_asks_for_is_right_at_the_median() -> None:
    chance, deviation, margin = rng(), 0.3, 0.02
    needed = ((2.576 + 0.842) * deviation / margin) ** 2
    said = []
    while len(said) < 300:
        differences = chance.normal(0.0, deviation, 600)
        if abs(differences.mean() + margin) < 2.576 * deviation / 600**0.5:
            said.append(600 + (queries_needed(differences, margin).more or 100_000))
    assert np.median(said) == pytest.approx(needed, rel=0.3)


def test_just_before_the_decision_a_few_queries_more_are_asked_for() -> None:
    assert queries_needed(spread(0.0313, 0.2, 1000), 0.02) == Needed(100, 100, 100)


def test_the_same_chance_gives_the_same_bounds() -> None:
    differences = columns(spread(0.01, 0.2, 500))
    assert np.array_equal(bounds(differences, rng()), bounds(differences, rng()))


def test_bounds_agree_with_the_normal_approximation() -> None:
    low, high = bounds(columns(spread(0.01, 0.2, 5000)), rng())
    error = 2.576 * 0.2 / 5000**0.5
    assert low == pytest.approx([0.01 - error] * 3, abs=0.001)
    assert high == pytest.approx([0.01 + error] * 3, abs=0.001)


@pytest.mark.parametrize("values", [[-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0], [-1.0] + [0.0] * 49])
def test_a_model_at_the_margin_passes_in_less_than_two_of_a_hundred_trials(values: list[float]) -> None:
    chance = rng()
    population = np.array(values)
    population -= 0.02 + population.mean() if len(values) < 10 else 0.0
    passed = 0
    for _ in range(100):
        low, _ = bounds(chance.choice(population, size=(150, 1)), chance)
        passed += low[0] > population.mean()
    assert passed < 2


SLICES = ("de", "en", "fr")


def sliced(losses: dict[str, float], *, queries: int = 300, gate: Gate = GATE) -> Outcome:
    """Judge a model whose three slices of equal size differ by these from what served."""
    parts = [spread(losses.get(name, 0.1), 0.2, queries) for name in SLICES]
    slices = [(name,) for name in SLICES for _ in range(queries)]
    serving = np.full((3 * queries, 3), 0.5)
    return judge(serving, serving + columns(np.concatenate(parts)), slices, gate, rng())


def verdicts(outcome: Outcome) -> dict[str, str]:
    return {one.name: one.verdict for one in outcome.slices}


def test_a_model_that_is_better_on_average_and_worse_for_one_tenant_does_not_pass() -> None:
    outcome = sliced({"fr": -0.12})
    assert outcome.verdict is Verdict.INFERIOR
    assert outcome.metrics[0].low is not None
    assert outcome.metrics[0].low > 0
    assert verdicts(outcome) == {"fr": "Inferior", "de": "NoHarmSeen", "en": "NoHarmSeen"}
    assert "; slice 'fr': MRR 0.380 after 0.500 over 300 queries, a difference between " in outcome.message
    assert outcome.message.endswith("with a margin of 0.05: worse")


def test_a_slice_that_is_likely_to_be_worse_asks_for_a_look() -> None:
    outcome = sliced({"fr": -0.08})
    assert (outcome.verdict, verdicts(outcome)["fr"]) == (Verdict.INCONCLUSIVE, "Suspect")
    assert outcome.message.endswith(": likely to be worse; look at its queries, add some, or approve it")


def test_small_slices_do_not_hold_a_good_model() -> None:
    outcome = sliced({"de": 0.0, "en": -0.02, "fr": 0.02}, queries=40, gate=Gate(10, 0.1, 100))
    assert outcome.verdict is Verdict.NON_INFERIOR
    assert set(verdicts(outcome).values()) == {"NoHarmSeen"}
    assert re.search(r": no harm seen, where a loss of 0\.\d\d would have been$", outcome.slices[0].message)


def test_a_slice_with_too_few_queries_holds_and_says_how_many_are_missing() -> None:
    outcome = sliced({}, gate=Gate(10, 0.02, 100, SliceRule(min_queries=301)))
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert outcome.message.endswith(
        "; slice 'fr': 300 queries, below the 301 asked for; add 1, lower slices.minQueries, or approve it"
    )


def test_no_slice_turns_a_bad_model_into_a_doubtful_one() -> None:
    outcome = sliced({"de": -0.2, "en": -0.2, "fr": -0.2}, gate=Gate(10, 0.02, 100, SliceRule(min_queries=301)))
    assert outcome.verdict is Verdict.INFERIOR


def test_many_slices_are_named_by_the_worst_three() -> None:
    slices = [(f"tenant-{place % 5}",) for place in range(500)]
    gate = Gate(10, 0.02, 100, SliceRule(min_queries=101))
    outcome = judge(np.full((500, 3), 0.5), np.full((500, 3), 0.6), slices, gate, rng())
    assert outcome.message.count("slice 'tenant-") == 3
    assert outcome.message.endswith("(and 2 more slices)")


def test_a_query_of_two_slices_counts_in_both_and_once_for_all() -> None:
    outcome = judge(np.full((400, 3), 0.5), np.full((400, 3), 0.6), [("de", "short")] * 400, GATE, rng())
    assert (outcome.queries, {one.name: one.queries for one in outcome.slices}) == (400, {"de": 400, "short": 400})
