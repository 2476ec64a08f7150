"""What every life shares: the operator's metrics, which are costly to make and never looked at, and silence."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from reembed.controller.web import Metrics


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Operators that die in the middle of anything have much to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
