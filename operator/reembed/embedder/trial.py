"""What an engine is asked before anybody else asks it: for the probes, and for the pool's reference texts.

The probes tell how fast it is, and by their vectors which class it belongs to (`embedder.membership`).
"""

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
from reembed.embedder.sketch import sketch

_log = logging.getLogger("reembed.embedder")

_PAUSE_SECONDS = 1.0
# Of a request: references are short, and other pods' probes of health must not wait for all of them.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found; the speed is None for a hosted model, `validated` without references.

    `probes` is a sketch of their vectors, empty for a hosted model, and for one that reads none of them.
    """

    tokens_per_second: float | None = None
    validated: Validated | None = None
    probes: str = ""


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
    # A hosted model's speed is its host's, it looks after its probes itself, and each request may cost.
    speed, probes = await _probed(engine) if model.hosted is None else (None, "")
    validated = await _validated(engine, model, expected, least) if expected is not None else None
    return Trial(speed, validated, probes)


async def _probed(engine: Computes) -> tuple[float, str]:
    """Return tokens a second, and a sketch of the probes' vectors, each computed alone.

    A probe that the model does not take is left out. Every pod of the model does so, and sketches stay comparable.
    """
    tokens, seconds, vectors = 0, 0.0, list[bytes]()
    for probe in PROBES:
        with suppress(TextRefused):  # a model that reads few tokens, or another writing
            done = await _asked(engine, [probe])
            tokens, seconds = tokens + sum(done.tokens), seconds + done.computed
            vectors.append(done.vectors)
    found = sketch(np.stack([np.frombuffer(one, "<f4") for one in vectors])) if vectors else ""
    return (tokens / seconds if seconds else 0.0), found


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
