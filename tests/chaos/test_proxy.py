"""The fault proxy before a broker that is played: what it breaks, and what it leaves alone."""

import asyncio
import gc
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.chaos.proxy import END_TXN, HOST, METADATA, PRODUCE, Action, Header, Proxy, Rule

WAIT_S = 5.0
SOON_S = 0.2
TURNS = 6


def request(api: int, correlation_id: int, client_id: str = "teo", rest: bytes = b"") -> bytes:
    name = client_id.encode()
    return struct.pack(">hhih", api, 0, correlation_id, len(name)) + name + rest


class Broker:
    """Answers each request with its correlation id and remembers what it got, in order."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while frame := await read(reader):
                self.got.append(frame)
                await write(writer, struct.pack(">i", Header.of(frame).correlation_id))
        finally:
            writer.close()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, frame: bytes) -> None:
        await write(self.writer, frame)

    async def answer(self) -> int | None:
        """Return the correlation id of the next answer; None at the end of the connection."""
        async with asyncio.timeout(WAIT_S):
            frame = await read(self.reader)
        return int(struct.unpack(">i", frame)[0]) if frame else None

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SOON_S):
                await read(self.reader)
        except TimeoutError:
            return True
        return False


async def read(reader: asyncio.StreamReader) -> bytes:
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except (OSError, EOFError):
        return b""


async def write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()


class Scene:
    """A proxy before one broker."""

    def __init__(self, proxy: Proxy, broker: Broker, port: int) -> None:
        self.proxy, self.broker, self._port = proxy, broker, port
        self.clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self._port))
        self.clients.append(client)
        return client

    async def gets(self, *correlation_ids: int) -> None:
        """Return once the broker has got exactly these, in this order."""
        async with asyncio.timeout(WAIT_S):
            while self.ids != list(correlation_ids):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @property
    def ids(self) -> list[int]:
        return [Header.of(frame).correlation_id for frame in self.broker.got]


@asynccontextmanager
async def scene(group: str = "") -> AsyncIterator[Scene]:
    broker = Broker()
    proxy = Proxy(random.Random(0), group_of=lambda *_: group)
    server = await asyncio.start_server(broker.serve, HOST, 0)
    ports = await proxy.listen([1])
    proxy.pass_on_to({1: server.sockets[0].getsockname()[1]})
    try:
        stage = Scene(proxy, broker, ports[1])
        yield stage
    finally:
        for client in stage.clients:
            client.writer.close()
        await proxy.close()
        server.close()


def play(act: Callable[[Scene], Awaitable[None]], group: str = "") -> None:
    async def whole() -> None:
        async with scene(group) as stage:
            await act(stage)

    asyncio.run(whole())


def rule(action: Action, *, api: int = END_TXN, delay_s: float = 0.0, **more: object) -> Rule:
    return Rule(action=action, apis=frozenset({api}), delay_s=(delay_s, delay_s), **more)  # type: ignore[arg-type]


def test_without_rules_every_byte_passes() -> None:
    async def act(stage: Scene) -> None:
        client = await stage.client()
        sent = [request(PRODUCE, n, rest=bytes([n]) * 100_000) for n in range(20)]
        for frame in sent:
            await client.send(frame)
        assert [await client.answer() for _ in sent] == list(range(20))
        assert stage.broker.got == sent
        assert not stage.proxy.counts

    play(act)


@pytest.mark.parametrize(
    ("action", "is_done", "is_cut"),
    [
        (Action.DROP_REQUEST, False, False),
        (Action.DROP_ANSWER, True, False),
        (Action.CUT_REQUEST, False, True),
        (Action.CUT_ANSWER, True, True),
    ],
)
def test_a_lost_request_or_answer(action: Action, is_done: bool, is_cut: bool) -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.rules.append(rule(action, left=1))
        client = await stage.client()
        await client.send(request(METADATA, 1))
        assert await client.answer() == 1
        await client.send(request(END_TXN, 2))
        if is_cut:
            assert await client.answer() is None
        else:
            assert await client.hears_nothing()
        await stage.gets(*([1, 2] if is_done else [1]))
        assert stage.proxy.counts == {(action, "EndTxn"): 1}
        # The rule is used up: a new connection is served.
        again = await stage.client()
        await again.send(request(END_TXN, 3))
        assert await again.answer() == 3

    play(act)


@pytest.mark.parametrize("action", [Action.DELAY_REQUEST, Action.DELAY_ANSWER])
def test_a_delay_keeps_the_order(action: Action) -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.rules.append(rule(action, delay_s=2 * SOON_S, left=1))
        client = await stage.client()
        await client.send(request(END_TXN, 1))
        await client.send(request(METADATA, 2))
        assert not await client.reader.read(0)
        assert [await client.answer(), await client.answer()] == [1, 2]
        assert stage.ids == [1, 2]

    play(act)


def test_a_late_request_outlives_its_connection_and_is_overtaken() -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.rules.append(rule(Action.LATE_REQUEST, delay_s=2 * SOON_S, left=1))
        client = await stage.client()
        await client.send(request(END_TXN, 1))
        assert await client.answer() is None
        again = await stage.client()
        await again.send(request(END_TXN, 2))
        assert await again.answer() == 2
        await stage.gets(2, 1)

    play(act)


def test_rules_choose_by_client_and_group_and_by_a_closer_look() -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.rules += [
            rule(Action.CUT_REQUEST, client="worker"),
            rule(Action.CUT_REQUEST, group="api-1"),
            rule(Action.CUT_REQUEST, is_met=lambda frame: frame.endswith(b"!")),
        ]
        client = await stage.client()
        await client.send(request(END_TXN, 1, "teo-worker"))
        assert await client.answer() == 1
        await client.send(request(END_TXN, 2, rest=b"!"))
        assert await client.answer() is None
        client = await stage.client()
        await client.send(request(END_TXN, 3, "worker-3"))
        assert await client.answer() is None

    play(act, group="scheduler-1")


@pytest.mark.parametrize("place", ["node-1", "worker-2"])
def test_a_black_hole_holds_everything_and_loses_nothing(place: str) -> None:
    async def act(stage: Scene) -> None:
        client = await stage.client()
        await client.send(request(METADATA, 1))
        assert await client.answer() == 1
        stage.proxy.hold(place)
        await client.send(request(METADATA, 2))
        assert await client.hears_nothing()
        assert stage.ids == [1]
        stage.proxy.release(place)
        await stage.gets(1, 2)

    play(act, group="worker-2")


def test_a_cut_breaks_the_connections_of_one_place_only() -> None:
    async def act(stage: Scene) -> None:
        client = await stage.client()
        await client.send(request(METADATA, 1))
        assert await client.answer() == 1
        assert stage.proxy.cut("node-2") == 0
        assert stage.proxy.cut("api-1") == 1
        assert await client.answer() is None

    play(act, group="api-1")


def test_the_slow_are_slowed() -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.weather.bytes_s["node-1"] = 1_000.0
        client = await stage.client()
        await client.send(request(METADATA, 1, rest=b"x" * 400))
        assert await client.hears_nothing()
        assert await client.answer() == 1

    play(act)


def test_what_is_no_request_ends_the_connection() -> None:
    async def act(stage: Scene) -> None:
        client = await stage.client()
        await client.send(b"?")
        assert await client.answer() is None
        assert not stage.broker.got

    play(act)


def test_a_broker_that_is_away_refuses() -> None:
    async def act(stage: Scene) -> None:
        stage.proxy.pass_on_to({})
        client = await stage.client()
        assert await client.answer() is None

    play(act)


def test_what_is_just_being_accepted_is_broken_too() -> None:
    """At whichever turn of the loop the proxy is closed."""

    async def close_after(turns: int) -> None:
        proxy = Proxy(random.Random(0))
        ports = await proxy.listen([1])
        with socket.create_connection((HOST, ports[1])):
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.close()

    for turns in range(TURNS):
        asyncio.run(close_after(turns))
        gc.collect()
