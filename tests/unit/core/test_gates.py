"""The offline gate proves no harm or says what it would take."""

import numpy as np
import pytest

from reembed.core.gates import Gate, Verdict, bounds, judge, queries_needed, reciprocal_rank

GATE = Gate(k=10, margin=0.02, min_queries=100)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def ranks(mean: float, deviation: float, queries: int) -> np.ndarray:
    """Reciprocal ranks of exactly this mean and deviation."""
    values = rng().standard_normal(queries)
    return mean + deviation * (values - values.mean()) / values.std()


def verdict(difference: float, deviation: float, queries: int) -> Verdict:
    serving = np.full(queries, 0.5)
    return judge(serving, serving + ranks(difference, deviation, queries), GATE, rng()).verdict


@pytest.mark.parametrize(
    ("difference", "deviation", "queries", "expected"),
    [
        pytest.param(0.07, 0.2, 1000, Verdict.BETTER, id="clearly better"),
        pytest.param(0.0, 0.0, 100, Verdict.NON_INFERIOR, id="the same answers"),
        pytest.param(-0.005, 0.1, 1000, Verdict.NON_INFERIOR, id="a little worse within the margin"),
        pytest.param(-0.05, 0.2, 1000, Verdict.INFERIOR, id="proven worse than the margin"),
        pytest.param(0.069, 0.3, 100, Verdict.NON_INFERIOR, id="a gain that so few queries do not prove"),
        pytest.param(0.0, 0.2, 100, Verdict.INCONCLUSIVE, id="no difference, seen too dimly"),
        pytest.param(-0.02, 0.2, 4000, Verdict.INCONCLUSIVE, id="on the margin"),
        pytest.param(0.07, 0.2, 99, Verdict.TOO_FEW_QUERIES, id="fewer queries than asked for"),
    ],
)
def test_a_verdict_follows_from_the_bounds(
    difference: float, deviation: float, queries: int, expected: Verdict
) -> None:
    assert verdict(difference, deviation, queries) is expected


def test_only_proof_of_no_harm_passes_without_approval() -> None:
    passing = {one for one in Verdict if one.passes}
    assert passing == {Verdict.BETTER, Verdict.NON_INFERIOR, Verdict.NO_BASELINE}


def test_a_first_model_has_nothing_to_be_worse_than() -> None:
    outcome = judge(None, np.full(100, 0.25), GATE, rng())
    assert outcome.verdict is Verdict.NO_BASELINE
    assert outcome.message == ("MRR@10 0.250 over 100 queries; nothing answers yet that it could be compared with")


def test_the_message_tells_the_numbers() -> None:
    outcome = judge(np.full(100, 0.25), np.full(100, 0.5), GATE, rng())
    assert outcome.message == (
        "MRR@10 0.500 after 0.250 over 100 queries: difference +0.250, between +0.250 and +0.250; margin 0.02"
    )


def test_an_inconclusive_message_says_how_many_queries_would_decide() -> None:
    serving = np.full(100, 0.5)
    outcome = judge(serving, serving + ranks(0.0, 0.2, 100), GATE, rng())
    assert outcome.message.endswith("; about 1181 queries would decide at this difference; add some, or approve it")


def test_no_number_of_queries_decides_on_the_margin_itself() -> None:
    assert queries_needed(np.array([-0.12, 0.08]), margin=0.02) is None


def test_the_same_chance_gives_the_same_bounds() -> None:
    differences = ranks(0.01, 0.2, 500)
    assert bounds(differences, rng()) == bounds(differences, rng())


def test_bounds_agree_with_the_normal_approximation() -> None:
    differences = ranks(0.01, 0.2, 1000)
    assert bounds(differences, rng()) == pytest.approx(
        (0.01 - 2.576 * 0.2 / 1000**0.5, 0.01 + 2.576 * 0.2 / 1000**0.5), abs=0.002
    )


def test_a_model_at_the_margin_passes_in_less_than_two_of_a_hundred_trials() -> None:
    chance = rng()
    population = chance.choice([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0], size=20_000)
    population += -GATE.margin - population.mean()
    passed = 0
    for _ in range(200):
        low, _ = bounds(chance.choice(population, size=150), chance)
        passed += low > -GATE.margin
    assert passed < 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(["a", "b"], 1.0, id="first"),
        pytest.param(["x", "y", "b"], 1 / 3, id="third"),
        pytest.param(["x"] * 10 + ["a"], 0.0, id="behind k"),
        pytest.param([], 0.0, id="no answer"),
    ],
)
def test_the_first_relevant_document_counts(answer: list[str], expected: float) -> None:
    assert reciprocal_rank(answer, {"a", "b"}, k=10) == expected
