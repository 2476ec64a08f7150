"""Six verbs over the Kubernetes API: get, list, watch, apply, patch, delete; objects are plain dicts.

Used by the controller, the gateways and the store workers, so that none of them knows a URL, a content type or a
status code. Plain dicts keep the memory of a process flat; `reembed.api` turns them into types. Every write names its
field manager. Nothing here retries: a level-triggered loop that looks again is the retry.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from reembed.cluster.access import Access, in_pod, of_account, of_kubeconfig
from reembed.cluster.kinds import Kind

Object = dict[str, Any]

# A watch is renewed after this long: a connection that died without a word is noticed by then.
_WATCH_SECONDS = 60
_REQUEST_SECONDS = 30
_CONNECTIONS = 100
# A watch tells an object in one line, and etcd takes objects of a megabyte and a half.
_LONGEST_LINE = 2**21
# Objects in one answer: it takes some milliseconds to decode, in which nothing else goes on.
_PAGE = 100


class ClusterError(Exception):
    """The API server could not do what was asked; looking again later may help."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Conflict(ClusterError):
    """Somebody else wrote first: read again and decide anew."""


class Gone(ClusterError):
    """A watch can't go on from where it stood: list again."""


class Refused(ClusterError):
    """The object or the account is not accepted; looking again will not help until one of them changes."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of a kind in a namespace at one moment: what is not in it, and not newer than it, does not exist."""

    objects: list[Object]
    version: str  # the list's own resourceVersion


class Cluster:
    """One connection pool to one API server."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self._access = access
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str | None = None) -> AsyncIterator[Cluster]:
        """Connect with `kubeconfig`, else with the pod's service account, else with the user's own configuration."""
        access = of_account() if kubeconfig is None and in_pod() else (await of_kubeconfig(kubeconfig))[0]
        async with cls.of(access) as cluster:
            yield cluster

    @classmethod
    @asynccontextmanager
    async def of(cls, access: Access) -> AsyncIterator[Cluster]:
        """Connect as `access` says."""
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=access.tls)
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_LONGEST_LINE
        )
        async with session:
            yield cls(access, session)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return the object, or None if there is none."""
        try:
            return await self._call("GET", kind.path(namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str, *, selector: str = "") -> list[Object]:
        """Return all objects of a kind whose labels match `selector`."""
        return (await self.snapshot(kind, namespace, selector=selector)).objects

    async def snapshot(self, kind: Kind, namespace: str, *, selector: str = "") -> Snapshot:
        """Return the same with the version of the whole list; it is the newest state, not one from a cache."""
        pages = [page async for page in self.pages(kind, namespace, selector=selector)]
        return Snapshot([obj for page in pages for obj in page.objects], pages[0].version)

    async def pages(self, kind: Kind, namespace: str, *, selector: str = "") -> AsyncIterator[Snapshot]:
        """Yield the same in parts of one moment: a long list at once would hold up everybody else and fill the memory.

        Raises:
            Gone: the API server forgot that moment on the way; begin anew.

        """
        query = {"limit": str(_PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            found = await self._call("GET", kind.path(namespace), query=query)
            objects = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found["items"]]
            yield Snapshot(objects, found["metadata"].get("resourceVersion", ""))
            if not found["metadata"].get("continue"):
                return
            query["continue"] = found["metadata"]["continue"]

    async def watch(self, kind: Kind, namespace: str, *, name: str | None = None) -> AsyncIterator[tuple[str, Object]]:
        """Yield (ADDED | MODIFIED | DELETED, object): what is there first, then each change, until the server ends it.

        Raises:
            Gone: the server forgot where the watch stood; call again.

        """
        query: dict[str, str] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        if name is not None:
            query["fieldSelector"] = f"metadata.name={name}"
        response = await self._request("GET", kind.path(namespace), query, None, None, _WATCH_SECONDS + 15)
        async with response:
            if response.status >= 400:
                raise _error(response.status, await response.read())
            async for event in _events(response.content):
                kind_of, obj = event.get("type", "ERROR"), event.get("object", event)
                if kind_of == "ERROR":
                    raise _error(obj.get("code", 500), json.dumps(obj).encode())
                if kind_of != "BOOKMARK":
                    yield kind_of, obj

    async def apply(self, kind: Kind, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        """Server-side apply `obj` as field manager `manager`; with a resourceVersion in it, only if it still holds.

        Conflicts with other managers are forced: what Reembed applies is its own. `apiVersion` and `kind` are added.
        """
        meta = obj["metadata"]
        path = kind.path(meta["namespace"], meta["name"]) + (f"/{subresource}" if subresource else "")
        body = {"apiVersion": kind.api_version, "kind": kind.name, **obj}
        query = {"fieldManager": manager, "force": "true"}
        return await self._call("PATCH", path, query=query, body=body, content="application/apply-patch+yaml")

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        """JSON merge patch; with metadata.resourceVersion in `change`, only if it still holds."""
        path = kind.path(namespace, name) + (f"/{subresource}" if subresource else "")
        return await self._call(
            "PATCH",
            path,
            query={"fieldManager": manager},
            body=dict(change),
            content="application/merge-patch+json",
        )

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete the object (and in the background what it owns); nothing happens if it is gone or another one."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", kind.path(namespace, name), body=body)
        except ClusterError as error:
            if error.status not in {404, 409}:
                raise

    async def create(self, kind: Kind, namespace: str, obj: Object, *, manager: str) -> Object:
        """Create an object with a name of its own; only events need it, all else is applied."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **obj}
        return await self._call("POST", kind.path(namespace), query={"fieldManager": manager}, body=body)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        response = await self._request(method, path, query or {}, body, content, _REQUEST_SECONDS)
        try:
            async with response:
                data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ClusterError(0, f"{method} {path}: the API server's answer was cut off ({error!r})") from error
        if response.status >= 400:
            raise _error(response.status, data)
        decoded: Object = json.loads(data)
        return decoded

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content: str | None,
        seconds: float,
    ) -> aiohttp.ClientResponse:
        authorization = await self._access.authorization()
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = content
        if authorization is not None:
            headers["Authorization"] = authorization
        try:
            return await self._session.request(
                method,
                self._access.server + path,
                params=query,
                headers=headers,
                data=json.dumps(body) if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=seconds),
                proxy=self._access.proxy,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            told = str(error) or type(error).__name__
            raise ClusterError(0, f"{method} {path}: the API server did not answer ({told})") from error


async def _events(lines: aiohttp.StreamReader) -> AsyncIterator[Object]:
    try:
        async for line in lines:
            event = json.loads(line)
            # What fails after the answer has begun comes as a line of its own: a Status, without an event around it.
            yield event if isinstance(event, dict) else {"message": f"a watch told {line[:80]!r}, which is no event"}
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ClusterError(0, f"a watch was cut off ({error!r})") from error


def _error(status: int, data: bytes) -> ClusterError:
    try:
        message = json.loads(data).get("message", "")
    except ValueError:
        message = data[:200].decode(errors="replace")
    kind = {409: Conflict, 410: Gone, 400: Refused, 403: Refused, 422: Refused}.get(status, ClusterError)
    return kind(status, f"the API server answered {status}: {message}")
