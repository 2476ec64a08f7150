"""llama.cpp through its low-level API: one model, contexts of one thread each, texts to vectors.

Only the child process imports this module: a wrong call aborts the process, not the call. Contexts have one compute
thread, because two of them spin on each other where the cores are shared; several contexts over one model do the same
work side by side, since ctypes releases the interpreter's lock during a call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp.llama_cpp as lib
import numpy as np

from reembed.core.model import Model, Pooling
from reembed.embedder.packing import PACK_TEXTS, PACK_TOKENS

_POOLING = {
    Pooling.MEAN: lib.LLAMA_POOLING_TYPE_MEAN,
    Pooling.CLS: lib.LLAMA_POOLING_TYPE_CLS,
    Pooling.LAST: lib.LLAMA_POOLING_TYPE_LAST,
}
_FLASH_ATTENTION = 1


class EngineError(Exception):
    """llama.cpp refused what it was asked for."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it; `cut` if its end was left out."""

    ids: tuple[int, ...]
    cut: bool


class Weights:
    """The model's weights and vocabulary, mapped from the file and shared by all contexts."""

    def __init__(self, path: Path, model: Model) -> None:
        _be_quiet()
        lib.llama_backend_init()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = 0
        # Repacked K-quants are slower in small packs and double the memory as an anonymous copy.
        parameters.use_extra_bufts = False
        self.handle = lib.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise EngineError(f"llama.cpp cannot load {path.name}; the file may be damaged or of a newer format")
        self.model = model
        self.encoder = bool(lib.llama_model_has_encoder(self.handle)) or _is_bert(self.handle)
        self._vocabulary = lib.llama_model_get_vocab(self.handle)
        ends = (lib.llama_vocab_sep(self._vocabulary), lib.llama_vocab_eos(self._vocabulary))
        self._ends = frozenset(token for token in ends if token >= 0)

    def tokenize(self, text: str) -> Tokens:
        """Return a text's tokens with the special ones, cut to the model's limit if it is longer."""
        data = text.encode()
        room = len(data) + 8
        buffer = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocabulary, data, len(data), buffer, room, True, False)
        if count < 0:
            raise EngineError(f"a text of {len(data)} bytes has no tokens in this vocabulary")
        ids, limit = buffer[:count], self.model.max_tokens
        if count <= limit:
            return Tokens(tuple(ids), cut=False)
        # The token that closes a text stays: the model was trained with it.
        kept = [*ids[: limit - 1], ids[-1]] if ids[-1] in self._ends else ids[:limit]
        return Tokens(tuple(kept), cut=True)


class Context:
    """One context of one thread. Not for two threads at a time."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.capacity = max(PACK_TOKENS, weights.model.max_tokens)
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.capacity
        parameters.n_seq_max = PACK_TEXTS
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.pooling_type = _POOLING[weights.model.pooling]
        parameters.flash_attn_type = _FLASH_ATTENTION
        parameters.embeddings = True
        parameters.kv_unified = True
        parameters.no_perf = True
        self._handle = lib.llama_init_from_model(weights.handle, parameters)
        if not self._handle:
            raise EngineError(f"llama.cpp cannot make a context of {self.capacity} tokens; the memory may be too small")
        self._batch = lib.llama_batch_init(self.capacity, 0, 1)

    def embed(self, texts: Sequence[Sequence[int]]) -> list[bytes]:
        """Return a vector of length one for each tokenized text, as float32 little-endian bytes.

        Raises:
            EngineError: the texts do not fit one call, or the engine gave no finite vector.

        """
        total = sum(len(text) for text in texts)
        if not 0 < total <= self.capacity or len(texts) > PACK_TEXTS or not all(texts):
            # llama.cpp would abort the process.
            raise EngineError(f"{len(texts)} texts of {total} tokens do not fit a call of {self.capacity}")
        self._fill(texts, total)
        if self._weights.encoder:
            status = lib.llama_encode(self._handle, self._batch)
        else:
            lib.llama_memory_clear(lib.llama_get_memory(self._handle), True)
            status = lib.llama_decode(self._handle, self._batch)
        if status != 0:
            raise EngineError(f"llama.cpp ended a call of {total} tokens with status {status}")
        return [self._vector(number) for number in range(len(texts))]

    def _fill(self, texts: Sequence[Sequence[int]], total: int) -> None:
        batch = self._batch
        batch.n_tokens = total
        place = 0
        for number, text in enumerate(texts):
            for position, token in enumerate(text):
                batch.token[place] = token
                batch.pos[place] = position
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = number
                batch.logits[place] = 1
                place += 1

    def _vector(self, sequence: int) -> bytes:
        dimensions = self._weights.model.dimensions
        pointer = lib.llama_get_embeddings_seq(self._handle, sequence)
        if not pointer:
            raise EngineError("llama.cpp gave no vector for a text; the pooling may not fit the model")
        vector = np.ctypeslib.as_array(pointer, shape=(dimensions,)).astype(np.float64)
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm == 0:
            raise EngineError("the model gave a vector that is not finite, or zero; the file may be damaged")
        return (vector / norm).astype("<f4").tobytes()


def _drop(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Drop llama.cpp's own lines; what matters is told by errors."""


# Kept for the life of the process: llama.cpp calls it through a bare pointer.
_no_log = lib.llama_log_callback(_drop)


def _be_quiet() -> None:
    lib.llama_log_set(_no_log, ctypes.c_void_p(0))


def _is_bert(model: object) -> bool:
    """Return whether the model reads its whole input at once although llama.cpp calls it no encoder."""
    buffer = ctypes.create_string_buffer(64)
    lib.llama_model_meta_val_str(model, b"general.architecture", buffer, 64)
    return b"bert" in buffer.value
