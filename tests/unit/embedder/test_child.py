"""How many contexts compute side by side, and what they are given. Contexts and vocabulary are doubles."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import cast

import pytest

from reembed.core.model import Model, Pooling
from reembed.embedder.child import _Text, _Work
from reembed.embedder.llama import Context, Tokens, Weights
from reembed.embedder.messages import Computing, Done, Pace, Request
from reembed.embedder.packing import Item

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 2, 256)
_TEN_TOKENS = tuple(range(10))
_PATIENCE = 20


class _Weights:
    model = _MODEL

    def tokenize(self, text: str) -> Tokens:
        ids = _TEN_TOKENS[:3] if text == "short" else _TEN_TOKENS
        return Tokens(ids, len(ids))


class _Context:
    """Waits until `together` of them compute, and remembers what it was given."""

    def __init__(self) -> None:
        self.capacity = 256
        self.packs: list[int] = []
        self.together = threading.Barrier(1)

    def embed(self, texts: Sequence[Sequence[int]]) -> list[bytes | None]:
        self.packs.append(len(texts))
        self.together.wait(_PATIENCE)
        return [b"\0" * 8] * len(texts)


class _World:
    def __init__(self, pipe: Connection, contexts: list[_Context]) -> None:
        self.pipe = pipe
        self.contexts = contexts
        self.peak = 0

    def answers(self, count: int) -> set[int]:
        """Return the numbers of the next `count` requests that are done."""
        found: set[int] = set()
        while len(found) < count:
            assert self.pipe.poll(_PATIENCE)
            match self.pipe.recv():
                case Done(number):
                    found.add(number)
                case Computing(contexts):
                    self.peak = contexts
        return found


@contextmanager
def _world(count: int) -> Iterator[_World]:
    ours, theirs = Pipe()
    contexts = [_Context() for _ in range(count)]
    work = _Work(theirs, cast("Weights", _Weights()), count)
    for number, context in enumerate(contexts):
        threading.Thread(target=work.compute, args=(cast("Context", context), number), daemon=True).start()
    reader = threading.Thread(target=work.read, daemon=True)
    reader.start()
    yield _World(ours, contexts)
    ours.close()
    reader.join(_PATIENCE)
    theirs.close()


def _request(number: int, texts: int) -> Request:
    return Request(number, ("a",) * texts, background=False)


@pytest.mark.parametrize("allowed", [1, 2])
def test_only_the_allowed_last_contexts_compute_and_text_by_text(allowed: int) -> None:
    with _world(4) as world:
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
    with _world(4) as world:
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
    with _world(4) as world:
        world.contexts[3].capacity = 5  # texts of ten tokens leave it idle
        together = threading.Barrier(4)  # the three others, and this thread
        for context in world.contexts[:3]:
            context.together = together
        world.pipe.send(_request(1, texts=75))
        while world.peak < 3:
            assert world.pipe.poll(_PATIENCE)
            world.peak = world.pipe.recv().contexts
        world.pipe.send(Pace(1, pack_tokens=128, pack_texts=1))
        world.pipe.send(Request(2, ("short",), background=False))
        world.pipe.send(Request(3, ("short",), background=False, tokens_only=True))
        assert world.answers(1) == {3}  # so that the second waits by now
        together.wait(_PATIENCE)
        assert world.answers(2) == {1, 2}
    assert (world.peak, world.contexts[3].packs) == (1, [1])


def test_no_context_begins_while_as_many_compute_as_are_allowed() -> None:
    ours, theirs = Pipe()
    work = _Work(theirs, cast("Weights", _Weights()), 4)
    work._lanes.add(Item(10, False, cast("_Text", "a")))
    work._set(Pace(2, pack_tokens=128, pack_texts=1))
    context = cast("Context", _Context())
    work._computing = 2
    held = work._next_pack(context, 3)
    work._computing = 1
    begun = work._next_pack(context, 3)
    ours.close()
    theirs.close()
    assert (held, [item.work for item in begun]) == ([], ["a"])
