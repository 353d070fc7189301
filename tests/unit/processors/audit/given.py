"""Histories for the self-check: an honest one, and ways to break it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from events import facts
from events.commands import Command, RequestReservation, SubmitExecution
from events.message import EventMessage, Message
from events.reports import WorkerHeartbeat
from tests.unit.processors.scheduler.history import History, ended, lab, reserve, submit


def honest() -> History:
    """Two runs that pass, one the lab gives up, a gang, a worker that is lost."""
    history = lab("b1", "b2", "b3")
    history.ask(reserve("gang", "n=b1", "n=b2"))
    history.ask(submit("e1", selector="n=b3"))
    history.report(ended(history, "e1"))
    history.ask(submit("e2", selector="n=b3", retries=0))
    history.report(ended(history, "e2", "error"))
    history.ask(reserve("later", "n=b1"))
    history.ask(submit("e3", selector="n=b3", retries_on_failure=1))
    history.report(ended(history, "e3", "failed", is_retriable=False))
    for _ in range(4):
        history.after(20.0)
    history.check()
    return history


def jumped(body: Command, seconds: float) -> History:
    """Return what `body` led to until `seconds` had passed, with a jump of the clock in it."""
    history = lab("b1")
    if isinstance(body, RequestReservation | SubmitExecution) and body.wait_timeout_s is not None:
        history.ask(reserve("other", duration_s=10_000.0))
    history.ask(body)
    history.after(5.0)
    history.jump(7_200.0)
    for _ in range(int(seconds / 5.0)):
        history.report(WorkerHeartbeat(running=()))
        history.after(5.0)
    return history


def kinds(events: Sequence[EventMessage], kind: type) -> list[int]:
    """Return the places of events of one type."""
    return [place for place, message in enumerate(events) if isinstance(message.body, kind)]


def changed(
    events: Sequence[EventMessage], place: int, *, meta: Any = None, **body: Any
) -> list[EventMessage]:
    """Return `events` with one of them changed."""
    message = events[place]
    new = Message(replace(message.meta, **(meta or {})), replace(message.body, **body))
    return [*events[:place], new, *events[place + 1 :]]


def inserted(
    events: Sequence[EventMessage], place: int, body: facts.Event, **meta: Any
) -> list[EventMessage]:
    """Return `events` with one more, a decision of its own, the numbers after it moved on."""
    given = {"seq": place, "index": 0, "count": 1, "causation_id": "forged"} | meta
    new = Message(replace(events[place - 1].meta, **given), body)
    after = [
        Message(replace(message.meta, seq=message.meta.seq + 1), message.body)
        for message in events[place:]
    ]
    return [*events[:place], new, *after]


def without(events: Sequence[EventMessage], place: int) -> list[EventMessage]:
    """Return `events` without one of them, as if it had never been: the numbers close up."""
    gone = events[place].meta
    first = gone.seq - gone.index
    found: list[EventMessage] = []
    for message in [*events[:place], *events[place + 1 :]]:
        meta = message.meta
        if meta.seq - meta.index == first:
            index = meta.index - (meta.seq > gone.seq)
            meta = replace(meta, index=index, count=meta.count - 1)
        found.append(Message(replace(meta, seq=len(found)), message.body))
    return found
