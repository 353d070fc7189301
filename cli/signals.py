"""Turns SIGINT, SIGTERM and SIGHUP into an exception that a verb can clean up after."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised when a signal asks this command to stop; not an `Exception`, so nothing eats it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """While entered, each signal raises `Interrupted`; inside `shielded` the first one waits."""

    def __init__(self) -> None:
        self._is_shielded = False
        self._waiting: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in _HANDLED:
            # What `nohup` or a shell's background job ignores stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Finish the block before a first signal is raised; a second one is raised at once."""
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False
        if self._waiting is not None:
            raise Interrupted(self._waiting)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_shielded and self._waiting is None:
            self._waiting = number
            return
        raise Interrupted(number)
