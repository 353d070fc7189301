"""The spool keeps order through disk and memory; the outbox never passes its limits."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from events.log import Outgoing
from events.reports import StepStarted, WorkerHeartbeat
from processors.worker.contact import Contact
from processors.worker.outbox import Outbox
from processors.worker.registration import Identity
from processors.worker.settings import OutboxLimits, WorkerSettings
from processors.worker.spool import TRUNCATE_BYTES, Spool, SpoolDamaged, count_left
from processors.worker.telemetry import Telemetry
from tests.unit.processors.worker.lab import TOPICS, Clock, FakeLog, is_beat, play

LIMITS = OutboxLimits()


def record(number: int, size: int = 10) -> Outgoing:
    return Outgoing(topic="t", key=b"k", value=b"%d " % number + b"x" * size, headers={"h": b"\0v"})


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(5):
        spool.append(record(number))
    assert list(spool.peek(records_max=3, bytes_max=10_000)) == [record(n) for n in range(3)]
    spool.drop(2)
    assert list(spool.peek(records_max=9, bytes_max=10_000)) == [record(n) for n in range(2, 5)]
    assert len(spool) == 3
    spool.close()
    assert not (tmp_path / "s").exists()


def test_a_batch_has_a_size_but_never_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    spool.append(record(0, size=1000))
    spool.append(record(1))
    assert len(spool.peek(records_max=9, bytes_max=100)) == 1
    spool.close()


def test_an_emptied_spool_gives_its_disk_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    spool.append(record(0, size=TRUNCATE_BYTES + 1))
    spool.drop(1)
    assert (tmp_path / "s").stat().st_size == 0
    spool.append(record(1))
    assert list(spool.peek(records_max=9, bytes_max=9_999)) == [record(1)]
    assert spool.size_bytes > 0
    spool.close()


def test_a_disk_that_refuses_costs_nothing_but_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "no such folder" / "s")
    for number in range(3):
        spool.append(record(number))
    assert list(spool.peek(records_max=9, bytes_max=9_999)) == [record(n) for n in range(3)]
    spool.close()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"x" * len(data)])
def test_a_file_that_somebody_changed_ends_the_life_and_sends_nothing(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    """A folder that is restored under a running worker, a tool that empties old logs."""
    spool = Spool(tmp_path / "s")
    spool.append(record(0))
    (tmp_path / "s").write_bytes(change((tmp_path / "s").read_bytes()))
    with pytest.raises(SpoolDamaged):
        spool.peek(records_max=9, bytes_max=9_999)
    spool.close()
    spool.close()


def test_what_a_dead_life_left_is_counted_up_to_the_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    spool = Spool(path)
    for number in range(3):
        spool.append(record(number))
    data = path.read_bytes()
    spool.close()
    path.write_bytes(data)
    assert count_left(path) == 3
    path.write_bytes(data[:-1])
    assert count_left(path) == 2
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert count_left(path) == 2


def outbox_of(log: FakeLog, root: Path, limits: OutboxLimits = LIMITS) -> tuple[Outbox, Contact]:
    settings = WorkerSettings(worker="w", pool="p", state_dir=root, version="1", outbox=limits)
    contact = Contact(sent_at=asyncio.get_running_loop().time(), deadline_s=100.0)
    outbox = Outbox(
        log=log,  # type: ignore[arg-type]
        topics=TOPICS,
        settings=settings,
        identity=Identity(life="l", epoch=1),
        clock=Clock(),
        new_id=lambda: "id",
        contact=contact,
        spool=Spool(root / "s"),
        beat=lambda: WorkerHeartbeat(running=()),
        on_contact=lambda: None,
        telemetry=Telemetry("w", "p"),
    )
    return outbox, contact


def step(number: int) -> StepStarted:
    return StepStarted(execution_id="e", attempt=number, fence=1, step="run")


def test_a_full_outbox_makes_wait_and_then_goes_on_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        log = FakeLog()
        log.is_away = True
        limits = replace(OutboxLimits(), records_max=3)
        outbox, _ = outbox_of(log, tmp_path, limits)
        sending = asyncio.create_task(outbox.send())
        for number in range(3):
            await outbox.put(step(number))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(outbox.put(step(99)), 20)
        log.is_away = False
        for number in range(3, 10):
            last = await outbox.put(step(number))
        await asyncio.wait_for(outbox.taken(last), 20)
        sending.cancel()
        bodies = [message.body for message in log.read(TOPICS.reports)]
        assert [b.attempt for b in bodies if not is_beat(b)] == list(range(10))
        outbox._spool.close()

    play(scene)


def test_contact_counts_from_the_sending_not_from_the_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        log = FakeLog()
        log.latency_s = 1.5
        outbox, contact = outbox_of(log, tmp_path)
        await asyncio.sleep(10)
        begun = asyncio.get_running_loop().time()
        sending = asyncio.create_task(outbox.send())
        await outbox.taken(await outbox.put(step(1)))
        assert contact.until == pytest.approx(begun + 100.0)
        sending.cancel()
        outbox._spool.close()

    play(scene)
