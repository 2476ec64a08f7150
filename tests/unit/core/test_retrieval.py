"""An answer is worth what its metrics say by hand."""

import math
from dataclasses import astuple

import pytest

from reembed.core.retrieval import Scores, scores

SECOND = 1 / math.log2(3)


@pytest.mark.parametrize(
    ("answer", "relevant", "expected"),
    [
        pytest.param(["a", "x"], {"a"}, Scores(1.0, 1.0, 1.0), id="first"),
        pytest.param(["x", "a"], {"a"}, Scores(1 / 2, 1.0, SECOND), id="second"),
        pytest.param(["x", "y", "a"], {"a", "b"}, Scores(1 / 3, 1 / 2, 0.5 / (1 + SECOND)), id="one of two, third"),
        pytest.param(["a", "b"], {"a", "b"}, Scores(1.0, 1.0, 1.0), id="both of two"),
        pytest.param(["b", "a", "c"], set("abcdef"), Scores(1.0, 1.0, 1.0), id="more are relevant than k"),
        pytest.param(["x", "y", "z", "a"], {"a"}, Scores(0.0, 0.0, 0.0), id="behind k"),
        pytest.param([], {"a"}, Scores(0.0, 0.0, 0.0), id="no answer"),
        pytest.param(["a"], set(), Scores(0.0, 0.0, 0.0), id="nothing is relevant"),
        pytest.param(["a", "a"], {"a", "b"}, Scores(1.0, 1 / 2, 1 / (1 + SECOND)), id="the same document twice"),
    ],
)
def test_an_answer_is_worth_what_its_metrics_say(answer: list[str], relevant: set[str], expected: Scores) -> None:
    found = scores(answer, relevant, k=3)
    assert astuple(found) == pytest.approx(astuple(expected))
