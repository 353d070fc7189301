"""SecurityAccess: seed and key, a limit on tries, and a delay after the last of them."""

from enum import IntEnum

from ecu.board import Board

TRIES_MAX = 3
DELAY_S = 10.0
_SECRET = 0x5A17C0DE


def key_for(seed: bytes) -> bytes:
    """Return the key that opens the ECU for `seed`; the tester has it from the manufacturer."""
    mixed = int.from_bytes(seed, "big") ^ _SECRET
    return (((mixed << 7) | (mixed >> 25)) & 0xFFFFFFFF).to_bytes(4, "big")


class Answer(IntEnum):
    """What the ECU says to a key: a negative response code of ISO 14229-1, or 0."""

    UNLOCKED = 0x00
    SEQUENCE_ERROR = 0x24
    INVALID_KEY = 0x35
    TRIES_EXCEEDED = 0x36


class Lock:
    """The lock of one ECU. Power on or off does not shorten its delay."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._seed: bytes | None = None
        self._tries = 0
        self._closed_until_s = 0.0
        self.is_open = False

    def close(self) -> None:
        """Lock again: the session ended."""
        self.is_open = False
        self._seed = None

    def is_delayed(self) -> bool:
        """Return whether no seed is given yet after too many wrong keys."""
        return self._board.clock.now_s() < self._closed_until_s

    def seed(self) -> bytes:
        """Return a fresh seed; zeros when it is open already."""
        if self.is_open:
            return bytes(4)
        self._seed = self._board.noise().to_bytes(4, "big")
        return self._seed

    def try_key(self, key: bytes) -> Answer:
        """Open with `key`. A seed is good for one try."""
        seed, self._seed = self._seed, None
        if seed is None:
            return Answer.SEQUENCE_ERROR
        if key == key_for(seed):
            self._tries = 0
            self.is_open = True
            return Answer.UNLOCKED
        self._tries += 1
        if self._tries < TRIES_MAX:
            return Answer.INVALID_KEY
        self._tries = 0
        self._closed_until_s = self._board.clock.now_s() + DELAY_S
        return Answer.TRIES_EXCEEDED
