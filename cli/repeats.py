"""Holds back what a library logs over and over, as when a broker is away; never the first time."""

import logging
import threading
import time
from collections.abc import Callable

REPEAT_S = 10.0
TEXTS_MAX = 500


class Repeats(logging.Filter):
    """Lets one text of one logger through once in `REPEAT_S`.

    The next time, `record.held_back` says how often it was not. No more than `TEXTS_MAX` texts
    are remembered, so that ever new ones cost no memory.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}
        """When each text was let through, the latest last, and how often it was not since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is to be written."""
        key = (record.name, record.levelno, record.getMessage())
        now_s = self._clock()
        with self._lock:
            said_s, held_back = self._said.get(key, (-REPEAT_S + now_s, 0))
            if now_s - said_s < REPEAT_S:
                self._said[key] = (said_s, held_back + 1)
                return False
            self._said.pop(key, None)
            if len(self._said) >= TEXTS_MAX:
                del self._said[next(iter(self._said))]
            self._said[key] = (now_s, 0)
        record.held_back = held_back
        return True
