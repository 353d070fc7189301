"""The UDS server (ISO 14229-1): one request in, one answer out. Knows nothing of CAN."""

from collections.abc import Callable
from enum import IntEnum

from ecu.board import Board
from ecu.faults import AVAILABLE, FaultMemory
from ecu.flash import Firmware
from ecu.security import Answer, Lock

S3_S = 5.0  # A session without requests for so long ends by itself.
P2_MS, P2_STAR_10MS = 50, 500
DEFAULT, EXTENDED = 0x01, 0x03
SUPPRESS = 0x80
VIN, SOFTWARE_VERSION, ACTIVE_SESSION, BATTERY = 0xF190, 0xF189, 0xF186, 0x0100
SELF_TEST = 0x0203
VIN_LETTERS = frozenset("0123456789ABCDEFGHJKLMNPRSTUVWXYZ")


class Code(IntEnum):
    """Negative response codes."""

    GENERAL_REJECT = 0x10
    SERVICE_NOT_SUPPORTED = 0x11
    SUBFUNCTION_NOT_SUPPORTED = 0x12
    WRONG_LENGTH = 0x13
    SEQUENCE_ERROR = 0x24
    OUT_OF_RANGE = 0x31
    SECURITY_DENIED = 0x33
    DELAY_NOT_EXPIRED = 0x37
    NOT_IN_THIS_SESSION = 0x7F


class Negative(Exception):
    """Raised when a request is refused, with the code that says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with 0x{code:02X}")
        self.code = code


class Diagnostics:
    """The diagnostics of one ECU that runs one firmware."""

    def __init__(self, board: Board, firmware: Firmware) -> None:
        self._board = board
        self._firmware = firmware
        self._lock = Lock(board)
        self._faults = FaultMemory()
        self._session = DEFAULT
        self._last_s = board.clock.now_s()
        self._self_test: dict[str, bool] | None = None
        self._services: dict[int, Callable[[bytes], bytes]] = {
            0x10: self._session_control,
            0x11: self._reset,
            0x14: self._clear_faults,
            0x19: self._read_faults,
            0x22: self._read,
            0x27: self._security_access,
            0x2E: self._write,
            0x31: self._routine,
            0x3E: self._tester_present,
        }

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer to `request`, or None where the tester asked for silence."""
        self._end_idle_session()
        self._faults.monitor(self._millivolts())
        service = request[0]
        try:
            data = self._services.get(service, _not_supported)(request[1:])
        except Negative as refused:
            return bytes((0x7F, service, refused.code))
        has_subfunction = service in (0x10, 0x11, 0x19, 0x27, 0x31, 0x3E)
        if has_subfunction and request[1] & SUPPRESS:
            return None
        return bytes((service + 0x40,)) + data

    def _end_idle_session(self) -> None:
        now_s = self._board.clock.now_s()
        if now_s - self._last_s >= S3_S:
            self._enter(DEFAULT)
        self._last_s = now_s

    def _enter(self, session: int) -> None:
        self._session = session
        self._lock.close()

    def _session_control(self, data: bytes) -> bytes:
        session = _subfunction(data, length=1)
        if session not in (DEFAULT, EXTENDED):
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        self._enter(session)
        return bytes((session,)) + P2_MS.to_bytes(2, "big") + P2_STAR_10MS.to_bytes(2, "big")

    def _reset(self, data: bytes) -> bytes:
        kind = _subfunction(data, length=1)
        if kind != 0x01:
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        self._enter(DEFAULT)
        self._self_test = None
        return bytes((kind,))

    def _tester_present(self, data: bytes) -> bytes:
        if _subfunction(data, length=1) != 0x00:
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        return b"\x00"

    def _read(self, data: bytes) -> bytes:
        if not data or len(data) % 2:
            raise Negative(Code.WRONG_LENGTH)
        answer = b""
        for at in range(0, len(data), 2):
            answer += data[at : at + 2] + self._value(int.from_bytes(data[at : at + 2], "big"))
        return answer

    def _value(self, identifier: int) -> bytes:
        match identifier:
            case 0xF190:
                return self._board.memory["vin"].encode()
            case 0xF189:
                return self._firmware.VERSION.encode()
            case 0xF186:
                return bytes((self._session,))
            case 0x0100:
                return self._millivolts().to_bytes(2, "big")
        raise Negative(Code.OUT_OF_RANGE)

    def _write(self, data: bytes) -> bytes:
        self._need_extended()
        if len(data) < 3:
            raise Negative(Code.WRONG_LENGTH)
        if int.from_bytes(data[:2], "big") != VIN:
            raise Negative(Code.OUT_OF_RANGE)
        if not self._lock.is_open:
            raise Negative(Code.SECURITY_DENIED)
        vin = data[2:].decode("latin-1")
        if len(vin) != 17:
            raise Negative(Code.WRONG_LENGTH)
        if not VIN_LETTERS.issuperset(vin):
            raise Negative(Code.OUT_OF_RANGE)
        self._board.memory["vin"] = vin
        return data[:2]

    def _security_access(self, data: bytes) -> bytes:
        self._need_extended()
        step = _subfunction(data)
        if step == 0x01:
            if self._lock.is_delayed():
                raise Negative(Code.DELAY_NOT_EXPIRED)
            return bytes((step,)) + self._lock.seed()
        if step != 0x02:
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        verdict = self._lock.try_key(data[1:])
        if verdict is not Answer.UNLOCKED:
            raise Negative(verdict)
        return bytes((step,))

    def _read_faults(self, data: bytes) -> bytes:
        kind = _subfunction(data, length=2)
        found = self._faults.matching(data[1])
        if kind == 0x01:
            return bytes((kind, AVAILABLE, 0x01)) + len(found).to_bytes(2, "big")
        if kind != 0x02:
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        rows = b"".join(code.to_bytes(3, "big") + bytes((status,)) for code, status in found)
        return bytes((kind, AVAILABLE)) + rows

    def _clear_faults(self, data: bytes) -> bytes:
        if len(data) != 3:
            raise Negative(Code.WRONG_LENGTH)
        if data != b"\xff\xff\xff":
            raise Negative(Code.OUT_OF_RANGE)
        self._faults.clear()
        return b""

    def _routine(self, data: bytes) -> bytes:
        self._need_extended()
        control = _subfunction(data)
        if len(data) != 3:
            raise Negative(Code.WRONG_LENGTH)
        if int.from_bytes(data[1:3], "big") != SELF_TEST:
            raise Negative(Code.OUT_OF_RANGE)
        if control == 0x01:
            self._self_test = self._firmware.self_test(self._board.supply_counts())
            return data[:3]
        if control != 0x03:
            raise Negative(Code.SUBFUNCTION_NOT_SUPPORTED)
        if self._self_test is None:
            raise Negative(Code.SEQUENCE_ERROR)
        return data[:3] + bytes(not is_well for is_well in self._self_test.values())

    def _need_extended(self) -> None:
        if self._session != EXTENDED:
            raise Negative(Code.NOT_IN_THIS_SESSION)

    def _millivolts(self) -> int:
        return self._firmware.battery_millivolts(self._board.supply_counts())


def _subfunction(data: bytes, *, length: int | None = None) -> int:
    """Return the sub-function without its suppress bit; `length`: of all the data."""
    if not data or (length is not None and len(data) != length):
        raise Negative(Code.WRONG_LENGTH)
    return data[0] & ~SUPPRESS & 0xFF


def _not_supported(_: bytes) -> bytes:
    raise Negative(Code.SERVICE_NOT_SUPPORTED)
