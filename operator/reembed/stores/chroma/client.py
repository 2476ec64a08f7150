"""Chroma's HTTP API v2 in a dozen calls, with errors that say what to do; nothing here knows what a row means.

Written on aiohttp, which every image has: the official `chromadb-client` brings telemetry and two dozen packages for
these few requests, and its calls to collections are synchronous. Vectors are sent as base64 of float32, as the server
takes them, and queries as numbers, since there it takes nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import byteorder
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import aiohttp

from reembed.stores.protocol import StoreError, StoreUnavailable

_SECONDS = 30.0
_ROWS = 500  # of one request; a server takes 5,461
_COLLECTIONS = 200
_DEFAULT_TENANT, _DEFAULT_DATABASE = "default_tenant", "default_database"


class Missing(StoreError):
    """A collection, or the database itself, is not there (any more)."""


class Refused(StoreError):
    """The server does not let this caller in."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Chroma is, and how one gets in; made of a connection string, of which no message may show anything."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str) -> Address:
        """Read `http(s)://[user:password@ | :token@]host:port[/tenant/database][?ca=BASE64]`."""
        try:
            url = urlsplit(text.strip())
            host, port = url.hostname, url.port
        except ValueError:
            host, port = None, None
        if host is None or url.scheme not in {"http", "https"}:
            raise StoreError(
                "the connection string of the index's Secret is none of Chroma's; write "
                "http(s)://[user:password@]host:port[/tenant/database]"
            )
        tenant, database = _place([unquote(part) for part in url.path.split("/") if part])
        place = f"[{host}]" if ":" in host else host
        base = f"{url.scheme}://{place}:{port or (443 if url.scheme == 'https' else 8000)}"
        path = f"/api/v2/tenants/{quote(tenant, safe='')}/databases/{quote(database, safe='')}"
        user, password = unquote(url.username or ""), unquote(url.password or "")
        return cls(base + path, _headers(user, password), _certificate(url.query))

    @property
    def server(self) -> str:
        return self.base.partition("/api/v2/")[0]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection by the id that it keeps for life; its metadata is what was given when it was made."""

    id: str
    name: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One record; `text` and `vector` only where they were asked for, `distance` of a query."""

    id: str
    values: Mapping[str, Any]
    text: str | None = None
    vector: bytes = b""
    distance: float = 0.0


