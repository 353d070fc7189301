"""Events as the scheduler would write them, one decision each, for the tables of the tests."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from events.facts import Event
from events.ids import event_id
from events.message import EventMessage, Message
from events.shared import BenchSpec, EventMeta, RunSpec
from projections.journal import Decision, Mark
from projections.store import Store
from tests.unit.projections.journal_log import START

RUN = RunSpec(command=("pytest", "-q"), env={}, timeout_s=60.0, junit=(), artifacts=())


def at(seq: int) -> Any:
    """The time of the event number `seq`: a second each."""
    return START + timedelta(seconds=seq)


def decision(
    *events: Event, seq: int = 0, command_id: str = "", pool: str = "lab"
) -> list[EventMessage]:
    """One decision, from event number `seq` on; of a command if `command_id` names one."""
    return [
        Message(
            EventMeta(
                event_id=event_id(at(seq + index), 0, seq + index),
                pool=pool,
                seq=seq + index,
                index=index,
                count=len(events),
                occurred_at=at(seq + index),
                actor="ann",
                causation_id=command_id,
                correlation_id="cor",
                traceparent="00-trace",
                input_topic="teo.commands" if command_id else "",
                input_offset=seq,
                request_hash="hash" if command_id else "",
            ),
            event,
        )
        for index, event in enumerate(events)
    ]


def decisions(*groups: Sequence[Event], pool: str = "lab") -> list[EventMessage]:
    """Several decisions, numbered on."""
    found: list[EventMessage] = []
    for group in groups:
        found += decision(*group, seq=len(found), pool=pool)
    return found


def project(store: Store, messages: Sequence[EventMessage], partition: int = 0) -> None:
    """Apply events to a store as whole decisions, each at an offset equal to its `seq`."""
    open_: list[tuple[int, EventMessage]] = []
    for message in messages:
        open_.append((message.meta.seq, message))
        if message.meta.index == message.meta.count - 1:
            mark = Mark(
                offset=message.meta.seq, event_id=message.meta.event_id, seq=message.meta.seq + 1
            )
            store.apply({partition: [Decision(events=tuple(open_), mark=mark)]})
            open_.clear()


def projected(*events: Event) -> Store:
    """A store in memory to which each event was applied, one decision each."""
    store = Store(None)
    project(store, decisions(*([event] for event in events)))
    return store


def spec(name: str, **labels: str) -> BenchSpec:
    return BenchSpec(name=name, labels=labels, adapter="mock", config="{}")


def renumbered(messages: Sequence[EventMessage], by: int) -> list[EventMessage]:
    return [Message(replace(m.meta, seq=m.meta.seq + by), m.body) for m in messages]
