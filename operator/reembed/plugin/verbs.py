"""What each command of `kubectl reembed` does: fetch, show, and return the exit code.

Called by `plugin.__main__`. What is shown comes from the pure views; the clock is read here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from rich.text import Text

from reembed.cluster.client import Cluster
from reembed.core.model import Verb
from reembed.plugin import command, document, exits, inspecting, panel
from reembed.plugin.advice import advice
from reembed.plugin.arguments import Arguments
from reembed.plugin.connection import connect
from reembed.plugin.follow import Look, looks
from reembed.plugin.lines import line, verdict
from reembed.plugin.lookup import Place, find, find_all, no_migrations, surrounded
from reembed.plugin.output import Output
from reembed.plugin.overview import Overview
from reembed.plugin.table import table
from reembed.plugin.tree import tree
from reembed.plugin.wording import columns, mark_of, spell


async def run(arguments: Arguments, output: Output) -> int:
    """Do what is asked and return the exit code.

    Raises:
        Problem: it could not be done.

    """
    async with connect(arguments.target) as (cluster, namespace):
        if arguments.does == "list":
            return await _list(cluster, None if arguments.all_namespaces else namespace, arguments, output)
        if arguments.panel:
            return await panel.run(cluster, arguments, output)
        place = Place(cluster, namespace, arguments.name)
        act = _VERBS.get(arguments.does, _command)
        return await act(place, arguments, output)


async def _list(cluster: Cluster, namespace: str | None, arguments: Arguments, output: Output) -> int:
    found = await find_all(cluster, namespace)
    if arguments.json:
        output.json(document.migrations(found, _now()))
    elif found:
        output.lines(table(found, _now(), all_namespaces=namespace is None))
    else:
        output.aside(await no_migrations(cluster, namespace) if namespace else "there are no migrations")
    return exits.OK


async def _get(place: Place, arguments: Arguments, output: Output) -> int:
    if arguments.watch:
        return await _watch(place, arguments, output)
    overview = await surrounded(place.cluster, await find(place))
    _show(overview, arguments, output)
    return exits.OK


def _show(overview: Overview, arguments: Arguments, output: Output) -> None:
    if arguments.json:
        output.json(document.migration(overview, _now()), one_line=arguments.watch)
    else:
        output.view(tree(overview, _now()))


async def _watch(place: Place, arguments: Arguments, output: Output) -> int:
    """Show the migration until it ended: redrawn on a terminal, else whole, then a line for each change, then whole."""
    async with aclosing(looks(place, surroundings=True)) as seen:
        if output.redraws and not arguments.json:
            await _redraw(seen, output)
        else:
            await _print_changes(seen, arguments, output)
    return exits.OK


async def _redraw(seen: AsyncIterator[Look], output: Output) -> None:
    with output.live() as draw:
        async for look in seen:
            draw(tree(look.overview, _now()), look.problem)
            if look.overview.ended:
                return


async def _print_changes(seen: AsyncIterator[Look], arguments: Arguments, output: Output) -> None:
    told: str | None = None
    async for look in seen:
        if look.problem:
            output.aside(look.problem)
            continue
        new = line(look.overview)
        if told is None or (arguments.json and new != told) or look.overview.ended:
            _show(look.overview, arguments, output)
        elif new != told:
            output.lines([Text(f"{_now():%H:%M:%S} {new}")])
        told = new
        if look.overview.ended:
            return


async def _status(place: Place, arguments: Arguments, output: Output) -> int:
    overview = await _until_ended(place, arguments.wait, output)
    if arguments.json:
        output.json(document.migration(overview, _now()))
        return exits.of_end(overview)
    output.lines(_verdict(overview, arguments.wait))
    return exits.of_end(overview)


async def _until_ended(place: Place, wait: timedelta | None, output: Output) -> Overview:
    """Return the migration when it ended, or as it was seen last when the time is over; tell of changes meanwhile."""
    last = await find(place)
    told = ""
    try:
        async with asyncio.timeout(wait.total_seconds() if wait is not None else None), aclosing(looks(place)) as seen:
            async for look in seen:
                last = look.overview
                if last.ended:
                    break
                new = look.problem or line(last)
                if new != told:
                    output.aside(f"{_now():%H:%M:%S} {new}")
                told = new
    except TimeoutError:
        pass
    return last


def _verdict(overview: Overview, wait: timedelta | None) -> list[Text]:
    mark = mark_of(overview)
    if overview.ended:
        text = f"{mark.sign} {overview.name}: {overview.state}: {verdict(overview)}"
    else:
        after = f"after {spell(wait)}" if wait else "now"
        text = f"{mark.sign} {overview.name} has not ended {after}: {line(overview)}"
    return [Text(text, mark.style), *columns([[f"  {one.command}", one.effect] for one in advice(overview)])]


async def _command(place: Place, arguments: Arguments, output: Output) -> int:
    sent = await command.send(place, Verb(arguments.does))
    wait = arguments.wait or timedelta(0)
    answer = await command.answer(place, sent, wait.total_seconds()) if wait else None
    if arguments.json:
        told = (
            {"accepted": answer.accepted, "message": answer.message} if answer else {"accepted": None, "message": None}
        )
        output.json({"verb": sent.verb.value, "at": sent.at, "nonce": sent.nonce, **told})
    elif answer is not None:
        word, style = ("accepted", "green") if answer.accepted else ("refused", "red")
        output.lines([Text.assemble((word, style), f": {answer.message}")])
    else:
        output.lines([Text(_unanswered(place, sent, wait))])
    if answer is None:
        return exits.UNDECIDED if wait else exits.OK
    return exits.OK if answer.accepted else exits.NOT_OK


def _unanswered(place: Place, sent: command.Sent, wait: timedelta) -> str:
    look = f"`kubectl reembed get {place.name} -n {place.namespace}` shows the answer"
    if not wait:
        return f"sent: {sent.verb.value} for {sent.at}; {look}"
    return (
        f"no answer within {spell(wait)}: the command stays and is answered when the operator looks; {look}. Is the "
        "operator running? `kubectl get pods -A -l app.kubernetes.io/component=operator`"
    )


def _now() -> datetime:
    return datetime.now(UTC)


_VERBS: Mapping[str, Callable[[Place, Arguments, Output], Awaitable[int]]] = {
    "get": _get,
    "status": _status,
    "inspect": inspecting.run,
}
