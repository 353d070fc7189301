"""The watch over the embedded Kafka goes on, also when a start of it fails."""

import asyncio

import pytest

from cli.local import BrokerFailed, stack


class Kafka:
    """Dead until it was started often enough."""

    def __init__(self, failures):
        self.failures = failures
        self.starts = 0
        self.is_up = False

    def is_alive(self, node):
        return self.is_up

    async def restart(self, node):
        self.starts += 1
        if self.starts <= self.failures:
            raise BrokerFailed("no space left")
        self.is_up = True


@pytest.mark.parametrize("failures", [0, 3])
def test_a_kafka_that_ended_is_started_until_it_is_up(monkeypatch, failures):
    monkeypatch.setattr(stack, "RESTART_WAIT_S", 0.0)
    kafka, notes, is_up = Kafka(failures), [], asyncio.Event()

    def note(text):
        notes.append(text)
        if text == "Kafka is up again":
            is_up.set()

    async def scene():
        watch = asyncio.create_task(stack.keep_alive(kafka, note))
        async with asyncio.timeout(10):
            await is_up.wait()
        watch.cancel()

    asyncio.run(scene())
    assert kafka.starts == failures + 1
    assert notes.count("Kafka did not start: no space left") == failures
    assert notes[0].startswith("Kafka ended; starting it again")
