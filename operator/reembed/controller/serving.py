"""Serves each namespace by itself: lists it, opens its loops, watches it; whatever fails begins anew.

A namespace that cannot be listed (it was deleted, or its Role with it) holds up no other one. Its own loops wait until
everything of it was seen once; later failures leave them running on what is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from reembed.controller.listing import Lists
from reembed.controller.loop import Loops
from reembed.controller.tasks import end

# Between the failure of a namespace's watches and the next try, in seconds; kopf itself has tried a few times by then.
_PAUSE = 5.0

_LOGGER = logging.getLogger("reembed.controller")

Watch = Callable[[str], Coroutine[Any, Any, None]]


async def serve(namespaces: Sequence[str], lists: Lists, loops: Loops, watch: Watch, stop: asyncio.Event) -> None:
    """Serve `namespaces` until `stop` is set, and end the loops."""
    tasks = [asyncio.create_task(_serve_one(one, lists, loops, watch), name=f"namespace {one}") for one in namespaces]
    try:
        await stop.wait()
    finally:
        await end(tasks)
        await loops.close()


async def _serve_one(namespace: str, lists: Lists, loops: Loops, watch: Watch) -> None:
    while True:
        try:
            await lists.all(namespace)
            loops.open(namespace)
            await _keep_up(namespace, lists, watch)
        except Exception:
            _LOGGER.exception("the watches of namespace %s failed; they begin anew in %g s", namespace, _PAUSE)
        await asyncio.sleep(_PAUSE)


async def _keep_up(namespace: str, lists: Lists, watch: Watch) -> None:
    """Watch and list until one of them fails."""
    listing = asyncio.create_task(lists.keep(namespace))
    watching = asyncio.create_task(watch(namespace))
    try:
        done, _ = await asyncio.wait((listing, watching), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end((listing, watching))
