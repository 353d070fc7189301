"""From a command to its outcome: repeats, an unavailable log, outcomes that take long."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from api.deps import Settings
from api.gateway import command_id_of
from events.codec import decode_command, encode
from events.errors import LogUnavailable
from events.facts import CommandRejected, ReservationRequested
from events.ids import event_id
from events.log import Outgoing, Partition, Position, Record
from events.message import CommandMessage, Message
from events.shared import EventMeta
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog, MemoryReader
from tests.unit.api.lab import TOPICS, Lab, in_lab, running

PATH = "/v1/reservations"
BODY = {"pool": "lab", "selectors": [""]}
KEY = {"Idempotency-Key": "key-1"}
QUICK = Settings(command_wait_s=0.3)


def commands(lab: Lab) -> list[CommandMessage]:
    return [decode_command(record.value) for record in lab.cluster.all_records(TOPICS.commands)]


async def decide(lab: Lab, command: CommandMessage, *, code: str = "") -> None:
    """Play the scheduler for one reservation command."""
    meta, body = command.meta, command.body
    reservation_id = getattr(body, "reservation_id", "")
    event: Any = CommandRejected(
        command=type(body).__name__, code=code, reason="because", subject_id=reservation_id
    )
    if not code:
        event = ReservationRequested(
            reservation_id=reservation_id,
            owner=meta.actor,
            selectors=("",),
            duration_s=1.0,
            priority=0,
        )
    number = lab.deps.log.partition_for(meta.pool.encode(), lab.cluster.partitions)
    seq = len(lab.cluster.records(TOPICS.events, number))
    at = lab.cluster.now()
    event_meta = EventMeta(
        event_id=event_id(at, number, seq),
        pool=meta.pool,
        seq=seq,
        index=0,
        count=1,
        occurred_at=at,
        actor=meta.actor,
        causation_id=meta.command_id,
        correlation_id=meta.correlation_id,
        traceparent=meta.traceparent,
        input_topic=TOPICS.commands,
        input_offset=0,
        request_hash=meta.request_hash,
    )
    value = encode(Message(event_meta, event))
    await lab.deps.log.append([Outgoing(topic=TOPICS.events, key=meta.pool.encode(), value=value)])


async def decide_next(lab: Lab, *, code: str = "", seen: int = 0) -> None:
    async def is_there() -> bool:
        return len(commands(lab)) > seen

    await lab.until(is_there)
    await decide(lab, commands(lab)[seen], code=code)


def test_a_command_carries_who_when_and_its_trace(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {**KEY, "traceparent": parent}
        _, answer = await asyncio.gather(
            decide_next(lab), lab.call("POST", PATH, BODY, headers=headers, status=201)
        )
        (command,) = commands(lab)
        assert command.meta.command_id == command_id_of("ann", "lab", "key-1")
        assert (command.meta.actor, command.meta.roles) == ("ann", ("user",))
        assert command.meta.correlation_id == "0af7651916cd43dd8448eb211c80319c"
        assert command.meta.traceparent.split("-")[1] == command.meta.correlation_id
        assert len(command.meta.request_hash) == 64
        reservation = answer.json()
        assert answer.headers["location"] == f"{PATH}/{reservation['id']}"
        assert answer.headers["teo-command-id"] == command.meta.command_id
        position = answer.headers["teo-position"]
        assert answer.headers["teo-trace-id"] == command.meta.correlation_id
        (record,) = lab.cluster.all_records(TOPICS.commands)
        assert record.headers["ce_type"] == b"RequestReservation"
        assert record.key == b"lab"
        outcome = await lab.call("GET", f"/v1/commands/{command.meta.command_id}", status=200)
        assert (outcome.json()["status"], outcome.json()["position"]) == ("accepted", position)
        read = f"{PATH}/{reservation['id']}?min_position={position}"
        assert (await lab.call("GET", read, status=200)).json() == reservation

    in_lab(scene, tmp_path, has_scheduler=False)


def test_without_a_traceparent_one_begins_here(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        headers = {"traceparent": "rubbish"}
        await asyncio.gather(decide_next(lab), lab.call("POST", PATH, BODY, headers=headers))
        (command,) = commands(lab)
        version, trace_id, span_id, flags = command.meta.traceparent.split("-")
        assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "01")
        assert command.meta.correlation_id == trace_id

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_repeat_gives_the_first_answer_and_publishes_nothing(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, first = await asyncio.gather(
            decide_next(lab), lab.call("POST", PATH, BODY, headers=KEY, status=201)
        )
        again = await lab.call("POST", PATH, dict(reversed(BODY.items())), headers=KEY, status=201)
        assert again.json() == first.json()
        assert again.headers["teo-position"] == first.headers["teo-position"]
        assert len(commands(lab)) == 1
        for body, token in (({**BODY, "priority": 1}, "t-ann"), ({"selectors": ["a=b"]}, "t-ann")):
            answer = await lab.call(
                "POST", PATH, {**BODY, **body}, headers=KEY, token=token, status=422
            )
            assert answer.json()["code"] == "idempotency_key_reused"
            assert answer.json()["command_id"] == commands(lab)[0].meta.command_id
        path = f"{PATH}/{first.json()['id']}"
        answer = await lab.call("DELETE", path, headers=KEY, status=422)
        assert answer.json()["code"] == "idempotency_key_reused"
        assert len(commands(lab)) == 1
        # The key is its actor's own.
        await asyncio.gather(
            decide_next(lab, seen=1), lab.call("POST", PATH, BODY, headers=KEY, token="t-bob")
        )
        assert [each.meta.actor for each in commands(lab)] == ["ann", "bob"]

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_refusal_is_repeated_too(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, first = await asyncio.gather(
            decide_next(lab, code="no_matching_bench"),
            lab.call("POST", PATH, BODY, headers=KEY, status=409),
        )
        again = await lab.call("POST", PATH, BODY, headers=KEY, status=409)
        assert again.json() == first.json()
        assert first.json()["detail"] == "because"
        assert len(commands(lab)) == 1

    in_lab(scene, tmp_path, has_scheduler=False)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("no_such_pool", 404),
        ("no_such_execution", 404),
        ("no_matching_bench", 409),
        ("not_owner", 403),
        ("reservation_ended", 409),
        ("already_exists", 409),
        ("invalid_duration", 422),
        ("something_new", 409),
    ],
)
def test_each_refusal_has_its_status(tmp_path: Path, code: str, status: int) -> None:
    async def scene(lab: Lab) -> None:
        _, answer = await asyncio.gather(
            decide_next(lab, code=code), lab.call("POST", PATH, BODY, status=status)
        )
        assert answer.json()["code"] == code
        assert "teo-position" in answer.headers

    in_lab(scene, tmp_path, has_scheduler=False)


def test_after_its_window_a_key_may_be_used_again(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await asyncio.gather(
            decide_next(lab), lab.call("POST", PATH, BODY, headers=KEY, status=201)
        )
        lab.cluster.clock_ahead_s += 25 * 3600.0
        lab.deps.log.time.stamped(lab.cluster.now())
        _, second = await asyncio.gather(
            decide_next(lab, seen=1), lab.call("POST", PATH, BODY, headers=KEY)
        )
        old, new = (each.meta.command_id for each in commands(lab))
        assert new == command_id_of("ann", "lab", "key-1", after=old)
        assert second.headers["teo-command-id"] == new

    in_lab(scene, tmp_path, has_scheduler=False)


class Slow(MemoryLog):
    """Gives nothing of the journal before it is told to."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster, "slow")
        self.gives = asyncio.Event()

    async def open_reader(self, starts: Mapping[Partition, int]) -> MemoryReader:
        reader = await super().open_reader(starts)
        poll = reader.poll

        async def late(*, records_max: int, wait_s: float) -> Sequence[Record]:
            if any(each.topic == TOPICS.events for each in starts):
                await self.gives.wait()
            return await poll(records_max=records_max, wait_s=wait_s)

        reader.poll = late  # type: ignore[method-assign]
        return reader


