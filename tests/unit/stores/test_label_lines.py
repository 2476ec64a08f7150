"""Labelled queries of a ConfigMap are read line by line, and a wrong line is named."""

import pytest

from reembed.core.model import ConfigMapKey, Problem
from reembed.stores.label_lines import Labelled, labelled
from reembed.stores.protocol import Labels, Unfit

KEY = ConfigMapKey("questions", "labels")
GOOD = '{"query": "how?", "relevant": ["1"]}\n'


def test_each_line_is_a_query_with_its_documents_and_its_slice() -> None:
    text = """
        {"query": "how?", "relevant": ["1", 2], "slice": "en"}

        {"query": "wie?", "relevant": ["ä"], "slice": "de"}
        {"query": "how?", "relevant": ["3"], "slice": "short"}
        {"query": "why?", "relevant": [4], "slice": null}
    """
    assert labelled(text, KEY) == Labelled(
        {"how?": frozenset("123"), "wie?": frozenset("ä"), "why?": frozenset("4")},
        {"how?": frozenset({"en", "short"}), "wie?": frozenset({"de"}), "why?": frozenset()},
    )


def test_documents_that_left_the_source_are_left_out_and_counted() -> None:
    found = Labelled({"b": frozenset("12"), "a": frozenset("3"), "c": frozenset("2")}, {"b": frozenset({"de"})})
    assert found.without({"2", "3"}) == Labels({"b": frozenset("1")}, 3, {"b": frozenset({"de"})})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("how? 1", "is not JSON (Expecting value: line 1 column 1 (char 0))", id="no JSON"),
        pytest.param('["how?", "1"]', "is not a JSON object", id="a list"),
        pytest.param('{"relevant": ["1"]}', "has no text in 'query'", id="no query"),
        pytest.param('{"query": " ", "relevant": ["1"]}', "has no text in 'query'", id="a blank query"),
        pytest.param('{"query": 7, "relevant": ["1"]}', "has no text in 'query'", id="a number for a query"),
        pytest.param('{"query": "q"}', "has no list of document ids in 'relevant'", id="no documents"),
        pytest.param('{"query": "q", "relevant": []}', "has no list of document ids in 'relevant'", id="an empty list"),
        pytest.param('{"query": "q", "relevant": "1"}', "has no list of document ids in 'relevant'", id="no list"),
        pytest.param(
            '{"query": "q", "relevant": [1.5]}',
            "has something else than a text or a whole number in 'relevant'",
            id="a fraction",
        ),
        pytest.param(
            '{"query": "q", "relevant": [true]}',
            "has something else than a text or a whole number in 'relevant'",
            id="a truth value",
        ),
        pytest.param(
            '{"query": "q", "relevant": [""]}',
            "has something else than a text or a whole number in 'relevant'",
            id="an empty id",
        ),
        pytest.param('{"query": "q", "relevant": ["1"], "slice": 3}', "has no text in 'slice'", id="a numbered slice"),
        pytest.param('{"query": "q", "relevant": ["1"], "slice": ""}', "has no text in 'slice'", id="an empty slice"),
        pytest.param(
            '{"query": "\\ud800", "relevant": ["1"]}', "has half a character, as of a cut text", id="half a character"
        ),
        pytest.param(
            '{"query": "q", "relevant": ["\\ud800"]}', "has half a character, as of a cut text", id="half an id"
        ),
        pytest.param(
            '{"query": "q", "relevant": ["1"], "tenant": "a"}', "has an unknown field 'tenant'", id="an unknown field"
        ),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(line: str, why: str) -> None:
    with pytest.raises(Unfit) as caught:
        labelled(f"{GOOD}\n{line}\n{GOOD}", KEY)
    assert caught.value.problem == Problem(
        "EvaluationLabelsInvalid",
        f"line 3 of key 'labels' of ConfigMap 'questions' {why}, so the models cannot be compared; each line must be "
        '{"query": "text", "relevant": ["id", ...], "slice": "name, if any"}',
    )


def test_a_line_that_is_nested_for_ever_ends_nobody() -> None:
    with pytest.raises(Unfit, match="line 2 of key 'labels' of ConfigMap 'questions' is not JSON"):
        labelled(GOOD + "[" * 500_000 + "\n" + GOOD, KEY)


def test_further_wrong_lines_are_counted() -> None:
    with pytest.raises(Unfit, match=r"line 1 of .* is not JSON .* \(and 2 more lines are wrong\), so the models"):
        labelled("a\nb\nc\n" + GOOD, KEY)
