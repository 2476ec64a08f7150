"""What an inspection of a collection finds: which counts are findings, and whether a pool made the vectors.

Called by the Job that inspects (`backfill.inspecting`), which has the counts and the cosines; by the index's pass,
which asks whether an inspection is due; and by preflight. Most teams do not know which model made their vectors: a pool
that is said to serve is believed only if it makes the same vectors of a sample of the documents again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import ceil
from statistics import median

from reembed.core import names
from reembed.core.model import Arm, Counted, Finding, InspectionReport, Metric, Reproduced, Survey

# How old an inspection may be when a migration begins.
MAX_AGE = timedelta(hours=24)
_SLACK = timedelta(minutes=5)  # by which clocks of pods may differ
# Documents that are embedded again: a tenth of vectors of another model is missed once in a hundred and twenty times.
SAMPLE = 200
# Rows that are looked at; of a table with more, so many of it.
MOST = 100_000
# With fewer nothing is known of a large table; a store that cannot read them in time has another problem.
_FEWEST = 1000
# One model on two machines, in two types or by two engines comes to 0.999; two models, or one with another prefix or
# pooling, to far less.
MIN_COSINE = 0.98
# Of a sample that is near enough: a few texts were changed unseen, or are cut off elsewhere.
MIN_SHARE = 0.95
# Different texts may well have one vector: case and white space mean nothing to many models, and ends are cut off.
_SHARED = 0.01
_MOST_TEXTS = 10
# One vector of more documents than this is no text's: somebody stored something in place of vectors.
REPEATED = 100

NOT_REPRODUCED = "VectorsNotReproduced"


def judge(survey: Survey, cosines: Sequence[float] | None) -> tuple[tuple[Finding, ...], Reproduced | None]:
    """Return the findings, the gravest first, and what the cosines say; None where nothing was embedded again."""
    reproduced = reproduction(cosines) if cosines else None
    of_sample = [_not_reproduced(survey, reproduced)] if reproduced is not None else []
    found = [*of_sample, *(check(survey) for check in _CHECKS)]
    return tuple(one for one in found if one is not None), reproduced


def fewer(most: int) -> int | None:
    """Return of how many rows to ask for where `most` took too long, None if there is no use in fewer."""
    return max(most // 4, _FEWEST) if most > _FEWEST else None


def reproduction(cosines: Sequence[float]) -> Reproduced:
    """Return what the cosines of stored vectors with those made again come to; there is at least one."""
    ordered = sorted(cosines)
    near = sum(1 for one in ordered if one >= MIN_COSINE)
    low = ordered[ceil(len(ordered) / 20) - 1]
    return Reproduced(len(ordered), round(median(ordered), 4), round(low, 4), round(near / len(ordered), 4))


def refused(report: InspectionReport) -> bool:
    """Return whether the pool that serves is not what made the vectors."""
    return report.reproduced is not None and report.reproduced.median < MIN_COSINE


def of_attempt(index_uid: str, migration_uid: str, attempt: int, arm: Arm) -> str:
    """Return the name of the inspection that one attempt of a migration asks for."""
    return names.digest([index_uid, migration_uid, attempt, arm.collection, arm.fingerprint])


def recent(reports: Sequence[InspectionReport], arm: Arm, own: str, begun: datetime) -> InspectionReport | None:
    """Return the newest inspection of what serves that counts for an attempt that began then; `own` is its own one.

    One that refuses counts for no later attempt: what it found may have been mended since, and a migration whose status
    was emptied counts its attempts anew. One that embedded nothing counts for its own attempt alone.
    """
    of_arm = [one for one in reports if (one.collection, one.fingerprint) == (arm.collection, arm.fingerprint)]
    own_ones = [one for one in of_arm if one.id == own and (one.at >= begun - _SLACK or not refused(one))]
    others = [one for one in of_arm if one.at >= begun - MAX_AGE and not refused(one) and one.reproduced is not None]
    counts = own_ones + others
    return max(counts, key=lambda one: one.at, default=None)


def told(report: InspectionReport) -> str:
    """Return the whole outcome in a sentence or two."""
    if report.findings:
        return "; ".join(one.message for one in report.findings)
    again = "no document could be embedded again"
    if report.reproduced is not None:
        again = f"{report.reproduced.sample} embedded again have a median cosine of {report.reproduced.median:.4f}"
    return f"{report.inspected} of {report.documents} documents were looked at: nothing is wrong; {again}"


def _not_reproduced(survey: Survey, found: Reproduced) -> Finding | None:
    far = round(found.sample * (1 - found.share))
    share = round(1 - found.share, 6)
    if found.median < MIN_COSINE:
        text = (
            f"the pool that serves {survey.collection} does not make its vectors: {found.sample} documents embedded"
            f" again have a median cosine of {found.median:.4f} with what is stored, below {MIN_COSINE}. Another model,"
            " prefix, pooling or text made them; correct the pool, or acknowledge it in the migration"
        )
        return Finding(NOT_REPRODUCED, far, share, (), text)
    if found.share < MIN_SHARE:
        text = (
            f"the pool makes most vectors of {survey.collection}, but {far} of {found.sample} documents embedded again"
            f" have a cosine below {MIN_COSINE} with what is stored: these are another model's, or of another text"
        )
        return Finding("VectorsPartlyReproduced", far, share, (), text)
    return None


def _mixed_dimensions(survey: Survey) -> Finding | None:
    if len(survey.dimensions) < 2:
        return None
    ordered = sorted(survey.dimensions.items(), key=lambda one: (-one[1], one[0]))
    each = ", ".join(f"{count} of {dimensions}" for dimensions, count in ordered[:5])
    count = survey.vectors - ordered[0][1]
    text = f"vectors have different dimensions ({each}): they are of several models, and no query fits all of them"
    return _finding("MixedDimensions", Counted(count, survey.other_dimensions), survey.vectors, text)


def _not_finite(survey: Survey) -> Finding | None:
    text = "{} vectors are so long that their product with themselves is no number: distances to them are none either"
    return _finding("VectorsNotFinite", survey.not_finite, survey.vectors, text)


def _zero(survey: Survey) -> Finding | None:
    text = "{} vectors are zero: they have no direction, so that no query finds them by cosine"
    return _finding("VectorsZero", survey.zero, survey.vectors, text)


def _unnormalised(survey: Survey) -> Finding | None:
    """Lengths matter to a product; to a cosine they do not, but some that differ were made in another way."""
    norms = survey.norms
    if norms is None or not norms.outside:
        return None
    mixed = norms.outside < norms.counted
    if not mixed and survey.metric != Metric.INNER_PRODUCT.value:
        return None
    why = "some are normalised and some not" if mixed else "the metric is InnerProduct, which prefers long ones"
    text = (
        f"{{}} vectors have a length outside 1 ± 0.01 ({norms.least:.3g} to {norms.most:.3g}, median"
        f" {norms.median:.3g}): {why}"
    )
    return _finding("VectorsUnnormalised", survey.not_unit, survey.vectors, text)


def _repeated(survey: Survey) -> Finding | None:
    text = f"{{}} documents have a vector that more than {REPEATED} have: something was stored in place of vectors"
    return _finding("VectorsRepeated", survey.repeated, survey.vectors, text)


def _shared(survey: Survey) -> Finding | None:
    if survey.most_texts <= _MOST_TEXTS and survey.shared.count <= _SHARED * survey.vectors:
        return None
    text = f"{{}} documents share their vector with another text, up to {survey.most_texts} texts one vector"
    return _finding("VectorsShared", survey.shared, survey.vectors, text)


def _without_text(survey: Survey) -> Finding | None:
    text = "{} documents have no text: there is nothing to embed, and no query finds them"
    return _finding("DocumentsWithoutText", survey.without_text, survey.read, text)


def _without_vector(survey: Survey) -> Finding | None:
    text = "{} documents have a text and no vector: no query finds them"
    return _finding("DocumentsWithoutVector", survey.without_vector, survey.read, text)


def _without_document(survey: Survey) -> Finding | None:
    text = "{} vectors belong to no document of the source"
    return _finding("VectorsWithoutDocument", survey.without_document, survey.vectors, text)


def _finding(reason: str, found: Counted, of: int, text: str) -> Finding | None:
    if not found.count:
        return None
    return Finding(reason, found.count, round(found.count / max(of, 1), 6), found.examples, text.format(found.count))


# The gravest first: what makes answers wrong, then what leaves documents out.
_CHECKS: tuple[Callable[[Survey], Finding | None], ...] = (
    _mixed_dimensions,
    _not_finite,
    _zero,
    _unnormalised,
    _repeated,
    _shared,
    _without_vector,
    _without_document,
    _without_text,
)
