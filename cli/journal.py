"""`teo journal …`: what an operator does when the journal, or its inputs, are not what they were.

Speaks to Kafka itself, as `fsck` does: it is for when a partition stands still.
"""

import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
import typer

from cli.command import group
from cli.direct import DataDirIfNamed, KafkaIfNamed, kafka_of, operator, run_direct
from cli.problems import BadUsage, Problem
from cli.serve import Prefix
from cli.session import Session
from events.errors import TeoError

BROKER_WAIT_S = 15.0
OFFSETS_MAX = 10_000
"""Of a range: each record that is passed over is a fact of its own, and all are one transaction."""
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept on the journal.")]
OnePartition = Annotated[
    int, typer.Option("--partition", min=0, help="Number of the partition that stands still.")
]
Work = Callable[[Any, Any, str], Coroutine[Any, Any, Sequence[str]]]
"""What is done with a log, the topics' names and the address of Kafka; returns what to say."""


def quarantine_record(
    session: Session,
    partition: OnePartition,
    offset: Annotated[
        list[str],
        typer.Option(
            "--offset",
            help="Where the record stands; repeatable. FIRST-LAST: whatever is no fact from there "
            "to there.",
        ),
    ],
    reason: Reason,
    yes: Yes = False,
    kafka: KafkaIfNamed = None,
    data_dir: DataDirIfNamed = None,
    topic_prefix: Prefix = "teo",
) -> int:
    """Let records that no scheduler wrote be passed over. Refuses whatever is a fact."""
    from processors.runtime.mending import By, quarantine

    async def work(log: Any, topics: Any, _: str) -> Sequence[str]:
        by = By(actor=operator(), reason=_given(reason))
        named = await quarantine(log, topics, partition, single, by, among=among)
        return [
            f"the record at offset {each.offset} of {topics.events} partition {partition} is "
            f"passed over from now on (sha256 {each.sha256})"
            for each in named
        ]

    single, among = _offsets(offset)
    shown = ", ".join(offset)
    question = f"let offset {shown} of the journal's partition {partition} be passed over?"
    return _do(session, work, question, yes=yes, where=(kafka, data_dir, topic_prefix))


def accept_inputs(
    session: Session,
    partition: OnePartition,
    reason: Reason,
    yes: Yes = False,
    kafka: KafkaIfNamed = None,
    data_dir: DataDirIfNamed = None,
    topic_prefix: Prefix = "teo",
) -> int:
    """Go on from where the inputs end: say that no broker has the ones that are missing."""
    from processors.runtime.mending import By, accept_inputs

    async def work(log: Any, topics: Any, _: str) -> Sequence[str]:
        by = By(actor=operator(), reason=_given(reason))
        resets = await accept_inputs(log, topics, partition, by)
        said = [
            f"{each.topic} partition {partition} goes on at offset {each.next_offset}, not at "
            f"{each.was_offset}"
            for each in resets
        ]
        return said or ["the inputs are those that the journal knows: nothing was changed"]

    question = f"give up the inputs of partition {partition} that are not there?"
    return _do(session, work, question, yes=yes, where=(kafka, data_dir, topic_prefix))


def begin_anew(
    session: Session,
    reason: Reason,
    yes: Yes = False,
    kafka: KafkaIfNamed = None,
    data_dir: DataDirIfNamed = None,
    topic_prefix: Prefix = "teo",
) -> int:
    """Begin another journal after the one that was lost: what was decided is forgotten.

    Commands and reports that are there are not decided again. Benches that are known from the
    newest snapshots and from orders to workers keep their fences and are quarantined: look at each,
    then `teo bench restore`. Executions and reservations are gone; results stay.
    """

    async def work(log: Any, topics: Any, bootstrap: str) -> Sequence[str]:
        return await _begin_anew(log, topics, bootstrap, _given(reason))

    question = "forget all that was decided, and begin another journal?"
    return _do(session, work, question, yes=yes, where=(kafka, data_dir, topic_prefix))


