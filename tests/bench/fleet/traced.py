"""Notes when each step of a pass was done, for the decisions of migrations that were written.

It wraps the operator's own functions in the process that runs it, and only when the benchmark asks where time goes; the
figures of the benchmark itself are taken without.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any

from reembed.cluster import kinds
from reembed.controller import loop, migrations, observe, operator, writer

_pass: ContextVar[dict[str, Any] | None] = ContextVar("_pass", default=None)


def trace(path: Path) -> None:
    """Write one JSON line to `path` for each pass of a migration that wrote its status."""
    woken: dict[str, float] = {}
    output = path.open("w", buffering=1)
    _wake(woken)
    _whole_pass(woken, output.write)
    _step(observe.Observer, "see", "observed")
    _step(writer.Writer, "status", "written", lambda result, kind, *_: kind == kinds.MIGRATION)
    _step(writer.Writer, "note", "noted")
    decide = migrations.decide

    @wraps(decide)
    def decided(*args: Any) -> Any:
        verdict = decide(*args)
        _note("decided")
        return verdict

    migrations.decide = decided


def _note(step: str) -> None:
    current = _pass.get()
    if current is not None:
        current[step] = monotonic()


def _wake(woken: dict[str, float]) -> None:
    wake = loop.Loops.wake

    @wraps(wake)
    def noted(self: Any, key: Any) -> None:
        if key.kind == kinds.MIGRATION:
            woken.setdefault(key.name, monotonic())
        wake(self, key)

    loop.Loops.wake = noted  # type: ignore[method-assign]


def _whole_pass(woken: dict[str, float], write: Callable[[str], object]) -> None:
    run = operator.Operator._pass

    @wraps(run)
    async def noted(self: Any, key: Any) -> Any:
        if key.kind != kinds.MIGRATION:
            return await run(self, key)
        current: dict[str, Any] = {"name": key.name, "woken": woken.pop(key.name, None), "began": monotonic()}
        token = _pass.set(current)
        try:
            return await run(self, key)
        finally:
            _pass.reset(token)
            if "written" in current:
                write(json.dumps({**current, "ended": monotonic()}) + "\n")

    operator.Operator._pass = noted  # type: ignore[method-assign]


def _step(owner: Any, name: str, step: str, applies: Callable[..., bool] = lambda *_: True) -> None:
    run = getattr(owner, name)

    @wraps(run)
    async def noted(self: Any, *args: Any, **named: Any) -> Any:
        result = await run(self, *args, **named)
        if applies(result, *args):
            _note(step)
        return result

    setattr(owner, name, noted)
