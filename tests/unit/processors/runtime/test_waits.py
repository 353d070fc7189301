"""What is told of waiting: how long for whom, and how many still do."""

from events.commands import ReleaseReservation
from processors.runtime.waits import Wait, queued, waits
from tests.unit.processors.scheduler.history import lab, reserve, submit


def test_a_wait_is_from_the_ask_to_the_grant() -> None:
    history = lab("b1")
    pool = history.ledger.pools["lab"]
    for ask in (reserve("r1"), reserve("r2"), submit("e1")):
        history.ask(ask)
    assert queued(pool) == {"reservation": 1, "execution": 1}
    history.now_s += 7.0
    history.ask(ReleaseReservation(reservation_id="r1"))
    assert list(waits(history.ledger, history.decisions[-1:])) == [
        Wait(pool="lab", kind="reservation", seconds=7.0)
    ]
    history.now_s += 5.0
    history.ask(ReleaseReservation(reservation_id="r2"))
    assert list(waits(history.ledger, history.decisions[-1:])) == [
        Wait(pool="lab", kind="execution", seconds=12.0)
    ]
    assert queued(pool) == {"reservation": 0, "execution": 0}
