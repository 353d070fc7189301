"""Lists come in parts that join without gap or repeat, whatever is added meanwhile."""

import pytest

from events import facts
from projections import cursors, queries
from projections.rows import (
    BenchFilter,
    ExecutionFilter,
    InvalidCursor,
    ReservationFilter,
    Slice,
)
from projections.store import Store
from tests.unit.projections.given import RUN, decision, decisions, project, spec


def submitted(name: str) -> facts.ExecutionSubmitted:
    return facts.ExecutionSubmitted(
        execution_id=name, owner="ann", selector="", priority=0, retries=0, run=RUN
    )


def requested(name: str) -> facts.ReservationRequested:
    return facts.ReservationRequested(
        reservation_id=name, owner="ann", selectors=("",), duration_s=60.0, priority=0
    )


def registered(name: str) -> facts.BenchRegistered:
    return facts.BenchRegistered(bench=spec(name, odd=str(int(name[1:]) % 2)))


def filled() -> Store:
    store = Store(None)
    project(
        store,
        decisions(*([make(f"x{n:02}")] for n in range(11) for make in (submitted, requested))),
    )
    project(store, decisions(*([registered(f"b{n:02}")] for n in range(11))), partition=1)
    return store


Part = tuple[list[str], str | None]


def executions_part(store: Store, part: Slice) -> Part:
    page = queries.executions(store.db, ExecutionFilter(owner="ann"), part)
    return [row.id for row in page.items], page.next_cursor


def reservations_part(store: Store, part: Slice) -> Part:
    page = queries.reservations(store.db, ReservationFilter(pool="lab"), part)
    return [row.id for row in page.items], page.next_cursor


def benches_part(store: Store, part: Slice) -> Part:
    page = queries.benches(store.db, BenchFilter(), part)
    return [row.name for row in page.items], page.next_cursor


PARTS = {
    "executions": executions_part,
    "reservations": reservations_part,
    "benches": benches_part,
}


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 11, 12])
def test_parts_of_each_list_join(limit: int) -> None:
    newest_first = [f"x{n:02}" for n in reversed(range(11))]
    with filled() as store:

        def walk(kind: str) -> list[str]:
            found: list[str] = []
            cursor: str | None = None
            while cursor is not None or not found:
                part = Slice(limit=limit, cursor=cursor)
                names, cursor = PARTS[kind](store, part)
                assert len(names) <= limit
                found += names
            return found

        assert walk("executions") == newest_first
        assert walk("reservations") == newest_first
        assert walk("benches") == [f"b{n:02}" for n in range(11)]


def test_what_is_new_does_not_move_the_next_part() -> None:
    with filled() as store:
        first = queries.executions(store.db, ExecutionFilter(), Slice(limit=4))
        project(store, decision(submitted("new"), seq=22))
        part = Slice(limit=4, cursor=first.next_cursor)
        second = queries.executions(store.db, ExecutionFilter(), part)
        assert [row.id for row in second.items] == ["x06", "x05", "x04", "x03"]


def test_filters_by_status_and_verdict() -> None:
    finished = facts.ExecutionFinished(
        execution_id="x03",
        verdict="error",
        code="worker_lost",
        reason="",
        attempts=0,
        totals=facts.Totals(passed=0, failed=0, errors=0, skipped=0),
    )
    released = facts.ReservationCancelled(reservation_id="x04", code="", reason="")
    with filled() as store:
        project(store, decision(finished, seq=22))
        project(store, decision(released, seq=23))

        def ids(which: ExecutionFilter) -> list[str]:
            return [r.id for r in queries.executions(store.db, which, Slice(limit=50)).items]

        assert ids(ExecutionFilter(statuses=("finished",))) == ["x03"]
        assert ids(ExecutionFilter(verdicts=("error", "failed"))) == ["x03"]
        assert ids(ExecutionFilter(verdicts=("passed",))) == []
        assert len(ids(ExecutionFilter(statuses=("queued", "running")))) == 10
        assert len(ids(ExecutionFilter(statuses=("queued", "finished")))) == 11
        assert ids(ExecutionFilter(owner="bob")) == []
        live = ReservationFilter(statuses=("queued", "granted"))
        assert len(queries.reservations(store.db, live, Slice(limit=50)).items) == 10
        gone = ReservationFilter(statuses=("cancelled",))
        rows = queries.reservations(store.db, gone, Slice(limit=50)).items
        assert [row.id for row in rows] == ["x04"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "é",
        "AAAA",
        "a",
        cursors.encode("benches", ("lab", "b1")),
        cursors.encode("executions", (1, "x")),
        cursors.encode("executions", ("1", "x", "lab")),
        cursors.encode("executions", (1 << 63, "x", "lab")),
        cursors.encode("executions", (True, "x", "lab")),
    ],
)
def test_a_cursor_of_something_else_is_refused(cursor: str) -> None:
    with filled() as store, pytest.raises(InvalidCursor, match="next_cursor"):
        queries.executions(store.db, ExecutionFilter(), Slice(limit=2, cursor=cursor))


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("WHERE pool = 'lab'", "executions_by_pool"),
        ("WHERE owner = 'ann'", "executions_by_owner"),
        ("", "executions_by_age"),
        ("WHERE status IN ('queued', 'running') AND status <> 'finished'", "executions_live"),
    ],
)
def test_lists_are_read_in_the_order_of_an_index(query: str, index: str) -> None:
    """No sort, so that a part of a long list costs what is given, not what there is."""
    with Store(None) as store:
        plan = store.db.execute(
            f"EXPLAIN QUERY PLAN SELECT reason FROM executions {query}"  # noqa: S608
            " ORDER BY created_at DESC, id DESC, pool DESC LIMIT 5"
        ).fetchall()
        text = " ".join(row[3] for row in plan)
        assert index in text
        assert "TEMP B-TREE" not in text
