"""Live texts that were asked for lately are answered from memory; the others are asked for as one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from reembed.embedder.failures import TextRefused
from reembed.embedder.messages import Done
from reembed.embedder.text_cache import Cached, TextCache


async def remembered(cache: TextCache, texts: Sequence[str], ask: Callable[[Sequence[str]], Awaitable[Done]]) -> Done:
    """Return the vectors of texts, those that the cache does not have by `ask`, and keep these.

    Raises:
        TextRefused: a text is at fault; its index is that among all texts. `ask` may raise more.

    """
    known = [cache.get(text) for text in texts]
    missing = [index for index, found in enumerate(known) if found is None]
    if not missing:
        return _joined(known)
    try:
        done = await ask([texts[index] for index in missing])
    except TextRefused as refused:
        raise refused.at(missing[refused.index]) from None
    size = len(done.vectors) // len(missing)
    for place, index in enumerate(missing):
        vector = done.vectors[place * size : (place + 1) * size]
        known[index] = found = Cached(vector, done.tokens[place], place in done.cut)
        cache.put(texts[index], found)
    if len(missing) == len(texts):
        return done
    return replace(_joined(known), waited=done.waited, computed=done.computed)


def _joined(known: Sequence[Cached | None]) -> Done:
    found = [one for one in known if one is not None]
    cut = tuple(index for index, one in enumerate(found) if one.cut)
    return Done(-1, b"".join(one.vector for one in found), tuple(one.tokens for one in found), cut)
