"""The text that ends engines is found by computing it alone, and no other is refused."""

from __future__ import annotations

from reembed.embedder.suspects import Suspects


def test_after_a_crash_its_texts_are_computed_alone_and_others_as_before() -> None:
    suspects = Suspects()
    suspects.crashed(["a", "b"], alone=False)
    assert [suspects.suspicious(texts) for texts in (["a"], ["c", "b"], ["c"])] == [True, True, False]
    assert suspects.guilty(["a", "b", "c"]) is None


def test_the_text_that_was_alone_when_the_engine_died_is_refused() -> None:
    suspects = Suspects()
    suspects.crashed(["a", "b"], alone=False)
    suspects.crashed(["b"], alone=True)
    assert (suspects.guilty(["a", "b"]), suspects.suspicious(["b"]), suspects.suspicious(["a"])) == (1, False, True)


def test_a_text_that_was_computed_alone_without_harm_is_free() -> None:
    suspects = Suspects()
    suspects.crashed(["a", "b"], alone=False)
    suspects.acquit(["a"])
    assert [suspects.suspicious([text]) for text in "ab"] == [False, True]


def test_one_text_in_a_first_crash_is_only_suspected() -> None:
    suspects = Suspects()
    suspects.crashed(["a"], alone=False)
    assert (suspects.guilty(["a"]), suspects.suspicious(["a"])) == (None, True)


def test_what_is_remembered_is_bounded() -> None:
    suspects = Suspects()
    suspects.crashed([str(number) for number in range(5000)], alone=False)
    assert [suspects.suspicious([text]) for text in ("0", "4999")] == [False, True]
