"""That a worker was asked to leave, and how urgently. Never says when it has."""

import asyncio


class Leave:
    """The wish; it outlives lives."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reason = ""
        self.is_over = False
        """True once nothing new is begun any more."""

    def ask(self, reason: str, *, hurry: bool) -> None:
        """Ask it to leave; with `hurry` without waiting for what runs. May be called again."""
        self.reason = self.reason or reason
        self.asked.set()
        if hurry:
            self.hurry.set()
