"""Each read model: given events, then rows."""

from dataclasses import replace
from datetime import timedelta

import pytest

from events import facts
from events.selector import parse
from events.shared import Artifact, Case, Grant, HealthPolicy, Totals
from projections import queries
from projections.pools import pools
from projections.rows import (
    BenchFilter,
    ExecutionFilter,
    RefusedLife,
    ReservationFilter,
    Slice,
    WorkerFilter,
)
from projections.schema import APPLY, NO_ROWS, OF_PARTITION
from projections.store import Store
from tests.unit.projections.given import RUN, at, decision, project, projected, spec

ALL = Slice(limit=500)
REGISTERED = facts.BenchRegistered(bench=spec("b1", board="rpi4"))
ONLINE = facts.BenchOnline(bench="b1")
OFFLINE = facts.BenchOffline(bench="b1", reason="worker lost")
HELD = facts.BenchHeld(bench="b1", fence=3, holder_kind="reservation", holder_id="r1")
FREED = facts.BenchFreed(bench="b1", fence=3, reason="done")
CLEANING = facts.BenchCleaning(bench="b1", fence=3, reason="worker died")
CLEANED = facts.BenchCleaned(bench="b1", fence=3)
ILL = facts.BenchQuarantined(bench="b1", reason="smoke")
WELL = facts.BenchRestored(bench="b1")
TOTALS = Totals(passed=2, failed=1, errors=0, skipped=4)
NO_TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)


def test_every_event_changes_a_read_model_or_is_known_to_change_none() -> None:
    assert set(APPLY) | {*NO_ROWS, *OF_PARTITION, facts.CommandRejected} == set(
        facts.Event.__args__
    )
    assert not set(APPLY) & set(NO_ROWS)


@pytest.mark.parametrize(
    ("events", "state", "reason", "since"),
    [
        ([], "offline", "no worker has served it yet", 0),
        ([ONLINE], "idle", "", 1),
        ([ONLINE, HELD], "held", "", 2),
        ([ONLINE, HELD, FREED], "idle", "", 3),
        ([ONLINE, OFFLINE], "offline", "worker lost", 2),
        ([ONLINE, HELD, OFFLINE], "held", "", 2),
        ([ONLINE, HELD, OFFLINE, FREED], "offline", "worker lost", 4),
        ([ONLINE, HELD, CLEANING], "cleaning", "worker died", 3),
        ([ONLINE, HELD, CLEANING, CLEANED], "held", "", 4),
        ([ONLINE, HELD, CLEANING, CLEANED, FREED], "idle", "", 5),
        ([ONLINE, ILL], "quarantined", "smoke", 2),
        ([ONLINE, HELD, ILL, FREED], "quarantined", "smoke", 3),
        ([ONLINE, HELD, CLEANING, ILL], "quarantined", "smoke", 4),
        ([ONLINE, HELD, CLEANING, ILL, FREED, WELL], "idle", "", 6),
        ([ONLINE, HELD, REGISTERED], "held", "", 2),
    ],
)
def test_bench_state(events: list[facts.Event], state: str, reason: str, since: int) -> None:
    with projected(REGISTERED, *events) as store:
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert (row.state, row.reason, row.since) == (state, reason, at(since))


def test_a_bench_shows_its_holder_and_its_newest_description() -> None:
    again = facts.BenchRegistered(bench=spec("b1", board="rpi5", site="muc"))
    with projected(REGISTERED, ONLINE, HELD, again) as store:
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert (row.holder_kind, row.holder_id, row.fence) == ("reservation", "r1", 3)
        assert row.labels == {"board": "rpi5", "site": "muc"}
        project(store, decision(FREED, seq=4))
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert (row.holder_kind, row.holder_id, row.fence) == (None, None, 3)


def test_an_attempt_in_a_reservation_raises_the_fence_of_its_bench() -> None:
    with projected(REGISTERED, ONLINE, HELD, assigned("e1", fence=4)) as store:
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert (row.fence, row.holder_id, row.state) == (4, "r1", "held")