async def _begin_anew(log: Any, topics: Any, bootstrap: str, reason: str) -> Sequence[str]:
    from events.kafka.mending import make_anew, make_topics
    from processors.runtime.carried import benches_told
    from processors.runtime.mending import By, NotMended, begin_anew, refuse_whole

    wanted, copies = await _environment(bootstrap, topics)
    count = wanted[0].partitions
    await make_topics(bootstrap, wanted, replication=copies)
    said: list[str] = []
    refused: list[str] = []
    await refuse_whole(log, topics)
    for number in range(count):
        carried = await benches_told(log, topics, number)
        by = By(actor=operator(), reason=reason)
        try:
            await begin_anew(log, topics, number, carried, by, datetime.now(UTC))
        except NotMended as error:
            refused.append(str(error))
            continue
        benches = sum(len(each) for each in carried.values())
        kept = f"; {benches} benches keep their fences and are quarantined" if benches else ""
        said.append(f"partition {number} is begun anew{kept}")
    if not said:
        raise NotMended("; ".join(refused))
    [snapshots] = [spec for spec in wanted if spec.role == "snapshots"]
    await make_anew(bootstrap, snapshots, replication=copies)
    return [*said, *refused, "read models: make them anew (`teo projections rebuild`)"]


def drop_snapshots(
    session: Session,
    yes: Yes = False,
    kafka: KafkaIfNamed = None,
    data_dir: DataDirIfNamed = None,
    topic_prefix: Prefix = "teo",
) -> int:
    """Throw the snapshots away: schedulers fold the journal from its start the next time."""
    from events.kafka.mending import make_anew

    async def work(_: Any, topics: Any, bootstrap: str) -> Sequence[str]:
        wanted, copies = await _environment(bootstrap, topics)
        [snapshots] = [spec for spec in wanted if spec.role == "snapshots"]
        await make_anew(bootstrap, snapshots, replication=copies)
        return [f"{topics.snapshots} is empty; restart the schedulers"]

    question = "throw all snapshots away?"
    return _do(session, work, question, yes=yes, where=(kafka, data_dir, topic_prefix))


async def _environment(bootstrap: str, topics: Any) -> tuple[Sequence[Any], int]:
    """Return the topics of an environment as they are, or were, and how many copies they have."""
    from events.errors import TopicMissing
    from events.kafka.admin import shape_of
    from events.topics import specs

    shape = await shape_of(bootstrap, topics)
    if shape is None:
        raise TopicMissing(
            f"no topic of prefix {topics.prefix} is there: nothing here was lost; create the "
            "topics with `teo init`"
        )
    count, copies = shape
    return specs(topics, partitions=count, min_insync=2 if copies > 2 else 1), copies


def _offsets(words: Sequence[str]) -> tuple[Sequence[int], frozenset[int]]:
    """Return the offsets that are named, and those that are in a range."""
    single: list[int] = []
    among: set[int] = set()
    for word in words:
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise BadUsage(f"{word!r} is no offset", next_step="give --offset 17, or 17-40")
        if not dash:
            single.append(int(first))
            continue
        span = range(int(first), int(last) + 1)
        if not 0 < len(span) <= OFFSETS_MAX:
            raise BadUsage(
                f"{word!r} names {len(span)} offsets",
                next_step=f"give 1 to {OFFSETS_MAX} at once, the first one first",
            )
        among.update(span)
    return single, frozenset(among)


def _given(reason: str) -> str:
    if not reason.strip():
        raise BadUsage("the reason is empty", next_step="say why with --reason TEXT")
    return reason.strip()


def _do(session: Session, work: Work, question: str, *, yes: bool, where: tuple[Any, ...]) -> int:
    from events.kafka.admin import wait_for_broker
    from events.kafka.log import KafkaLog
    from events.topics import Topics

    kafka, data_dir, prefix = where

    async def whole() -> Sequence[str]:
        async with kafka_of(kafka, data_dir) as bootstrap:
            await wait_for_broker(bootstrap, wait_s=BROKER_WAIT_S)
            async with KafkaLog(bootstrap, client_id="teo-journal") as log:
                return await work(log, Topics(prefix), bootstrap)

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not yes:
        session.confirm(question)
    try:
        said = run_direct(whole())
    except TeoError as error:
        is_refused = error.code == "not_mended"
        raise Problem(
            f"nothing was changed: {error}" if is_refused else str(error), exit_code=3
        ) from error
    for line in said:
        session.screen.note(line)
    return 0


_VERBS: dict[str, Callable[..., Any]] = {
    "quarantine-record": quarantine_record,
    "accept-inputs": accept_inputs,
    "begin-anew": begin_anew,
    "drop-snapshots": drop_snapshots,
}
app = group("Go on when the journal or its inputs are not what they were.", **_VERBS)
