"""`kubectl reembed inspect INDEX`: has a collection looked at, waits for the outcome and shows it.

The command is an annotation of the index with a nonce, answered in `status.inspection.asked`; the outcome stands beside
it. With `--last` nothing is asked for: what was found last is shown.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from reembed.api.inspections import render_asked
from reembed.cluster import kinds
from reembed.core.model import AskedInspection
from reembed.plugin import exits
from reembed.plugin.arguments import Arguments
from reembed.plugin.lookup import Place
from reembed.plugin.output import Output
from reembed.plugin.problems import Problem, Vanished, explained, passing
from reembed.plugin.wording import spell

Status = Mapping[str, Any]

_MANAGER = "kubectl-reembed"
_INTERVAL_SECONDS = 1.0
_NEAR = 0.98


async def run(place: Place, arguments: Arguments, output: Output) -> int:
    """Do what is asked and return the exit code: 0 if nothing was found.

    Raises:
        Problem: the index is not there, or may not be looked at or changed.

    """
    raw = await _index(place)
    if arguments.last:
        return _show(_status(raw), arguments, output)
    nonce = await _send(place, raw, arguments.collection)
    seconds = arguments.wait.total_seconds() if arguments.wait is not None else 0.0
    found = await _answer(place, str(raw["metadata"]["uid"]), nonce, seconds)
    asked = found.get("asked") or {}
    if asked.get("nonce") != nonce or asked.get("outcome") == "Accepted":
        where = f"`kubectl reembed inspect {place.name} --last -n {place.namespace}` shows what it finds"
        after = f"after {spell(arguments.wait)}" if arguments.wait else "now"
        output.aside(f"asked for, not done {after}; it goes on, and {where}")
        return exits.UNDECIDED if seconds else exits.OK
    if asked.get("outcome") == "Refused":
        output.lines([Text.assemble(("refused", "red"), f": {asked.get('message', '')}")])
        return exits.NOT_OK
    return _show(found, arguments, output)


def view(found: Status) -> list[Text]:
    """Return the lines that tell an outcome."""
    findings = found.get("findings") or []
    looked = f"{found['inspected']} of {found['documents']} documents looked at, {found['at']}"
    lines = [Text(f"collection {found['collection']}: {looked}")]
    for one in findings:
        such = f" (such as {', '.join(one['examples'])})" if one.get("examples") else ""
        share = f"{one['share']:.2%}"
        lines.append(
            Text.assemble(("✘ ", "red"), (one["reason"], "bold"), f" {one['count']}, {share}: {one['message']}{such}")
        )
    if not findings:
        lines.append(Text.assemble(("✔ ", "green"), "nothing is wrong with what was looked at"))
    again = found.get("reproduced")
    if again is None:
        lines.append(Text("  embedded again: nothing"))
    else:
        numbers = f"median cosine {again['medianCosine']:.4f}, 95 % reach {again['p5Cosine']:.4f}"
        near = f"{again['share']:.1%} reach {_NEAR}"
        lines.append(Text(f"  embedded again: {again['sample']} documents, {numbers}, {near}"))
    norms = found.get("norms")
    if norms is not None:
        lines.append(Text(f"  lengths: {norms['min']:.4g} to {norms['max']:.4g}, median {norms['median']:.4g}"))
    return lines


def _show(found: Status, arguments: Arguments, output: Output) -> int:
    if "id" not in found:
        output.aside("nothing was inspected yet; the command without --last does")
        return exits.NOT_OK
    if arguments.json:
        output.json({name: value for name, value in found.items() if name != "asked"})
    else:
        output.lines(view(found))
    return exits.NOT_OK if found.get("findings") else exits.OK


async def _index(place: Place) -> dict[str, Any]:
    with explained(f"get index {place.name!r}", place.namespace):
        raw = await place.cluster.get(kinds.INDEX, place.namespace, place.name)
    if raw is None:
        raise Problem(
            f"there is no index {place.name!r} in namespace {place.namespace!r}; `kubectl get eidx -A` lists all"
        )
    return dict(raw)


async def _send(place: Place, raw: Mapping[str, Any], collection: str | None) -> str:
    asked = AskedInspection(raw["metadata"]["uid"], secrets.token_hex(8), collection)
    key, value = render_asked(asked)
    change = {"metadata": {"uid": asked.uid, "annotations": {key: value}}}
    with explained(f"inspect index {place.name!r}", place.namespace):
        await place.cluster.patch(kinds.INDEX, place.namespace, place.name, change, manager=_MANAGER)
    return asked.nonce


async def _answer(place: Place, uid: str, nonce: str, seconds: float) -> Status:
    """Return `status.inspection` once the command is answered, or as it is when the time is over."""
    found: Status = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await _look(place, uid, found)
                asked = found.get("asked") or {}
                if asked.get("nonce") == nonce and asked.get("outcome") != "Accepted":
                    return found
                await asyncio.sleep(_INTERVAL_SECONDS)
    except TimeoutError:
        return found


async def _look(place: Place, uid: str, before: Status) -> Status:
    try:
        raw = await _index(place)
    except Problem as problem:
        if passing(problem):
            return before
        raise
    if raw["metadata"]["uid"] != uid:
        raise Vanished(f"index {place.name!r} was made anew before it was inspected")
    return _status(raw)


def _status(raw: Mapping[str, Any]) -> Status:
    found: Status = (raw.get("status") or {}).get("inspection") or {}
    return found
