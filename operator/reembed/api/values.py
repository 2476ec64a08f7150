"""The API's written values: durations (`1h30m`), shares (`70%`), factors (`10x`), quantities (`512Mi`) and times.

Whatever the CRDs' rules let through can be read here; a test feeds one to the other.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  # in milliseconds
_DURATION = re.compile(r"(?:[0-9]+(?:ms|d|h|m|s))+")
_PART = re.compile(r"([0-9]+)(ms|d|h|m|s)")
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_FACTOR = re.compile(r"([0-9]+(?:\.[0-9]+)?)x")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SCALES: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


class InvalidValue(ValueError):
    """A text is not what it should be; it has to be written differently."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found!r} is not {expected}")
        self.expected = expected


def parse_duration(text: str) -> timedelta:
    """Return `1d2h30m5s250ms` as a timedelta.

    Raises:
        InvalidValue: it is not of that form, or longer than a timedelta can be.

    """
    if not _DURATION.fullmatch(text):
        raise InvalidValue(text, "a duration such as 90s, 5m or 1h30m")
    try:
        return timedelta(milliseconds=sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    except OverflowError as error:
        raise InvalidValue(text, f"a duration of at most {timedelta.max.days} days") from error


def format_duration(duration: timedelta) -> str:
    """Return a duration in the largest units that fit, to the millisecond; `0s` for none."""
    left = max(duration // timedelta(milliseconds=1), 0)
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_share(text: str) -> float:
    """Return `70%` as 0.7.

    Raises:
        InvalidValue: it is not a percentage from 0 to 100.

    """
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise InvalidValue(text, "a share from 0% to 100%")
    return float(Decimal(match[1]) / 100)


def parse_factor(text: str) -> float:
    """Return `10x` as 10.0.

    Raises:
        InvalidValue: it is not a number followed by x.

    """
    match = _FACTOR.fullmatch(text)
    if match is None:
        raise InvalidValue(text, "a factor such as 10x")
    return float(match[1])


def parse_quantity(text: str) -> int:
    """Return a quantity such as `512Mi` in whole units, rounded up as Kubernetes does.

    Raises:
        InvalidValue: it is not a quantity.

    """
    return int(parse_exact_quantity(text).to_integral_value(rounding="ROUND_CEILING"))


def parse_exact_quantity(text: str) -> Decimal:
    """Return a quantity such as `250m` as it is.

    Raises:
        InvalidValue: it is not a quantity.

    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidValue(text, "a quantity such as 512Mi or 2")
    return Decimal(match[1]) * _SCALES[match[2] or ""]


def parse_time(text: str) -> datetime:
    """Return `2026-01-01T12:00:00Z` as an aware datetime.

    Raises:
        InvalidValue: it is not a time, or does not say its zone.

    """
    expected = "a time such as 2026-01-01T12:00:00Z"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(text, expected) from error
    if time.tzinfo is None:
        raise InvalidValue(text, expected)
    return time


def format_time(time: datetime) -> str:
    """Return a time of UTC as the API writes it, to the millisecond."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
