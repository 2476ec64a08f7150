"""An agent's own texts through every ready pod of a pool, and what the pod says of its memory and its model.

Some texts stay the same, so that a pod is seen to repeat itself and to agree with the others of its pool; they go as
background texts, which no pod answers from memory. One is new each time, so that its time is that of the model. All
follow from the agent's seed: a pod cannot know them beforehand.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from time import monotonic

import aiohttp

from reembed.answers import whole
from reembed.client import Embedded, EmbedderBusy, EmbedderClient, EmbedderError
from reembed.core import names
from reembed.core.exposition import Sample
from reembed.core.load import Load, sampled
from reembed.core.model import InputType
from reembed.core.quorum.evidence import Loading, PodAnswers, Pods, PoolObject
from reembed.panel.loading import loading, samples
from reembed.panel.vectors import cosine, finite, nearest

# A pod that needs longer to answer a short text is not well.
_SECONDS = 10.0
_SCRAPE = aiohttp.ClientTimeout(total=3)
# A page has some 50 KB; who writes more is none of ours.
_LONGEST = 1 << 20
_CONSTANT = 4
_TIMED = 6  # of the latest times the median counts: one hiccup is none of the model's
# Between two looks at a hosted model, while nothing is voted on and while something is.
_HOSTED = timedelta(minutes=5)
_HOSTED_ASKED = timedelta(seconds=15)
_WORDS = (
    "river", "engine", "quiet", "lamp", "copper", "season", "index", "ladder", "morning", "signal", "pepper", "forest",
    "orbit", "violin", "harbor", "paper", "window", "gravity", "mirror", "candle", "winter", "bridge", "random",
    "garden", "sugar", "thunder", "valley", "silver", "market", "tunnel",
)  # fmt: skip


@dataclass
class _Pool:
    """What is remembered of a pool of one model."""

    references: tuple[bytes, ...] = ()
    seconds: dict[str, deque[float]] = field(default_factory=dict)
    loading: dict[str, tuple[float, Loading]] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    last: Pods | None = None


class Prober:
    """One agent's probes of all pools."""

    def __init__(self, session: aiohttp.ClientSession, seed: bytes, port: int) -> None:
        self._session = session
        self._seed = seed
        self._port = port
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._round = 0
        self.texts = tuple(self._text(f"constant {number}") for number in range(_CONSTANT))

    async def look(self, pool: PoolObject, addresses: Mapping[str, str], *, asked: bool = False) -> Pods:
        """Ask all ready pods at once; `asked` says that a vote waits for it."""
        kept = self._pools.setdefault((pool.meta.uid, pool.fingerprint), _Pool())
        if kept.last is not None and spared(pool, kept.last, addresses, datetime.now(UTC), asked=asked):
            return kept.last
        self._round += 1
        if not kept.references:
            # Nothing is known of a model before its first answer; the next ones are compared with it.
            kept.references = await self._first(pool, addresses)
        pods = list(addresses)
        answers = await asyncio.gather(*(self._pod(pool, kept, pod, addresses[pod]) for pod in pods))
        now = datetime.now(UTC)
        pages = {pod: found for pod, (_, found) in zip(pods, answers, strict=True) if found is not None}
        kept.load = kept.load.add({pod: sampled(found) for pod, found in pages.items()}, pods, now)
        loaded = {}
        for pod, found in pages.items():
            loaded[pod] = loading(found, kept.loading.get(pod), now.timestamp())
            kept.loading[pod] = (now.timestamp(), loaded[pod])
        kept.last = Pods(now, {pod: one for pod, (one, _) in zip(pods, answers, strict=True)}, kept.load, loaded)
        return kept.last

    def forget(self, uids: set[str]) -> None:
        """Drop what is remembered of pools but these."""
        self._pools = {key: one for key, one in self._pools.items() if key[0] in uids}

    async def _first(self, pool: PoolObject, addresses: Mapping[str, str]) -> tuple[bytes, ...]:
        for address in addresses.values():
            async with self._client(pool, address) as client:
                try:
                    found = (await _embed(client, self.texts)).vectors
                except EmbedderError:
                    continue
            if all(map(finite, found)):
                return found
        return ()

    async def _pod(
        self, pool: PoolObject, kept: _Pool, pod: str, address: str
    ) -> tuple[PodAnswers, list[Sample] | None]:
        told = await self._scrape(address)
        memory = sampled(told).memory if told is not None else None
        async with self._client(pool, address) as client:
            try:
                began = monotonic()
                fresh = await client.embed([self._text(f"round {self._round}")], InputType.QUERY)
                took = monotonic() - began
                same = await _embed(client, self.texts)
            except EmbedderBusy as error:
                return PodAnswers(problem=f"busy: {error}", memory=memory), told
            except EmbedderError as error:
                return PodAnswers(problem=_told(error), memory=memory), told
        vectors = (*same.vectors, *fresh.vectors)
        times = kept.seconds.setdefault(pod, deque(maxlen=_TIMED))
        times.append(took)
        return _judged(vectors, kept.references, pool.spec.model.dimensions, median(times), memory), told

    async def _scrape(self, address: str) -> list[Sample] | None:
        try:
            async with self._session.get(
                f"http://{names.at(address, self._port)}/metrics", timeout=_SCRAPE
            ) as response:
                if response.status != 200:
                    return None
                return samples((await whole(response, _LONGEST)).decode(errors="replace"))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None

    def _client(self, pool: PoolObject, address: str) -> Opened:
        return Opened(f"http://{names.at(address, self._port)}", pool.fingerprint)

    def _text(self, of: str) -> str:
        drawn = hashlib.sha256(self._seed + of.encode()).digest()
        return " ".join(_WORDS[one % len(_WORDS)] for one in drawn[:12]) + f" {drawn[12]}"


