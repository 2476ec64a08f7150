"""Reads the header of a GGUF file: what model it holds, before a byte of its weights is needed.

The format is llama.cpp's (docs/gguf.md there): magic, version, counts, key-value pairs, then the directory of tensors.
Only scalar values and strings are kept; arrays are stepped over, and of the vocabulary only its length is noted. The
directory is read for how many bytes the file must have, which tells a file that was cut from one that is another.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from reembed.core.model import Model, Pooling
from reembed.embedder.refusals import ArchitectureUnsupported, DimensionsMismatch, NotGGUF, PoolingMismatch

MAGIC = b"GGUF"
# llama.cpp runs many more, but for these it gives one vector a text.
ARCHITECTURES = frozenset(
    {
        "bert",
        "gemma-embedding",
        "jina-bert-v2",
        "llama",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "qwen2",
        "qwen3",
    }
)

# Those that read from left to right, and have a memory of what they read.
_DECODERS = frozenset({"llama", "qwen2", "qwen3"})

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# A header that claims more than this is not one, and must not be believed when memory is taken for it.
_MOST_PAIRS = 10_000
_MOST_TENSORS = 100_000
_MOST_AXES = 4
_LONGEST_VALUE = 64 << 20
_ALIGNMENT = 32  # of the first tensor, unless general.alignment says otherwise
# llama.cpp's pooling types. One that ranks pairs of texts has no vector of one text; a file may also say nothing.
_POOLING = {1: Pooling.MEAN, 2: Pooling.CLS, 3: Pooling.LAST}
_RANK = 4
_VOCABULARY = "tokenizer.ggml.tokens"
# Weights and bytes of a block, by the number of the type (ggml-common.h).
_BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    20: (32, 18),  # IQ4_NL
    23: (256, 136),  # IQ4_XS
    30: (1, 2),  # BF16
}
_UNKNOWN_BLOCK = (1, 0)  # the file is then at least as long as where the tensor begins

Value = int | float | bool | str


class HeaderIncomplete(NotGGUF):
    """The file ends within its header; while it is still being written, more may come."""


class _Damaged(Exception):
    """What can't be in a GGUF header."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an embedder must know before it loads a file; what a file does not say of its shape is 0."""

    architecture: str
    dimensions: int
    context: int
    ranks: bool  # it compares texts instead of embedding them
    pooling: Pooling | None  # what the model was made for; None if the file does not say
    size: int  # bytes that the file has at least when it is whole
    layers: int = 0
    inner: int = 0  # width of the feed-forward layers
    heads: int = 0
    heads_kv: int = 0
    head_size: int = 0
    vocabulary: int = 0  # tokens
    causal: bool = False  # a decoder, each of whose tokens sees only those before it

    @property
    def decodes(self) -> bool:
        """Return whether llama.cpp keeps a memory for it and predicts words, in whichever direction it reads."""
        return self.architecture in _DECODERS


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor is: `kind` and `kind_at` are its type and where the file says it, in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    kind_at: int
    offset: int
    length: int  # 0 if the type is not known


