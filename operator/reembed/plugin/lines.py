"""One migration on one line: what `status` and `get --watch` print where no terminal can be redrawn."""

from __future__ import annotations

from reembed.plugin.overview import Overview
from reembed.plugin.wording import joined, weight_of


def line(overview: Overview) -> str:
    """Return where a migration is and why; two equal lines mean that nothing worth telling changed."""
    step = f"step {overview.step_text}" if overview.step_text else ""
    weight = f"weight {weight_of(overview)}" if overview.weight else ""
    embedded = f"{overview.embedded} % embedded" if overview.state == "Backfilling" and overview.embedded else ""
    others = [one.name for one in overview.triggers or () if one.name != overview.reason and not one.dry_run]
    triggers = f"over the limit of {' and '.join(others)}" if others else ""
    where = joined(overview.state or "Pending", step, weight, embedded, triggers)
    if not overview.state:
        return f"{where}: no operator has looked at it yet"
    return f"{where}: {verdict(overview)}"


def verdict(overview: Overview) -> str:
    """Return the reason with its message, and what is still waited for."""
    waiting = f"; waits for: {overview.waiting_for}" if overview.waiting_for else ""
    return f"{overview.reason}: {overview.message}{waiting}" if overview.message else f"{overview.reason}{waiting}"
