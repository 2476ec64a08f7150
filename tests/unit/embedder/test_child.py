"""How many contexts compute side by side, and what they are given. Contexts and vocabulary are doubles."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import pytest

from reembed.core.model import Model, Pooling
from reembed.embedder.board import Board
from reembed.embedder.child import Work
from reembed.embedder.jobs import Text, job
from reembed.embedder.llama import Context, Ids, Tokens, Vectors, Weights
from reembed.embedder.messages import Computing, Done, Pace, Request, Unreadable
from reembed.embedder.packing import Item

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 2, 256)
_PATIENCE = 20
_OVERFLOWS = 3  # the id of texts that are named like this many letters


class _Weights:
    """Reads a text as as many tokens as it says, and each as others than any before, unless it has a name besides."""

    model = _MODEL

    def __init__(self) -> None:
        self._read = 0

    def tokenize(self, text: str) -> Tokens:
        self._read += 1
        count, _, name = text.partition(" ")
        ids = np.full(int(count), len(name) or 1000 + self._read, np.int32)
        return Tokens(ids, len(ids))

    def count(self, text: str) -> int:
        return self.tokenize(text).full


class _Context:
    """Waits until `together` of them compute, and remembers what it was given."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.packs: list[int] = []
        self.together = threading.Barrier(1)

    def embed(self, texts: Sequence[Ids]) -> Vectors:
        self.packs.append(len(texts))
        self.together.wait(_PATIENCE)
        # One text that overflows spoils the whole call, as with llama.cpp's mean over tokens.
        spoiled = any(ids[0] == _OVERFLOWS for ids in texts)
        return np.full((len(texts), 2), np.nan if spoiled else 1, np.float32)


class _World:
    def __init__(self, pipe: Connection, contexts: list[_Context]) -> None:
        self.pipe = pipe
        self.contexts = contexts
        self.peak = 0
        self.unreadable: set[int] = set()

    def wait_until_computing(self, contexts: int) -> None:
        while self.peak < contexts:
            assert self.pipe.poll(_PATIENCE)
            self.peak = self.pipe.recv().contexts

    def answers(self, count: int) -> set[int]:
        """Return the numbers of the next `count` requests that are done."""
        found: set[int] = set()
        while len(found) < count:
            assert self.pipe.poll(_PATIENCE)
            match self.pipe.recv():
                case Done(number):
                    found.add(number)
                case Unreadable(number):
                    self.unreadable.add(number)
                case Computing(contexts):
                    self.peak = contexts
        return found


@contextmanager
def _world(capacities: Sequence[int], cpus: int | None = None) -> Iterator[_World]:
    ours, theirs = Pipe()
    contexts = [_Context(capacity) for capacity in capacities]
    board = Board.make(len(contexts))
    work = Work(theirs, cast("Weights", _Weights()), board, capacities, cpus or len(contexts))
    for number, context in enumerate(contexts):
        threading.Thread(target=work.compute, args=(cast("Context", context), number), daemon=True).start()
    reader = threading.Thread(target=work.read, daemon=True)
    reader.start()
    yield _World(ours, contexts)
    ours.close()
    reader.join(_PATIENCE)
    theirs.close()


def _request(number: int, texts: int, tokens: int = 10, *, background: bool = False, alone: bool = False) -> Request:
    return Request(number, (str(tokens),) * texts, background, alone=alone)


@pytest.mark.parametrize("allowed", [1, 2])
def test_only_the_allowed_last_contexts_compute_and_text_by_text(allowed: int) -> None:
    with _world([256] * 4) as world:
        together = threading.Barrier(allowed)
        for context in world.contexts:
            context.together = together
        world.pipe.send(Pace(allowed, pack_tokens=128, pack_texts=1))
        for number in range(6):
            world.pipe.send(_request(number, texts=4))
        assert world.answers(6) == set(range(6))
    idle, busy = world.contexts[:-allowed], world.contexts[-allowed:]
    assert ([context.packs for context in idle], world.peak) == ([[]] * len(idle), allowed)
    assert [one for context in busy for one in context.packs] == [1] * 24


def test_all_compute_again_when_the_pace_is_the_old_one() -> None:
    with _world([256] * 4) as world:
        world.pipe.send(Pace(1, pack_tokens=128, pack_texts=1))
        world.pipe.send(_request(0, texts=1))
        world.answers(1)
        together = threading.Barrier(4)
        for context in world.contexts:
            context.together = together
        world.pipe.send(Pace(4, pack_tokens=256, pack_texts=64))
        # Four packs of 25 texts of ten tokens.
        world.pipe.send(_request(1, texts=100))
        assert world.answers(1) == {1}
    assert (world.peak, [context.packs[-1] for context in world.contexts]) == (4, [25] * 4)


def test_an_allowed_context_begins_when_those_of_the_old_pace_are_done() -> None:
    with _world([256, 256, 256, 5], cpus=3) as world:  # texts of ten tokens leave the last one idle
        together = threading.Barrier(4)  # the three others, and this thread
        for context in world.contexts[:3]:
            context.together = together
        world.pipe.send(_request(1, texts=75))
        world.wait_until_computing(3)
        world.pipe.send(Pace(1, pack_tokens=128, pack_texts=1))
        world.pipe.send(Request(2, ("3",), background=False))
        world.pipe.send(Request(3, ("3",), background=False, tokens_only=True))
        assert world.answers(1) == {3}  # so that the second waits by now
        together.wait(_PATIENCE)
        assert world.answers(2) == {1, 2}
    assert (world.peak, world.contexts[3].packs) == (1, [1])


