"""How fast a file may be written while memory is short, and whether its pages stay in the page cache. Pure.

Pages that are written count towards the container's memory until they are on the disk, so a download can push a
container that is nearly full over its limit. What counts here is memory that cannot be reclaimed, as a share of the
limit.
"""

from __future__ import annotations

# Shares of the limit: below the first nothing is held back, from the second on nothing is written.
FREE_BELOW = 0.70
PAUSE_FROM = 0.95
# Bytes a second at both ends of the range between: faster than most networks, and a trickle.
_FASTEST = 256 << 20
_SLOWEST = 4 << 20


def rate(used: int, limit: int) -> float | None:
    """Return how many bytes a second may be written: None for no bound, 0 for a pause.

    It falls geometrically from 256 MiB/s at 70 % of the limit to 4 MiB/s at 95 %.
    """
    share = used / limit if limit > 0 else 1.0
    if share < FREE_BELOW:
        return None
    if share >= PAUSE_FROM:
        return 0.0
    way = (share - FREE_BELOW) / (PAUSE_FROM - FREE_BELOW)
    return float(_FASTEST * (_SLOWEST / _FASTEST) ** way)


def keeps_pages(size: int, used: int, limit: int) -> bool:
    """Return whether a file's pages may stay in the page cache: the model is mapped from them a moment later.

    Where the whole file does not fit beside what is used, each page that stays drives out another.
    """
    return used + size < FREE_BELOW * limit
