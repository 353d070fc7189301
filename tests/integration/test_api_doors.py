"""What a connection may cost before its token is known: each limit, at the server of the roles."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api import connections, limits
from cli.health import serving

HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hello(request: Request) -> Response:
    served.append(request.url.path)
    return PlainTextResponse("hello")


async def slow(_: Request) -> Response:
    await asyncio.sleep(0.2)
    return PlainTextResponse("x" * 1_000)


async def big(_: Request) -> Response:
    return PlainTextResponse("x" * 20_000_000)


served: list[str] = []
APP = Starlette(
    routes=[Route("/", hello, methods=["GET", "POST"]), Route("/slow", slow), Route("/big", big)]
)


class Doors:
    """The server, and clients that speak by hand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []

    async def open(self) -> Client:
        client = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(client)
        return client

    async def say(self, *parts: bytes) -> Client:
        reader, writer = await self.open()
        for part in parts:
            writer.write(part)
            await writer.drain()
        return reader, writer

    async def is_served(self) -> bool:
        """Whether a stranger gets an answer."""
        reader, _ = await self.say(HELLO)
        async with asyncio.timeout(5):
            return (await reader.readline()).startswith(b"HTTP/1.1 200")


async def rest(client: Client, *, limit_s: float = 10.0) -> bytes:
    """Return what comes until the server closes."""
    found = b""
    async with asyncio.timeout(limit_s):
        with suppress(ConnectionError):
            while part := await client[0].read(65_536):
                found += part
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def doors() -> AsyncIterator[Doors]:
    served.clear()
    there = Doors(free_port())
    async with serving(APP, host="127.0.0.1", port=there.port):
        while True:
            with suppress(OSError):
                await there.open()
                break
            await asyncio.sleep(0.01)
        try:
            yield there
        finally:
            for _, writer in there.clients:
                writer.close()


def play(scene: Callable[[Doors], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), doors() as there:
            await scene(there)

    asyncio.run(main())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of time that a test can wait for."""
    for name in ("HEAD_S_MAX", "BODY_LEFT_S_MAX", "STALLED_S_MAX"):
        monkeypatch.setattr(connections, name, 0.5)


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 60_000, b"X-A: a\r\n" * 8_000, b"a" * 60_000])
def test_a_head_without_end_is_cut_off_early(line: bytes) -> None:
    async def scene(there: Doors) -> None:
        client = await there.open()
        sent = 0
        client[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with suppress(ConnectionError):
            while not client[0].at_eof() and sent < 100 * limits.HEAD_BYTES_MAX:
                client[1].write(line)
                await client[1].drain()
                sent += len(line)
                await asyncio.sleep(0)
        assert sent < 100 * limits.HEAD_BYTES_MAX
        assert await there.is_served()

    play(scene)


def test_a_head_that_is_too_long_is_answered_with_why() -> None:
    async def scene(there: Doors) -> None:
        half = b"X-A: " + b"a" * (limits.HEAD_BYTES_MAX // 2)
        client = await there.say(b"GET / HTTP/1.1\r\n", half, half)
        await asyncio.sleep(0.05)
        client[1].write(half)
        answer = await rest(client)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"send fewer headers" in answer

    play(scene)


def test_the_end_of_a_long_body_is_no_long_head() -> None:
    async def scene(there: Doors) -> None:
        size = 4 * limits.HEAD_BYTES_MAX
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        reader, _ = await there.say(head + b"x" * size + HELLO)
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(5) == b"hello"

    play(scene)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", HELLO + b"G"])
def test_silent_and_half_sent_connections_end(said: bytes) -> None:
    async def scene(there: Doors) -> None:
        answer = await rest(await there.say(said), limit_s=5.0)
        assert answer.count(b"HTTP/1.1 200") == said.count(HELLO)

    play(scene)


@pytest.mark.usefixtures("quick")
def test_a_client_that_trickles_on_after_its_answer_is_cut_off() -> None:
    async def scene(there: Doors) -> None:
        head = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        client = await there.say(head)

        async def trickle() -> None:
            with suppress(ConnectionError):
                while True:
                    client[1].write(b"x")
                    await client[1].drain()
                    await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        try:
            assert (await rest(client, limit_s=5.0)).startswith(b"HTTP/1.1 200")
        finally:
            trickling.cancel()

    play(scene)


def test_pipelined_requests_that_nobody_reads_are_refused_not_kept() -> None:
    async def scene(there: Doors) -> None:
        client = await there.open()
        request = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000
        with suppress(ConnectionError):
            for _ in range(300):
                client[1].write(request)
                await client[1].drain()
        await rest(client)
        assert await there.is_served()

    play(scene)


def test_a_few_pipelined_requests_are_answered_in_order() -> None:
    async def scene(there: Doors) -> None:
        reader, _ = await there.say(HELLO * limits.PIPELINE_MAX)
        for _ in range(limits.PIPELINE_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(5) == b"hello"

    play(scene)


@pytest.mark.usefixtures("quick")
def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def scene(there: Doors) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect(("127.0.0.1", there.port))
            client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(100):
                await asyncio.sleep(0.1)
                # The kernel's word on whether the other side has closed (a TCP state of 1: it has
                # not): nothing is read here.
                info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
                if struct.unpack("B", info)[0] != 1:
                    return
        raise AssertionError("the connection is still there")

    play(scene)


def test_an_idle_connection_gives_its_place_to_one_that_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 5)

    async def scene(there: Doors) -> None:
        silent = [await there.open() for _ in range(20)]
        assert await there.is_served()
        assert await there.is_served()
        await rest(silent[0])

    play(scene)


def test_one_too_many_is_told_so_when_all_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)

    async def scene(there: Doors) -> None:
        busy = [await there.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
        await asyncio.sleep(0.05)
        answer = await rest(await there.say(HELLO))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
        for reader, _ in busy:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    play(scene)


def test_open_files_limit_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = connections.resource.RLIM_INFINITY
    asked: list[tuple[int, int]] = []
    for now, most in (((1_024, 1_024), 512), ((256, 256), 56), ((1_024, limit), 2_000)):
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _, now=now: now)
        monkeypatch.setattr(connections.resource, "setrlimit", lambda _, to: asked.append(to))
        assert connections.connections_max() == most
    assert asked == [(limits.FILES_WANTED, limit)]


def test_no_header_names_the_server() -> None:
    async def scene(there: Doors) -> None:
        reader, _ = await there.say(HELLO)
        assert b"server:" not in (await reader.readuntil(b"\r\n\r\n")).lower()

    play(scene)