def test_no_context_begins_while_as_many_compute_as_are_allowed() -> None:
    work = _work([256] * 4)
    work._lanes.add(Item(10, False, cast("Text", "a")))
    work._set(Pace(2, pack_tokens=128, pack_texts=1))
    work._busy = {1: False, 2: False}
    held = work._next_pack(3)
    del work._busy[1]
    assert (held, [item.work for item in work._next_pack(3)]) == ([], ["a"])


def _work(capacities: Sequence[int], cpus: int = 4) -> Work:
    pipe = Connection(os.open(os.devnull, os.O_WRONLY), readable=False)
    return Work(pipe, cast("Weights", _Weights()), Board.make(len(capacities)), capacities, cpus)


def test_one_context_more_than_cpus_computes_only_a_live_text_beside_background_ones() -> None:
    work = _work([256] * 3, cpus=2)
    for background in (True, False):
        work._lanes.add(Item(10, background, cast("Text", background)))
    work._busy = {1: False, 2: False}
    beside_live = work._next_pack(0)
    work._busy = {1: True, 2: False}
    assert (beside_live, [item.work for item in work._next_pack(0)]) == ([], [False])


def test_a_long_text_is_not_passed_by_for_ever_while_the_context_that_can_read_it_is_idle() -> None:
    work = _work([256, 2048])
    for tokens in (1000, 10):
        work._lanes.add(Item(tokens, False, cast("Text", tokens)))
    small = work._next_pack(0)
    assert (small, [item.work for item in work._next_pack(1)]) == ([], [1000])
    assert [item.work for item in work._next_pack(0)] == [10]


def test_texts_that_must_be_alone_are_computed_one_by_one_with_nothing_beside_them() -> None:
    with _world([256] * 3) as world:
        world.pipe.send(_request(1, texts=3, alone=True))
        world.pipe.send(_request(2, texts=3))
        assert world.answers(2) == {1, 2}
    # The others have a pack of their own, in between or behind.
    assert sorted(size for context in world.contexts for size in context.packs) == [1, 1, 1, 3]


def test_equal_texts_of_a_pack_are_computed_once_and_all_get_the_vector() -> None:
    with _world([256]) as world:
        world.contexts[0].together = threading.Barrier(2)
        world.pipe.send(_request(1, texts=1))  # keeps the context while the next ones line up
        world.wait_until_computing(1)
        world.pipe.send(Request(2, ("10 same",) * 5, background=False))
        world.pipe.send(Request(3, ("3",), background=False, tokens_only=True))
        assert world.answers(1) == {3}
        for _ in range(2):
            world.contexts[0].together.wait(_PATIENCE)
        assert world.answers(2) == {1, 2}
    assert world.contexts[0].packs == [1, 1]


def test_what_waits_behind_a_long_text_is_taken_as_soon_as_that_is_computed() -> None:
    work = _work([256, 2048])
    for tokens in (1000, 10):
        work._lanes.add(Item(tokens, False, cast("Text", tokens)))
    waits, taken = threading.Event(), []

    def small() -> None:
        with work._changed:
            waits.set()
            taken.append([item.work for item in work._wait_for_pack(0)])

    thread = threading.Thread(target=small, daemon=True)
    thread.start()
    assert waits.wait(_PATIENCE)
    with work._changed:  # free when the other thread waits for something to change
        long = [item.work for item in work._wait_for_pack(1)]
    thread.join(_PATIENCE)
    assert (long, taken) == ([1000], [[10]])


def test_texts_that_must_be_alone_do_not_keep_live_ones_waiting_one_after_the_other() -> None:
    work = _work([256] * 2)
    request = Request(1, ("10", "10"), background=True, alone=True)
    work._queue(*job(request, [_Weights().tokenize("10")] * 2, 2, 0.0))
    work._lanes.add(Item(10, False, cast("Text", "live")))
    alone = work._next_pack(1)
    work._isolating, work._others_until = False, float("inf")
    others = [item.work for item in work._next_pack(1)]
    again = work._next_pack(1)
    assert ([item.work.index for item in alone], others, [item.work.index for item in again]) == ([0], ["live"], [1])


def test_after_a_text_alone_it_is_the_turn_of_others_for_as_long() -> None:
    with _world([256]) as world:
        world.contexts[0].together = threading.Barrier(2)
        world.pipe.send(_request(1, texts=2, alone=True))
        world.wait_until_computing(1)
        world.pipe.send(Request(2, ("3",) * 2, background=False))
        for number in range(3, 40):  # so that the second waits by now, and the first has been computed for a while
            world.pipe.send(Request(number, ("3",), background=False, tokens_only=True))
            assert world.answers(1) == {number}
        for _ in range(2):
            world.contexts[0].together.wait(_PATIENCE)
        assert world.answers(1) == {2}
        world.contexts[0].together.wait(_PATIENCE)
        assert world.answers(1) == {1}
    assert world.contexts[0].packs == [1, 2, 1]


def test_a_text_that_overflows_costs_those_beside_it_nothing() -> None:
    with _world([256]) as world:
        world.contexts[0].together = threading.Barrier(2)
        world.pipe.send(_request(1, texts=1))  # keeps the context while the next ones line up
        world.wait_until_computing(1)
        world.pipe.send(Request(2, ("10 bad",), background=False))
        world.pipe.send(_request(3, texts=2))
        world.pipe.send(Request(4, ("3",), background=False, tokens_only=True))
        assert world.answers(1) == {4}
        for _ in range(5):
            world.contexts[0].together.wait(_PATIENCE)
        assert world.answers(2) == {1, 3}
    assert world.unreadable == {2}
    assert world.contexts[0].packs == [1, 3, 1, 1, 1]
