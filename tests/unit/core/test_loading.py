"""What the pool's status says of pods that have no model yet."""

from __future__ import annotations

import pytest

from reembed.core.loading import Loading, problem
from reembed.core.model import Problem

MODEL = "https://models/m.gguf"


@pytest.mark.parametrize(
    ("done", "size", "share"),
    [
        (0, 0, "nothing is here yet"),
        (0, 1000, "0 % of 1000 bytes are here"),
        (399, 1000, "30 % of 1000 bytes are here"),
        (1000, 1000, "100 % of 1000 bytes are here"),
    ],
)
def test_progress_is_told_in_tenths(done: int, size: int, share: str) -> None:
    said = {"a": Loading(MODEL, done, size, "closed", "")}
    assert problem(said) == Problem("ModelLoading", f"pod a fetches {MODEL}: {share}")


def test_a_source_that_fails_comes_before_pods_that_get_on() -> None:
    said = {
        "a": Loading(MODEL, 500, 1000, "closed", ""),
        "b": Loading(MODEL, 250, 1000, "half_open", "status 503"),
    }
    assert problem(said) == Problem(
        "ModelSourceFailing",
        f"pod b gets nothing of {MODEL} (status 503; circuit breaker half open); 20 % of 1000 bytes are here; it goes "
        "on by itself: look at the server, the address and the credentials",
    )


def test_pods_that_fetch_nothing_say_nothing() -> None:
    assert problem({}) is None
