"""How long a command goes on trying a server that does not answer; never for ever."""

import random
import time
from collections.abc import Callable

from cli.problems import Unreachable

COMMAND_PATIENCE_S = 4.0
FOLLOW_PATIENCE_S = 120.0
FIRST_PAUSE_S = 0.1
PAUSE_S_MAX = 5.0
STABLE_S = 2.0
_SAID_AFTER_S = 1.0


class Patience:
    """Pauses between tries, longer and longer, until the time allowed is used up."""

    def __init__(
        self,
        seconds: float,
        *,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._note = note
        self._clock = clock
        self._sleep = sleep
        self._failing_since: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._was_said = False

    def wait(self, error: Unreachable) -> None:
        """Pause before the next try. Raises `error` if the time allowed is used up."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        left_s = self._failing_since + self._seconds - now
        if left_s <= 0:
            raise error
        # Many clients that lost one server must not come back in the same instant.
        pause_s = self._pause_s * random.uniform(0.75, 1.25)  # noqa: S311
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)
        if not self._was_said and now - self._failing_since >= _SAID_AFTER_S:
            self._note(f"{error.what}; trying again for up to {round(left_s)}s")
            self._was_said = True
        self._sleep(min(pause_s, left_s))

    def over(self) -> None:
        """Say that the server answers again."""
        if self._was_said:
            self._note("the server answers again")
        self._failing_since = None
        self._pause_s = FIRST_PAUSE_S
        self._was_said = False
