"""Labelled queries as lines: for who has no table of them, or keeps them in Git beside the migration.

One line of JSON a query: {"query": "how do I ...", "relevant": ["17", "23"], "slice": "de"}; `slice` may be left out.
They come from a ConfigMap, which the evaluation and each agent of a panel read for themselves; the API server holds
none above 1 MiB, some thousands of queries. A wrong line refuses all of them: an evaluation without the queries that
somebody meant to ask is not the one that was asked for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reembed.core.model import ConfigMapKey, Problem
from reembed.stores.protocol import Labels, Unfit

_EXPECTED = '{"query": "text", "relevant": ["id", ...], "slice": "name, if any"}'
_FIELDS = frozenset({"query", "relevant", "slice"})


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the lines say, before anybody looked whether the documents exist."""

    relevant: Mapping[str, frozenset[str]]
    slices: Mapping[str, frozenset[str]]

    def without(self, vanished: Collection[str]) -> Labels:
        """Return the labels of documents that exist, and how many were left out."""
        kept = {query: relevant - frozenset(vanished) for query, relevant in sorted(self.relevant.items())}
        left_out = sum(len(relevant) - len(kept[query]) for query, relevant in self.relevant.items())
        return Labels({query: relevant for query, relevant in kept.items() if relevant}, left_out, self.slices)


def labelled(text: str, reference: ConfigMapKey) -> Labelled:
    """Return the queries of a key's lines; lines of the same query are put together.

    Raises:
        Unfit: a line is not what it should be; the first is named.

    """
    relevant: dict[str, set[str]] = defaultdict(set)
    slices: dict[str, set[str]] = defaultdict(set)
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            query, documents, name = _parsed(line)
        except ValueError as error:
            wrong.append((number, str(error)))
            continue
        relevant[query].update(documents)
        slices[query].update([name] if name is not None else [])
    if wrong:
        raise Unfit(Problem("EvaluationLabelsInvalid", _invalid(wrong, reference)))
    return Labelled(
        {query: frozenset(found) for query, found in relevant.items()},
        {query: frozenset(found) for query, found in slices.items()},
    )


def _parsed(line: str) -> tuple[str, list[str], str | None]:
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("has half a character, as of a cut text") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    if unknown := sorted(set(found) - _FIELDS):
        raise ValueError(f"has an unknown field '{unknown[0]}'")
    return _query(found), _relevant(found), _slice(found)


def _query(found: Mapping[str, Any]) -> str:
    query = found.get("query")
    if not isinstance(query, str) or not query.strip():
        raise ValueError("has no text in 'query'")
    return query


def _relevant(found: Mapping[str, Any]) -> list[str]:
    relevant = found.get("relevant")
    if not isinstance(relevant, list) or not relevant:
        raise ValueError("has no list of document ids in 'relevant'")
    # A bool is an int to Python; ids that are numbers are as often written without quotes.
    if not all(isinstance(one, str | int) and not isinstance(one, bool) and str(one) for one in relevant):
        raise ValueError("has something else than a text or a whole number in 'relevant'")
    return [str(one) for one in relevant]


def _slice(found: Mapping[str, Any]) -> str | None:
    name = found.get("slice")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError("has no text in 'slice'")
    return name


def _invalid(wrong: list[tuple[int, str]], reference: ConfigMapKey) -> str:
    number, why = wrong[0]
    more = f" (and {len(wrong) - 1} more lines are wrong)" if len(wrong) > 1 else ""
    return (
        f"line {number} of key '{reference.key}' of ConfigMap '{reference.name}' {why}{more}, so the models cannot be "
        f"compared; each line must be {_EXPECTED}"
    )
