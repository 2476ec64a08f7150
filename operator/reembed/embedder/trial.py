"""What an engine is asked before anybody else asks it: how fast it is, and for the pool's reference texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from reembed.core.model import Model
from reembed.embedder import references
from reembed.embedder.failures import EngineBusy, EngineFailed, EngineUnavailable, TextRefused
from reembed.embedder.messages import Done
from reembed.embedder.probes import PROBES
from reembed.embedder.references import References, Validated
from reembed.embedder.refusals import ValidationFailed

_log = logging.getLogger("reembed.embedder")

_PAUSE_SECONDS = 1.0
# Of a request: references are short, and other pods' probes of health must not wait for all of them.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found; the speed is None for a hosted model, `validated` without references."""

    tokens_per_second: float | None = None
    validated: Validated | None = None


class Computes(Protocol):
    """An engine, or an endpoint in its place; `up` is set when it is ready for the first time."""

    @property
    def up(self) -> asyncio.Event: ...

    async def embed(self, texts: Sequence[str], *, background: bool) -> Done: ...


async def tried(engine: Computes, model: Model, path: Path | None, least: float) -> Trial:
    """Wait until an engine is ready, and return how it does.

    Raises:
        ReferencesMissing, ValidationFailed: the pool has references, and the vectors are not near them.

    """
    expected = references.read(path, model.dimensions) if path is not None else None
    await engine.up.wait()
    # A hosted model's speed is its host's, and each request may cost.
    speed = await _speed(engine) if model.hosted is None else None
    return Trial(speed, await _validated(engine, model, expected, least) if expected is not None else None)


async def _speed(engine: Computes) -> float:
    tokens, seconds = 0, 0.0
    for probe in PROBES:
        with suppress(TextRefused):  # a model that reads few tokens, or another writing
            done = await _asked(engine, [probe])
            tokens, seconds = tokens + sum(done.tokens), seconds + done.computed
    return tokens / seconds if seconds else 0.0


async def _validated(engine: Computes, model: Model, expected: References, least: float) -> Validated:
    texts, found = expected.prefixed(model), b""
    for begin in range(0, len(texts), _AT_ONCE):
        try:
            found += (await _asked(engine, texts[begin : begin + _AT_ONCE])).vectors
        except TextRefused as error:
            place = begin + error.index + 1
            raise ValidationFailed(
                f"text {place} of the references of spec.validation has no vector: {error}"
            ) from error
    return references.compare(expected, np.frombuffer(found, "<f4").reshape(len(texts), -1), least)


async def _asked(engine: Computes, texts: Sequence[str]) -> Done:
    """Ask until there is an answer: an engine may die now as at any time, an endpoint may fail."""
    while True:
        try:
            return await engine.embed(texts, background=False)
        except (EngineUnavailable, EngineBusy, EngineFailed) as error:
            _log.warning("the trial goes on soon: %s", error)
        await asyncio.sleep(_PAUSE_SECONDS)