def spared(pool: PoolObject, last: Pods, pods: Collection[str], now: datetime, *, asked: bool) -> bool:
    """Return whether a hosted model is not asked again yet: each of eight agents pays for every text.

    What was found grows too old for a vote meanwhile; a vote that waits for more gets it.
    """
    if pool.spec.external is None or set(last.answers) != set(pods):
        return False
    return now - last.at < (_HOSTED_ASKED if asked else _HOSTED)


class Opened:
    """`async with Opened(url, fingerprint) as client:`; of one look, so that no connection outlives its pod."""

    def __init__(self, url: str, fingerprint: str) -> None:
        self._url, self._fingerprint = url, fingerprint
        self._client: EmbedderClient | None = None

    async def __aenter__(self) -> EmbedderClient:
        self._client = EmbedderClient(self._url, fingerprint=self._fingerprint, timeout=_SECONDS)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()


async def _embed(client: EmbedderClient, texts: Sequence[str]) -> Embedded:
    """Embed texts that no pod remembers; one that sheds background work answers them as live ones."""
    try:
        return await client.embed(texts, InputType.QUERY, background=True)
    except EmbedderBusy:
        return await client.embed(texts, InputType.QUERY)


def _judged(
    vectors: Sequence[bytes], references: Sequence[bytes], dimensions: int, seconds: float, memory: float | None
) -> PodAnswers:
    wrong = next((one for one in vectors if len(one) != 4 * dimensions), None)
    if wrong is not None:
        text = f"vectors of {len(wrong) // 4} dimensions, the pool's spec says {dimensions}"
        return PodAnswers(problem=text, memory=memory)
    if not all(map(finite, vectors)):
        return PodAnswers(problem="a vector that is zero or not finite", memory=memory)
    same = vectors[: len(references)]
    cosines = [cosine(*pair) for pair in zip(same, references, strict=True)]
    return PodAnswers(
        texts=len(vectors),
        cosine=(math.nan if any(map(math.isnan, cosines)) else min(cosines)) if cosines else None,
        nearest=nearest(same, references) if references else None,
        seconds=seconds,
        memory=memory,
    )


def _told(error: EmbedderError) -> str:
    return f"{type(error).__name__}: {error}"[:300]
