"""What pods answer comes in as many pieces as the network likes, and an agent reads all of them or nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from reembed.panel.gateways import GatewayLooks
from reembed.panel.probes import Prober

PAGE = b"reembed_memory_used_bytes 5e+08\nreembed_memory_limit_bytes 1e+09\n"
INDEX = {"epoch": 3, "weight": 0, "serving": None, "candidate": None}


@asynccontextmanager
async def pod(pieces: Sequence[bytes]) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run a pod that answers everything in these pieces, each sent once the one before has been read."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            for _ in range(50):
                await asyncio.sleep(0)
        return response

    made = web.Application()
    made.router.add_get("/{any:.*}", answer)
    async with TestServer(made) as server, aiohttp.ClientSession() as session:
        yield f"{server.host}:{server.port}", session


async def scraped(pieces: Sequence[bytes]) -> Any:
    async with pod(pieces) as (address, session):
        return await Prober(session, b"seed", 8080)._scrape(address)


async def test_a_page_in_pieces_is_one_page() -> None:
    assert await scraped([PAGE[:20], PAGE[20:40], PAGE[40:]]) == await scraped([PAGE])


async def test_a_gateways_report_in_pieces_is_one_report() -> None:
    said = json.dumps(INDEX).encode()
    async with pod([said[:9], said[9:]]) as (address, session):
        found = await GatewayLooks(session, 8080)._report("gw", address)
    assert found is not None
    assert found.epoch == 3


@pytest.mark.parametrize("pieces", [[PAGE * 1_000] * 20], ids=["a page without end"])
async def test_what_is_longer_than_any_of_ours_is_not_read_in_part(pieces: list[bytes]) -> None:
    assert await scraped(pieces) is None
