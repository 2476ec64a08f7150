"""What an index's gateways say that they serve, and since when the agent has seen all of them follow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from reembed.answers import whole
from reembed.api.fields import InvalidField
from reembed.api.reports import parse_gateway_report
from reembed.core import names, traffic
from reembed.core.migration import Seen, SeenIndex
from reembed.core.model import GatewayReport
from reembed.core.quorum.evidence import Gateways

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class _Followed:
    """Since when a share is followed, by the last look before, and when it was looked at last."""

    share: tuple[int, int]  # epoch and weight
    since: datetime


class GatewayLooks:
    """One index's gateways over time."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._port = port
        self._followed: _Followed | None = None
        self._looked: datetime | None = None

    async def look(self, index: SeenIndex, addresses: Mapping[str, str]) -> Gateways:
        found = await asyncio.gather(*(self._report(pod, address) for pod, address in addresses.items()))
        at = datetime.now(UTC)
        reports = tuple(report for report in found if report is not None)
        running = tuple(sorted(addresses))
        follows = traffic.behind(Seen(index, None, None, None, reports, running)) is None
        self._follow(index, at, follows=follows)
        since = self._followed.since if self._followed is not None else None
        return Gateways(at, running, reports, since)

    def _follow(self, index: SeenIndex, at: datetime, *, follows: bool) -> None:
        routing = index.status.routing
        share = (routing.epoch, routing.weight)
        if not follows:
            self._followed = None
        elif self._followed is None or self._followed.share != share:
            # They began at some time since the last look, which is in favour of who waits for the hold to end.
            self._followed = _Followed(share, self._looked or at)
        self._looked = at

    async def _report(self, pod: str, address: str) -> GatewayReport | None:
        url = f"http://{names.at(address, self._port)}/v1/index"
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as response:
                if response.status != 200:
                    return None
                return parse_gateway_report(json.loads(await whole(response, _LONGEST)), pod)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, InvalidField):
            return None