def test_benches_are_found_by_state_and_selector() -> None:
    other = facts.BenchRegistered(bench=spec("b2", board="stm32"))
    with projected(REGISTERED, other, ONLINE) as store:

        def found(which: BenchFilter) -> list[str]:
            return [row.name for row in queries.benches(store.db, which, ALL).items]

        assert found(BenchFilter()) == ["b1", "b2"]
        assert found(BenchFilter(states=("idle", "held"))) == ["b1"]
        assert found(BenchFilter(selector=parse("board!=rpi4"))) == ["b2"]
        assert found(BenchFilter(pool="nowhere")) == []


def requested(name: str, priority: int = 0) -> facts.ReservationRequested:
    return facts.ReservationRequested(
        reservation_id=name,
        owner="ann",
        selectors=("board=rpi4", ""),
        duration_s=60.0,
        priority=priority,
        wait_until=at(100),
    )


def granted(name: str) -> facts.ReservationGranted:
    grants = (Grant(bench="b1", fence=7), Grant(bench="b2", fence=1))
    return facts.ReservationGranted(reservation_id=name, grants=grants, lease_until=at(61))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (facts.ReservationReleased, "released"),
        (facts.ReservationExpired, "expired"),
        (facts.ReservationCancelled, "cancelled"),
        (facts.ReservationRevoked, "revoked"),
    ],
)
def test_the_life_of_a_reservation(kind: type, status: str) -> None:
    with projected(requested("r1")) as store:
        row = queries.reservation(store.db, "r1")
        assert row is not None
        assert (row.status, row.queue_position, row.benches) == ("queued", 1, ())
        assert (row.owner, row.selectors) == ("ann", ("board=rpi4", ""))
        assert (row.requested_at, row.wait_until, row.lease_until) == (at(0), at(100), None)
        project(store, decision(granted("r1"), seq=1))
        extended = facts.ReservationExtended(reservation_id="r1", lease_until=at(90))
        project(store, decision(extended, seq=2))
        row = queries.reservation(store.db, "r1")
        assert row is not None
        assert (row.status, row.queue_position, row.granted_at) == ("granted", None, at(1))
        assert row.benches == (Grant(bench="b1", fence=7), Grant(bench="b2", fence=1))
        assert row.lease_until == at(90)
        end = kind(reservation_id="r1", code="why", reason="because")
        project(store, decision(end, seq=3))
        row = queries.reservation(store.db, "r1")
        assert row is not None
        assert (row.status, row.ended_at) == (status, at(3))
        assert (row.code, row.reason) == ("why", "because")


def submitted(
    name: str, priority: int = 0, reservation_id: str | None = None
) -> facts.ExecutionSubmitted:
    return facts.ExecutionSubmitted(
        execution_id=name,
        owner="ann",
        selector="board=rpi4",
        priority=priority,
        retries=2,
        run=RUN,
        reservation_id=reservation_id,
    )


def assigned(name: str, attempt: int = 1, fence: int = 5) -> facts.ExecutionAssigned:
    return facts.ExecutionAssigned(
        execution_id=name, attempt=attempt, bench="b1", fence=fence, worker="w1", epoch=1
    )


def step(name: str, word: str) -> facts.AttemptStepStarted:
    return facts.AttemptStepStarted(execution_id=name, attempt=1, step=word)


def attempt_finished(name: str, verdict: str, *artifacts: Artifact) -> facts.AttemptFinished:
    return facts.AttemptFinished(
        execution_id=name,
        attempt=1,
        bench="b1",
        worker="w1",
        verdict=verdict,
        code="exit_code",
        reason="it says 3",
        exit_code=3,
        totals=TOTALS,
        artifacts=artifacts,
        is_retriable=False,
    )


FINISHED = facts.ExecutionFinished(
    execution_id="e1",
    verdict="failed",
    code="exit_code",
    reason="it says 3",
    exit_code=3,
    attempts=1,
    totals=TOTALS,
)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("provision", "provisioning"),
        ("run", "running"),
        ("collect", "collecting"),
        ("teardown", "tearing_down"),
    ],
)
def test_status_of_an_execution_in_a_step(word: str, status: str) -> None:
    with projected(submitted("e1"), assigned("e1"), step("e1", word)) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert row.status == status
        assert (row.attempts[0].status, row.attempts[0].step) == (status, word)


