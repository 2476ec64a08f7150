"""One embedder client per arm: made when first used, closed when no routing names the arm and no request uses it.

Every query borrows its arm's client from here. A routing that changes under running requests must neither close a
client that one of them waits for nor leave clients of arms that are long gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from reembed.client import Embedded
from reembed.core.model import Arm, InputType


class Embedder(Protocol):
    """What a gateway needs of an embedder; `reembed.client.EmbedderClient` is one."""

    async def embed(self, texts: Sequence[str], input_type: InputType, *, background: bool = False) -> Embedded: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Lent:
    embedder: Embedder
    users: int = 0


class Embedders:
    """The clients of all arms in use."""

    def __init__(self, connect: Callable[[Arm], Embedder]) -> None:
        self._connect = connect
        self._lent: dict[Arm, _Lent] = {}

    @asynccontextmanager
    async def using(self, arm: Arm) -> AsyncIterator[Embedder]:
        """Lend the arm's client for the length of the block."""
        if arm not in self._lent:
            self._lent[arm] = _Lent(self._connect(arm))
        lent = self._lent[arm]
        lent.users += 1
        try:
            yield lent.embedder
        finally:
            lent.users -= 1

    async def keep(self, arms: Set[Arm]) -> None:
        """Close the clients of all other arms, but for those that a request still uses."""
        for arm in self._lent.keys() - arms:
            # Looked at one by one: while one is closed, a request may begin to use the next.
            if not self._lent[arm].users:
                await self._lent.pop(arm).embedder.close()

    async def close(self) -> None:
        for lent in self._lent.values():
            await lent.embedder.close()
        self._lent.clear()
