"""That a worker was asked to leave, and how urgently. Never says when it has."""

import asyncio


class Leave:
    """The wish; it outlives lives."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.soon = asyncio.Event()
        """Set: what runs may end within the worker's `drain_s`; not set: however long it takes."""
        self.hurry = asyncio.Event()
        self.reason = ""
        self.is_over = False
        """True once nothing new is begun any more."""

    def ask(self, reason: str, *, hurry: bool, soon: bool = True) -> None:
        """Ask it to leave; with `hurry` without waiting for what runs. May be called again.

        Not `soon`: only once nothing runs, whenever that is.
        """
        self.reason = self.reason or reason
        self.asked.set()
        if soon or hurry:
            self.soon.set()
        if hurry:
            self.hurry.set()