def test_the_life_of_an_execution() -> None:
    with projected(submitted("e1")) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.status, row.verdict, row.queue_position, row.bench) == ("queued", None, 1, None)
        assert (row.command, row.correlation_id) == (("pytest", "-q"), "cor")
        project(store, decision(assigned("e1"), seq=1))
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.status, row.bench, row.started_at) == ("assigned", "b1", at(1))
        assert row.queue_position is None
        project(store, decision(attempt_finished("e1", "failed"), FINISHED, seq=2))
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.status, row.verdict, row.code) == ("finished", "failed", "exit_code")
        assert (row.exit_code, row.totals, row.finished_at) == (3, TOTALS, at(3))
        (attempt,) = row.attempts
        assert (attempt.status, attempt.verdict, attempt.totals) == ("finished", "failed", TOTALS)
        assert (attempt.started_at, attempt.finished_at) == (at(1), at(2))


NO_BENCH = "no bench matches board=rpi4 any more in pool lab; "


def test_an_execution_that_is_tried_again_keeps_each_attempt() -> None:
    requeued = facts.ExecutionRequeued(
        execution_id="e1", next_attempt=2, not_before=at(9), avoid_bench="b1", reason="cable"
    )
    events = (submitted("e1"), assigned("e1"), attempt_finished("e1", "error"), requeued)
    with projected(*events) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.status, row.bench, row.reason) == ("queued", None, "cable")
        assert row.stuck.startswith(NO_BENCH)
        assert row.queue_position == 1
        project(store, decision(assigned("e1", attempt=2, fence=6), seq=4))
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert [(a.number, a.verdict, a.fence) for a in row.attempts] == [
            (1, "error", 5),
            (2, None, 6),
        ]
        assert (row.started_at, row.reason) == (at(1), "")


def test_a_cancel_shows_its_reason_before_the_end() -> None:
    asked = facts.ExecutionCancelRequested(
        execution_id="e1", code="cancelled_by_user", reason="by ann"
    )
    with projected(submitted("e1"), assigned("e1"), step("e1", "run"), asked) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.status, row.code, row.reason) == ("running", "cancelled_by_user", "by ann")


def case(name: str) -> Case:
    return Case(
        suite="s",
        classname="c",
        name=name,
        status="passed",
        duration_s=0.25,
        message="",
        details="",
    )


def test_cases_and_artifacts_of_attempts() -> None:
    kept = Artifact(path="out/a.bin", kind="file", size_bytes=9, sha256="ab", uri="file:a")
    first = facts.AttemptCasesRecorded(
        execution_id="e1", attempt=1, cases=(case("one"), case("two"))
    )
    rest = facts.AttemptCasesRecorded(
        execution_id="e1", attempt=1, first_case=2, cases=(case("three"),)
    )
    end = attempt_finished("e1", "failed", kept)
    with projected(submitted("e1"), assigned("e1"), first, rest, end) as store:
        page = queries.cases(store.db, "e1", None, Slice(limit=2))
        assert [row.name for row in page.items] == ["one", "two"]
        rest_page = queries.cases(store.db, "e1", 1, Slice(limit=2, cursor=page.next_cursor))
        assert [row.name for row in rest_page.items] == ["three"]
        assert rest_page.next_cursor is None
        assert not queries.cases(store.db, "e1", 2, ALL).items
        (artifact,) = queries.artifacts(store.db, "e1", 1)
        assert (artifact.path, artifact.size_bytes, artifact.sha256) == ("out/a.bin", 9, "ab")
        assert not queries.artifacts(store.db, "nobody", None)


def test_workers_and_their_lives() -> None:
    def registered(epoch: int) -> facts.WorkerRegistered:
        return facts.WorkerRegistered(
            worker="w1", epoch=epoch, adapters=("mock",), benches=("b1",), slots=2, version="1"
        )

    lost = facts.WorkerLost(worker="w1", epoch=1, reason="silent")
    with projected(registered(1), facts.WorkerDrained(worker="w1", epoch=1, reason="")) as store:
        (row,) = queries.workers(store.db, WorkerFilter(pool="lab"), ALL).items
        assert (row.state, row.epoch, row.adapters, row.slots) == ("draining", 1, ("mock",), 2)
        project(store, decision(registered(2), seq=2))
        project(store, decision(lost, seq=3))
        (row,) = queries.workers(store.db, WorkerFilter(), ALL).items
        assert (row.state, row.epoch, row.since) == ("online", 2, at(2))
        project(store, decision(facts.WorkerGone(worker="w1", epoch=2, reason="bye"), seq=4))
        (row,) = queries.workers(store.db, WorkerFilter(), ALL).items
        assert (row.state, row.reason) == ("gone", "bye")


