"""The body of an answer of /v1/embeddings, written straight from the engine's bytes.

Vectors come as little-endian float32, text after text, and are encoded from where they are: as base64 of those bytes,
or as the shortest decimal numbers that are the same float32. No number becomes a Python object on the way.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator

import numpy as np
import orjson

from reembed.embedder.messages import Done


def render(done: Done, fingerprint: str, *, base64: bool) -> bytes:
    """Return the JSON of an answer."""
    name, tokens = orjson.dumps(fingerprint), sum(done.tokens)
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%s}' % (index, vector)
        for index, vector in enumerate(_base64(done) if base64 else _floats(done))
    )
    return (
        b'{"object":"list","model":%s,"fingerprint":%s,"data":[%s],"usage":{"prompt_tokens":%d,"total_tokens":%d},'
        b'"truncated":%s}' % (name, name, data, tokens, tokens, orjson.dumps(done.cut))
    )


def _base64(done: Done) -> Iterator[bytes]:
    view, size = memoryview(done.vectors), len(done.vectors) // len(done.tokens)
    for begin in range(0, len(done.vectors), size):
        yield b'"%s"' % b2a_base64(view[begin : begin + size], newline=False)


def _floats(done: Done) -> Iterator[bytes]:
    for vector in np.frombuffer(done.vectors, "<f4").reshape(len(done.tokens), -1):
        yield orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
