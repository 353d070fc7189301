"""A TCP proxy before each broker that reads the header of every Kafka request, to break just that.

It keeps what TCP promises: bytes of one connection arrive in order or not at all. What was read
from a client is still delivered after the client hung up: so a delayed request outlives its
sender, as it does in a network. Never changes a byte.
"""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

PRODUCE, FETCH, METADATA, INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, END_TXN = 0, 1, 3, 22, 24, 26
FIND_COORDINATOR = 10
API_NAMES = {
    PRODUCE: "Produce",
    FETCH: "Fetch",
    METADATA: "Metadata",
    FIND_COORDINATOR: "FindCoordinator",
    INIT_PRODUCER_ID: "InitProducerId",
    ADD_PARTITIONS_TO_TXN: "AddPartitionsToTxn",
    END_TXN: "EndTxn",
}
HOST = "127.0.0.1"
FRAME_BYTES_MAX = 100 * 1024 * 1024
LINGER_S = 2.0
"""How long a broker may still work on what a client sent that hung up."""
DELAY_S_MAX = 60.0


class Action(Enum):
    """What is done to one request. Later requests of the connection share its fate: TCP."""

    DELAY_REQUEST = "delay request"
    DELAY_ANSWER = "delay answer"
    DROP_REQUEST = "drop request"
    """The broker never sees it, nor what follows; the client hears nothing."""
    DROP_ANSWER = "drop answer"
    """The broker does it; the client hears nothing, now and later."""
    LATE_REQUEST = "late request"
    """The client's connection breaks at once, and the broker still gets the request, later."""
    CUT_REQUEST = "cut request"
    """The broker never sees it; the client's connection breaks."""
    CUT_ANSWER = "cut answer"
    """The broker does it; the client's connection breaks before the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What every Kafka request begins with."""

    api: int
    version: int
    correlation_id: int
    client_id: str

    @classmethod
    def of(cls, frame: bytes) -> "Header":
        """Parse the beginning of a request. Raises struct.error or ValueError for other bytes."""
        api, version, correlation_id, size = struct.unpack_from(">hhih", frame)
        client_id = frame[10 : 10 + size].decode() if size > 0 else ""
        return cls(api=api, version=version, correlation_id=correlation_id, client_id=client_id)


@dataclass(slots=True, kw_only=True)
class Rule:
    """Which requests meet which fate, and how often."""

    action: Action
    apis: frozenset[int]
    odds: float = 1.0
    delay_s: tuple[float, float] = (0.0, 0.0)
    client: str = ""
    """Prefix of the client id; empty: any."""
    group: str = ""
    """Group of the connection; empty: any."""
    left: int | None = None
    """How many more times it strikes; None: without end."""
    is_met: Callable[[bytes], bool] = field(default=lambda _: True)
    """A closer look at the whole request."""

    def fits(self, header: Header, group: str, frame: bytes) -> bool:
        """Return whether it is about this request."""
        return (
            self.left != 0
            and header.api in self.apis
            and header.client_id.startswith(self.client)
            and self.group in ("", group)
            and self.is_met(frame)
        )


@dataclass(slots=True)
class Weather:
    """What befalls whole connections, by node or group, until it is lifted."""

    held: set[str] = field(default_factory=set)
    """Nothing passes, nothing is lost: a black hole, whose packets are sent again afterwards."""
    bytes_s: dict[str, float] = field(default_factory=dict)
    """The rate at which bytes pass."""


