"""Commands: annotations of an EmbeddingMigration, and what its status keeps of those that were answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reembed.api.fields import Fields, Raw
from reembed.api.values import format_time, parse_time
from reembed.core.model import Command, Consumed, Verb

PREFIX = "reembed.dev/"
# A nonce is kept in status; whoever writes a longer one is told so.
_LONGEST = 128


def parse_commands(raw: Raw) -> tuple[Command, ...]:
    """Return the commands that an object's annotations hold, those too that cannot be read: they are refused."""
    annotations = raw["metadata"].get("annotations") or {}
    return tuple(_command(verb, annotations[key]) for verb in Verb if (key := f"{PREFIX}{verb.value}") in annotations)


def render_command(command: Command) -> tuple[str, str]:
    """Return the annotation's key and value."""
    value = {"uid": command.uid, "at": command.at, "nonce": command.nonce}
    return f"{PREFIX}{command.verb.value}", json.dumps(value)


def parse_consumed(one: Fields) -> Consumed:
    return Consumed(
        verb=one.choice("verb", Verb),
        nonce=one.text("nonce"),
        at=one.text("at"),
        time=one.parsed("time", parse_time),
        accepted=one.text("outcome") == "Accepted",
        message=one.text("message", ""),
    )


def render_consumed(one: Consumed) -> dict[str, Any]:
    return {
        "verb": one.verb.value,
        "nonce": one.nonce,
        "at": one.at,
        "time": format_time(one.time),
        "outcome": "Accepted" if one.accepted else "Refused",
        "message": one.message,
    }


def _command(verb: Verb, text: str) -> Command:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    wanted = ("uid", "at", "nonce")
    if isinstance(found, Mapping) and all(_fits(found.get(name)) for name in wanted):
        return Command(verb, *(found[name] for name in wanted))
    problem = (
        f'annotation {PREFIX}{verb.value} must be JSON like {{"uid": "...", "at": "1/Canary/0", "nonce": "..."}}, each'
        f" a text of 1 to {_LONGEST} characters; use `kubectl reembed {verb.value}`"
    )
    # The text itself names it, so that it is refused once.
    return Command(verb, "", "", hashlib.sha256(text.encode()).hexdigest()[:16], problem)


def _fits(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST
