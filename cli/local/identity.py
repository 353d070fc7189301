"""Which process is meant: a pid alone is given anew, and must never be signalled by what was noted.

A note of a pid outlives its process: after a power cut or a `kill -9` the pid may be anybody's.
"""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from adapters.local.tree import started_at

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process for ever: its pid, when it started, and in which boot; None: not told here."""

    pid: int
    started: int | None = None
    """In clock ticks since boot."""
    boot: str | None = None

    @classmethod
    def own(cls) -> "Identity":
        """Return who this process is."""
        return cls(pid=os.getpid(), started=started_at(os.getpid()), boot=_boot())

    @classmethod
    def parse(cls, text: str) -> "Identity | None":
        """Return who a note names; None if it is torn. One of an older version is a bare pid."""
        pid, started, boot = (*text.split(), _UNKNOWN, _UNKNOWN)[:3] if text.strip() else ("",) * 3
        if not pid.isdecimal() or not 0 < int(pid) < 2**31:
            return None
        return cls(
            pid=int(pid),
            started=int(started) if started.isdecimal() else None,
            boot=None if boot == _UNKNOWN else boot,
        )

    def __str__(self) -> str:
        return f"{self.pid} {self.started or _UNKNOWN} {self.boot or _UNKNOWN}"

    @property
    def is_alive(self) -> bool:
        """Return True if this very process runs here; one that cannot be looked at does not."""
        here = _boot()
        if self.boot is not None and here is not None and self.boot != here:
            return False
        if self.started is not None:
            return started_at(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; return False if it has ended. Raises `PermissionError`."""
        with contextlib.ExitStack() as exit_:
            if hasattr(os, "pidfd_open"):
                try:
                    handle = os.pidfd_open(self.pid)
                except ProcessLookupError:
                    return False
                exit_.callback(os.close, handle)
            # The handle is of whoever has the pid; if that is still ours now, it was ours then.
            if not self.is_alive:
                return False
            try:
                if hasattr(os, "pidfd_open"):
                    signal.pidfd_send_signal(handle, number)
                else:
                    os.kill(self.pid, number)
            except ProcessLookupError:
                return False
        return True


def _boot() -> str | None:
    try:
        return BOOT_ID.read_text().strip() or None
    except OSError:
        return None
