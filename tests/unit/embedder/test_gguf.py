"""Headers of model files: read from the format's definition, and distrusted."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.model import Model, Pooling
from reembed.embedder.gguf import _BLOCKS, Header, HeaderIncomplete, check_header, read_header
from reembed.embedder.refusals import ArchitectureUnsupported, DimensionsMismatch, NotGGUF, PoolingMismatch

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, dimensions=8, max_tokens=32)


def _file(
    path: Path,
    *,
    architecture: str = "bert",
    dimensions: int = 8,
    context: int = 64,
    pooling: gguf.PoolingType = gguf.PoolingType.MEAN,
) -> bytes:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(context)
    writer.add_token_list(["a", "\u2581b"])
    writer.add_array("weights", [0.5, 1.5])
    writer.add_bool("flag", True)
    writer.add_embedding_length(dimensions)
    writer.add_pooling_type(pooling)
    writer.add_tensor("token_embd.weight", np.zeros((2, dimensions), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _file(tmp_path_factory.mktemp("gguf") / "model.gguf")


def test_what_the_official_writer_wrote_is_read(whole: bytes) -> None:
    assert read_header(BytesIO(whole)) == Header(
        "bert", dimensions=8, context=64, ranks=False, pooling=Pooling.MEAN, size=len(whole), vocabulary=2
    )


def test_every_cut_within_the_header_is_incomplete(whole: bytes) -> None:
    weights = 2 * 8 * 4
    padding = 31  # at most, between the header and the weights
    for length in range(4, len(whole) - weights - padding):
        with pytest.raises(HeaderIncomplete):
            read_header(BytesIO(whole[:length]))


@given(st.binary(max_size=300))
def test_damage_is_refused_and_nothing_else_happens(whole: bytes, data: bytes) -> None:
    with contextlib.suppress(NotGGUF):  # any other exception fails the test
        read_header(BytesIO(whole[:24] + data))


@pytest.mark.parametrize("kind", sorted(_BLOCKS))
def test_blocks_have_the_length_of_the_official_reader(kind: int) -> None:
    assert _BLOCKS[kind] == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]


def test_an_announced_giant_takes_no_memory() -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60)
    with pytest.raises(NotGGUF, match="announces a value of 1152921504606846976 bytes"):
        read_header(BytesIO(start))


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_is_none_is_damage(number: float) -> None:
    pairs = b"".join(
        struct.pack("<Q", len(key)) + key.encode() + value
        for key, value in (
            ("general.architecture", struct.pack("<IQ", 8, 4) + b"bert"),
            ("bert.embedding_length", struct.pack("<If", 6, number)),
        )
    )
    with pytest.raises(NotGGUF, match="the file's GGUF header is damaged"):
        read_header(BytesIO(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pairs))


def test_another_format_is_named_by_its_first_bytes() -> None:
    with pytest.raises(NotGGUF, match=r"begins with b'PK\\x03\\x04'"):
        read_header(BytesIO(b"PK\3\4 a pickled model"))


@pytest.mark.parametrize(
    ("differs", "refusal", "message"),
    [
        pytest.param({"architecture": "whisper"}, ArchitectureUnsupported, "architecture 'whisper'", id="architecture"),
        pytest.param({"pooling": gguf.PoolingType.RANK}, ArchitectureUnsupported, "holds a reranker", id="reranker"),
        pytest.param(
            {"dimensions": 16}, DimensionsMismatch, "vectors have 16 dimensions, the pool says 8", id="length"
        ),
        pytest.param(
            {"pooling": gguf.PoolingType.CLS}, PoolingMismatch, "pools by Cls, the pool says Mean", id="pooling"
        ),
        pytest.param({"context": 16}, DimensionsMismatch, "reads 16 tokens, the pool asks for 32", id="context"),
    ],
)
def test_a_file_that_the_pool_does_not_describe_is_refused(
    differs: dict[str, Any], refusal: type[Exception], message: str, tmp_path: Path
) -> None:
    header = read_header(BytesIO(_file(tmp_path / "model.gguf", **differs)))
    with pytest.raises(refusal, match=message):
        check_header(header, _MODEL)
