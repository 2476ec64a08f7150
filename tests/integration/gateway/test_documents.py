"""A gateway over a real Chroma: what is written through it is there, and a gateway that came too early says so."""

from __future__ import annotations

import httpx

from reembed.gateway.app import Gateway, Settings
from reembed.stores import opening
from tests.fixtures.routing import FakeSource
from tests.fixtures.stores import KEY, SPEC, UID


async def test_documents_are_written_through_a_gateway_as_soon_as_the_worker_has_made_their_place(
    chroma_dsn: str,
) -> None:
    async with opening.searching(chroma_dsn, KEY, 4) as store, opening.keeping(chroma_dsn, KEY, UID) as keeper:
        app = Gateway(Settings("default", "docs", "pod"), FakeSource(), lambda arm: None, store).app()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            early = await http.put("/v1/documents", json={"id": "a/b", "text": "one"})
            await keeper.prepare(SPEC)
            await keeper.capture(SPEC)
            put = await http.put("/v1/documents", json={"id": "a/b", "text": "one", "metadata": {"n": [1]}})
            again = await http.put("/v1/documents", json={"id": "a/b", "text": "one", "metadata": {"n": [1]}})
            found = await http.get("/v1/documents/a/b")
            deleted = await http.delete("/v1/documents/a/b")
            gone = await http.get("/v1/documents/a/b")
            other = await http.post("/v1/documents", json={})
    revision = put.json()["documents"][0]["revision"]
    assert (early.status_code, early.json()["error"]["type"]) == (503, "store_refused")
    assert again.json() == put.json()
    assert found.json() == {"id": "a/b", "revision": revision, "text": "one", "metadata": {"n": [1]}}
    assert deleted.json()["documents"][0]["revision"] > revision
    assert (gone.status_code, other.status_code) == (404, 405)
