"""Why an ask waits that no bench can serve any more: from the benches of now."""

import pytest

from events import facts
from events.shared import Grant
from projections import queries, stuck
from projections.rows import ExecutionFilter, ReservationFilter, Slice
from tests.unit.projections.given import RUN, at, projected, spec

ALL = Slice(limit=100)


def registered(name: str, **labels: str) -> facts.BenchRegistered:
    return facts.BenchRegistered(bench=spec(name, **labels))


def submitted(
    name: str, selector: str = "", reservation_id: str | None = None
) -> facts.ExecutionSubmitted:
    return facts.ExecutionSubmitted(
        execution_id=name,
        owner="ann",
        selector=selector,
        priority=0,
        retries=2,
        run=RUN,
        reservation_id=reservation_id,
    )


def requested(name: str, *selectors: str) -> facts.ReservationRequested:
    return facts.ReservationRequested(
        reservation_id=name,
        owner="ann",
        selectors=selectors,
        duration_s=60.0,
        priority=0,
        wait_until=None,
    )


def stuck_of(*events: facts.Event) -> dict[str, str]:
    """Return what is said of each ask, alike alone and in lists."""
    with projected(*events) as store:
        executions = queries.executions(store.db, ExecutionFilter(), ALL).items
        reservations = queries.reservations(store.db, ReservationFilter(), ALL).items
        said = {row.id: row.stuck for row in (*executions, *reservations)}
        for row in executions:
            alone = queries.execution(store.db, row.id)
            assert alone is not None
            assert alone.stuck == row.stuck
        return said


ONLINE = facts.BenchOnline(bench="a")
OTHER_ONLINE = facts.BenchOnline(bench="b")
HELD = facts.BenchHeld(bench="a", fence=1, holder_kind="execution", holder_id="e")
SICK = facts.BenchQuarantined(bench="a", reason="smoke")
GONE = facts.BenchOffline(bench="b", reason="no worker serves it")


@pytest.mark.parametrize("held", [[], [HELD]])
def test_an_ask_that_a_bench_could_serve_says_nothing(held: list[facts.Event]) -> None:
    ask = submitted("e1", selector="k=v")
    assert stuck_of(registered("a", k="v"), ONLINE, *held, ask) == {"e1": ""}


def test_an_ask_whose_benches_were_relabelled_says_so() -> None:
    said = stuck_of(
        registered("a", k="v"),
        ONLINE,
        submitted("e1", selector="k=v"),
        requested("r1", "k=v"),
        submitted("e2"),
        registered("a", k="other"),
    )
    assert said["e1"].startswith("no bench matches k=v any more in pool lab; `teo bench list")
    assert said["r1"] == said["e1"]
    assert said["e2"] == ""


def test_benches_that_match_and_are_out_are_named_with_the_reason() -> None:
    one = [registered("a", k="v"), ONLINE, submitted("e1", selector="k=v"), SICK]
    assert stuck_of(*one) == {
        "e1": "1 bench matches, it is quarantined (smoke): teo bench show a --pool lab"
    }
    two = [*one, registered("b", k="v"), OTHER_ONLINE]
    assert stuck_of(*two) == {"e1": ""}
    assert stuck_of(*two, GONE) == {
        "e1": "2 benches match, all are offline or quarantined: a is quarantined (smoke), b is "
        "offline (no worker serves it); teo bench list --pool lab"
    }


def test_a_gang_that_lost_a_place_says_so() -> None:
    ask = requested("r1", "k=v", "k=v")
    benches = [registered("a", k="v"), registered("b", k="v"), ONLINE, OTHER_ONLINE]
    assert stuck_of(*benches, ask) == {"r1": ""}
    assert (
        "has too few benches any more for 2 places"
        in stuck_of(*benches, ask, registered("b", k="x"))["r1"]
    )
    assert stuck_of(*benches, ask, SICK)["r1"].startswith(
        "2 benches match, 1 are quarantined: a is quarantined (smoke)"
    )


def test_an_ask_in_a_reservation_looks_at_its_benches_alone() -> None:
    granted = facts.ReservationGranted(
        reservation_id="r1", grants=(Grant(bench="a", fence=1),), lease_until=at(1_000)
    )
    events = [
        registered("a", k="v"),
        registered("b", k="v"),
        ONLINE,
        OTHER_ONLINE,
        requested("r1", "k=v"),
        submitted("e1", selector="k=v", reservation_id="r1"),
    ]
    assert stuck_of(*events)["e1"] == "", "the reservation itself waits"
    assert stuck_of(*events, granted)["e1"] == ""
    said = stuck_of(*events, granted, registered("a", k="other"))
    assert said["e1"].startswith("no bench matches k=v any more in reservation r1")
    assert said["r1"] == ""


def test_a_list_looks_at_benches_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [submitted(f"e{number}", selector=f"k=v{number}") for number in range(9)]
    monkeypatch.setattr(stuck, "LOOKS_MAX", 4)
    with projected(registered("a"), *asks) as store:
        rows = queries.executions(store.db, ExecutionFilter(), ALL).items
        assert sum(bool(row.stuck) for row in rows) == 5
        alone = queries.execution(store.db, "e0")
        assert alone is not None
        assert alone.stuck


def test_a_started_ask_is_not_stuck() -> None:
    assigned = facts.ExecutionAssigned(
        execution_id="e1", attempt=1, bench="a", fence=1, worker="w", epoch=1
    )
    asked = submitted("e1", selector="k=v")
    assert stuck_of(registered("a", k="v"), asked, assigned, registered("a")) == {"e1": ""}
