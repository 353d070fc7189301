"""Given facts of a pool, when another one comes, then this is asked for."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import facts
from events.codes import CODES, LAB
from events.message import EventMessage
from processors.watchers.bench_health.rule import (
    ACTOR,
    ASK_LAPSES,
    POLICY_DEFAULT,
    REASON_CHARS_MAX,
    Ask,
    Health,
    apply,
    has_lapsed,
)
from tests.unit.processors.watchers.facts_of import (
    START,
    ended,
    error,
    journal,
    message,
    policy,
    restored,
    taken_out,
)


def fold(messages: list[EventMessage], health: Health | None = None) -> list[Ask]:
    health = health or Health()
    return [asked for each in messages for asked in apply(health, each)]


def benches_of(asked: list[Ask]) -> list[str]:
    return [each.body.bench for each in asked]


def test_errors_that_are_borne_lead_to_nothing() -> None:
    assert not fold(journal((0, policy(2, 60)), (1, error()), (2, error())))


def test_one_more_is_too_many() -> None:
    messages = journal((0, policy(2, 60)), (1, error()), (2, error()), (3, error("b1")))
    (asked,) = fold(messages)
    assert asked.body.bench == "b1"
    assert asked.body.reason == (
        "3 infrastructure errors within 60 s, 2 are borne; "
        "the last: provision_failed: the relay sticks"
    )
    assert (asked.meta.actor, asked.meta.roles) == (ACTOR, ("operator",))
    assert asked.meta.issued_at == START + timedelta(seconds=3)
    assert (asked.meta.pool, asked.meta.correlation_id) == ("lab", "cor")


def test_a_pool_without_a_rule_has_the_default() -> None:
    count = POLICY_DEFAULT.errors_max
    assert not fold(journal(*((n, error()) for n in range(count))))
    assert len(fold(journal(*((n, error()) for n in range(count + 1))))) == 1


@pytest.mark.parametrize(("last_s", "count"), [(59.9, 1), (60.0, 0), (61.0, 0)])
def test_the_window_slides(last_s: float, count: int) -> None:
    asked = fold(journal((0, policy(1, 60)), (0, error()), (last_s, error())))
    assert len(asked) == count


OF_THE_BENCH = sorted(name for name, code in CODES.items() if code.fault == "bench")


@pytest.mark.parametrize("code", OF_THE_BENCH)
def test_errors_of_the_bench_count(code: str) -> None:
    fact = replace(error(code=code), fault="bench")
    assert fold(journal((0, policy(0, 60)), (1, fact)))


@pytest.mark.parametrize("fault", sorted({"asker", "test", *LAB} - {"bench"}))
def test_nobody_elses_fault_counts_whatever_its_code(fault: str) -> None:
    fact = replace(error(code="provision_failed"), fault=fault)
    assert not fold(journal((0, policy(0, 60)), (1, fact)))


def test_facts_from_before_they_said_whose_fault_it_was_count_as_they_did() -> None:
    old = ["attempt_overdue", "provision_failed", "provision_timeout", "run_failed", "run_timeout"]
    assert all(fold(journal((0, policy(0, 60)), (1, error(code=code)))) for code in old)


@pytest.mark.parametrize(
    "fact",
    [
        error(code="worker_lost"),
        error(code="worker_draining"),
        error(code="worker_bug"),
        error(code="lease_expired"),
        error(code="collect_failed"),
        error(code="collect_timeout"),
        ended("b1", "failed", "exit_code"),
        ended("b1", "timed_out", "timeout"),
        ended("b1", "cancelled", "cancelled_by_user"),
        ended("b1", "passed", "passed"),
    ],
)
def test_what_is_not_the_benchs_fault_does_not_count(fact: facts.AttemptFinished) -> None:
    assert not fold(journal((0, policy(0, 60)), (1, fact)))


def test_benches_and_pools_do_not_count_for_one_another() -> None:
    health = Health()
    messages = [
        message(error("b1"), seq=0, at_s=0, pool="a"),
        message(error("b1"), seq=1, at_s=0, pool="b"),
        message(error("b2"), seq=2, at_s=0, pool="a"),
        message(policy(0, 60), seq=3, at_s=0, pool="a"),
    ]
    asked = fold(messages, health)
    assert [(each.meta.pool, each.body.bench) for each in asked] == [("a", "b1"), ("a", "b2")]


def test_a_rule_that_gets_stricter_is_applied_at_once() -> None:
    messages = journal((0, error()), (1, error()), (2, policy(2, 60)), (3, policy(1, 60)))
    assert benches_of(fold(messages)) == ["b1"]
    assert not fold(messages[:3])


def test_no_second_one_while_the_first_is_unanswered() -> None:
    health = Health()
    messages = journal((0, policy(0, 60)), (1, error()), (2, error()), (99, error()))
    (asked,) = fold(messages, health)
    assert health.unanswered() == (asked,)


def test_no_second_one_while_it_is_in_quarantine() -> None:
    health = Health()
    messages = journal((0, policy(0, 60)), (1, error()), (2, taken_out()), (3, error()))
    assert len(fold(messages, health)) == 1
    assert not health.unanswered()


def test_a_restored_bench_begins_anew() -> None:
    first = [(0, policy(1, 60)), (1, error()), (2, error()), (3, taken_out()), (4, restored())]
    assert len(fold(journal(*first, (5, error())))) == 1
    asked = fold(journal(*first, (5, error()), (6, error())))
    assert benches_of(asked) == ["b1", "b1"]
    assert asked[0].meta.command_id != asked[1].meta.command_id


def test_a_bench_that_somebody_else_took_out_is_let_be() -> None:
    messages = journal((0, policy(1, 60)), (1, error()), (2, taken_out()), (3, error()))
    assert not fold(messages)


def test_a_refusal_is_an_outcome() -> None:
    health = Health()
    (asked,) = fold(journal((0, policy(0, 60)), (1, error())), health)
    refused = facts.CommandRejected(
        command="QuarantineBench", code="no_such_bench", reason="gone", subject_id="b1"
    )
    fold([message(refused, seq=2, at_s=2, causation_id="of another")], health)
    assert health.unanswered() == (asked,)
    fold([message(refused, seq=2, at_s=2, causation_id=asked.meta.command_id)], health)
    assert not health.unanswered()
    assert fold([message(error(), seq=3, at_s=3)], health)


def test_what_was_set_aside_is_not_asked_for_again_and_again() -> None:
    health = Health()
    (asked,) = fold(journal((0, policy(0, 60)), (1, error())), health)

    def aside(command_id: str) -> facts.InputSetAside:
        return facts.InputSetAside(
            source_topic="c", source_offset=1, error="", code="too_late", command_id=command_id
        )

    fold([message(aside("of another"), seq=2, at_s=2)], health)
    assert health.unanswered() == (asked,)
    fold([message(aside(asked.meta.command_id), seq=3, at_s=3)], health)
    assert not health.unanswered()


def test_a_jump_of_the_clock_is_no_time_between_two_errors() -> None:
    jumped = facts.ClockJumped(source="r", by_s=7_200.0, reason="")
    first = journal((0, policy(1, 60)), (1, error()), (7_202, jumped))
    assert fold([*first, message(error(), seq=3, at_s=7_250)])
    assert not fold([*first, message(error(), seq=3, at_s=7_262)])
    back = facts.ClockJumped(source="r", by_s=-7_200.0, reason="")
    assert fold(journal((0, policy(1, 60)), (1, error()), (2, back), (50, error())))


def test_what_nobody_answered_for_long_is_void_and_the_bench_is_judged_anew() -> None:
    health = Health()
    late_s = ASK_LAPSES.total_seconds() + 1
    early = journal((0, policy(1, 60)), (1, error()), (1, error()), (late_s, error()))
    (asked,) = fold(early, health)
    assert not has_lapsed(asked, START + timedelta(seconds=late_s))
    assert health.unanswered() == (asked,)
    (anew,) = fold(
        [message(error(), seq=n, at_s=late_s + n) for n in (4, 5)],
        health,
    )
    assert has_lapsed(asked, anew.meta.issued_at)
    assert anew.meta.command_id != asked.meta.command_id
    assert anew.meta.issued_at == START + timedelta(seconds=late_s + 4)


def test_a_long_reason_is_cut() -> None:
    body = facts.AttemptFinished(
        **{
            **{name: getattr(error(), name) for name in error().__dataclass_fields__},
            "reason": "x" * 5_000,
        }
    )
    (asked,) = fold(journal((0, policy(0, 60)), (1, body)))
    assert len(asked.body.reason) == REASON_CHARS_MAX


BENCH = st.sampled_from(("b1", "b2"))
FACT = st.one_of(
    BENCH.map(error),
    BENCH.map(lambda name: ended(name, "failed", "exit_code")),
    BENCH.map(restored),
    BENCH.map(taken_out),
    st.builds(policy, st.integers(0, 3), st.sampled_from((1.0, 10.0, 100.0))),
)
HISTORY = st.lists(st.tuples(st.integers(0, 20), FACT), max_size=40)


def timed(history: list[tuple[int, facts.Event]]) -> list[EventMessage]:
    at_s, events = 0.0, []
    for pause_s, fact in history:
        at_s += pause_s
        events.append((at_s, fact))
    return journal(*events)


@settings(max_examples=200, deadline=None)
@given(HISTORY)
def test_two_folds_ask_the_same_and_no_id_twice(history: list[tuple[int, facts.Event]]) -> None:
    messages = timed(history)
    asked = fold(messages)
    assert fold(messages) == asked
    assert all(n == 1 for n in Counter(each.meta.command_id for each in asked).values())


@settings(max_examples=200, deadline=None)
@given(HISTORY)
def test_asked_exactly_when_the_window_is_over_full(
    history: list[tuple[int, facts.Event]],
) -> None:
    """Against a slow oracle: at each event, all errors since the bench began anew."""
    health = Health()
    errors: dict[str, list[float]] = {"b1": [], "b2": []}
    waits: dict[str, bool] = {"b1": False, "b2": False}
    rule = POLICY_DEFAULT
    for each in timed(history):
        at_s = (each.meta.occurred_at - START).total_seconds()
        match each.body:
            case facts.AttemptFinished(verdict="error", bench=name) if not waits[name]:
                errors[name].append(at_s)
            case facts.BenchQuarantined(bench=name) | facts.BenchRestored(bench=name):
                errors[name] = []
                waits[name] = isinstance(each.body, facts.BenchQuarantined)
            case facts.HealthPolicySet(health=rule):
                pass
        judged = {getattr(each.body, "bench", None)} if _is_of_bench(each) else {"b1", "b2"}
        expected = {
            name
            for name in judged
            if name
            and not waits[name]
            and _counts(each)
            and sum(at > at_s - rule.window_s for at in errors[name]) > rule.errors_max
        }
        if isinstance(each.body, facts.HealthPolicySet | facts.AttemptFinished):
            for name in judged & {"b1", "b2"}:
                if _counts(each):
                    errors[name] = [at for at in errors[name] if at > at_s - rule.window_s]
        asked = {found.body.bench for found in apply(health, each)}
        assert asked == expected
        waits |= dict.fromkeys(asked, True)


def _is_of_bench(each: EventMessage) -> bool:
    return not isinstance(each.body, facts.HealthPolicySet)


def _counts(each: EventMessage) -> bool:
    is_error = isinstance(each.body, facts.AttemptFinished) and each.body.verdict == "error"
    return is_error or isinstance(each.body, facts.HealthPolicySet)
