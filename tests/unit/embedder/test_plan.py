from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.core.model import Device, Model, Pooling
from reembed.embedder.gguf import Header
from reembed.embedder.plan import Plan, plan
from reembed.embedder.refusals import MemoryInsufficient

_MIB = 1 << 20
_NOMIC = Header(
    "nomic-bert",
    dimensions=768,
    context=2048,
    ranks=False,
    pooling=Pooling.MEAN,
    size=262 * _MIB,
    layers=12,
    inner=3072,
    heads=12,
    heads_kv=12,
    head_size=64,
    vocabulary=30_528,
)
_CODE = Header(
    "qwen2",
    dimensions=3584,
    context=32_768,
    ranks=False,
    pooling=Pooling.LAST,
    size=4400 * _MIB,
    layers=28,
    inner=18_944,
    heads=28,
    heads_kv=4,
    head_size=128,
    vocabulary=151_936,
    causal=True,
)


def _plan(header: Header, limit: int, *, tokens: int = 2048, device: Device = Device.CPU) -> Plan:
    model = Model("", "", header.pooling or Pooling.MEAN, header.dimensions, tokens)
    return plan(header, model, cpus=2, device=device, cache=32 * _MIB, limit=limit * _MIB)


def test_an_encoder_has_a_context_more_than_cpus_and_reads_texts_whole() -> None:
    found = _plan(_NOMIC, 1024)
    assert (found.capacities, found.piece, found.mapped) == ((256, 512, 2048), None, 262 * _MIB)
    assert 300 * _MIB < found.anonymous < 400 * _MIB


def test_a_decoder_reads_in_pieces_so_that_its_longest_text_costs_only_memory_of_what_it_read() -> None:
    short, long = _plan(_CODE, 8192), _plan(_CODE, 8192, tokens=8192)
    assert (long.capacities, long.piece) == ((256, 512, 8192), 256)
    keys_and_values = 2 * 2 * 28 * (8192 - 2048) * 4 * 128
    mask = 6 * 256 * (8192 - 2048)
    assert long.anonymous - short.anonymous == keys_and_values + mask


def test_a_lower_limit_means_fewer_contexts_and_then_a_refusal_with_numbers() -> None:
    full = _plan(_CODE, 8192)
    two = _plan(_CODE, (full.bytes // _MIB) - 1)
    one = _plan(_CODE, (two.bytes // _MIB) - 1)
    assert [len(each.capacities) for each in (full, two, one)] == [3, 2, 1]
    needed = -(-one.bytes // _MIB)
    with pytest.raises(MemoryInsufficient) as refused:
        _plan(_CODE, needed - 1)
    assert str(refused.value) == (
        f"the model needs {needed} MiB ({one.anonymous // _MIB} MiB for computing texts of 2048 tokens, 4400 MiB for "
        f"its weights), the container's limit is {needed - 1} MiB; nothing was loaded: set limits.memory of the pool's "
        f"variant to {needed}Mi or more, or lower spec.model.maxTokens in a new pool"
    )
    assert _plan(_CODE, needed) == one


def test_weights_on_a_gpu_need_no_room_in_the_container() -> None:
    assert _plan(_CODE, 2048, device=Device.GPU).mapped == 0


@given(st.integers(1, 16), st.integers(300, 16_384))
def test_a_plan_never_passes_its_limit(cpus: int, limit: int) -> None:
    model = Model("", "", Pooling.MEAN, 768, 2048)
    try:
        found = plan(_NOMIC, model, cpus, Device.CPU, 0, limit * _MIB)
    except MemoryInsufficient:
        assert limit < 700
    else:
        assert found.bytes <= limit * _MIB
        assert found.capacities[-1] == 2048


def test_a_decoder_that_reads_in_both_directions_keeps_words_and_memory_all_the_same() -> None:
    both = _plan(replace(_CODE, causal=False), 65_536)
    words = 2 * 4 * 151_936 * 2048
    assert (both.piece, both.anonymous > words) == (None, True)
