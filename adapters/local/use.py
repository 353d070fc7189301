"""What a test uses of its machine, and when that is over a limit.

Where the kernel counts and limits the attempt's control group, its count is the truth. Else the
processes below the guardian are looked at a few times a second: what comes and goes between two
looks is not seen. The workspace is always looked at, and once more when the test has ended.
"""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from adapters.contract import NO_LIMITS, Limits
from adapters.folders import Descent, Folder, Identity, identity_of
from adapters.local import cgroup, tree
from adapters.sizes import size_text

LOOK_S = 0.25
"""Between two looks at memory and processes."""
DISK_LOOK_S = 1.0
"""Between two looks at the workspace, at least."""
DISK_SHARE = 10
"""A look at the workspace may take one part in so many of the time."""
GRACE_S = 1.0
"""How long a test over its limit may clean up."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES = 512


@dataclass(slots=True, kw_only=True)
class Use:
    """Watches one test. All its looks block; they are done beside the loop."""

    limits: Limits
    guardian: int
    """Its pid: the test is all that is below it."""
    group: Path | None
    workspace: Folder
    """Held, so that a test cannot hide what it wrote by moving it."""
    _disk_due: float = field(default=0.0, init=False)

    async def exceeded(self) -> str:
        """Return which limit was passed, and by what, once one is; never returns otherwise."""
        if self.limits == NO_LIMITS:
            await asyncio.Event().wait()
        while not (found := await asyncio.to_thread(self._look)):  # noqa: ASYNC110 - nobody tells.
            await asyncio.sleep(LOOK_S)
        return found

    async def exceeded_at_end(self, ended_by: int | None) -> str:
        """Return which limit a test that a signal has ended, or that ended by itself, had passed.

        Empty: none that can be seen.
        """
        if self.limits == NO_LIMITS:
            return ""
        if ended_by == signal.SIGXFSZ and self.limits.disk_max_bytes is not None:
            # The kernel refused to let a file grow, wherever it is, so that it takes no disk yet.
            limit = size_text(self.limits.disk_max_bytes)
            return _over("disk_max", limit, "more for a single file")
        return await asyncio.to_thread(
            lambda: self._counted_memory() or self._counted_processes() or self._disk()
        )

    def _look(self) -> str:
        return self._memory() or self._processes() or self._disk_when_due()

    def _memory(self) -> str:
        limit = self.limits.memory_max_bytes
        if limit is None or self._counts("memory.max"):
            return self._counted_memory()
        used = memory_of(self._pids(), enough=limit)
        return _over("memory_max", size_text(limit), size_text(used)) if used > limit else ""

    def _counted_memory(self) -> str:
        limit = self.limits.memory_max_bytes
        if limit is None or self.group is None:
            return ""
        # A kill alone may be the machine's, whose memory was out: that is no limit of the test.
        if not all(cgroup.count(self.group, "memory.events", key) for key in ("oom", "oom_kill")):
            return ""
        return _over("memory_max", size_text(limit), "more, so the kernel ended it")

    def _processes(self) -> str:
        limit = self.limits.processes_max
        if limit is None or self._counts("pids.max"):
            return self._counted_processes()
        pids = set(self._pids())
        used = sum(threads for pid, _, _, threads in tree.processes() if pid in pids)
        return _over("processes_max", limit, used) if used > limit else ""

    def _counted_processes(self) -> str:
        limit = self.limits.processes_max
        if limit is None or self.group is None:
            return ""
        if not cgroup.count(self.group, "pids.events", "max"):
            return ""
        return _over("processes_max", limit, f"{limit}, and one more was asked for")

    def _disk_when_due(self) -> str:
        began = time.monotonic()
        if self.limits.disk_max_bytes is None or began < self._disk_due:
            return ""
        found = self._disk()
        ended = time.monotonic()
        self._disk_due = ended + max(DISK_LOOK_S, (ended - began) * DISK_SHARE)
        return found

    def _disk(self) -> str:
        limit = self.limits.disk_max_bytes
        if limit is None:
            return ""
        used = disk_use(self.workspace)
        return _over("disk_max", size_text(limit), size_text(used)) if used > limit else ""

    def _counts(self, file: str) -> bool:
        return self.group is not None and (self.group / file).exists()

    def _pids(self) -> list[int]:
        """Return the test's processes: all that are below its guardian, and all of its group."""
        if self.group is not None and (members := cgroup.members(self.group)):
            return members
        return tree.descendants(self.guardian)


def memory_of(pids: list[int], *, enough: int = 0) -> int:
    """Return the bytes that processes hold in memory; what several share is counted once.

    That takes the kernel a while, so it is asked only if a rough sum is over `enough`.
    """
    rough = sum(_resident(pid) for pid in pids)
    if rough <= enough:
        return rough
    return sum(_proportional(pid) for pid in pids)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    # One that hides; what it shares cannot be told.
    return _resident(pid)


def disk_use(folder: Folder) -> int:
    """Return the bytes that all in `folder` takes on disk, of any depth, following no link.

    The test may move folders meanwhile, also the one that is held. What cannot be read is not
    counted.
    """
    links: set[Identity] = set()
    try:
        descent = Descent(folder.descriptor())
    except OSError:
        return 0
    total = 0
    try:
        total, names = _look_into(descent.fd, links)
        rest = [names]
        while rest:
            if rest[-1]:
                if (found := _enter(descent, rest[-1].pop(), links)) is not None:
                    total += found[0]
                    rest.append(found[1])
                continue
            rest.pop()
            if rest:
                descent.up()
    except OSError:
        return total  # It was moved under the look: the next one sees more.
    finally:
        descent.close()
    return total


def _enter(descent: Descent, name: str, links: set[Identity]) -> tuple[int, list[str]] | None:
    """Go into a folder and look; None: it cannot be entered, and the look goes on beside it."""
    try:
        descent.down(name)
    except OSError:
        return None
    return _look_into(descent.fd, links)


def _look_into(folder: int, links: set[Identity]) -> tuple[int, list[str]]:
    """Return the bytes of what lies in a folder, and the names of the folders in it."""
    total, names = 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            identity = identity_of(status)
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif status.st_nlink > 1 and identity in links:
                continue
            elif status.st_nlink > 1:
                links.add(identity)
            total += status.st_blocks * _BLOCK_BYTES
    return total, names


def _over(limit: str, allowed: object, measured: object) -> str:
    return f"{limit} is {allowed}, the test took {measured}"
