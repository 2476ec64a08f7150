"""llama.cpp by its low-level API: one shared model, contexts of one thread each, packs of tokens to vectors.

Only the engine process imports this module: a wrong call aborts the process, not the call. Contexts have one compute
thread, because two of them spin on each other where the cores are shared; several contexts over one model do the same
work side by side, since ctypes releases the interpreter's lock during a call.

Memory is what `embedder.plan` says: a context takes all of it when it is made, but for some MiB at its first calls
where the CPU's tiles compute. llama.cpp keeps a float for each token of a call and word of the vocabulary, whether or
not a model predicts words; an encoder's are given back to the kernel (60 MiB for a call of 512 tokens and
30,000 words). A decoder reads in pieces, since it fills them.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from reembed.core.model import Device, Model, Pooling
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS

_POOLING = {
    Pooling.MEAN: lib.LLAMA_POOLING_TYPE_MEAN,
    Pooling.CLS: lib.LLAMA_POOLING_TYPE_CLS,
    Pooling.LAST: lib.LLAMA_POOLING_TYPE_LAST,
}


# Linux' number for "forget these pages"; what is read there next is zero.
_MADV_DONTNEED = 4
# More than any model has: all of them go to the GPU.
_ALL_LAYERS = 10_000
# Characters a token that are looked at first. Tokens have four on average, and reading 16 MB to keep 256 of them takes
# seconds and some hundred MiB.
_CHARACTERS = 8
# Tokens behind the limit that must be known before the rest of a text is left out: what stands at its place of
# division may be read as other tokens.
_MARGIN = 64
# More are llama.cpp's way to say that it can't.
_MOST_TOKENS = 1 << 30
# Characters that are counted at once.
_PIECE = 1 << 16

# A word with the white space before it. One without end is read in pieces: the longer, the less is known of its tokens.
_WORDS = re.compile(r"\s*(?P<word>\S{1,64})")
_KNOWN_WORDS = 20_000
_LONGEST_KNOWN = 128
# About a millisecond of work, and a tenth of it in rest.
_WORDS_AT_ONCE = 256
_REST_SECONDS = 0.0001
_REST = threading.Event()  # never set

Ids = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]


class EngineError(Exception):
    """llama.cpp refused what it was asked for."""


class ModelUnusable(EngineError):
    """The file holds no model that can be served; another attempt would end the same."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it; `full` counts the tokens before its end was left out, all of them if `whole`."""

    ids: Ids
    full: int
    whole: bool = True

    @property
    def cut(self) -> bool:
        return self.full > len(self.ids)