class Chroma:
    """`async with Chroma(address) as chroma:`; opens without waiting for the server."""

    def __init__(self, address: Address, connections: int = 8, seconds: float = _SECONDS) -> None:
        self.address = address
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=seconds, connect=min(5.0, seconds))
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        secure: ssl.SSLContext | bool = True
        if self.address.certificate is not None:
            secure = ssl.create_default_context(cadata=self.address.certificate)
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=secure)
        headers = dict(self.address.headers)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=headers)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def heartbeat(self) -> None:
        await self._ask("GET", f"{self.address.server}/api/v2/heartbeat")

    async def database(self) -> None:
        """Raise Missing if the database, or its tenant, is not there."""
        await self._ask("GET", self.address.base)

    async def find(self, name: str) -> Collection | None:
        try:
            return _collection(await self._ask("GET", f"{self.address.base}/collections/{quote(name, safe='')}"))
        except Missing:
            return None

    async def collections(self) -> list[Collection]:
        found: list[Collection] = []
        while True:
            where = {"limit": _COLLECTIONS, "offset": len(found)}
            page = await self._ask("GET", f"{self.address.base}/collections", params=where)
            found += [_collection(one) for one in page]
            if len(page) < _COLLECTIONS:
                return found

    async def create(self, name: str, metadata: Mapping[str, Any], hnsw: Mapping[str, Any] | None = None) -> Collection:
        """Make a collection unless it is there, and return it."""
        given: dict[str, Any] = {"name": name, "metadata": dict(metadata), "get_or_create": False}
        if hnsw is not None:
            given["configuration"] = {"hnsw": dict(hnsw)}
        try:
            return _collection(await self._ask("POST", f"{self.address.base}/collections", given))
        except _Conflict:
            found = await self.find(name)
            if found is None:
                raise StoreUnavailable(f"collection {name} was deleted as it was made; it is tried again") from None
            return found

    async def delete_collection(self, name: str) -> None:
        try:
            await self._ask("DELETE", f"{self.address.base}/collections/{quote(name, safe='')}")
        except Missing:
            return

    async def count(self, collection: str) -> int:
        return int(await self._ask("GET", f"{self._of(collection)}/count"))

    async def add(self, collection: str, rows: Sequence[Row]) -> None:
        """Store rows whose ids are not there yet; those that are stay as they are."""
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            texts = [row.text for row in part]
            given: dict[str, Any] = {
                "ids": [row.id for row in part],
                "embeddings": [base64.b64encode(row.vector).decode() for row in part],
                "metadatas": [dict(row.values) for row in part],
            }
            if any(text is not None for text in texts):
                given["documents"] = texts
            await self._ask("POST", f"{self._of(collection)}/add", given)

    async def change(self, collection: str, ids: Sequence[str], values: Mapping[str, Any]) -> None:
        """Set metadata of rows; None takes a key away. Rows that are gone stay so."""
        for start in range(0, len(ids), _ROWS):
            part = list(ids[start : start + _ROWS])
            given = {"ids": part, "metadatas": [dict(values)] * len(part)}
            await self._ask("POST", f"{self._of(collection)}/update", given)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _ROWS):
            part = list(ids[start : start + _ROWS])
            await self._ask("POST", f"{self._of(collection)}/delete", {"ids": part})

    async def get(
        self,
        collection: str,
        *,
        ids: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        include: Sequence[str] = ("metadatas",),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """Return rows in the order in which they were first stored; all of them if nothing is said."""
        given: dict[str, Any] = {"include": list(include), "offset": offset}
        given |= {"ids": list(ids)} if ids is not None else {}
        given |= {"where": dict(where)} if where is not None else {}
        given |= {"limit": limit} if limit is not None else {}
        answer = await self._ask("POST", f"{self._of(collection)}/get", given)
        count = len(answer["ids"])
        values = answer.get("metadatas") or [None] * count
        texts = answer.get("documents") or [None] * count
        vectors = answer.get("embeddings") or [()] * count
        found = zip(answer["ids"], values, texts, vectors, strict=True)
        return [Row(name, one or {}, text, floats(vector)) for name, one, text, vector in found]

    async def query(self, collection: str, vector: bytes, count: int) -> list[Row]:
        """Return the nearest rows, the nearest first."""
        given = {"query_embeddings": [numbers(vector)], "n_results": count, "include": ["metadatas", "distances"]}
        answer = await self._ask("POST", f"{self._of(collection)}/query", given)
        found = zip(answer["ids"][0], answer["metadatas"][0], answer["distances"][0], strict=True)
        return [Row(name, values or {}, distance=float(distance)) for name, values, distance in found]

    def _of(self, collection: str) -> str:
        return f"{self.address.base}/collections/{collection}"

    async def _ask(
        self, verb: str, url: str, given: Mapping[str, Any] | None = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        if self._session is None:
            raise StoreUnavailable("the connection to Chroma is closed")
        try:
            async with self._session.request(verb, url, json=given, params=params, allow_redirects=False) as answer:
                text = await answer.text()
                if answer.status >= 300:
                    raise _error(answer.status, text)
                return json.loads(text) if text else None
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            raise StoreUnavailable(f"Chroma did not answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientError as error:
            raise StoreUnavailable(f"Chroma does not answer ({type(error).__name__})") from error
        except ValueError as error:
            raise StoreError("Chroma's address answers something that is not JSON; correct it in the Secret") from error


class _Conflict(StoreError):
    pass


def _error(status: int, text: str) -> StoreError:
    try:
        found = str(json.loads(text)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        found = "without a reason"
    if status == 404:
        return Missing(f"Chroma says: {found}")
    if status in {401, 403}:
        return Refused(f"Chroma refuses access with {status}")
    if status == 409:
        return _Conflict(f"Chroma says: {found}")
    if status in {408, 429} or status >= 500:
        return StoreUnavailable(f"Chroma answered {status}: {found}")
    return StoreError(f"Chroma refused with {status}: {found}")


def _collection(found: Mapping[str, Any]) -> Collection:
    return Collection(found["id"], found["name"], found.get("metadata") or {})


def _place(path: Sequence[str]) -> tuple[str, str]:
    if len(path) == 0:
        return _DEFAULT_TENANT, _DEFAULT_DATABASE
    if len(path) == 2:
        return path[0], path[1]
    raise StoreError("the connection string's path must be empty or /tenant/database; correct the index's Secret")


def _headers(user: str, password: str) -> dict[str, str]:
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {password}", "X-Chroma-Token": password} if password else {}


def _certificate(query: str) -> str | None:
    given = parse_qs(query)
    if unknown := sorted(given.keys() - {"ca"}):
        raise StoreError(f"the connection string has a parameter {unknown[0]!r:.40}; only ca is known")
    if "ca" not in given:
        return None
    try:
        text = base64.b64decode(given["ca"][0].replace(" ", "+"), validate=True).decode("ascii")
        ssl.create_default_context(cadata=text)
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError, ValueError):
        raise StoreError("the connection string's ca is not base64 of a PEM certificate; correct the Secret") from None
    return text


def numbers(vector: bytes) -> list[float]:
    """Return little-endian float32 bytes as numbers."""
    found = array("f", vector)
    if byteorder == "big":
        found.byteswap()
    return found.tolist()


def floats(vector: Sequence[float]) -> bytes:
    """Return numbers as little-endian float32 bytes."""
    found = array("f", vector)
    if byteorder == "big":
        found.byteswap()
    return found.tobytes()


class Connected:
    """Who has a client of its own: `async with` opens it, and closes it."""

    def __init__(self, chroma: Chroma) -> None:
        self._chroma = chroma

    async def __aenter__(self) -> Self:
        await self._chroma.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._chroma.close()
