"""Exit codes of `kubectl reembed`, on which pipelines rely; docs/cli.md explains them."""

from __future__ import annotations

from reembed.plugin.overview import SUCCEEDED, Overview

OK = 0  # shown, Succeeded, accepted
NOT_OK = 1  # RolledBack, Failed, refused
UNDECIDED = 2  # nothing was decided in time
FAILED = 3  # usage, not found, no rights, no cluster
INTERRUPTED = 130  # as a shell tells Ctrl-C


def of_end(overview: Overview) -> int:
    """Return how a migration ended, or that it has not."""
    if not overview.ended:
        return UNDECIDED
    return OK if overview.state == SUCCEEDED else NOT_OK