def test_a_worker_shows_its_life_and_who_was_refused_until_the_next_life() -> None:
    def registered(epoch: int) -> facts.WorkerRegistered:
        return facts.WorkerRegistered(
            worker="w1",
            epoch=epoch,
            adapters=("mock",),
            benches=(),
            slots=2,
            version="1",
            life=f"life-{epoch}",
            host="rack-1 (pid 7)",
        )

    def refused(host: str) -> facts.WorkerRefused:
        return facts.WorkerRefused(
            worker="w1", life="other", host=host, code="id_in_use", reason="rack-1 has it"
        )

    with projected(registered(1)) as store:
        row = queries.worker(store.db, "lab", "w1")
        assert row is not None
        assert (row.life, row.host, row.refused) == ("life-1", "rack-1 (pid 7)", None)
        project(store, decision(refused("rack-2"), seq=1))
        project(store, decision(refused("rack-3"), seq=2))
        row = queries.worker(store.db, "lab", "w1")
        assert row is not None
        assert row.refused == RefusedLife(host="rack-3", reason="rack-1 has it", at=at(2))
        assert row.state == "online"
        project(store, decision(registered(2), seq=3))
        row = queries.worker(store.db, "lab", "w1")
        assert row is not None
        assert row.refused is None


def test_a_suspended_worker_and_its_way_back() -> None:
    registered = facts.WorkerRegistered(
        worker="w1", epoch=1, adapters=("mock",), benches=(), slots=2, version="1"
    )
    suspended = facts.WorkerSuspended(worker="w1", epoch=1, code="faults", reason="five in a row")
    resumed = facts.WorkerResumed(worker="w1", epoch=1, reason="mended")
    drained = facts.WorkerDrained(worker="w1", epoch=1, reason="new disk")
    for events, state, reason in (
        ((suspended,), "suspended", "five in a row"),
        ((suspended, resumed), "online", ""),
        ((drained, suspended), "draining", "new disk"),
        ((suspended, drained, resumed), "draining", "new disk"),
    ):
        with projected(registered, *events) as store:
            (row,) = queries.workers(store.db, WorkerFilter(), ALL).items
            assert (row.state, row.reason) == (state, reason)


def test_whose_fault_an_end_was_is_shown_also_if_its_fact_does_not_say_it() -> None:
    old = attempt_finished("e1", "error")
    with projected(submitted("e1"), assigned("e1"), replace(old, code="worker_lost")) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert row.attempts[0].fault == "worker"
    new = replace(old, code="provision_failed", fault="bench")
    end = facts.ExecutionFinished(
        execution_id="e1",
        verdict="error",
        code="provision_failed",
        reason="",
        attempts=1,
        totals=old.totals,
        fault="bench",
    )
    with projected(submitted("e1"), assigned("e1"), new, end) as store:
        row = queries.execution(store.db, "e1")
        assert row is not None
        assert (row.fault, row.attempts[0].fault) == ("bench", "bench")


def test_an_ask_that_nothing_can_serve_says_so() -> None:
    def registered(name: str, board: str) -> facts.BenchRegistered:
        return facts.BenchRegistered(bench=spec(name, board=board))

    both = (registered("b1", "rpi4"), registered("b2", "rpi4"), submitted("e1"))
    online = facts.BenchOnline(bench="b2")
    offline = facts.BenchOffline(bench="b1", reason="refused by worker w1: no such key")
    quarantined = facts.BenchQuarantined(bench="b2", reason="smoke")
    for events, why in (
        ((online, offline), ""),
        (
            (online, offline, quarantined),
            "2 benches match, all are offline or quarantined: "
            "b1 is offline (refused by worker w1: no such key), b2 is quarantined (smoke); ",
        ),
        ((registered("b1", "other"), registered("b2", "other")), NO_BENCH),
    ):
        with projected(*both, *events) as store:
            row = queries.execution(store.db, "e1")
            assert row is not None
            assert row.stuck.startswith(why)
            assert bool(row.stuck) == bool(why)


