"""Counts an API server's answered writes to the kinds that an operator writes, from its own metrics."""

from __future__ import annotations

import re

_VERBS = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
# Without Leases: who leads renews one every two seconds, whatever there is to do.
_RESOURCES = frozenset(
    {
        *("embedderpools", "embeddingindexes", "embeddingmigrations"),
        *("deployments", "services", "pods", "jobs", "poddisruptionbudgets", "events"),
    }
)


def writes(exposition: str) -> int:
    total = 0
    for labels, value in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", exposition, re.MULTILINE):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if found["verb"] in _VERBS and found["resource"] in _RESOURCES:
            total += int(float(value))
    return total
