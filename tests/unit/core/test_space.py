"""Room is estimated before it is taken, told where it is taken, and asked for where its owner set a bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reembed.core import space
from reembed.core.chunking import MOST_PARTS
from reembed.core.decide import decide
from reembed.core.fingerprint import of_collection
from reembed.core.migration import SeenIndex
from reembed.core.model import Chunking, CutAt, IndexStatus, LeftReport, StoreReport, TextSizes
from reembed.core.space import Kept
from reembed.core.transitions import State
from tests import builders as b

GIB = 1 << 30
CLAIMED = b.index(candidate=None)
MEASURED = b.store(documents=1_000_000, database=10 * GIB, left=())


def bounded(capacity: int) -> SeenIndex:
    return replace(CLAIMED, spec=replace(CLAIMED.spec, capacity=capacity))


def preflight(index: SeenIndex, store: StoreReport) -> tuple[State, str, str]:
    status = decide(b.migration(), b.seen(index, store=store), b.NOON).status
    return status.state, status.reason, status.message


def test_a_collection_that_would_not_fit_is_not_begun() -> None:
    state, reason, message = preflight(bounded(12 * GIB), MEASURED)
    assert (state, reason) == (State.PREFLIGHT, "SpaceInsufficient")
    assert message == (
        "a collection of 1000000 vectors with 384 dimensions and its index need about 3.5 GiB, and the database has "
        "10 GiB of the 12 GiB that spec.store.capacity of the index says; nothing is made. Make room, or give the "
        "database more and raise it"
    )


def test_what_could_be_dropped_is_named_to_who_lacks_room() -> None:
    store = replace(MEASURED, left=(LeftReport("c_gone", "Withdrawn", 3 * GIB),))
    _, _, message = preflight(bounded(12 * GIB), store)
    assert message.endswith("raise it; collections that no plan names take 3.0 GiB: c_gone")


TEXTS = (TextSizes(60, 60 * 400), TextSizes(30, 30 * 3_500), TextSizes(10, 10 * 35_000))
CUT = Chunking(128, 0, CutAt.TOKEN)


def cut_preflight(store: StoreReport, capacity: int = 1 << 50) -> tuple[State, str, str]:
    status = decide(b.migration(spec={"chunking": CUT}), b.seen(bounded(capacity), store=store), b.NOON).status
    return status.state, status.reason, status.message


def test_of_documents_that_are_cut_the_parts_need_room() -> None:
    """60 % have 114 tokens, 30 % have 1,000 and 10 % have 10,000: 1, 8.9 and 84.5 parts."""
    assert space.parts(TEXTS, CUT) == pytest.approx(0.6 + 0.3 * 8.9 + 0.1 * 84.5, rel=0.01)
    store = replace(MEASURED, texts=TEXTS)
    whole, cut = space.needed(store, 384), space.needed(store, 384, chunking=CUT)
    assert (whole, cut) == (space.estimate(1_000_000, 384), space.estimate(11_720_699, 384))
    state, reason, message = cut_preflight(store, 20 * GIB)
    assert (state, reason) == (State.PREFLIGHT, "SpaceInsufficient")
    assert message.startswith(
        "a collection of about 11720699 parts of 1000000 documents with 384 dimensions and its index need about 41 GiB,"
        " and the database has 10 GiB of the 20 GiB that"
    )
    assert cut_preflight(store)[2].endswith(
        "; the new collection takes about 41 GiB for about 11720699 parts, beside the 10 GiB of the database"
    )


@pytest.mark.parametrize(
    ("chunking", "expected"),
    [
        pytest.param(Chunking(1000, 0, CutAt.SENTENCE), 1.0, id="it fits"),
        pytest.param(Chunking(100, 0, CutAt.TOKEN), 1.5 + 907 / 93, id="words"),
        pytest.param(Chunking(100, 0, CutAt.LINE), 1.5 + 920 / 80, id="lines are not filled"),
        pytest.param(Chunking(100, 20, CutAt.LINE), 1.5 + 920 / 60, id="an overlap"),
        pytest.param(Chunking(100, 99, CutAt.LINE), 1.5 + 920 / 40, id="at most half of a part is repeated"),
    ],
)
def test_parts_are_estimated_by_the_lengths_of_texts(chunking: Chunking, expected: float) -> None:
    assert space.parts([TextSizes(2, 2 * 3_500)], chunking) == pytest.approx(expected)


def test_no_document_has_more_parts_than_are_stored() -> None:
    assert space.parts([TextSizes(1, 1 << 30)], Chunking(16)) == MOST_PARTS


def test_a_source_without_texts_has_a_part_a_document() -> None:
    assert space.parts((), CUT) == 1.0


def test_where_lengths_are_not_measured_yet_a_bound_is_waited_for() -> None:
    assert cut_preflight(MEASURED)[:2] == (State.PREFLIGHT, "MeasuringSpace")


def test_what_parts_take_is_told_by_a_collection_that_is_cut() -> None:
    """The old collection is of ten times as many parts as documents: its size is what was estimated."""
    texts = (TextSizes(1, 3_500),)
    fingerprint = of_collection(b.OLD.fingerprint, Chunking(100, 0, CutAt.TOKEN))
    size = space.estimate(11_253, 384)
    old = replace(b.store().collections[0], size=size, fingerprint=fingerprint)
    store = replace(MEASURED, collections=(old,), texts=texts)
    assert space.needed(store, 384) == pytest.approx(space.estimate(1_000_000, 384), rel=0.001)


def test_a_collection_that_fits_is_begun_and_its_room_is_told() -> None:
    state, reason, message = preflight(bounded(20 * GIB), MEASURED)
    assert (state, reason) == (State.BACKFILLING, "Ready")
    assert message.endswith("; the new collection takes about 3.5 GiB, beside the 10 GiB of the database")


def test_without_a_bound_nothing_is_held_up() -> None:
    assert preflight(CLAIMED, replace(MEASURED, database=1 << 50))[0] is State.BACKFILLING


def test_a_store_that_measures_nothing_tells_no_room() -> None:
    assert preflight(CLAIMED, b.store())[2] == "everything the migration needs is there"


@pytest.mark.parametrize("missing", ["documents", "database"])
def test_a_bound_is_waited_for_until_it_can_be_compared(missing: str) -> None:
    store = replace(MEASURED, **{missing: None})  # type: ignore[arg-type]
    assert preflight(bounded(1 << 50), store)[:2] == (State.PREFLIGHT, "MeasuringSpace")


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        pytest.param({"size": 15 * space.estimate(1000, 384) // 10}, 1.5, id="measured larger"),
        pytest.param({"size": 1}, 1.0, id="measured smaller"),
        pytest.param({"size": 1 << 50}, 2.0, id="full of what updates left"),
        pytest.param({"size": 1 << 50, "written": 999}, 1.0, id="too few rows to say anything"),
        pytest.param({"size": 1 << 50, "state": "Filling"}, 1.0, id="not complete"),
    ],
)
def test_a_collection_that_is_there_says_what_documents_take(changes: dict[str, object], factor: float) -> None:
    old = replace(b.store().collections[0], **changes)  # type: ignore[arg-type]
    found = space.needed(replace(MEASURED, collections=(old,)), 384)
    assert found == pytest.approx(space.estimate(1_000_000, 384) * factor, rel=0.001)


def test_what_no_plan_names_is_listed_behind_what_is_planned() -> None:
    old = replace(b.store().collections[0], size=100)
    extra = replace(old, name="c_extra", state="Withdrawn", size=20)
    left = (LeftReport("c_left", "Withdrawn", 70),)
    store = b.store(collections=(extra, b.collection(size=50), old), left=left)
    assert space.kept(b.index(), store) == (
        Kept(b.OLD.collection, "Indexed", 100),
        Kept(b.NEW.collection, "Indexed", 50),
        Kept("c_left", "Withdrawn", 70, orphaned=True),
        Kept("c_extra", "Withdrawn", 20, orphaned=True),
    )


def test_nothing_is_orphaned_while_the_plan_itself_is_lost() -> None:
    lost = replace(b.index(), status=IndexStatus())
    assert [one.orphaned for one in space.kept(lost, b.store(b.collection()))] == [False, False]


@pytest.mark.parametrize(
    ("state", "soon"),
    [
        pytest.param("Indexed", False, id="it is as planned"),
        pytest.param("Filled", True, id="its index is built"),
        pytest.param("Withdrawn", True, id="it is about to answer"),
    ],
)
def test_a_store_at_work_is_looked_at_again_soon(state: str, soon: bool) -> None:
    assert space.unsettled(b.index(), b.store(b.collection(state))) is soon


def test_no_more_is_listed_than_a_status_may_hold() -> None:
    left = tuple(LeftReport(f"c_{n}", "Withdrawn", n) for n in range(100))
    found = space.kept(b.index(), b.store(left=left))
    assert (len(found), found[1].name) == (64, "c_99")


def test_a_collection_that_a_worker_of_before_reports_has_no_size() -> None:
    assert space.kept(b.index(), b.store()) == (Kept(b.OLD.collection, "Indexed", None),)


@pytest.mark.parametrize(
    ("size", "told", "tells"),
    [
        pytest.param(1000, {}, 1000, id="never told"),
        pytest.param(1040, {"c": 1000}, 1000, id="nearly the same"),
        pytest.param(1060, {"c": 1000}, 1060, id="wrong by now"),
        pytest.param(None, {"c": 1000}, 1000, id="not measured yet"),
    ],
)
def test_a_size_is_told_in_steps(size: int | None, told: dict[str, int], tells: int) -> None:
    assert space.steadied(size, told, "c") == tells


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 bytes"), (2048, "2.0 KiB"), (999 << 20, "999 MiB"), (3 << 29, "1.5 GiB")]
)
def test_bytes_are_told_for_people(size: int, told: str) -> None:
    assert space.text(size) == told
