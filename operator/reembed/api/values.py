"""The API's written values: durations (`1h30m`), shares (`70%`), factors (`10x`) and quantities (`512Mi`)."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  # in milliseconds
_DURATION = re.compile(r"(?:\d+(?:ms|d|h|m|s))+")
_PART = re.compile(r"(\d+)(ms|d|h|m|s)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_FACTOR = re.compile(r"(\d+(?:\.\d+)?)x")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SCALES: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


def parse_duration(text: str) -> timedelta:
    """Return `1d2h30m5s250ms` as a timedelta.

    Raises:
        ValueError: it is not of that form.

    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m or 1h30m")
    return timedelta(milliseconds=sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


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
        ValueError: it is not a percentage from 0 to 100.

    """
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"{text!r} is not a share from 0% to 100%")
    return float(Decimal(match[1]) / 100)


def parse_factor(text: str) -> float:
    """Return `10x` as 10.0.

    Raises:
        ValueError: it is not a number followed by x.

    """
    match = _FACTOR.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a factor such as 10x")
    return float(match[1])


def parse_quantity(text: str) -> int:
    """Return a quantity such as `512Mi` in whole units, rounded up as Kubernetes does.

    Raises:
        ValueError: it is not a quantity.

    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 512Mi or 2")
    exact = Decimal(match[1]) * _SCALES[match[2] or ""]
    return int(exact.to_integral_value(rounding="ROUND_CEILING"))
