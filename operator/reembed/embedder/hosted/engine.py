"""What an embedder of a hosted model has instead of an engine: the endpoint, asked within its limits.

Live texts go first and wait only briefly; background texts wait longer, are stopped by the budget, and by a model that
changed: a collection must never hold vectors of two. An error of the endpoint is retried with growing pauses; after
five in a row the circuit breaker turns callers away at once until one try succeeds. A text that the endpoint rejects is
found by halving the request, and blamed only if the endpoint still takes a probe; so is a document on which it fails
again and again (a NaN, a firewall), or a backfill would wait for it for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from random import Random

import numpy as np

from reembed.core.emergency_limits import Limits
from reembed.core.model import Truncate
from reembed.core.model_class import LEAST_COSINE
from reembed.core.sketch import cosine
from reembed.embedder.breaker import Breaker, State, pause
from reembed.embedder.failures import EngineBusy, EngineUnavailable, TextRefused, TextTooLong
from reembed.embedder.hosted.batches import Batch, batches, shared, tokens_of
from reembed.embedder.hosted.failures import BudgetSpent, EndpointFailed, Throttled, perhaps_a_text, refusal
from reembed.embedder.hosted.terms import Terms
from reembed.embedder.hosted.throttle import Throttle
from reembed.embedder.hosted.turns import Turns
from reembed.embedder.hosted.upstream import (
    Denied,
    Failed,
    Limited,
    Rejected,
    Unusable,
    Upstream,
    UpstreamError,
    Vectors,
)
from reembed.embedder.messages import Done, Packs
from reembed.embedder.probes import PROBES
from reembed.embedder.refusals import Refusal
from reembed.embedder.remembered import remembered
from reembed.embedder.sketch import sketch
from reembed.embedder.text_cache import TextCache

_log = logging.getLogger("reembed.embedder")

_BREAKER = Breaker(threshold=5, seconds=1.0, longest=30.0)
_TERMS = Terms()
_TRIES = 4
_FIRST_PAUSE = 0.25
# A moment of an endpoint is not worth anybody's sleep.
_FAILS_SECONDS = 30
# Gateways wait for five to ten seconds: an endpoint that lets them go without an answer after so many is failing.
_HANGS_SECONDS = 3.0
# In which the operator looks, and grants anew.
_NEXT_GRANT = 10
# Callers who were turned away come again sooner; those who do not went to another pod.
_SHORT_SECONDS = 60


class HostedEngine:
    """Vectors of a model that an endpoint hosts. All methods belong to one event loop."""

    offloads = False
    contexts_peak = 0

    def __init__(
        self, upstream: Upstream, limits: Limits, cache: TextCache, terms: Terms = _TERMS, rng: Random | None = None
    ) -> None:
        self._upstream = upstream
        self._model = upstream.model
        self._hosted = upstream.hosted
        self._patience = terms.patience
        self._limits = limits
        self._cache = cache
        self._clock = asyncio.get_running_loop().time
        self._rng = rng or Random()  # noqa: S311 - spreads pauses, guards nothing
        self._turns = Turns(terms.throttle, self._clock)
        self._task: asyncio.Task[None] | None = None
        self._granted: int | None = 0 if terms.budgeted else None
        self._changed = False
        self._doubted = asyncio.Event()  # by the operator: the probes are to be embedded soon
        self._reserved = 0  # background tokens under way, estimated
        self._short = 0
        self._short_at = 0.0
        self._error = ""
        self._fails_since = 0.0  # of the first failure that no answer followed
        self._background: set[asyncio.Task[Done]] = set()
        self.breaker = _BREAKER
        self.failed: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        self.ready = False
        self.up = asyncio.Event()  # it was ready once
        self.restarts = 0  # tries that failed
        self.tokens = 0  # that wait or are under way, estimated
        self.packs = Packs()
        self.spent = 0  # tokens of background texts, as the endpoint counts them
        self.checks = 0
        self._checked = 0  # when, in seconds since 1970: no other process counts the same
        self.probes = ""  # a sketch of their vectors at the last check
        self.cosine = 0.0  # of the probes at the last check and the first one of this process

    @property
    def contexts_busy(self) -> int:
        return self._turns.busy

    @property
    def throttle(self) -> Throttle:
        return self._turns.throttle

    def start(self) -> None:
        """Ask for the probes now, and again from time to time."""
        self._task = asyncio.create_task(self._check_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._upstream.close()

    def limit(self, limits: Limits) -> None:
        """Work with other limits from now on."""
        self._limits = limits
        if limits.background_tokens == 0:
            self._cache.clear()
            for task in self._background:
                task.cancel()

    def grant(self, tokens: int | None, *, changed: bool) -> None:
        """Take what the operator says: background tokens that may be spent in all, and whether the model changed.

        It says so from the first failed check on; another one soon shows who is right.
        """
        self._granted = tokens
        self._changed = changed
        if changed:
            self._doubted.set()
        else:
            self._doubted.clear()

    def report(self) -> dict[str, object]:
        """Return what the operator asks for."""
        return {
            "spentTokens": self.spent,
            "check": self._checked,
            "probes": self.probes,
            "shortTokens": self._short if self._clock() < self._short_at + _SHORT_SECONDS else 0,
            "error": self._error if self._fails_since + _FAILS_SECONDS <= self._clock() else "",
        }

    async def embed(self, texts: Sequence[str], *, background: bool) -> Done:
        """Return vectors for texts that carry their prefix already; live ones perhaps from memory.

        Raises:
            EngineBusy: too much waits, the endpoint wants less, or the budget is spent.
            EngineUnavailable: the endpoint fails.
            TextRefused: a text is at fault.

        """
        if not self.ready:
            raise EngineUnavailable("the endpoint has not answered the probes yet; try again soon")
        if background:
            return await self._sheddable(texts)
        if not self._cache.on:
            return await self._ask(texts, background=False)
        return await remembered(self._cache, texts, lambda missing: self._ask(missing, background=False))

    async def count(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Refuse: how a hosted model cuts texts into tokens is not known."""
        raise TextRefused(0, f"cannot be counted: {self._model.uri} does not say how it cuts texts into tokens")

    async def _sheddable(self, texts: Sequence[str]) -> Done:
        """Ask for background texts; emergency protection may cancel what waits."""
        tokens = self._allowed(texts)
        task = asyncio.create_task(self._ask(texts, background=True))
        self._background.add(task)
        self._reserved += tokens
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and self._limits.background_tokens == 0:
                text = "emergency protection began: background requests that wait are turned away; try again later"
                raise EngineBusy(text) from None
            raise
        finally:
            task.cancel()
            self._reserved -= tokens
            self._background.discard(task)

    def _allowed(self, texts: Sequence[str]) -> int:
        """Return about how many tokens background texts have, if they may be asked for."""
        if self._changed:
            text = (
                f"ModelChanged: the probes' vectors from {self._model.uri} are not those of before; no documents are "
                "embedded while they are not"
            )
            raise EndpointFailed(text, 60)
        tokens = sum(tokens_of(text[: self._hosted.max_characters]) for text in texts)
        if self._granted is None:
            return tokens
        left = max(self._granted - self.spent - self._reserved, 0)
        if tokens > left:
            self._short, self._short_at = min(self._short or tokens, tokens), self._clock()
            text = f"BudgetSpent: about {tokens} tokens are asked for, this pod may spend {left} more for now"
            raise BudgetSpent(text, _NEXT_GRANT if not self._reserved else 1)
        self._short = 0
        return tokens

    async def _ask(self, texts: Sequence[str], *, background: bool) -> Done:
        began = self._clock()
        sent, cut = self._cut(texts)
        tokens = self._admit(sent, background=background)
        self.tokens += tokens
        try:
            done = [await self._batch(one, background=background) for one in batches(sent)]
        finally:
            self.tokens -= tokens
        vectors = b"".join(one.values.astype("<f4").tobytes() for one, _ in done)
        counts = [count for one, texts_tokens in done for count in shared(one.tokens, texts_tokens)]
        return Done(-1, vectors, tuple(counts), cut, computed=self._clock() - began)

    def _cut(self, texts: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        most = self._hosted.max_characters
        long = tuple(index for index, text in enumerate(texts) if len(text) > most)
        if long and self._model.truncate is Truncate.REFUSE:
            found = f"has {len(texts[long[0]])} characters, the pool sends at most {most}"
            raise TextTooLong(long[0], f"{found} (external.maxCharacters); shorten it")
        return [text[:most] for text in texts], long

    def _admit(self, texts: Sequence[str], *, background: bool) -> int:
        tokens = sum(map(tokens_of, texts))
        limit = self._limits.background_tokens if background else self._limits.queue_tokens
        if (waiting := self.tokens) and waiting + tokens > limit:
            raise EngineBusy(f"about {waiting} tokens wait, {tokens} more pass the limit of {limit}; try again later")
        if tokens > (most := max(limit, self._limits.request_tokens)):
            raise EngineBusy(f"the request has about {tokens} tokens, {most} are taken now; send fewer texts at a time")
        return tokens

    async def _batch(self, batch: Batch, *, background: bool, tries: int = _TRIES) -> tuple[Vectors, tuple[int, ...]]:
        """Return the vectors of a batch; half by half where the endpoint rejects it, to find the text at fault."""
        try:
            return await self._tried(batch.texts, background=background, tries=tries), batch.tokens
        except Rejected as error:
            if len(batch.texts) == 1:
                raise await self._blamed(batch.first, error, background=background) from error
        except EndpointFailed as error:
            if not (background and perhaps_a_text(error)):
                raise
            await self._probe(background=True)
            if len(batch.texts) == 1:
                return await self._alone(batch), batch.tokens
            tries = 1  # no half is blamed, and the caller waits
        halves = [await self._batch(half, background=background, tries=tries) for half in batch.halves()]
        values = np.concatenate([vectors.values for vectors, _ in halves])
        counts = tuple(count for vectors, tokens in halves for count in shared(vectors.tokens, tokens))
        return Vectors(values, sum(counts)), counts

    async def _blamed(self, index: int, error: Rejected, *, background: bool) -> TextRefused:
        """Return whose fault a rejection is; raises EndpointFailed if it is not the text's."""
        await self._probe(background=background)
        kind = TextTooLong if error.too_long else TextRefused
        return kind(index, f"is rejected by the endpoint ({error}); leave it out or shorten it")

    async def _probe(self, *, background: bool) -> None:
        """Ask for a text that nothing is wrong with; an endpoint that does not take it would take none."""
        try:
            await self._tried(PROBES[:1], background=background)
        except Rejected as error:
            raise EndpointFailed(f"the endpoint rejects every request: {error}", 30) from error

    async def _alone(self, batch: Batch) -> Vectors:
        """Ask once more for a document on which an endpoint failed that embeds others."""
        try:
            return await self._tried(batch.texts, background=True)
        except Rejected as error:
            raise await self._blamed(batch.first, error, background=True) from error
        except EndpointFailed as error:
            if not perhaps_a_text(error):
                raise
            self.breaker = self.breaker.succeeded()
            text = f"gets no vector from the endpoint, which embeds others ({error}); leave it out or change it"
            raise TextRefused(batch.first, text) from error

    async def _tried(self, texts: Sequence[str], *, background: bool, tries: int = _TRIES) -> Vectors:
        """Ask until there is an answer, as long as patience lasts."""
        tokens, began, failures = sum(map(tokens_of, texts)), self._clock(), 0
        patience = self._patience.background if background else self._patience.live
        while True:
            left = began + patience - self._clock()
            await self._turn(tokens, left, background=background)
            try:
                return await self._once(texts, background=background)
            except Limited as error:
                self._note(error)
                self._turns.refused(error.wished)
                if (wait := self._turns.wait) > left:
                    raise Throttled(str(error), wait) from error
            except (Failed, Unusable, Denied) as error:
                failures += 1
                self._failed(error)
                wait = pause(_FIRST_PAUSE, failures, self._rng)
                if failures == tries or wait > left or self.breaker.state is State.OPEN or isinstance(error, Denied):
                    raise EndpointFailed(str(error), max(wait, self.breaker.until - self._clock())) from error
                await asyncio.sleep(wait)

    async def _turn(self, tokens: int, left: float, *, background: bool) -> None:
        self.breaker = self.breaker.at(self._clock())
        if self.breaker.state is State.OPEN or (self.breaker.state is State.HALF_OPEN and self._turns.busy):
            text = f"{self._model.uri} failed {self.breaker.failures} times in a row and is left alone for a while"
            raise EndpointFailed(text, self.breaker.until - self._clock())
        if (wait := self._turns.wait) > left:
            raise Throttled(f"{self._model.uri} wants fewer requests: the next is sent in {wait:.0f} s", wait)
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await self._turns.take(tokens, background=background)
        except TimeoutError:
            raise Throttled(
                f"{self._model.uri} takes {self.throttle.rate:.1f} requests a second, and others wait", 2
            ) from None

    async def _once(self, texts: Sequence[str], *, background: bool) -> Vectors:
        began = self._clock()
        try:
            vectors = await self._upstream.embed(texts)
        except Rejected:
            self.breaker = self.breaker.succeeded()
            raise
        except Unusable:
            if background:  # it was answered, and so it is paid for
                self.spent += sum(map(tokens_of, texts))
            raise
        except asyncio.CancelledError:
            if not background and (waited := self._clock() - began) >= _HANGS_SECONDS:
                self._failed(Failed(f"{self._model.uri} did not answer within {waited:.0f} s, and its caller left"))
            raise
        finally:
            self._turns.leave()
        self.breaker, self._error = self.breaker.succeeded(), ""
        self._turns.succeeded()
        tokens = vectors.tokens if vectors.tokens is not None else sum(map(tokens_of, texts))
        self.packs = self.packs.plus(Packs(1, len(texts), tokens, 0, self._clock() - began))
        if background:
            self.spent += tokens
        return vectors

    def _failed(self, error: UpstreamError) -> None:
        self.breaker = self.breaker.failed(self._clock())
        self.restarts += 1
        self._note(error)
        _log.warning("%s: %s", type(error).__name__, error)

    def _note(self, error: UpstreamError) -> None:
        if not self._error:
            self._fails_since = self._clock()
        self._error = str(error)

    async def _check_for_ever(self) -> None:
        first, failures = "", 0
        while True:
            try:
                began = int(time.time())
                vectors = await self._tried(PROBES, background=False)
                self.probes = sketch(vectors.values)
            except (Rejected, EngineBusy, EngineUnavailable) as error:
                if not self.ready and (found := refusal(error)) is not None:
                    self.failed.set_result(found)
                    return
                failures += 1
                _log.warning("the probes were not embedded: %s", error)
                await asyncio.sleep(pause(1.0, failures, self._rng, getattr(error, "retry_after", 0.0)))
                continue
            failures, first = 0, first or self.probes
            self.checks, self._checked = self.checks + 1, began
            self.cosine = cosine(first, self.probes) or 0.0
            self.ready = True
            self.up.set()
            await self._until_doubt()

    async def _until_doubt(self) -> None:
        """Wait until the next check is due: for an hour, for a minute where this process or the operator has doubts."""
        spread = self._rng.uniform(0.9, 1.1)
        if self.cosine >= LEAST_COSINE:
            try:
                async with asyncio.timeout(self._patience.check_every * spread):
                    await self._doubted.wait()
            except TimeoutError:
                return
        await asyncio.sleep(self._patience.check_again * spread)
