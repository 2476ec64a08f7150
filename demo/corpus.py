"""The demo's documents and queries: functions of the running Python's own standard library, the same on every run.

A document is a function's source without its docstring; the first paragraph of the docstring is a question that this
function answers. So a real corpus with real labels is on every machine, with nothing to download. `demo.postgres` loads
it into the source tables, `demo.load` asks what is left of it. Which functions exist depends on the Python, so both run
in the same image. Nothing here reads a clock or chance: the order is that of a hash of the function's name.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# 600 paired queries show a difference of 0.1 in MRR at 95 %; 300 may not.
LABELLED_QUERIES = 600
_LEAST_WORDS = 6  # a shorter paragraph names the function rather than asking for it
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "__pycache__"})

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Function:
    """One document and the question that it answers."""

    name: str
    question: str
    body: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the id of the document that answers it."""

    text: str
    id: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents by id, queries for the evaluation, and others for the steady load."""

    documents: tuple[tuple[int, Function], ...]
    labels: tuple[Query, ...]
    load: tuple[Query, ...]


class TooFewFunctions(Exception):
    """More documents were asked for than the standard library has."""


def corpus(size: int, root: Path | None = None) -> Corpus:
    """Return `size` documents; at most half of their questions are labels, the rest is load."""
    found = sorted(functions(root or Path(sysconfig.get_paths()["stdlib"])), key=_shuffled)
    if not 2 <= size <= len(found):
        raise TooFewFunctions(
            f"the demo was asked for {size} documents and this Python's standard library has {len(found)} functions "
            f"with a usable docstring; set DEMO_DOCUMENTS between 2 and {len(found)}"
        )
    documents = tuple(enumerate(found[:size], start=1))
    queries = tuple(Query(function.question, number) for number, function in documents)
    labelled = min(LABELLED_QUERIES, size // 2)
    return Corpus(documents, queries[:labelled], queries[labelled:])


def functions(root: Path) -> Iterator[Function]:
    """Yield the documented functions below `root`, each question and each body once."""
    questions: set[str] = set()
    bodies: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _LEFT_OUT.isdisjoint(relative.parts):
            for function in _of_file(path, ".".join(relative.with_suffix("").parts)):
                if function.question not in questions and function.body not in bodies:
                    questions.add(function.question)
                    bodies.add(function.body)
                    yield function


def _of_file(path: Path, module: str) -> Iterator[Function]:
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):
        return  # the library carries templates and files in other encodings
    yield from _of_node(tree, module, source.splitlines())


def _of_node(node: ast.AST, prefix: str, lines: list[str]) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}.{child.name}" if isinstance(child, (*_FUNCTIONS, ast.ClassDef)) else prefix
        if isinstance(child, _FUNCTIONS):
            function = _function(child, name, lines)
            if function is not None:
                yield function
        yield from _of_node(child, name, lines)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, lines: list[str]) -> Function | None:
    docstring = ast.get_docstring(node)
    if docstring is None or len(node.body) < 2:
        return None
    question = " ".join(docstring.split("\n\n")[0].split())
    if len(question.split()) < _LEAST_WORDS:
        return None
    statement = node.body[0]
    if statement.lineno == node.lineno:
        return None  # all on one line: without its docstring no function is left
    kept = lines[node.lineno - 1 : statement.lineno - 1] + lines[statement.end_lineno : node.end_lineno]
    return Function(name, question, textwrap.dedent("\n".join(kept)).strip())


def _shuffled(function: Function) -> bytes:
    """A sample that is not one corner of the library, without chance."""
    return hashlib.sha256(function.name.encode()).digest()