def read_header(file: BinaryIO) -> Header:
    """Return the header of a GGUF file.

    Raises:
        NotGGUF: the file does not begin as one, or ends in its header.

    """
    start = file.read(4)
    if start != MAGIC:
        raise NotGGUF(f"the file begins with {start!r}, a GGUF file with {MAGIC!r}; convert the model to GGUF first")
    try:
        _version, tensors, pairs = _unpack(file, "IQQ")
        values = _pairs(file, pairs)
        architecture = str(values["general.architecture"])
        pooling = values.get(f"{architecture}.pooling_type")
        return Header(
            architecture=architecture,
            dimensions=int(values[f"{architecture}.embedding_length"]),
            context=int(values[f"{architecture}.context_length"]),
            ranks=pooling == _RANK,
            pooling=_POOLING.get(pooling) if isinstance(pooling, int) else None,
            size=_size(file, tensors, int(values.get("general.alignment", _ALIGNMENT))),
            causal=architecture in _DECODERS and values.get(f"{architecture}.attention.causal", True) is not False,
            **_shape(values, architecture),
        )
    except KeyError as error:
        raise NotGGUF(f"the file's GGUF header has no {error.args[0]}; convert the model again") from error
    except (_Damaged, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise NotGGUF(f"the file's GGUF header is damaged ({error}); convert the model again") from error


def read_tensors(file: BinaryIO) -> tuple[Tensor, ...]:
    """Return where a whole file's tensors are, with offsets counted from the file's beginning.

    Raises:
        NotGGUF: the file's header has been damaged since it was checked.

    """
    try:
        file.seek(len(MAGIC))
        _version, tensors, pairs = _unpack(file, "IQQ")
        alignment = int(_pairs(file, pairs).get("general.alignment", _ALIGNMENT))
        found = [_tensor(file) for _ in range(tensors)]
    except (_Damaged, UnicodeDecodeError, ValueError) as error:
        raise NotGGUF(f"the file's GGUF header is damaged ({error}); convert the model again") from error
    begin = -(-file.tell() // alignment) * alignment
    return tuple(replace(one, offset=begin + one.offset) for one in found)


def check_header(header: Header, model: Model) -> None:
    """Compare a header with what the pool says of its model.

    Raises:
        ArchitectureUnsupported: it is no embedding model, or none that this engine runs.
        DimensionsMismatch: its vectors have another length.
        PoolingMismatch: its token vectors are meant to become one in another way.

    """
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ArchitectureUnsupported(f"the file holds architecture {header.architecture!r}; supported are {known}")
    if header.ranks:
        raise ArchitectureUnsupported("the file holds a reranker, which has no vectors; use an embedding model's file")
    if header.dimensions != model.dimensions:
        raise DimensionsMismatch(
            f"the file's vectors have {header.dimensions} dimensions, the pool says {model.dimensions}; correct "
            "spec.model.dimensions in a new pool"
        )
    if header.pooling is not None and header.pooling is not model.pooling:
        raise PoolingMismatch(
            f"the file's model pools by {header.pooling.value}, the pool says {model.pooling.value}: its vectors would "
            "find less, and nobody would notice; correct spec.model.pooling in a new pool"
        )
    if header.context < model.max_tokens:
        raise DimensionsMismatch(
            f"the model reads {header.context} tokens, the pool asks for {model.max_tokens}; lower "
            "spec.model.maxTokens in a new pool"
        )


def _shape(values: Mapping[str, Value], architecture: str) -> dict[str, int]:
    """Return what decides how much memory a context needs."""

    def number(key: str, default: int = 0) -> int:
        found = values.get(f"{architecture}.{key}", default)
        return int(found) if isinstance(found, int | float) and math.isfinite(found) else default

    heads = number("attention.head_count")
    even = number("embedding_length") // heads if heads > 0 else 0
    return {
        "layers": number("block_count"),
        "inner": number("feed_forward_length"),
        "heads": heads,
        # Where each layer has another number it is an array; with all heads a plan is on the safe side.
        "heads_kv": number("attention.head_count_kv", heads),
        "head_size": number("attention.key_length", even),
        "vocabulary": int(values.get(_VOCABULARY, 0)),
    }


def _pairs(file: BinaryIO, pairs: int) -> dict[str, Value]:
    if pairs > _MOST_PAIRS:
        raise _Damaged(f"it announces {pairs} key-value pairs, at most {_MOST_PAIRS} are plausible")
    values: dict[str, Value] = {}
    for _ in range(pairs):
        key = _string(file).decode()
        kind = _unpack(file, "I")[0]
        if kind == _ARRAY:
            length = _skip_array(file)
            if key == _VOCABULARY:
                values[key] = length
        else:
            values[key] = _value(file, kind)
    return values


def _size(file: BinaryIO, tensors: int, alignment: int) -> int:
    """Read the directory of tensors; return where the last of them ends."""
    if tensors > _MOST_TENSORS or alignment < 1:
        raise _Damaged(f"it announces {tensors} tensors at multiples of {alignment} bytes")
    found = [_tensor(file) for _ in range(tensors)]
    end = max((one.offset + one.length for one in found), default=0)
    return -(-file.tell() // alignment) * alignment + end


def _tensor(file: BinaryIO) -> Tensor:
    name = _string(file).decode()
    (axes,) = _unpack(file, "I")
    if axes > _MOST_AXES:
        raise _Damaged(f"it has a tensor of {axes} axes, at most {_MOST_AXES} are possible")
    shape = _unpack(file, f"{axes}Q")
    kind_at = file.tell()
    kind, offset = _unpack(file, "IQ")
    weights, length = _BLOCKS.get(kind, _UNKNOWN_BLOCK)
    return Tensor(name, shape, kind, kind_at, offset, math.prod(shape) // weights * length)


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _string(file).decode()
    if kind not in _SCALARS:
        raise _Damaged(f"it has a value of type {kind}, which the format does not know")
    value: Value = _unpack(file, _SCALARS[kind])[0]
    return value


def _skip_array(file: BinaryIO) -> int:
    """Step over an array; return how many values it has."""
    kind, length = _unpack(file, "IQ")
    if kind in _SCALARS:
        _exactly(file, length * struct.calcsize(_SCALARS[kind]))
    elif kind == _STRING:
        for _ in range(length):
            _string(file)
    else:
        raise _Damaged(f"it has an array of type {kind}, which the format does not know")
    return int(length)


def _string(file: BinaryIO) -> bytes:
    (length,) = _unpack(file, "Q")
    return _exactly(file, length)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", _exactly(file, struct.calcsize(f"<{form}")))


def _exactly(file: BinaryIO, length: int) -> bytes:
    if length > _LONGEST_VALUE:
        raise _Damaged(f"it announces a value of {length} bytes, at most {_LONGEST_VALUE} are plausible")
    data = file.read(length)
    if len(data) < length:
        raise HeaderIncomplete("the file ends within its GGUF header; it was not copied whole")
    return data
