"""The highest fence this worker saw of each bench, on its own disk: no lower one is obeyed.

Fences of a bench only rise, as long as the log keeps what was decided. So a lower one means that
the log has lost facts, or is another log under the same name: then what runs where is not known
any more, and the worker stops rather than drive a bench that may be somebody else's.

The fence of an attempt is in the note of what must be torn down, which is durable before anything
is provisioned. Once that is torn down the note is moved here and kept as the last one of its bench:
a fence costs no write of its own.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import structlog

from events.durable import write_whole
from events.errors import TeoError
from processors.worker.notes import BenchKey, Leftover, read_notes

log = structlog.get_logger()


class FenceFell(TeoError):
    """Raised when an attempt came with a fence that is not above one this worker saw before."""

    code = "fence_fell"


class Fences:
    """The fences in one state folder. Reads it when it is made."""

    def __init__(self, folder: Path, noted: Iterable[Leftover]) -> None:
        self._folder = folder
        self._stop_path = folder / "stopped"
        self._seen: dict[BenchKey, int] = {}
        folder.mkdir(exist_ok=True, mode=0o700)
        for leftover in (*read_notes(folder), *noted):
            self.saw(leftover)

    def saw(self, leftover: Leftover) -> None:
        """Note a fence that is on the disk."""
        key = leftover.bench_key
        self._seen[key] = max(leftover.fence, self._seen.get(key, 0))

    def keep(self, leftover: Leftover, path: Path) -> None:
        """Keep the note at `path`, of what is torn down now, if it has its bench's highest fence.

        The move needs not be durable: until it is, the note is where it was.
        """
        if leftover.fence < self._seen.get(leftover.bench_key, 0):
            path.unlink(missing_ok=True)
            return
        with contextlib.suppress(FileNotFoundError):
            path.replace(self._path(leftover.bench_key))

    def why_not(self, key: BenchKey, fence: int) -> str:
        """Return why an attempt with `fence` on that bench must not be begun; nothing if it may."""
        seen = self._seen.get(key, 0)
        if fence > seen:
            return ""
        return (
            f"bench {key[2]} of pool {key[1]} was given with fence {fence}, and this worker saw "
            f"fence {seen} of it before: the log has lost facts, or is another log"
        )

    def stop(self, reason: str) -> None:
        """Keep, durably, that this worker must not run: also not when it is started again."""
        try:
            write_whole(self._stop_path, reason)
        except OSError as error:
            log.warning("worker.stop_not_kept", path=str(self._stop_path), error=str(error))

    def check(self) -> None:
        """Raise `FenceFell` if this worker was stopped."""
        try:
            reason = self._stop_path.read_text()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            reason = f"{self._stop_path} cannot be read: {error}"
        raise FenceFell(
            f"{reason}; see with `teo fsck` what the log lost and restore it. If it was begun anew "
            "on purpose, make sure that nothing of before still runs on the benches, then start "
            "this worker once with --forget-fences"
        )

    def forget(self) -> None:
        """Forget every fence that is kept, and that the worker was stopped."""
        for path in sorted(self._folder.iterdir()):
            path.unlink(missing_ok=True)
        self._seen.clear()

    def _path(self, key: BenchKey) -> Path:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        return self._folder / f"{name}.json"