class Proxy:
    """Listens for each node, passes on to it, and breaks what the rules say.

    `group_of` tells the group of a client from its port and the port it called: a client's port
    alone may have several connections. `rules` and `weather` may be changed at any time. `counts`
    tells what struck, by action and kind of request.
    """

    def __init__(
        self, dice: random.Random, *, group_of: Callable[[int, int], str] = lambda *_: ""
    ) -> None:
        self.rules: list[Rule] = []
        self.weather = Weather()
        self.counts: Counter[tuple[Action, str]] = Counter()
        self._dice = dice
        self._group_of = group_of
        self._upstream: dict[int, int] = {}
        self._servers: list[asyncio.Server] = []
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifted = asyncio.Event()
        self._is_closed = False

    async def listen(self, nodes: Iterable[int]) -> dict[int, int]:
        """Listen for each node; return the ports, to be advertised."""
        ports = {}
        for node in nodes:
            server = await asyncio.start_server(self._accept(node), HOST, 0)
            self._servers.append(server)
            ports[node] = int(server.sockets[0].getsockname()[1])
        return ports

    def pass_on_to(self, ports: dict[int, int]) -> None:
        """Set where each node really listens; until then connections are refused."""
        self._upstream = dict(ports)

    def cut(self, place: str) -> int:
        """Break every connection of a node (`node-1`) or a group; return how many."""
        links = [link for link in self._links if place in link.places]
        for link in links:
            link.abort()
        return len(links)

    def hold(self, place: str) -> None:
        """Let nothing pass to or from a node or a group until it is released."""
        self.weather.held.add(place)

    def release(self, place: str) -> None:
        """Let everything that waits pass."""
        self.weather.held.discard(place)
        self.weather.bytes_s.pop(place, None)
        self._lifted.set()
        self._lifted = asyncio.Event()

    def clear(self) -> None:
        """Lift all: no rules, good weather."""
        self.rules.clear()
        for place in [*self.weather.held, *self.weather.bytes_s]:
            self.release(place)

    async def close(self) -> None:
        """Stop listening and break everything, also what is just being accepted."""
        self._is_closed = True
        # asyncio loses the socket of what is being accepted while the server is closed.
        for listening in (each for server in self._servers for each in server.sockets):
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fate(self, header: Header, group: str, frame: bytes) -> tuple[Action | None, float]:
        """Throw the dice for one request; return what happens to it, and after how long."""
        for rule in self.rules:
            if rule.fits(header, group, frame) and self._dice.random() < rule.odds:
                if rule.left is not None:
                    rule.left -= 1
                name = API_NAMES.get(header.api, str(header.api))
                self.counts[rule.action, name] += 1
                return rule.action, min(DELAY_S_MAX, self._dice.uniform(*rule.delay_s))
        return None, 0.0

    async def passable(self, places: tuple[str, ...], size_bytes: int) -> None:
        """Return once so many bytes may pass."""
        while not self.weather.held.isdisjoint(places):
            await self._lifted.wait()
        rates = [rate for place in places if (rate := self.weather.bytes_s.get(place))]
        if rates:
            await asyncio.sleep(size_bytes / min(rates))

    def _accept(self, node: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            def ended(task: asyncio.Task[None]) -> None:
                # Here, because a task that is cancelled before it began runs nothing of its own.
                self._tasks.discard(task)
                if task.cancelled():
                    writer.transport.abort()

            if self._is_closed:
                writer.transport.abort()
                return
            task = asyncio.create_task(self._serve(node, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(ended)

        return accept

    async def _serve(
        self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ends = [writer.get_extra_info(name) for name in ("peername", "sockname")]
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._upstream[node])
        except (OSError, KeyError):
            writer.transport.abort()
            return
        group = self._group_of(ends[0][1], ends[1][1]) if all(ends) else ""
        client, broker = _Side(reader, writer), _Side(up_reader, up_writer)
        link = _Link(self, client, broker, (f"node-{node}", group))
        self._links.add(link)
        try:
            await link.serve()
        finally:
            self._links.discard(link)


@dataclass(frozen=True, slots=True)
class _Side:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> bytes | None:
        """Return the next frame without its length; None at the end."""
        try:
            (size,) = struct.unpack(">i", await self.reader.readexactly(4))
            if not 0 <= size <= FRAME_BYTES_MAX:
                return None
            return await self.reader.readexactly(size)
        except (OSError, EOFError):
            return None

    async def write(self, frame: bytes) -> bool:
        """Return False if the other end is gone."""
        try:
            self.writer.write(struct.pack(">i", len(frame)) + frame)
            await self.writer.drain()
        except OSError:
            return False
        return not self.writer.is_closing()


class _Link:
    """One client's connection to one node."""

    def __init__(self, proxy: Proxy, client: _Side, broker: _Side, places: tuple[str, ...]) -> None:
        self.places = places
        self._proxy = proxy
        self._client = client
        self._broker = broker
        self._fates: dict[int, tuple[Action, float]] = {}
        self._unanswered = 0
        self._all_answered = asyncio.Event()

    async def serve(self) -> None:
        """Pass frames until both ends are done with each other."""
        answers = asyncio.create_task(self._answers())
        try:
            await self._requests()
            # The client hung up, or its requests get lost from now on.
            if self._unanswered:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._all_answered.wait(), LINGER_S)
        finally:
            # Before anything is awaited: whoever closes the proxy may cancel us again.
            self._client.writer.close()
            self._broker.writer.close()
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    def abort(self) -> None:
        """Break it on the client's side; what is on the way still arrives."""
        self._client.writer.transport.abort()

    async def _requests(self) -> None:
        while (frame := await self._client.read()) is not None:
            try:
                header = Header.of(frame)
            except (struct.error, ValueError):
                return
            action, delay_s = self._proxy.fate(header, self.places[-1], frame)
            if action is Action.CUT_REQUEST:
                self.abort()
                return
            if action is Action.DROP_REQUEST:
                await self._swallow()
                return
            if action is Action.LATE_REQUEST:
                self.abort()
            if action in (Action.DELAY_REQUEST, Action.LATE_REQUEST):
                await asyncio.sleep(delay_s)
            elif action is not None:
                self._fates[header.correlation_id] = (action, delay_s)
            await self._proxy.passable(self.places, len(frame))
            self._unanswered += 1
            self._all_answered.clear()
            if not await self._broker.write(frame):
                self.abort()
                return

    async def _swallow(self) -> None:
        while await self._client.read() is not None:
            pass

    async def _answers(self) -> None:
        is_lost = False
        while (frame := await self._broker.read()) is not None:
            (correlation_id,) = struct.unpack_from(">i", frame)
            action, delay_s = self._fates.pop(correlation_id, (None, 0.0))
            if action is Action.DELAY_ANSWER:
                await asyncio.sleep(delay_s)
            await self._proxy.passable(self.places, len(frame))
            is_lost = is_lost or action in (Action.DROP_ANSWER, Action.CUT_ANSWER)
            if action is Action.CUT_ANSWER:
                self.abort()
            self._unanswered -= 1
            if self._unanswered <= 0:
                self._all_answered.set()
            if not is_lost:
                await self._client.write(frame)
        self.abort()