def test_a_key_is_judged_by_all_of_the_past_and_not_by_what_is_read_of_it(tmp_path: Path) -> None:
    """The scheduler has forgotten what is a day old: of that only the read models know."""

    async def scene(lab: Lab) -> None:
        await asyncio.gather(
            decide_next(lab), lab.call("POST", PATH, BODY, headers=KEY, status=201)
        )
        lab.cluster.clock_ahead_s += 25 * 3600.0
        log = Slow(lab.cluster)
        async with running(lab.cluster, tmp_path / "new", settings=QUICK, log=log) as new:
            answer = await new.call("POST", PATH, BODY, headers=KEY, status=503)
            assert answer.json()["code"] == "projection_behind"
            assert "nothing was sent" in answer.json()["detail"]
            assert answer.headers["retry-after"]
            assert len(commands(lab)) == 1
            log.gives.set()
            _, second = await asyncio.gather(
                decide_next(lab, seen=1), new.call("POST", PATH, BODY, headers=KEY)
            )
            old, new_id = (each.meta.command_id for each in commands(lab))
            assert commands(lab)[1].meta.after == old
            assert second.headers["teo-command-id"] == new_id != old

    in_lab(scene, tmp_path, has_scheduler=False)


def test_an_outcome_that_takes_long_is_answered_202_with_where_to_look(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        answer = await lab.call("POST", PATH, BODY, headers=KEY, status=202)
        body = answer.json()
        assert body == {
            "command_id": command_id_of("ann", "lab", "key-1"),
            "href": f"/v1/commands/{body['command_id']}",
            "detail": "",
        }
        assert answer.headers["location"] == body["href"]
        await lab.call("GET", body["href"], status=404)
        await decide(lab, commands(lab)[0])
        again = await lab.call("POST", PATH, BODY, headers=KEY, status=201)
        assert again.headers["teo-command-id"] == body["command_id"]
        assert (await lab.call("GET", body["href"], status=200)).json()["type"] == (
            "RequestReservation"
        )

    in_lab(scene, tmp_path, has_scheduler=False, settings=QUICK)


class Flaky(MemoryLog):
    """Loses the answers of the first appends, some of which were written."""

    def __init__(self, cluster: MemoryCluster, *, failures: int) -> None:
        super().__init__(cluster, "flaky")
        self.left = failures

    async def append(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        if self.left > 0 and records[0].topic == TOPICS.commands:
            self.left -= 1
            if self.left % 2:
                await super().append(records)
            raise LogUnavailable("append: no answer")
        return await super().append(records)


def test_publishing_is_tried_again_under_the_same_id(tmp_path: Path) -> None:
    async def scene() -> None:
        cluster = MemoryCluster(TOPICS, partitions=2)
        log = Flaky(cluster, failures=4)
        async with asyncio.timeout(30), running(cluster, tmp_path, log=log) as lab:
            await asyncio.gather(decide_next(lab), lab.call("POST", PATH, BODY, status=201))
            assert len(commands(lab)) == 3
            assert len({each.meta.command_id for each in commands(lab)}) == 1

    asyncio.run(scene())


def test_a_log_that_stays_away_is_a_503_that_says_how_to_go_on(tmp_path: Path) -> None:
    async def scene() -> None:
        cluster = MemoryCluster(TOPICS, partitions=2)
        log = Flaky(cluster, failures=10_000)
        async with (
            asyncio.timeout(30),
            running(cluster, tmp_path, log=log, settings=QUICK) as lab,
        ):
            answer = await lab.call("POST", PATH, BODY, headers=KEY, status=503)
            body = answer.json()
            assert body["code"] == "log_unavailable"
            assert "same Idempotency-Key" in body["detail"]
            assert body["command_id"] == command_id_of("ann", "lab", "key-1")
            assert answer.headers["retry-after"]

    asyncio.run(scene())


def test_a_command_that_the_log_never_takes_is_a_413_at_once(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.cluster.bytes_max[TOPICS.commands] = 100
        answer = await lab.call("POST", PATH, BODY, status=413)
        assert answer.json()["code"] == "command_too_big"
        assert "nothing was changed: ask for less" in answer.json()["detail"]
        assert commands(lab) == []

    in_lab(scene, tmp_path, has_scheduler=False)


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "ü"])
def test_a_malformed_key_is_refused(tmp_path: Path, key: str) -> None:
    async def scene(lab: Lab) -> None:
        raw = [(b"idempotency-key", key.encode("latin-1")), (b"authorization", b"Bearer t-ann")]
        answer = await lab.http.post(PATH, json=BODY, headers=raw)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    """Which of the two it is, each proxy on the way would answer in its own way."""

    async def scene(lab: Lab) -> None:
        raw = [(b"idempotency-key", key) for key in (b"one", b"two")]
        raw.append((b"authorization", b"Bearer t-ann"))
        answer = await lab.http.post(PATH, json=BODY, headers=raw)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")
        assert commands(lab) == []

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_position_that_never_comes_is_a_503(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.edge.POSITION_WAIT_S", 0.05)

    async def scene(lab: Lab) -> None:
        answer = await lab.call("GET", "/v1/pools?min_position=0:99", status=503)
        assert answer.json()["code"] == "projection_behind"

    in_lab(scene, tmp_path, has_scheduler=False)
