"""`python -m tests.bench.embedder.worker ENGINE SETTINGS TEXTS`: an engine in a process of its own, asked by lines.

Each line of JSON is a task, `{"kind": "mixed", "seconds": 3}`; its answer is a line with the texts per second.
`{"vectors": [texts]}` is answered with their vectors. ENGINE is

* `llama`: llama-cpp-python's `Llama(path, embedding=True, **settings).embed(text)`, one text at a time;
* `onnx`: onnxruntime with float32 weights, a session of one thread for each core, texts sorted by length in batches of
  512 tokens with what fills them up; the tokenizer is llama.cpp's (as for our engine), its time is counted;
* `engine`: ours without HTTP, the process with the contexts included.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from reembed.core.model import Model, Pooling
from tests.bench.embedder.texts import MAX_TOKENS

# Texts of one call of an engine that takes many: enough for sorting to pay, and for small steps of a measurement.
_CHUNK = 120
_PADDED_TOKENS = 512
_CORES = os.cpu_count() or 1
# Texts of one request to our engine, so many of which are under way.
_REQUEST_TEXTS, _REQUESTS = 8, 16

Vectors = npt.NDArray[np.float32]


class Engine(Protocol):
    """Anything that makes vectors of length one."""

    chunk: int

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class Loop:
    """What a user writes first."""

    chunk = 1

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        from llama_cpp import Llama  # noqa: PLC0415 - each engine's libraries alone are to be in its process

        self._llama = Llama(str(path), embedding=True, verbose=False, **settings)

    def embed(self, texts: Sequence[str]) -> Vectors:
        found = np.array([self._llama.embed(text) for text in texts], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class Onnx:
    """onnxruntime at its best."""

    chunk = _CHUNK

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        import onnxruntime  # noqa: PLC0415

        from reembed.embedder.llama import Weights  # noqa: PLC0415

        self._tokenizer = Weights(path, _model(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = Path(settings["graph"]).read_bytes()
        cpu = ["CPUExecutionProvider"]
        self._sessions = [onnxruntime.InferenceSession(graph, options, providers=cpu) for _ in range(_CORES)]
        self._pool = ThreadPoolExecutor(_CORES)

    def embed(self, texts: Sequence[str]) -> Vectors:
        ids = [self._tokenizer.tokenize(text).ids for text in texts]
        batches = iter(batched([len(one) for one in ids], _PADDED_TOKENS))
        found = np.empty((len(texts), 384), np.float32)

        def work(session: Any) -> None:
            # Each session takes the next batch when it is free; a list's iterator gives none twice.
            for batch in batches:
                found[batch] = _mean(session, [ids[number] for number in batch])

        for done in [self._pool.submit(work, session) for session in self._sessions]:
            done.result()
        return found


class Ours:
    """Our engine and its process."""

    chunk = _CHUNK

    def __init__(self, path: Path, _: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = self._loop.run_until_complete(_started(path))

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._loop.run_until_complete(self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        free = asyncio.Semaphore(_REQUESTS)

        async def request(part: Sequence[str]) -> Vectors:
            async with free:
                done = await self._engine.embed(part, background=False)
            return np.frombuffer(done.vectors, "<f4").reshape(len(part), -1)

        parts = [texts[begin : begin + _REQUEST_TEXTS] for begin in range(0, len(texts), _REQUEST_TEXTS)]
        return np.concatenate(await asyncio.gather(*map(request, parts)))


ENGINES: dict[str, type[Loop | Onnx | Ours]] = {"llama": Loop, "onnx": Onnx, "engine": Ours}


def batched(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return numbers of texts in batches that have at most so many tokens once the shorter are filled up."""
    batches: list[list[int]] = []
    # The longest first, so that no core works on them alone at the end.
    for number in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens:
            batches.append([])
        batches[-1].append(number)
    return batches


def _mean(session: Any, texts: Sequence[npt.NDArray[np.int32]]) -> Vectors:
    longest = max(map(len, texts))
    ids = np.zeros((len(texts), longest), np.int32)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    (hidden,) = session.run(None, {"ids": ids, "mask": mask})
    summed: Vectors = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    return summed / np.linalg.norm(summed, axis=1, keepdims=True)


def _model(path: Path) -> Model:
    return Model(path.as_uri(), "", Pooling.MEAN, 384, MAX_TOKENS)


async def _started(path: Path) -> Any:
    from reembed.embedder import tiles  # noqa: PLC0415
    from reembed.embedder.limits import capacities, normal  # noqa: PLC0415
    from reembed.embedder.messages import Start  # noqa: PLC0415
    from reembed.embedder.process import Engine as Process  # noqa: PLC0415
    from reembed.embedder.text_cache import TextCache  # noqa: PLC0415
    from reembed.embedder.weights import cpu_flags  # noqa: PLC0415

    model = _model(path)
    start = Start(path, model, _CORES, capacities(model.max_tokens, _CORES), tiles=tiles.library(cpu_flags()))
    engine = Process(start, normal(model, _CORES), TextCache("bench", 0))
    engine.start()
    while not engine.ready:  # noqa: ASYNC110 - the engine tells nobody when it is
        await asyncio.sleep(0.05)
    return engine


def measured(engine: Engine, chunks: Iterator[list[str]], seconds: float) -> float:
    """Return texts per second."""
    engine.embed(next(chunks))
    began, count = time.perf_counter(), 0
    while (lasted := time.perf_counter() - began) < seconds:
        count += len(engine.embed(next(chunks)))
    return count / lasted


def _chunks(some: list[str], size: int) -> Iterator[list[str]]:
    endless = itertools.cycle(some)
    while True:
        yield list(itertools.islice(endless, size))


def main(name: str, settings: dict[str, Any], texts: dict[str, list[str]]) -> None:
    engine = ENGINES[name](Path(settings.pop("path")), settings)
    chunks = {kind: _chunks(some, engine.chunk) for kind, some in texts.items()}
    for line in sys.stdin:
        task = json.loads(line)
        if "vectors" in task:
            answer: Any = engine.embed(task["vectors"]).tolist()
        else:
            answer = measured(engine, chunks[task["kind"]], task["seconds"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    # Its threads and processes need not be told: the pipe of each closes.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
