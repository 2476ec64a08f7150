"""Asking for an inspection, waiting for it, and what is shown of it, in virtual time."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from reembed.cluster.kinds import Kind
from reembed.plugin import inspecting
from reembed.plugin.arguments import Arguments
from reembed.plugin.connection import Target
from reembed.plugin.lookup import Place
from reembed.plugin.output import Output
from reembed.plugin.problems import Problem
from tests.unit.plugin.fakes import ScriptedCluster
from tests.unit.plugin.stories import NAMESPACE, Object

pytestmark = pytest.mark.looptime

FOUND: Object = {
    "id": "i-1",
    "at": "2026-11-29T12:00:00.000Z",
    "collection": "c_old",
    "fingerprint": "fp",
    "documents": 5000,
    "inspected": 5000,
    "findings": [],
    "reproduced": {"sample": 200, "medianCosine": 0.9994, "p5Cosine": 0.9981, "share": 1.0},
    "norms": {"min": 0.9999, "median": 1.0, "max": 1.0001, "outside": 0, "counted": 5000},
}
ZERO = {
    "reason": "VectorsZero",
    "count": 2,
    "share": 0.0004,
    "examples": ["3", "7"],
    "message": "2 vectors are zero",
}


class Answering(ScriptedCluster):
    """An API server whose operator answers an annotation at the third look after it."""

    def __init__(self, outcome: str, found: Object | None = None, message: str = "") -> None:
        super().__init__(None)
        self.outcome, self.message = outcome, message
        self.found = found or {}
        self.looks = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        status = dict(self.found)
        if self.patches and self.outcome:
            self.looks += 1
            value = json.loads(self.patches[0]["metadata"]["annotations"]["reembed.dev/inspect"])
            outcome = self.outcome if self.looks > 2 else "Accepted"
            status["asked"] = {"nonce": value["nonce"], "outcome": outcome, "message": self.message}
        return {"metadata": {"uid": "u-1", "namespace": namespace, "name": name}, "status": {"inspection": status}}


async def run(cluster: ScriptedCluster, **changes: Any) -> tuple[int, str, str]:
    given: dict[str, Any] = {"wait": timedelta(minutes=5), **changes}
    out, err = io.StringIO(), io.StringIO()
    arguments = Arguments("inspect", Target(), name="docs", **given)
    code = await inspecting.run(Place(cluster, NAMESPACE, "docs"), arguments, Output(out, err))
    return code, out.getvalue(), err.getvalue()


async def test_an_inspection_is_asked_for_waited_for_and_shown() -> None:
    cluster = Answering("Done", FOUND)
    code, shown, _ = await run(cluster, collection="c_old")
    (patch,) = cluster.patches
    value: Mapping[str, str] = json.loads(patch["metadata"]["annotations"]["reembed.dev/inspect"])
    assert (value["uid"], value["collection"], code) == ("u-1", "c_old", 0)
    assert shown == (
        "collection c_old: 5000 of 5000 documents looked at, 2026-11-29T12:00:00.000Z\n"
        "✔ nothing is wrong with what was looked at\n"
        "  embedded again: 200 documents, median cosine 0.9994, 95 % reach 0.9981, 100.0% reach 0.98\n"
        "  lengths: 0.9999 to 1, median 1\n"
    )


async def test_what_was_found_is_shown_and_is_another_exit_code() -> None:
    code, shown, _ = await run(Answering("Done", FOUND | {"findings": [ZERO]}))
    assert code == 1
    assert "✘ VectorsZero 2, 0.04%: 2 vectors are zero (such as 3, 7)\n" in shown


async def test_a_refusal_is_told_with_its_reason() -> None:
    code, shown, _ = await run(Answering("Refused", message="there is no collection 'c'"))
    assert (code, shown) == (1, "refused: there is no collection 'c'\n")


async def test_without_an_answer_in_time_it_goes_on(looptime: Any) -> None:
    code, shown, aside = await run(Answering(""))
    assert (code, shown, looptime) == (2, "", 300)
    assert aside.startswith("asked for, not done after 5m; it goes on, and `kubectl reembed inspect docs --last -n")


async def test_the_last_outcome_is_shown_without_asking() -> None:
    cluster = Answering("", FOUND)
    code, shown, _ = await run(cluster, last=True, json=True)
    assert (code, json.loads(shown), cluster.patches) == (0, FOUND, [])


async def test_that_nothing_was_inspected_yet_is_said() -> None:
    code, _, aside = await run(Answering(""), last=True)
    assert (code, aside) == (1, "nothing was inspected yet; the command without --last does\n")


async def test_an_index_that_is_not_there_is_named() -> None:
    with pytest.raises(Problem, match="there is no index 'docs' in namespace"):
        await run(ScriptedCluster(None))
