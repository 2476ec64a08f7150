"""What the server and its engine process say to each other: plain values over a pipe, nothing of either side's state.

Apart from both, so that the server can speak to the engine without loading llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reembed.core.model import Device, Model


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: what to load, and by what it is computed.

    `capacities` and `piece` are the plan's (`embedder.plan`); `cpus` is how many calls there is time for; `tiles` is
    the library to compute with where it is faster (`embedder.tiles`).
    """

    path: Path
    model: Model
    cpus: int
    capacities: tuple[int, ...]
    piece: int | None = None
    device: Device = Device.CPU
    tiles: Path | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How many contexts compute from now on, and what one call of the engine may hold."""

    contexts: int
    pack_tokens: int
    pack_texts: int


@dataclass(frozen=True, slots=True)
class Request:
    """Texts with their prefixes, to be embedded together or not at all.

    `alone` texts were computed when an engine died: each gets a call of its own while nothing else computes.
    """

    id: int
    texts: tuple[str, ...]
    background: bool
    tokens_only: bool = False
    ends: bool = False  # of tokens_only: also where they end
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for a request any more."""

    id: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and each context was shown to work (`embedder.proof`); `offloads` if a GPU computes it."""

    offloads: bool = False
    cosine: float = 1.0  # the smallest of a probe's vectors alone and in company


@dataclass(frozen=True, slots=True)
class Computing:
    """The most contexts that computed side by side under the present pace; sent when it grows."""

    contexts: int


@dataclass(frozen=True, slots=True)
class Packs:
    """What was computed since the process began: calls, their texts and tokens, how long; sent once in a while.

    `equal` texts had the vector of another one of their call.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    equal: int = 0
    seconds: float = 0.0

    def plus(self, other: Packs) -> Packs:
        return Packs(
            self.calls + other.calls,
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.equal + other.equal,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine cannot start. `permanent` if the file is at fault, which waiting cannot heal."""

    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Done:
    """A request's vectors (none for tokens_only), its tokens by text, and which texts were cut.

    `vectors` is little-endian float32, text after text. Seconds until its first call began, and from then to its end.
    """

    id: int
    vectors: bytes
    tokens: tuple[int, ...]
    cut: tuple[int, ...]
    waited: float = 0.0
    computed: float = 0.0
    ends: tuple[tuple[int, ...], ...] = ()  # where each text's tokens end, in characters


@dataclass(frozen=True, slots=True)
class TooLong:
    """A text is longer than the model reads, and the pool refuses such; it has more tokens unless `whole`."""

    id: int
    index: int
    tokens: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The model has no usable vector for a text."""

    id: int
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The engine could not do a request; the texts need not be at fault."""

    id: int
    message: str


Answer = Done | TooLong | Unreadable | Broken
FromEngine = Answer | Ready | Computing | Packs | Failed
ToEngine = Start | Pace | Request | Cancel
