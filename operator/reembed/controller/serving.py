"""Serves each namespace by itself: lists it, opens its loops, watches it; whatever fails begins anew.

A namespace that cannot be listed (it was deleted, or its Role with it) holds up no other one. Its own loops wait until
everything of it was seen once; later failures leave them running on what is known.

A replica that does not lead lists and watches as well, and runs no loop. When it leads, it lists once more before its
loops open: what the leader before it wrote may not have come by its watches yet, and a pass that misses an index would
take away the pods that serve it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from reembed.controller import garbage
from reembed.controller.listing import Lists
from reembed.controller.loop import Loops
from reembed.controller.tasks import end

# Between the failure of a namespace's watches and the next try, in seconds; kopf itself has tried a few times by then.
_PAUSE = 5.0
# How long a list is put off for the Lease, in seconds.
_MOMENT = 0.5

_LOGGER = logging.getLogger("reembed.controller")

Watch = Callable[[str], Coroutine[Any, Any, None]]


async def serve(
    namespaces: Sequence[str], lists: Lists, loops: Loops, watch: Watch, leads: asyncio.Event, stop: asyncio.Event
) -> None:
    """Serve `namespaces` until `stop` is set, with loops once `leads` is, and end the loops."""
    served = [_serve_one(one, lists, loops, watch, leads) for one in namespaces]
    tasks = [asyncio.create_task(one, name=f"namespace {name}") for name, one in zip(namespaces, served, strict=True)]
    try:
        await stop.wait()
    finally:
        await end(tasks)
        await loops.close()


async def _serve_one(namespace: str, lists: Lists, loops: Loops, watch: Watch, leads: asyncio.Event) -> None:
    while True:
        try:
            led = await _soon(leads)
            await lists.all(namespace)
            garbage.settle()
            if led:
                await loops.open(namespace, lists.own(namespace))
            await _keep_up(_list(namespace, lists, loops, None if led else leads), watch(namespace))
        except Exception:
            _LOGGER.exception("the watches of namespace %s failed; they begin anew in %g s", namespace, _PAUSE)
        await asyncio.sleep(_PAUSE)


async def _soon(leads: asyncio.Event) -> bool:
    """Return whether this replica leads after a moment: one that was restarted does, and needs no second list then."""
    try:
        async with asyncio.timeout(_MOMENT):
            await leads.wait()
    except TimeoutError:
        return False
    return True


async def _list(namespace: str, lists: Lists, loops: Loops, leads: asyncio.Event | None) -> None:
    """List for ever; with `leads`, open the loops once that is set, from a list that is younger than that."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lists.keep(namespace))
        if leads is not None:
            await leads.wait()
            await lists.all(namespace)
            await loops.open(namespace, lists.own(namespace))


async def _keep_up(*work: Coroutine[Any, Any, None]) -> None:
    """Watch and list until one of them fails."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end(tasks)
