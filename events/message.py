"""A message as the code sees it: what it says (`body`) and where it stands (`meta`), kept apart.

Deciders make bodies; the runtime stamps the meta. On the wire both are one Avro record.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from events.commands import Command
from events.facts import Event
from events.reports import Report
from events.shared import CommandMeta, EventMeta, ReportMeta, TaskMeta
from events.tasks import Task

MetaT = TypeVar("MetaT", covariant=True)
BodyT = TypeVar("BodyT", covariant=True)


@dataclass(frozen=True, slots=True)
class Message(Generic[MetaT, BodyT]):
    """One record of a topic that carries a meta."""

    meta: MetaT
    body: BodyT


CommandMessage = Message[CommandMeta, Command]
ReportMessage = Message[ReportMeta, Report]
EventMessage = Message[EventMeta, Event]
TaskMessage = Message[TaskMeta, Task]