def test_the_outcome_of_a_command_is_its_first_event_at_the_end_of_its_decision() -> None:
    with Store(None) as store:
        accepted = decision(requested("r1"), granted("r1"), HELD, command_id="c1")
        project(store, accepted)
        row = queries.command(store.db, "c1")
        assert row is not None
        assert (row.status, row.type, row.subject_id) == ("accepted", "RequestReservation", "r1")
        assert (row.partition, row.offset, row.request_hash, row.at) == (0, 2, "hash", at(0))


def test_the_refusal_of_a_command_keeps_its_code() -> None:
    refused = facts.CommandRejected(
        command="ReleaseReservation", code="not_owner", reason="it is bob's", subject_id="r1"
    )
    with Store(None) as store:
        project(store, decision(refused, command_id="c1"))
        row = queries.command(store.db, "c1")
        assert row is not None
        assert (row.status, row.type, row.code) == ("rejected", "ReleaseReservation", "not_owner")
        assert queries.command(store.db, "c2") is None


def test_events_of_reports_and_ticks_are_no_outcome() -> None:
    with projected(REGISTERED, ONLINE) as store:
        assert store.db.execute("SELECT count(*) FROM commands").fetchone() == (0,)


def test_queue_positions_are_by_priority_then_age_over_all_asks_of_the_pool() -> None:
    asks = (
        submitted("e1"),
        requested("r1"),
        submitted("e2", priority=5),
        submitted("in-1", reservation_id="r9"),
        submitted("in-2", priority=1, reservation_id="r9"),
        requested("r2", priority=5),
        submitted("e3"),
        submitted("e4"),
    )
    places = {"e2": 1, "r2": 2, "e1": 3, "r1": 4, "e3": 5, "e4": 6, "in-2": 1, "in-1": 2}
    with projected(*asks) as store:
        executions = queries.executions(store.db, ExecutionFilter(), ALL).items
        reservations = queries.reservations(store.db, ReservationFilter(), ALL).items
        listed = {row.id: row.queue_position for row in (*executions, *reservations)}
        assert listed == places
        for row in executions:
            alone = queries.execution(store.db, row.id)
            assert alone is not None
            assert alone.queue_position == places[row.id]


def test_pools_count_what_they_have() -> None:
    worker = facts.WorkerRegistered(
        worker="w1", epoch=1, adapters=("mock",), benches=(), slots=1, version="1"
    )
    other = facts.BenchRegistered(bench=spec("b2"))
    asks = (submitted("e1"), submitted("e2"), requested("r1"), assigned("e1"))
    with projected(REGISTERED, other, ONLINE, worker, *asks) as store:
        (row,) = pools(store.db)
        assert (row.pool, row.benches_by_state) == ("lab", {"idle": 1, "offline": 1})
        assert (row.reservations_queued, row.executions_queued) == (1, 1)
        assert (row.executions_active, row.workers) == (1, 1)
        assert row.health is None


def test_a_pool_shows_its_last_rule_for_sick_benches() -> None:
    first = facts.HealthPolicySet(health=HealthPolicy(errors_max=3, window_s=600.0))
    last = facts.HealthPolicySet(health=HealthPolicy(errors_max=0, window_s=0.5))
    with projected(REGISTERED, first, last) as store:
        (row,) = pools(store.db)
        assert row.health == last.health


def test_a_bench_in_quarantine_shows_who_took_it_out_last() -> None:
    with projected(REGISTERED, ILL) as store:
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert row.quarantined_by == "ann"
        project(store, decision(WELL, seq=2))
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert row.quarantined_by is None


def test_times_keep_their_microseconds() -> None:
    odd = at(0) + timedelta(microseconds=1)
    event = facts.ReservationGranted(reservation_id="r1", grants=(), lease_until=odd)
    with projected(requested("r1"), event) as store:
        row = queries.reservation(store.db, "r1")
        assert row is not None
        assert row.lease_until == odd
