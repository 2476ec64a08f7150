"""What the embedder's benchmark makes of its measurements, and of texts and weights."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest

from tests.bench.embedder.figures import Figure, ratio, slope, variation
from tests.bench.embedder.load import Answered, Answers, counted
from tests.bench.embedder.onnx_model import graph
from tests.bench.embedder.results import (
    BEST_LOOP,
    CLIENTS,
    IN_PROCESS,
    OURS,
    THEIRS,
    Taken,
    medians,
    over_plan,
    results,
)
from tests.bench.embedder.rounds import plan
from tests.bench.embedder.texts import cut, mixture, texts
from tests.bench.embedder.worker import batched
from tests.reference_model import ReferenceModel

# What `make bench-embedder` promises to write of its rounds.
PROMISED = {
    "ratio_vs_llama_server_1",
    "ratio_vs_llama_server_16",
    "ratio_vs_llama_server_128",
    "ratio_vs_llama_server_same_type_16",
    "ratio_vs_onnxruntime",
    "ratio_vs_sequential_short",
    "ratio_vs_sequential_mixed",
    "ratio_vs_best_sequential_short",
    "ratio_vs_best_sequential_mixed",
    "p99_over_p50_128",
    "throughput_128_over_16_percent",
}


def words(text: str) -> int:
    return len(text.split())


def one_round(**rates: float) -> dict[tuple[str, str, int], Taken]:
    """Return a round in which everybody does 100 texts a second, but for those named."""
    named = {"ours": OURS, "theirs": THEIRS, "loop": BEST_LOOP}
    by_name = {named[name]: rate for name, rate in rates.items()}
    return {key: Taken(by_name.get(key[0], 100.0), p50=10, p99=25) for group in plan() for key in group}


def test_answers_count_from_when_all_callers_are_at_work_until_the_span_is_over():
    early, late = Answered(0.0, 1.0, 200), Answered(2.0, 4.5, 200)
    inside = [Answered(0.5, 2.0, 200), Answered(1.0, 2.5, 429), Answered(2.0, 4.0, 200)]

    found = counted([early, *inside, late], clients=1, seconds=3.0)

    assert found == Answers(seconds=[1.5, 2.0], refused={429: 1}, lasted=3.0)


def test_answers_that_come_together_are_not_cut_apart_by_the_end_of_the_span():
    # Sixteen at a time, each second: the span of 3.5 s has three of them, which took 3 s.
    answered = [Answered(when - 1.0, when, 200) for when in (1.0, 2.0, 3.0, 4.0, 5.0) for _ in range(16)]

    assert counted(answered, clients=16, seconds=3.5).rate == 16.0


def test_a_server_that_hardly_answers_has_no_rate():
    assert counted([Answered(0.0, 1.0, 200)], clients=16, seconds=3.0).rate == 0.0


def test_a_ratio_is_the_median_of_the_rounds_own_ratios_with_their_spread():
    # The machine was half as fast in the second round; medians of each side apart would say 1.5.
    assert ratio([300.0, 100.0, 200.0], [100.0, 50.0, 200.0]) == Figure(2.0, 1.0, 3.0)


def test_a_ratio_to_somebody_who_did_nothing_is_none():
    assert ratio([300.0, 100.0], [0.0, 50.0]) is None


def test_variation_is_the_standard_deviation_by_the_mean():
    assert variation([1.0, 2.0, 3.0]) == pytest.approx(50.0)


def test_the_slope_of_a_line_is_its_growth_in_an_hour_without_error():
    times = list(range(600))

    assert slope(times, [100 + time / 60 for time in times]) == (pytest.approx(60.0), pytest.approx(0.0, abs=1e-6))


def test_the_slope_of_memory_that_only_varies_is_within_three_errors_of_nothing():
    rng = np.random.default_rng(1)

    grows, error = slope(np.arange(1800.0), 100 + rng.normal(size=1800))

    assert abs(grows) < 3 * error


def test_too_few_samples_make_no_line():
    with pytest.raises(ValueError, match="2 samples make no line"):
        slope([0, 1], [1, 1])


def test_every_promised_figure_is_there():
    found = results([one_round(ours=150)])

    assert found.keys() >= PROMISED
    assert {name for name in PROMISED if found[name] is None} == set()


def test_ratios_are_ours_by_theirs():
    found = results([one_round(ours=150, loop=50), one_round(ours=170, loop=50), one_round(ours=160, loop=50)])

    assert [found[f"ratio_vs_llama_server_{clients}"] for clients in CLIENTS] == 3 * [Figure(1.6, 1.5, 1.7)]
    assert found["ratio_vs_best_sequential_mixed"] == Figure(3.2, 3.0, 3.4)
    assert found["p99_over_p50_128"] == Figure(2.5, 2.5, 2.5)


def test_figures_are_none_where_the_other_did_nothing():
    found = results([one_round(theirs=0)])

    assert {name for name in PROMISED if found[name] is None} == {f"ratio_vs_llama_server_{n}" for n in CLIENTS}


def test_the_plan_is_compared_with_the_most_memory_that_ours_had():
    rounds = [one_round(), one_round()]
    rounds[0][OURS, "mixed", 128].anonymous = 110

    assert over_plan(rounds[:1], 100 * 2.0**20) == Figure(*3 * [pytest.approx(10.0)])
    assert over_plan(rounds, None) is None


def test_rounds_are_told_by_medians_but_refusals_and_memory_by_all():
    key = (OURS, "mixed", 16)
    rounds = [{key: Taken(rate, refused=1, anonymous=rate)} for rate in (1.0, 5.0, 3.0)]

    assert medians(rounds, key) == Taken(3.0, refused=3, anonymous=5.0)


def test_what_is_compared_is_measured_once_in_a_round():
    keys = [key for group in plan() for key in group]

    assert max(Counter(keys).values()) == 1
    assert all(clients in (*CLIENTS, IN_PROCESS) for _, _, clients in keys)


def test_texts_are_the_same_at_each_call_and_none_is_there_twice():
    found = texts(words)

    assert found == texts(words)
    assert {kind: len(some) - len(set(some)) for kind, some in found.items()} == dict.fromkeys(found, 0)
    assert max(words(text) for some in found.values() for text in some) <= 256


def test_the_mixture_is_half_short_texts():
    kinds = {kind: [f"{kind} {number}" for number in range(100)] for kind in ("short", "medium", "long")}

    mixed = mixture(kinds, random.Random(1))

    assert Counter(text.split()[0] for text in mixed) == {"short": 100, "medium": 60, "long": 40}


@pytest.mark.parametrize(("text", "left"), [("one two three four", "one two three "), ("one", "one"), ("", "")])
def test_a_text_is_cut_to_its_longest_beginning(text: str, left: str):
    assert cut(text, 3, words) == left


def test_batches_hold_every_text_once_and_few_tokens():
    rng = random.Random(1)
    lengths = [rng.randint(4, 256) for _ in range(99)]

    found = batched(lengths, 512)

    assert sorted(number for batch in found for number in batch) == list(range(99))
    assert max(len(batch) * max(lengths[number] for number in batch) for batch in found) <= 512
    assert all(lengths[one[0]] >= lengths[two[0]] for one, two in pairwise(found))


def test_onnxruntime_computes_the_same_as_the_paper():
    vocabulary = {word: number for number, word in enumerate(["[CLS]", "[SEP]", "[UNK]", "one", "two", "three"])}
    reference = ReferenceModel(_weights(len(vocabulary)), vocabulary, layers=2)
    session = onnxruntime.InferenceSession(graph(reference.weights, 2), providers=["CPUExecutionProvider"])
    ids = np.array([reference.tokens("one two three two", 8), [*reference.tokens("two", 8), 0, 0, 0]], np.int32)
    mask = np.array([[1] * 6, [1] * 3 + [0] * 3], np.int32)

    (hidden,) = session.run(None, {"ids": ids, "mask": mask})

    for row, (text, count) in enumerate([("one two three two", 6), ("two", 3)]):
        mean = hidden[row, :count].mean(axis=0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), reference.embed(text, 8), atol=1e-5)


def _weights(vocabulary: int, size: int = 24, inner: int = 48) -> dict[str, np.ndarray]:
    shapes = {"word": (vocabulary, size), "position": (8, size), "token_type": (2, size)}
    found = {f"embeddings.{name}_embeddings.weight": shape for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for number in range(2):
        layer = f"encoder.layer.{number}"
        dense = {f"attention.self.{part}": (size, size) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (size, size), "intermediate.dense": (inner, size)}
        dense |= {"output.dense": (size, inner)}
        for name, shape in dense.items():
            found |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    found |= {f"{name}.{part}": (size,) for name in norms for part in ("weight", "bias")}
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in found.items()}
