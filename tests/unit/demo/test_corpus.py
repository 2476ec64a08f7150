"""The corpus is the same on every run, and no question gives its answer away."""

from pathlib import Path

import pytest

from demo.corpus import Corpus, Function, Query, TooFewFunctions, corpus, functions

MODULE = '''
class Box:
    def put(self, thing):
        """Put a thing into the box and close it.

        More than this first paragraph is not asked.
        """
        self.things.append(thing)

    def look(self):
        """Look."""
        return self.things

def empty():
    """Say in seven words what never happens."""

def one_line(): """Say in seven words what one does."""; return 1

async def fetch(box):
    """Take all things out of the box."""
    return box.things
'''
PUT = Function(
    "store.box.Box.put",
    "Put a thing into the box and close it.",
    "def put(self, thing):\n    self.things.append(thing)",
)
FETCH = Function("store.box.fetch", "Take all things out of the box.", "async def fetch(box):\n    return box.things")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for folder in ("store", "test"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / "box.py").write_text(MODULE)
    (tmp_path / "store" / "copy.py").write_text(MODULE)
    (tmp_path / "store" / "template.py").write_text("def {{ name }}():")
    (tmp_path / "test" / "test_box.py").write_text(MODULE)
    return tmp_path


def test_documents_are_functions_without_docstrings_once_and_without_tests(library: Path) -> None:
    assert list(functions(library)) == [PUT, FETCH]


def test_half_of_the_questions_are_labels_and_the_rest_is_load(library: Path) -> None:
    assert corpus(2, library) == Corpus(
        documents=((1, PUT), (2, FETCH)), labels=(Query(PUT.question, 1),), load=(Query(FETCH.question, 2),)
    )


def test_more_documents_than_there_are_is_an_error_that_names_the_limit(library: Path) -> None:
    with pytest.raises(TooFewFunctions, match=r"asked for 3 documents .* has 2 functions .* between 2 and 2"):
        corpus(3, library)


def test_a_larger_corpus_begins_with_the_smaller_one() -> None:
    small, large = corpus(100), corpus(200)
    assert large.documents[:100] == small.documents
