"""The ECU's place on a CAN bus: ISO-TP below, the diagnostics above, one thread between them."""

import logging
import threading
from typing import Self

import can
import isotp

from ecu.diagnostics import Code, Diagnostics

REQUEST_ID, ANSWER_ID = 0x7E0, 0x7E8
POLL_S = 0.1
# Patient: a busy machine must not look like a broken ECU.
FRAME_MS_MAX = 5_000
TRANSPORT = {
    "stmin": 0,
    "blocksize": 0,
    "tx_padding": 0xCC,
    "rx_flowcontrol_timeout": FRAME_MS_MAX,
    "rx_consecutive_frame_timeout": FRAME_MS_MAX,
}

log = logging.getLogger("ecu")


def transport(bus: can.BusABC, *, rxid: int, txid: int) -> isotp.CanStack:
    """Return an ISO-TP stack with normal 11-bit addresses, not yet started."""
    address = isotp.Address(isotp.AddressingMode.Normal_11bits, rxid=rxid, txid=txid)
    return isotp.CanStack(bus, address=address, params=TRANSPORT)


class Node:
    """An ECU that answers on `bus` while the block runs, once it is flashed."""

    def __init__(self, bus: can.BusABC) -> None:
        self._stack = transport(bus, rxid=REQUEST_ID, txid=ANSWER_ID)
        self._diagnostics: Diagnostics | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ecu")

    def power_on(self, diagnostics: Diagnostics) -> None:
        """Start from the beginning with `diagnostics`. Nothing may be under way."""
        self._diagnostics = diagnostics

    def __enter__(self) -> Self:
        """Connect the ECU to the bus."""
        self._stack.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect it."""
        self._stop.set()
        self._thread.join()
        self._stack.stop()

    def _serve(self) -> None:
        while not self._stop.is_set():
            request = self._stack.recv(block=True, timeout=POLL_S)
            diagnostics = self._diagnostics
            if not request or diagnostics is None:
                continue
            try:
                answer = diagnostics.answer(bytes(request))
            except Exception:
                # A crash of the firmware is what a tester sees as a general reject.
                log.exception("firmware crashed on %s", bytes(request).hex())
                answer = bytes((0x7F, request[0], Code.GENERAL_REJECT))
            if answer is not None:
                self._stack.send(answer)
