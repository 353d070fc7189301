"""The bench: a CAN bus with the ECU under test, a tester, and a recorder of all frames."""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import can
import pytest
import udsoncan
from ecu.board import Board
from ecu.diagnostics import ACTIVE_SESSION, BATTERY, SOFTWARE_VERSION, VIN, Diagnostics
from ecu.flash import Firmware, firmware
from ecu.node import ANSWER_ID, REQUEST_ID, Node, transport
from ecu.security import key_for
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

NEWEST = "1.1.0"
CHANNEL = "vcan0"
UNKNOWN = 0x4242
# Far above what ISO 14229 grants (50 ms): a busy machine must not look like a broken ECU.
ANSWER_S_MAX = 5.0


class Number(udsoncan.DidCodec):
    """A number of one byte."""

    def decode(self, string_bin: bytes) -> int:
        """Return the number."""
        return string_bin[0]

    def encode(self, *values: int, **_: object) -> bytes:
        """Return the byte."""
        return bytes(values)

    def __len__(self) -> int:
        """Return the length on the wire."""
        return 1


class Volts(udsoncan.DidCodec):
    """Battery voltage: millivolts on the wire, volts for the test."""

    def decode(self, string_bin: bytes) -> float:
        """Return volts."""
        return int(struct.unpack(">H", string_bin)[0]) / 1000

    def encode(self, *_: object, **__: object) -> bytes:
        """Refuse: nobody writes a measurement."""
        raise NotImplementedError("the battery voltage is read only")

    def __len__(self) -> int:
        """Return the length on the wire."""
        return 2


@dataclass(repr=False)
class Bench:
    """What a test can do: talk to the ECU, and change the world around it."""

    tester: Client
    board: Board
    firmware: Firmware

    def read(self, identifier: int) -> object:
        """Return the value of one data identifier."""
        return self.tester.read_data_by_identifier_first(identifier)

    def supply(self, volts: float) -> None:
        """Set the power supply."""
        self.board.supply_v = volts

    def wait(self, seconds: float) -> None:
        """Let the ECU's time pass."""
        self.board.clock.advance(seconds)


@pytest.fixture(scope="session")
def release() -> Firmware:
    """The firmware under test, chosen by ECU_FIRMWARE."""
    return firmware(os.environ.get("ECU_FIRMWARE", NEWEST))


@pytest.fixture(scope="session")
def channel() -> Iterator[str]:
    """The CAN bus; its frames are recorded when the orchestrator gave a folder for artifacts."""
    folder = os.environ.get("TEO_ARTIFACTS_DIR")
    with ExitStack() as stack:
        if folder:
            trace = Path(folder) / "can-trace.log"
            trace.parent.mkdir(parents=True, exist_ok=True)
            writer = stack.enter_context(can.CanutilsLogWriter(trace))
            monitor = stack.enter_context(can.Bus(interface="virtual", channel=CHANNEL))
            notifier = can.Notifier(monitor, [writer], timeout=0.1)
            stack.callback(notifier.stop)
        yield CHANNEL


@pytest.fixture(scope="session")
def node(channel: str) -> Iterator[Node]:
    """The ECU under test, connected to the bus."""
    with can.Bus(interface="virtual", channel=channel) as bus, Node(bus) as ecu:
        yield ecu


@pytest.fixture(scope="session")
def tester(channel: str, release: Firmware) -> Iterator[Client]:
    """A diagnostics tester on the same bus."""
    config = dict(udsoncan.configs.default_client_config)
    config |= {
        "request_timeout": ANSWER_S_MAX,
        "p2_timeout": ANSWER_S_MAX,
        "use_server_timing": False,
        "security_algo": key_for,
        "data_identifiers": {
            VIN: udsoncan.AsciiCodec(17),
            SOFTWARE_VERSION: udsoncan.AsciiCodec(len(release.VERSION)),
            ACTIVE_SESSION: Number,
            BATTERY: Volts,
            UNKNOWN: Number,
        },
    }
    with can.Bus(interface="virtual", channel=channel) as bus:
        line = PythonIsoTpConnection(transport(bus, rxid=ANSWER_ID, txid=REQUEST_ID))
        with Client(line, config=config) as client:
            yield client


@pytest.fixture
def bench(node: Node, tester: Client, release: Firmware) -> Bench:
    """A bench whose ECU was just flashed and switched on: default session, no faults, locked."""
    board = Board()
    node.power_on(Diagnostics(board, release))
    return Bench(tester, board, release)