class Weights:
    """The model's weights and vocabulary, mapped from the file and shared by all contexts."""

    def __init__(self, path: Path, model: Model, device: Device = Device.CPU) -> None:
        _be_quiet()
        lib.llama_backend_init()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = _ALL_LAYERS if device is Device.GPU else 0
        # Repacked K-quants are slower in small packs and double the memory as an anonymous copy.
        parameters.use_extra_bufts = False
        self.handle = lib.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise ModelUnusable(f"llama.cpp can't load {path.name}: the file is damaged or newer than this engine")
        found = lib.llama_model_n_embd(self.handle)
        if found != model.dimensions:
            raise ModelUnusable(f"the loaded model has {found} dimensions, the pool says {model.dimensions}")
        self.model = model
        self._vocabulary = lib.llama_model_get_vocab(self.handle)
        self.words = lib.llama_vocab_n_tokens(self._vocabulary)
        ends = (lib.llama_vocab_sep(self._vocabulary), lib.llama_vocab_eos(self._vocabulary))
        self._ends = frozenset(token for token in ends if token >= 0)
        self._lengths: dict[str, int] = {}

    def tokenize(self, text: str) -> Tokens:
        """Return a text's tokens with the special ones, cut to the model's limit if it is longer.

        Of a text far longer than the model reads, only as much is looked at as is needed for that.
        """
        limit = self.model.max_tokens
        end = _CHARACTERS * (limit + _MARGIN)
        # Tokens can be far longer (white space has none), so it is looked at more and more.
        while len(found := self._ids(text[:end])) <= limit + _MARGIN and end < len(text):
            end *= 2
        # A copy: the buffer is as long as the text.
        ids = found[:limit].copy()
        # The token that closes a text stays: the model was trained with it.
        if len(found) > limit and (last := int(found[-1])) in self._ends:
            ids[-1] = last
        return Tokens(ids, len(found), end >= len(text))

    def count(self, text: str) -> int:
        """Return how many tokens a text has. A long one is counted in pieces from space to space."""
        begin, found, special = 0, 0, len(self._ids(""))
        while len(text) - begin > _PIECE:
            space = text.rfind(" ", begin + 1, begin + _PIECE)
            end = space if space > 0 else begin + _PIECE
            found += len(self._ids(text[begin:end])) - special
            begin = end
        return found + len(self._ids(text[begin:]))

    def ends(self, text: str) -> list[int]:
        """Return where each token of a text ends, in characters, without the special ones.

        A text is read word by word with the white space before it, which is how vocabularies read it too, or as more
        tokens, never fewer. llama.cpp does not say where the tokens of a word end: they are taken to be equally long.
        """
        found = list[int]()
        # White space at the end has no tokens, and an expression that looks for a word behind it would look for hours.
        for number, word in enumerate(_WORDS.finditer(text.rstrip())):
            count = self._length(word.group())
            begin, characters = word.start("word"), word.end() - word.start("word")
            found += [begin - (-characters * n // count) for n in range(1, count + 1)]
            if number % _WORDS_AT_ONCE == 0:
                _REST.wait(_REST_SECONDS)  # whoever computes for a query needs the interpreter for a moment
        return found

    def _length(self, word: str) -> int:
        """Return how many tokens a word has; the words of a language are few, with short white space before them."""
        if len(word) > _LONGEST_KNOWN:
            return len(self._ids(word)) - len(self._ids(""))
        found = self._lengths.get(word)
        if found is None:
            if len(self._lengths) >= _KNOWN_WORDS:
                self._lengths.clear()
            found = self._lengths[word] = len(self._ids(word)) - len(self._ids(""))
        return found

    def _ids(self, text: str) -> Ids:
        data = text.encode()
        count = -(len(data) + 8)
        while count < 0:
            # Some vocabularies write a character as several before they read it; llama.cpp then says how much it needs.
            room = -count
            buffer = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocabulary, data, len(data), buffer, room, True, False)
            if count < -_MOST_TOKENS:
                raise EngineError(f"llama.cpp can't read a text of {len(data)} bytes")
        return np.ctypeslib.as_array(buffer)[:count]


class Context:
    """One context of one thread. Not for two threads at a time.

    `capacity` is how many tokens a call of `embed` may have, `piece` how many of them llama.cpp gets at once; where it
    is smaller, the model must read from left to right and its last token must be the text's vector.
    """

    def __init__(self, weights: Weights, capacity: int, piece: int | None = None) -> None:
        self.capacity = max(PACK_TOKENS, capacity)
        self._piece = min(piece or self.capacity, self.capacity)
        self._dimensions = weights.model.dimensions
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = self.capacity
        parameters.n_batch = parameters.n_ubatch = self._piece
        parameters.n_seq_max = PACK_TEXTS
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.pooling_type = _POOLING[weights.model.pooling]
        parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.embeddings = True
        parameters.kv_unified = True
        parameters.no_perf = True
        self._handle = lib.llama_init_from_model(weights.handle, parameters)
        if not self._handle:
            raise EngineError(
                f"llama.cpp can't make a context of {self.capacity} tokens, most likely for want of memory: raise the "
                "memory limit of the pool's variant"
            )
        # Only decoders keep a memory of what they read.
        self._memory = lib.llama_get_memory(self._handle)
        self._batch = _Batch(self._piece)
        self._take_memory(weights)

    def embed(self, texts: Sequence[Ids]) -> Vectors:
        """Return a vector of length one for each tokenized text (texts x dimensions); NaN where there is none.

        Raises:
            EngineError: the texts do not fit one call, or llama.cpp gave up.

        """
        total = sum(len(text) for text in texts)
        if not 0 < total <= self.capacity or len(texts) > PACK_TEXTS or not all(len(text) for text in texts):
            # llama.cpp would abort the process.
            raise EngineError(f"{len(texts)} texts of {total} tokens do not fit a call of {self.capacity}")
        if self._memory:
            lib.llama_memory_clear(self._memory, True)
        found = np.empty((len(texts), self._dimensions), np.float32)
        for piece in pieces(texts, self._piece):
            status = self._compute(piece)
            if status != 0:
                raise EngineError(f"llama.cpp ended a call of {total} tokens with status {status}")
            for part in piece:
                if part.last:
                    found[part.number] = self._vector(part.number)
        return _scaled(found)

    def _compute(self, piece: Sequence[Part]) -> int:
        """Return llama.cpp's status, 0 if the piece was computed."""
        self._batch.fill(piece)
        call = lib.llama_decode if self._memory else lib.llama_encode
        return int(call(self._handle, self._batch.handle))

    def _vector(self, number: int) -> Vectors:
        pointer = lib.llama_get_embeddings_seq(self._handle, number)
        if not pointer:
            raise EngineError("llama.cpp gave no vector for a text; the pooling may not fit the model")
        row = (ctypes.c_float * self._dimensions).from_address(ctypes.addressof(pointer.contents))
        return np.ctypeslib.as_array(row)

    def _take_memory(self, weights: Weights) -> None:
        """Let llama.cpp make the buffers of the largest call, and return what an encoder never writes to.

        The call is given up before it computes anything. Buffers only grow, so none is made later.
        """
        longest = min(weights.model.max_tokens, self._piece)
        whole, rest = divmod(self._piece, longest)
        texts = [np.zeros(length, np.int32) for length in (*[longest] * whole, rest)[:PACK_TEXTS] if length]
        lib.llama_set_abort_callback(self._handle, _give_up, None)
        self._compute(next(pieces(texts, self._piece)))
        lib.llama_set_abort_callback(self._handle, lib.ggml_abort_callback(), None)
        if not self._memory and (logits := lib.llama_get_logits(self._handle)):
            _forget(ctypes.addressof(logits.contents), 4 * weights.words * sum(map(len, texts)))


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one text that go into one piece of a call; `begin` is the place of the first in its text."""

    number: int  # of the text in its call
    ids: Ids
    begin: int
    last: bool


def pieces(texts: Sequence[Ids], most: int) -> Iterator[list[Part]]:
    """Yield texts in pieces of up to `most` tokens; a text that does not fit goes on in the next one."""
    piece: list[Part] = []
    room = most
    for number, text in enumerate(texts):
        begin = 0
        while begin < len(text):
            ids = text[begin : begin + room]
            piece.append(Part(number, ids, begin, begin + len(ids) == len(text)))
            begin += len(ids)
            room -= len(ids)
            if room == 0:
                yield piece
                piece, room = [], most
    if piece:
        yield piece


def _scaled(found: Vectors) -> Vectors:
    """Return vectors at length one, in place: the only pass over them."""
    norms = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64))
    norms[(norms == 0) | ~np.isfinite(norms)] = np.nan
    found /= norms[:, None].astype(np.float32)
    return found


def _forget(address: int, length: int) -> None:
    """Give the whole pages of memory that nobody reads back to the kernel; they cost nothing until written again."""
    begin = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


class _Batch:
    """llama.cpp's batch with numpy views over its arrays, which are filled at once instead of token by token."""

    def __init__(self, capacity: int) -> None:
        self.handle = lib.llama_batch_init(capacity, 0, 1)
        self._token = _view(self.handle.token, capacity)
        self._position = _view(self.handle.pos, capacity)
        # Each token has a pointer to its sequences; let them all point into one array.
        self._sequence = np.zeros(capacity, dtype=np.int32)
        for place in range(capacity):
            address = self._sequence.ctypes.data + place * self._sequence.itemsize
            self.handle.seq_id[place] = ctypes.cast(address, ctypes.POINTER(lib.llama_seq_id))
        _view(self.handle.n_seq_id, capacity)[:] = 1
        _view(self.handle.logits, capacity)[:] = 1

    def fill(self, parts: Sequence[Part]) -> None:
        place = 0
        for part in parts:
            end = place + len(part.ids)
            self._token[place:end] = part.ids
            self._position[place:end] = np.arange(part.begin, part.begin + len(part.ids))
            self._sequence[place:end] = part.number
            place = end
        self.handle.n_tokens = place


def offloads() -> bool:
    """Return whether this build of llama.cpp can use a GPU and finds one."""
    return bool(lib.llama_supports_gpu_offload())


def multiplies_bf16() -> bool:
    """Return whether this build of llama.cpp multiplies BF16 in hardware on this CPU."""
    told = lib.llama_print_system_info().decode()
    return "AVX512_BF16 = 1" in told or "AMX_BF16 = 1" in told or "AMX_INT8 = 1" in told


def _view(pointer: Any, length: int) -> Any:
    return np.ctypeslib.as_array(pointer, shape=(length,))


@lib.ggml_abort_callback  # type: ignore[untyped-decorator]
def _give_up(data: ctypes.c_void_p) -> bool:
    """End a call before its first step."""
    return True


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _no_log(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Drop llama.cpp's own lines; what matters is told by errors."""


def _be_quiet() -> None:
    lib.llama_log_set(_no_log, ctypes.c_void_p(0))
