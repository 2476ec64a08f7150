"""Inspections as the API writes them: a store worker's report, an index's status, and what somebody asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reembed.api.fields import Fields, Raw
from reembed.api.values import format_time, parse_time
from reembed.core.model import AskedInspection, Finding, InspectionReport, Kept, Norms, Reproduced

ANNOTATION = "reembed.dev/inspect"
_LONGEST = 128
# Limits of the CRD.
_MOST_FINDINGS = 16
_LONGEST_MESSAGE = 1024


def parse_asked(raw: Raw) -> AskedInspection | None:
    """Return what an index's annotation asks for, also if it cannot be read: it is refused."""
    text = (raw["metadata"].get("annotations") or {}).get(ANNOTATION)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, Mapping) and all(_fits(found.get(name)) for name in ("uid", "nonce")):
        collection = found.get("collection")
        if collection is None or _fits(collection):
            return AskedInspection(found["uid"], found["nonce"], collection)
    problem = (
        f'annotation {ANNOTATION} must be JSON like {{"uid": "...", "nonce": "..."}}, each a text of 1 to {_LONGEST}'
        " characters, and may name a collection; use `kubectl reembed inspect`"
    )
    return AskedInspection("", hashlib.sha256(text.encode()).hexdigest()[:16], None, problem)


def render_asked(asked: AskedInspection) -> tuple[str, str]:
    """Return the annotation's key and value."""
    collection = {"collection": asked.collection} if asked.collection is not None else {}
    return ANNOTATION, json.dumps({"uid": asked.uid, "nonce": asked.nonce, **collection})


def parse_inspection(report: Fields) -> InspectionReport:
    reproduced, norms = report.maybe("reproduced"), report.maybe("norms")
    return InspectionReport(
        id=report.text("id"),
        at=report.parsed("at", parse_time),
        collection=report.text("collection"),
        fingerprint=report.text("fingerprint"),
        documents=report.number("documents"),
        inspected=report.number("inspected"),
        findings=tuple(_parse_finding(one) for one in report.each("findings")),
        reproduced=_parse_reproduced(reproduced) if reproduced is not None else None,
        norms=_parse_norms(norms) if norms is not None else None,
    )


def render_inspection(report: InspectionReport) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "id": report.id,
        "at": format_time(report.at),
        "collection": report.collection,
        "fingerprint": report.fingerprint,
        "documents": report.documents,
        "inspected": report.inspected,
        "findings": [_render_finding(one) for one in report.findings[:_MOST_FINDINGS]],
    }
    if (one := report.reproduced) is not None:
        rendered["reproduced"] = {
            "sample": one.sample,
            "medianCosine": one.median,
            "p5Cosine": one.low,
            "share": one.share,
        }
    if (norms := report.norms) is not None:
        rendered["norms"] = {
            "min": norms.least,
            "median": norms.median,
            "max": norms.most,
            "outside": norms.outside,
            "counted": norms.counted,
        }
    return rendered


def parse_kept(one: Fields) -> Kept:
    return Kept(
        changed=one.flag("changed"),
        looked=one.number("looked"),
        missing=one.number("missing"),
        compared=one.number("compared"),
        far=one.number("far"),
        examples=one.texts("examples"),
        problem=one.text("problem", ""),
    )


def render_kept(one: Kept) -> dict[str, Any]:
    return asdict(one) | {"examples": list(one.examples)}


def _parse_finding(one: Fields) -> Finding:
    return Finding(
        reason=one.text("reason"),
        count=one.number("count"),
        share=one.real("share"),
        examples=one.texts("examples"),
        message=one.text("message"),
    )


def _render_finding(one: Finding) -> dict[str, Any]:
    return {
        "reason": one.reason,
        "count": one.count,
        "share": one.share,
        **({"examples": [found[:_LONGEST_MESSAGE] for found in one.examples]} if one.examples else {}),
        "message": one.message[:_LONGEST_MESSAGE],
    }


def _parse_reproduced(one: Fields) -> Reproduced:
    return Reproduced(one.number("sample"), one.real("medianCosine"), one.real("p5Cosine"), one.real("share"))


def _parse_norms(one: Fields) -> Norms:
    numbers = (one.real("min"), one.real("median"), one.real("max"))
    return Norms(*numbers, one.number("outside"), one.number("counted"))


def _fits(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST
