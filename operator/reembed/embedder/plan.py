"""How much memory an embedder will need, from its model's header alone, before any of the file is there. Pure.

Memory that cannot be reclaimed is that of both processes, of each context, and of the vectors that are kept of texts.
What a context needs was measured with llama.cpp 0.3.36 (encoders of 256 to 768 dimensions and 56 to 30,528 words,
decoders of 512 and 896 dimensions and up to 151,936 words, calls of 256 to 2048 tokens); the plan is never below.
A decoder has a float for each token of a call and word of the vocabulary, twice; so it reads 256 tokens at a time.

Where the limit has no room for all contexts, there are fewer: slower, but never killed. Where it has none for one, the
model is refused at once, with what it needs. The file counts as well: mapped weights that do not fit beside the rest
are read from the disk again at each call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reembed.core.model import Device, Model, Pooling
from reembed.embedder.gguf import Header
from reembed.embedder.limits import body_bytes, capacities
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS
from reembed.embedder.refusals import MemoryInsufficient

_MIB = 1 << 20
# Interpreter and libraries of the server and of the engine, and what a full queue of short texts adds to both.
_PROCESSES = 54 * _MIB
# A body is there as it came, as text and as texts; text has four bytes a character where one is outside of the first
# plane (emoji).
_BODY = 9
# Of each word of the vocabulary, with the pairs that it is made of.
_WORD = 300
_CONTEXT = 4 * _MIB
# Bytes of the attention's mask, as a float and as a half, for each token of a call and each one it sees.
_MASK = 6
# Tokens of a product's piece, and queries of a block of attention, in the library of tiles (`native/`).
_PIECE, _QUERIES = 256, 16
# A kept text's vector has a key and an entry of its own.
_CACHED = 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """What each context reads at once, and bytes: what cannot be reclaimed, and the file's mapped weights.

    `piece` is how many tokens of it llama.cpp gets at a time, None for all.
    """

    capacities: tuple[int, ...]
    piece: int | None
    anonymous: int
    mapped: int

    @property
    def bytes(self) -> int:
        return self.anonymous + self.mapped


def plan(header: Header, model: Model, cpus: int, device: Device, cache: int, limit: int) -> Plan:
    """Return the plan with the most contexts that `limit` bytes have room for; `cache` is the text cache's bound.

    Raises:
        MemoryInsufficient: not even one context fits.

    """
    plans = [_plan(header, model, sizes, device, cache) for sizes in _choices(model.max_tokens, cpus, device)]
    for one in plans:
        if one.bytes <= limit:
            return one
    least = plans[-1]
    needed = -(-least.bytes // _MIB)
    raise MemoryInsufficient(
        f"the model needs {needed} MiB ({least.anonymous // _MIB} MiB for computing texts of {model.max_tokens} "
        f"tokens, {least.mapped // _MIB} MiB for its weights), the container's limit is {limit // _MIB} MiB; nothing "
        f"was loaded: set limits.memory of the pool's variant to {needed}Mi or more, or lower spec.model.maxTokens in "
        "a new pool"
    )


def _in_pieces(header: Header, model: Model) -> bool:
    """Return whether a text may be read in pieces: no token sees a later one, the last is the vector."""
    return header.causal and model.pooling is Pooling.LAST


def _choices(max_tokens: int, cpus: int, device: Device) -> Iterator[tuple[int, ...]]:
    """Yield contexts, the most first; without the one that takes live texts alone only where one is left."""
    for count in range(cpus, 0, -1):
        yield capacities(max_tokens, count, device)
    yield capacities(max_tokens, 1, device)[-1:]


def _plan(header: Header, model: Model, sizes: tuple[int, ...], device: Device, cache: int) -> Plan:
    piece = PACK_TOKENS if _in_pieces(header, model) else None
    steady = sum(_context(header, size, min(size, piece or size)) for size in sizes)
    # While contexts are made, the buffer that an encoder gives back is there for a moment, of one at a time.
    passing = 0 if header.decodes else _outputs(header, max(sizes))
    work = max(steady + int(cache * _CACHED), passing)
    # A GPU has weights of its own, and the file's pages may go.
    mapped = 0 if device is Device.GPU else header.size
    around = _PROCESSES + _BODY * body_bytes(model) + _WORD * header.vocabulary
    return Plan(sizes, piece, around + work, mapped)


def _context(header: Header, size: int, call: int) -> int:
    """Return what a context of `size` tokens keeps, of which llama.cpp computes `call` at once."""
    computing = 4 * call * (2 * header.inner + 4 * header.dimensions)
    tiles = _tiles(header, size, call)
    if not header.decodes:
        return tiles + _CONTEXT + computing + _MASK * call * call + 4 * header.dimensions * max(call, PACK_TEXTS)
    words = 4 * call * (header.vocabulary + 4 * header.dimensions)
    # Halves, of keys and of values.
    memory = 2 * 2 * header.layers * size * header.heads_kv * header.head_size
    return tiles + _CONTEXT + max(computing, words) + _MASK * call * size + _outputs(header, call) + memory


def _outputs(header: Header, call: int) -> int:
    return 4 * (header.vocabulary + header.dimensions) * max(call, PACK_TEXTS)


def _tiles(header: Header, size: int, call: int) -> int:
    """Return what the library of tiles takes: activations as BF16, or a head's attention."""
    products = 2 * min(call, _PIECE) * max(header.inner, header.dimensions)
    head = 2 * header.head_size * (call + 2 * size)
    return max(products, head + 6 * _QUERIES * size + call * size // 128)
