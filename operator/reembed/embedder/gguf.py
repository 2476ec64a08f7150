"""Reads the header of a GGUF file: what model it holds, before a byte of its weights is needed.

The format is llama.cpp's (docs/gguf.md there): magic, version, counts, then key-value pairs. Only scalar values and
strings are kept; arrays, a vocabulary among them, are stepped over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from reembed.core.model import Model
from reembed.embedder.refusals import ArchitectureUnsupported, DimensionsMismatch, NotGGUF

MAGIC = b"GGUF"
# Encoders run by one call over all tokens; the others are decoders with a cache.
ENCODERS = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "modern-bert"})
DECODERS = frozenset({"qwen2", "qwen3", "llama", "gemma-embedding"})

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# A header that claims more pairs than this is not one.
_MOST_PAIRS = 10_000

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Header:
    """What an embedder must know before it loads a file."""

    architecture: str
    dimensions: int
    context: int

    @property
    def encoder(self) -> bool:
        return self.architecture in ENCODERS


def read_header(file: BinaryIO) -> Header:
    """Return the header of a GGUF file.

    Raises:
        NotGGUF: the file does not begin as one, or ends in its header.

    """
    start = file.read(4)
    if start != MAGIC:
        raise NotGGUF(f"the file begins with {start!r}, a GGUF file with {MAGIC!r}; convert the model to GGUF first")
    try:
        values = _pairs(file)
        architecture = str(values["general.architecture"])
        return Header(
            architecture=architecture,
            dimensions=int(values[f"{architecture}.embedding_length"]),
            context=int(values[f"{architecture}.context_length"]),
        )
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise NotGGUF(f"the file's GGUF header is damaged ({error!r}); convert the model again") from error


def check_header(header: Header, model: Model) -> None:
    """Compare a header with what the pool says of its model.

    Raises:
        ArchitectureUnsupported: it is no embedding model that this engine runs.
        DimensionsMismatch: its vectors have another length.

    """
    if header.architecture not in ENCODERS | DECODERS:
        known = ", ".join(sorted(ENCODERS | DECODERS))
        raise ArchitectureUnsupported(f"the file holds architecture {header.architecture!r}; supported are {known}")
    if header.dimensions != model.dimensions:
        raise DimensionsMismatch(
            f"the file's vectors have {header.dimensions} dimensions, the pool says {model.dimensions}; correct "
            "spec.model.dimensions in a new pool"
        )
    if header.context < model.max_tokens:
        raise DimensionsMismatch(
            f"the model reads {header.context} tokens, the pool asks for {model.max_tokens}; lower "
            "spec.model.maxTokens in a new pool"
        )


def _pairs(file: BinaryIO) -> dict[str, Value]:
    _version, _tensors, pairs = _unpack(file, "IQQ")
    if pairs > _MOST_PAIRS:
        raise KeyError(f"{pairs} key-value pairs")
    values: dict[str, Value] = {}
    for _ in range(pairs):
        key = _string(file)
        value = _value(file, _unpack(file, "I")[0])
        if value is not None:
            values[key] = value
    return values


def _value(file: BinaryIO, kind: int) -> Value | None:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, length = _unpack(file, "IQ")
        if inner in _SCALARS:
            _exactly(file, length * struct.calcsize(_SCALARS[inner]))
        else:
            for _ in range(length):
                _value(file, inner)
        return None
    if kind not in _SCALARS:
        raise KeyError(f"value type {kind}")
    value: Value = _unpack(file, _SCALARS[kind])[0]
    return value


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    return _exactly(file, length).decode()


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack("<" + form, _exactly(file, struct.calcsize("<" + form)))


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise struct.error(f"{count} bytes wanted, {len(data)} left")
    return data
